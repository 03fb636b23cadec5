"""What a consistency model means, by trying everything: the oracle of the fuzz.

Shares nothing with the checkers.  A history is a list of ``Txn``; a model is
decided by looking for an execution of the model's own machine that gives every
answer that was seen.  Crashed transactions may be left out, failed ones are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SERIAL = ("serializable", "strong-session-serializable", "strong-serializable")
SNAPSHOT = ("snapshot-isolation", "strong-session-snapshot-isolation", "strong-snapshot-isolation")
MODELS = SERIAL + SNAPSHOT


@dataclass(frozen=True)
class Txn:
    """A transaction: who, what (f, key, value), how it ended, and the places of its call and its answer."""

    process: int
    type: str
    micro_ops: tuple[tuple[str, Any, Any], ...]
    invoke: int
    complete: int


State = tuple[tuple[Any, Any], ...]


def run(txn: Txn, state: State) -> State | None:
    """Execute a transaction on a state; None where it would have seen something else than it says it saw."""
    store = dict(state)
    for f, key, value in txn.micro_ops:
        if f == "append":
            store[key] = (*store.get(key, ()), value)
        elif f == "w":
            store[key] = value
        elif txn.type == "ok" and store.get(key) != (
            tuple(value) or None if isinstance(value, (list, tuple)) else value
        ):
            return None
    return tuple(sorted(store.items()))


def before(model: str, one: Txn, two: Txn) -> bool:
    """Whether the model's sessions or real time put one transaction before another."""
    if one.type != "ok" or not one.complete < two.invoke:
        return False
    if model.startswith("strong-session"):
        return two.type == "ok" and one.process == two.process
    return model.startswith("strong-")


def allows(model: str, txns: list[Txn]) -> bool:
    """Whether some execution of the model explains the history."""
    real = [txn for txn in txns if txn.type != "fail"]
    return _serial(model, real, 0, (), set()) if model in SERIAL else _snapshot(model, real)


def _serial(model: str, txns: list[Txn], done: int, state: State, seen: set[Any]) -> bool:
    """Whether the transactions not done yet can be executed one by one from here."""
    if all(done >> place & 1 or txn.type == "info" for place, txn in enumerate(txns)):
        return True
    if (done, state) in seen:
        return False
    seen.add((done, state))
    for place, txn in enumerate(txns):
        if done >> place & 1:
            continue
        waits = any(not done >> other & 1 and before(model, txns[other], txn) for other in range(len(txns)))
        after = None if waits else run(txn, state)
        if after is not None and _serial(model, txns, done | 1 << place, after, seen):
            return True
    return False


def _snapshot(model: str, txns: list[Txn]) -> bool:
    """Whether the transactions can take snapshots and commit in some order of these steps.

    A snapshot is what was committed at some moment; who commits must find that nobody
    committed a write to a key it wrote since its snapshot.  Sessions and real
    time ask that the snapshot is taken after the earlier one committed.
    """
    written = [frozenset(key for f, key, _ in txn.micro_ops if f != "r") for txn in txns]
    seen: set[Any] = set()

    def go(state: State, open_: tuple[Any, ...], done: int) -> bool:
        if all(done >> place & 1 or txn.type == "info" for place, txn in enumerate(txns)):
            return True
        if (state, open_, done) in seen:
            return False
        seen.add((state, open_, done))
        started = {place for place, _, _ in open_}
        for place, txn in enumerate(txns):
            if done >> place & 1 or place in started:
                continue
            if any(not done >> other & 1 and before(model, txns[other], txn) for other in range(len(txns))):
                continue
            if run(txn, state) is None:
                continue
            if go(state, tuple(sorted((*open_, (place, state, frozenset())), key=lambda each: each[0])), done):
                return True
        for place, snapshot, others in open_:
            if written[place] & others:
                continue
            effect = run(txns[place], snapshot)
            assert effect is not None
            new = dict(effect)
            after = tuple(sorted((dict(state) | {key: new[key] for key in written[place]}).items()))
            left = tuple((other, at, keys | written[place]) for other, at, keys in open_ if other != place)
            if go(after, left, done | 1 << place):
                return True
        return False

    return go((), (), 0)
