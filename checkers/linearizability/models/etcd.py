"""etcd's multi-version store, as etcd documents it: one revision a write, kept per key as create, mod and version.

The store revision starts at 1 and grows by one with each put, each delete that
deletes something, and each transaction that does either.  The header of an
answer carries the revision after the operation.  A key's ``version`` is 1 when
it is created and grows by one a put; ``create`` is the revision of its creation
and ``mod`` that of its last put.  A serializable range may answer from any past
state, one at a ``revision`` from that state unless it is compacted.

The state keeps its past, for those reads.  Lease expiries are deletes that a
history must contain as operations (that never returned, if nobody saw when).
Source: etcd's API documentation and ``server/storage/mvcc``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from splitvote.checkers.linearizability.model import UNKNOWN_OUTPUT, Model, Operation

COMPACTED: Final = "compacted"
FUTURE: Final = "future revision"
"""Results of a range or compaction at a revision that is gone, or not there yet."""


class KeyValue(NamedTuple):
    """A key as a range answers it."""

    key: str
    value: Any
    create: int
    mod: int
    version: int


@dataclass(frozen=True, slots=True)
class Put:
    """Set a key; the result is None."""

    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class Range:
    """Read one key, or those from ``key`` to before ``end``; the result is a tuple of KeyValue, by key."""

    key: str
    end: str | None = None
    revision: int = 0
    serializable: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete one key, or those from ``key`` to before ``end``; the result is how many."""

    key: str
    end: str | None = None


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition on a key, which if absent has version, create and mod 0 (and no value: false)."""

    key: str
    target: Literal["version", "create", "mod", "value"]
    relation: Literal["=", "!=", "<", ">"]
    operand: Any


@dataclass(frozen=True, slots=True)
class Txn:
    """Do ``success`` if all ``compares`` hold, else ``failure``; the result is (succeeded, results)."""

    compares: tuple[Compare, ...]
    success: tuple[Put | Range | Delete, ...] = ()
    failure: tuple[Put | Range | Delete, ...] = ()


@dataclass(frozen=True, slots=True)
class Compact:
    """Forget the states before a revision; the result is None, or COMPACTED or FUTURE."""

    revision: int


Request = Put | Range | Delete | Txn | Compact


@dataclass(frozen=True, slots=True)
class Answer:
    """What etcd answered: the header's revision (None: not recorded) and the result."""

    revision: int | None
    result: Any = None


class Store:
    """An immutable store and, by ``parent``, its past; equal stores have equal pasts."""

    __slots__ = ("_hash", "compacted", "items", "parent", "revision")

    def __init__(self, revision: int, compacted: int, items: Mapping[str, KeyValue], parent: Store | None) -> None:
        self.revision = revision
        self.compacted = compacted
        self.items = items
        self.parent = parent
        self._hash = hash((revision, compacted, frozenset(items.values()), parent))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Compare back to the common past: a loop, for pasts are long."""
        mine: Store | None = self
        theirs: Any = other
        while mine is not theirs:
            if not isinstance(theirs, Store) or mine is None or mine._hash != theirs._hash:
                return False
            if mine.revision != theirs.revision or mine.compacted != theirs.compacted or mine.items != theirs.items:
                return False
            mine, theirs = mine.parent, theirs.parent
        return True

    def past(self) -> Iterator[Store]:
        """Yield this store and all before it, the newest first."""
        store: Store | None = self
        while store is not None:
            yield store
            store = store.parent

    def at(self, revision: int) -> Store | None:
        """Return the store as it was at a revision."""
        return next((store for store in self.past() if store.revision == revision), None)

    def read(self, key: str, end: str | None) -> tuple[KeyValue, ...]:
        """Return the keys of a range, in order."""
        return tuple(self.items[name] for name in _names(self.items, key, end))


def _names(items: Mapping[str, KeyValue], key: str, end: str | None) -> list[str]:
    if end is None:
        return [key] if key in items else []
    return sorted(name for name in items if key <= name and (end == "\0" or name < end))


_RELATIONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


class _Change:
    """The writes of one operation, all at one revision."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.items = dict(store.items)
        self.has_written = False

    def perform(self, request: Put | Range | Delete) -> Any:
        """Do one part and return its result."""
        if isinstance(request, Put):
            return self._put(request.key, request.value)
        if isinstance(request, Range):
            return _range(self.store, request) if request.revision else self._read(request)
        names = _names(self.items, request.key, request.end)
        for name in names:
            del self.items[name]
        self.has_written |= bool(names)
        return len(names)

    def _put(self, key: str, value: Any) -> None:
        revision = self.store.revision + 1
        old = self.items.get(key)
        self.items[key] = KeyValue(key, value, old.create if old else revision, revision, old.version + 1 if old else 1)
        self.has_written = True

    def _read(self, request: Range) -> tuple[KeyValue, ...]:
        return tuple(self.items[name] for name in _names(self.items, request.key, request.end))

    def done(self) -> Store:
        """Return the store after the change."""
        if not self.has_written:
            return self.store
        return Store(self.store.revision + 1, self.store.compacted, self.items, self.store)


def _range(store: Store, request: Range) -> Any:
    if not request.revision:
        return store.read(request.key, request.end)
    if request.revision > store.revision:
        return FUTURE
    if request.revision < store.compacted:
        return COMPACTED
    past = store.at(request.revision)
    return COMPACTED if past is None else past.read(request.key, request.end)


