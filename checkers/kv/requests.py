"""What a request of the kv workload does to a state of the store, and what it answers.

The language is the workload's (``workloads/kv.py``).  Rules of etcd that matter
here: a transaction's conditions, nested ones too, are decided against the state
before it; its parts then see the changes of the parts before them, except for
ranges at a revision, which see that revision.  An absent key has version, create
and mod 0, and no value to compare: a condition on its value fails.
Source: etcd's server/etcdserver/txn, server/storage/mvcc.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from splitvote.checkers.truth import KeyState


class Past(Protocol):
    """The states of a store by revision."""

    def at(self, key: str, revision: int) -> KeyState | None:
        """A key as of a revision; None when it was absent."""
        ...

    def names_at(self, revision: int) -> list[str]:
        """The keys that there were at a revision, in order."""
        ...


class Effect(NamedTuple):
    """What a request answers, and each key it changes with its new state (None: deleted)."""

    answer: Any
    changes: Mapping[str, KeyState | None]


_RELATIONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


def evaluate(request: list[Any], past: Past, revision: int, *, lease: int | None = 0) -> Effect:
    """Do a request on the state at ``revision``; its changes are those of ``revision`` + 1.

    ``lease`` is the id of the lease that a put with a ttl was given.
    """
    execution = _Execution(past, revision, lease)
    answer = execution.perform(request, execution.branches(request))
    return Effect(answer, execution.changes)


class _Execution:
    """One request under way: the changes so far over the state before it."""

    def __init__(self, past: Past, revision: int, lease: int | None) -> None:
        self._past = past
        self._before = revision
        self._lease = lease
        self.changes: dict[str, KeyState | None] = {}

    def branches(self, request: list[Any]) -> Iterator[bool]:
        """Which way each transaction goes, outermost first, by the state before them all."""
        return iter(list(self._decided(request)))

    def _decided(self, request: list[Any]) -> Iterator[bool]:
        if request[0] == "txn":
            succeeds = all(self._holds(*compare) for compare in request[1])
            yield succeeds
            for part in request[2 if succeeds else 3]:
                yield from self._decided(part)

    def _holds(self, key: str, target: str, relation: str, operand: Any) -> bool:
        state = self._past.at(key, self._before)
        if state is None:
            return target != "value" and _RELATIONS[relation](0, operand)
        return _RELATIONS[relation](getattr(state, target), operand)

    def perform(self, request: list[Any], branches: Iterator[bool]) -> Any:
        kind = request[0]
        if kind == "range":
            return self._range(request[1], request[2])
        if kind == "put":
            return self._put(request)
        if kind == "delete":
            return self._delete(request[1])
        succeeds = next(branches)
        return [succeeds, [self.perform(part, branches) for part in request[2 if succeeds else 3]]]

    def _now(self, key: str) -> KeyState | None:
        return self.changes[key] if key in self.changes else self._past.at(key, self._before)

    def _names_now(self) -> list[str]:
        names = set(self._past.names_at(self._before)) | set(self.changes)
        return sorted(name for name in names if self._now(name) is not None)

    def _range(self, key: str | None, at: int) -> list[list[Any]]:
        if at:
            names = self._past.names_at(at) if key is None else [key]
            return _listed((name, self._past.at(name, at)) for name in names)
        names = self._names_now() if key is None else [key]
        return _listed((name, self._now(name)) for name in names)

    def _put(self, request: list[Any]) -> None:
        _, key, value, ttl = request
        revision, old = self._before + 1, self._now(key)
        lease = self._lease if ttl else 0
        create, version = (revision, 1) if old is None else (old.create, old.version + 1)
        self.changes[key] = KeyState(value, create, revision, version, lease)

    def _delete(self, key: str | None) -> int:
        gone = self._names_now() if key is None else [key] if self._now(key) is not None else []
        for name in gone:
            self.changes[name] = None
        return len(gone)


def _listed(states: Iterable[tuple[str, KeyState | None]]) -> list[list[Any]]:
    return [[name, state.value, state.create, state.mod, state.version, state.lease] for name, state in states if state]


def puts_of(request: list[Any]) -> Iterator[tuple[str, str]]:
    """Every (key, value) that a request may put, whichever way its transactions go."""
    if request[0] == "put":
        yield request[1], request[2]
    elif request[0] == "txn":
        for branch in request[2:]:
            for part in branch:
                yield from puts_of(part)


def may_delete(request: list[Any]) -> bool:
    """Whether a request may delete something."""
    if request[0] == "txn":
        return any(may_delete(part) for branch in request[2:] for part in branch)
    return bool(request[0] == "delete")


def may_write(request: list[Any]) -> bool:
    """Whether a request may change the store, whichever way its transactions go."""
    return may_delete(request) or any(True for _ in puts_of(request))


def has_written(request: list[Any], answer: Any) -> bool:
    """Whether a request that was answered so has changed the store."""
    kind = request[0]
    if kind == "txn":
        succeeded, answers = answer
        parts = request[2 if succeeded else 3]
        return any(has_written(part, each) for part, each in zip(parts, answers, strict=False))
    return bool(kind == "put" or (kind == "delete" and isinstance(answer, int) and answer > 0))


def is_stale_read(request: list[Any]) -> bool:
    """Whether a request is a serializable read: it tells one member's state, not the cluster's."""
    return bool(request[0] == "range" and request[3])


def past_reads(request: list[Any], answer: Any = None) -> Iterator[int]:
    """The past revisions that a request may read at; given its answer, those that it has read at."""
    if request[0] == "range" and request[2]:
        yield request[2]
    elif request[0] == "txn":
        branches = request[2:] if answer is None else [request[2 if answer[0] else 3]]
        for branch in branches:
            answers = [None] * len(branch) if answer is None else answer[1]
            for part, each in zip(branch, answers, strict=False):
                yield from past_reads(part, each)
