"""A small etcd, written apart from the product's model: a list of all past versions, and nothing clever."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from splitvote.checkers.linearizability import models as product
from splitvote.checkers.linearizability.models.etcd import (
    COMPACTED,
    FUTURE,
    Answer,
    Compact,
    Compare,
    Delete,
    KeyValue,
    Put,
    Range,
    Txn,
)
from tests.checkers.linearizability.systems import Outcomes, System

KEYS = "abc"

# A state is (compacted, versions): all versions of the store, the last one current, each (revision, key-values).


def current(state: Any) -> tuple[int, tuple[KeyValue, ...]]:
    return state[1][-1]


def select(items: tuple[KeyValue, ...], key: str, end: str | None) -> tuple[KeyValue, ...]:
    return tuple(item for item in items if item.key == key or (end is not None and key <= item.key < end))


def write(items: tuple[KeyValue, ...], revision: int, request: Put | Delete) -> tuple[KeyValue, ...]:
    if isinstance(request, Delete):
        gone = select(items, request.key, request.end)
        return tuple(item for item in items if item not in gone)
    old = select(items, request.key, None)
    created, version = (old[0].create, old[0].version + 1) if old else (revision, 1)
    rest = [item for item in items if item.key != request.key]
    return tuple(sorted([*rest, KeyValue(request.key, request.value, created, revision, version)]))


def outcomes(state: Any, request: Any) -> Outcomes:
    compacted, versions = state
    revision, items = current(state)
    if isinstance(request, Compact):
        if request.revision > revision:
            return [(Answer(revision, FUTURE), state)]
        if request.revision <= compacted:
            return [(Answer(revision, COMPACTED), state)]
        return [(Answer(revision, None), (request.revision, versions))]
    if isinstance(request, Range) and request.serializable:
        return [(Answer(then, select(kept, request.key, request.end)), state) for then, kept in reversed(versions)]
    if isinstance(request, Range):
        return [(Answer(revision, read(state, items, request)), state)]
    parts = (request,)
    if isinstance(request, Txn):
        succeeded = all(holds(items, compare) for compare in request.compares)
        parts = request.success if succeeded else request.failure
    results, after = [], items
    for part in parts:
        if isinstance(part, Range):
            results.append(read(state, after, part))
            continue
        results.append(len(select(after, part.key, part.end)) if isinstance(part, Delete) else None)
        after = write(after, revision + 1, part)
    changed = any(isinstance(part, Put) for part in parts) or any(
        isinstance(part, Delete) and result for part, result in zip(parts, results, strict=True)
    )
    result = (succeeded, tuple(results)) if isinstance(request, Txn) else results[0]
    if not changed:
        return [(Answer(revision, result), state)]
    return [(Answer(revision + 1, result), (compacted, (*versions, (revision + 1, after))))]


def read(state: Any, items: tuple[KeyValue, ...], request: Range) -> Any:
    compacted, versions = state
    if not request.revision:
        return select(items, request.key, request.end)
    if request.revision > versions[-1][0]:
        return FUTURE
    if request.revision < compacted:
        return COMPACTED
    kept = [items for revision, items in versions if revision == request.revision]
    return select(kept[0], request.key, request.end) if kept else COMPACTED


def holds(items: tuple[KeyValue, ...], compare: Compare) -> bool:
    found = select(items, compare.key, None)
    if not found and compare.target == "value":
        return False
    value = getattr(found[0], compare.target) if found else 0
    return {
        "=": value == compare.operand,
        "!=": value != compare.operand,
        "<": value < compare.operand,
        ">": value > compare.operand,
    }[compare.relation]


def draw(rng: random.Random, state: Any, fresh: Callable[[], int]) -> Any:
    """Mostly puts and reads of three keys; with the revision or version a client may have seen last."""
    key = rng.choice(KEYS)
    revision, items = current(state)
    kind = rng.random()
    if kind < 0.35:
        return Put(key, fresh() if rng.random() < 0.8 else rng.randrange(2))
    if kind < 0.65:
        end = "d" if rng.random() < 0.4 else None
        at = rng.randrange(1, revision + 2) if rng.random() < 0.15 else 0
        return Range(key, end, at, serializable=not at and rng.random() < 0.25)
    if kind < 0.75:
        return Delete(key, "d" if rng.random() < 0.2 else None)
    if kind < 0.8:
        return Compact(rng.randrange(1, revision + 2))
    found = select(items, key, None)
    target = rng.choice(["mod", "version", "create"])
    compare = Compare(key, target, rng.choice("=="), getattr(found[0], target) if found else 0)
    success = (Put(key, fresh()), Range(key)) if rng.random() < 0.7 else (Delete(key),)
    return Txn((compare,), success, (Range(key),))


def misanswer(answer: Any, rng: random.Random) -> Any:
    """Change the revision of an answer, or something in its result."""
    if not isinstance(answer, Answer):
        return answer
    kind = rng.random()
    if kind < 0.35 or not answer.result or not isinstance(answer.result, tuple):
        revision = None if answer.revision is None else answer.revision + rng.choice([-1, 1])
        return Answer(revision, answer.result)
    if isinstance(answer.result[0], KeyValue):
        item = answer.result[0]
        field = rng.choice(["mod", "version", "create"])
        worse = item._replace(**{field: getattr(item, field) + rng.choice([-1, 1])})
        return Answer(answer.revision, (worse, *answer.result[1:]) if rng.random() < 0.6 else answer.result[1:])
    return answer


ETCD = System("etcd", product.etcd, (0, ((1, ()),)), outcomes, draw)