def _holds(store: Store, compare: Compare) -> bool:
    item = store.items.get(compare.key)
    if item is None:
        return compare.target != "value" and _RELATIONS[compare.relation](0, compare.operand)
    return _RELATIONS[compare.relation](getattr(item, compare.target), compare.operand)


def apply(store: Store, request: Request) -> tuple[Any, Store]:
    """Do a request; return its result and the store after it."""
    if isinstance(request, Compact):
        if request.revision > store.revision:
            return FUTURE, store
        if request.revision <= store.compacted:
            return COMPACTED, store
        return None, Store(store.revision, request.revision, store.items, store)
    if isinstance(request, Range):
        return _range(store, request), store
    change = _Change(store)
    if isinstance(request, Txn):
        succeeded = all(_holds(store, compare) for compare in request.compares)
        results = tuple(change.perform(part) for part in (request.success if succeeded else request.failure))
        return (succeeded, results), change.done()
    return change.perform(request), change.done()


def _step(store: Store, asked: Request, answer: Any) -> tuple[bool, Store]:
    if isinstance(asked, Range) and asked.serializable and answer is not UNKNOWN_OUTPUT:
        return _could_have_read(store, asked, answer), store
    result, after = apply(store, asked)
    if answer is UNKNOWN_OUTPUT:
        return True, after
    return answer.revision in (None, after.revision) and result == answer.result, after


def _could_have_read(store: Store, asked: Range, answer: Answer) -> bool:
    """Whether some state, of now or before, answers this serializable range."""
    return any(
        _range(past, asked) == answer.result for past in store.past() if answer.revision in (None, past.revision)
    )


def etcd(*, revision: int = 1, seen: Mapping[tuple[str, Any], int] | None = None) -> Model:
    """Return etcd's store, empty at ``revision``.

    ``seen`` tells the revisions of puts by (key, value), as watch events do; it
    helps to find the place of puts whose answers were lost, where keys and values
    are put once.
    """
    return Model(
        name="etcd",
        init=lambda: Store(revision, 0, {}, None),
        step=_step,
        read_only=_is_read_only,
        can_reach=_can_reach,
        places=lambda history: _places(history, seen or {}),
        describe_operation=lambda asked, answer: f"{asked!r} -> {answer!r}",
        describe_state=_describe_store,
    )


def _is_read_only(asked: Request, answer: Any) -> bool:
    if isinstance(asked, Txn):
        return not any(isinstance(part, Put | Delete) for part in asked.success + asked.failure)
    if isinstance(asked, Compact):
        return isinstance(answer, Answer) and answer.result is not None
    return isinstance(asked, Range)


def _can_reach(store: Store, asked: Request, answer: Any) -> bool:
    """The revision never goes back; only serializable ranges see the past."""
    if not isinstance(answer, Answer) or answer.revision is None or (isinstance(asked, Range) and asked.serializable):
        return True
    return store.revision <= answer.revision


def _places(history: Sequence[Operation], seen: Mapping[tuple[str, Any], int]) -> list[tuple[int, int] | None]:
    """Return (revision, 0) of what wrote and (revision, 1) of what read there; None where the answer does not tell.

    A write without an answer is where its value was seen, unless an answered
    write claims that revision: then it was that one's, of the same value.
    """
    puts = dict(seen)
    for operation in history:
        if isinstance(operation.output, Answer):
            puts.update(((item.key, item.value), item.mod) for item in _items_in(operation.output.result))
    told = [_place(operation) for operation in history]
    claimed = {place[0] for place in told if place is not None and place[1] == 0}
    for number, operation in enumerate(history):
        if isinstance(operation.output, Answer):
            continue
        at = (puts.get((put.key, put.value)) for put in _puts_of(operation.input))
        revision = next((each for each in at if each is not None and each not in claimed), None)
        if revision is not None:
            told[number] = (revision, 0)
            claimed.add(revision)
    return told


def _place(operation: Operation) -> tuple[int, int] | None:
    """Return the place that an operation's own answer tells."""
    asked, answer = operation.input, operation.output
    if not isinstance(answer, Answer) or answer.revision is None:
        return None
    if isinstance(asked, Range) and asked.serializable:
        return None
    return answer.revision, 0 if _has_written(asked, answer.result) else 1


def _puts_of(asked: Request) -> list[Put]:
    parts = asked.success + asked.failure if isinstance(asked, Txn) else (asked,)
    return [part for part in parts if isinstance(part, Put)]


def _has_written(asked: Request, result: Any) -> bool:
    if isinstance(asked, Txn):
        succeeded, results = result
        parts = asked.success if succeeded else asked.failure
        return any(_has_written(part, partial) for part, partial in zip(parts, results, strict=True))
    return isinstance(asked, Put) or (isinstance(asked, Delete) and result > 0)


def _items_in(result: Any) -> Iterator[KeyValue]:
    if isinstance(result, KeyValue):
        yield result
    elif isinstance(result, tuple):
        for part in result:
            yield from _items_in(part)


def _describe_store(store: Store) -> str:
    items = ", ".join(f"{name}={item.value!r}@{item.mod}" for name, item in sorted(store.items.items()))
    return f"revision {store.revision}: {items or 'empty'}"
