"""Queues, sets and counters.

Queues have ("enqueue", v) and ("dequeue", None), whose answer is the value
taken, or None where the queue was empty.  Sets have ("add", v), ("remove", v)
and ("read", None), whose answer is the collection seen.  Counters have ("add",
n), which may answer the sum after it or None, and ("read", None).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from splitvote.checkers.linearizability.model import UNKNOWN_OUTPUT, Model, NondeterministicModel
from splitvote.checkers.linearizability.models.registers import unknown_operation


def fifo_queue() -> Model:
    """Return a queue that answers in the order of enqueueing; the state is the tuple of what is in it."""

    def step(state: tuple[Any, ...], asked: tuple[str, Any], answer: Any) -> tuple[bool, Any]:
        f, value = asked
        if f == "enqueue":
            return True, (*state, value)
        if f != "dequeue":
            raise unknown_operation("fifo-queue", f, ("enqueue", "dequeue"))
        if answer is UNKNOWN_OUTPUT:
            return True, state[1:]
        if answer is None:
            return not state, state
        return bool(state) and state[0] == answer, state[1:]

    return Model(
        name="fifo-queue",
        init=tuple,
        step=step,
        read_only=_found_empty,
        describe_operation=_describe_queue,
        describe_state=lambda state: f"{list(state)!r}",
    )


def unordered_queue() -> NondeterministicModel:
    """Return a queue that may answer in any order; the state is the frozen set of (value, how often).

    A dequeue of unknown answer may have taken any value, hence nondeterministic.
    """

    def step(state: frozenset[tuple[Any, int]], asked: tuple[str, Any], answer: Any) -> Iterable[Any]:
        f, value = asked
        counts = Counter(dict(state))
        if f == "enqueue":
            return [_bag(counts + Counter([value]))]
        if f != "dequeue":
            raise unknown_operation("unordered-queue", f, ("enqueue", "dequeue"))
        if answer is UNKNOWN_OUTPUT:
            return [_bag(counts - Counter([taken])) for taken in counts] or [state]
        if answer is None:
            return [] if counts else [state]
        return [_bag(counts - Counter([answer]))] if counts[answer] else []

    return NondeterministicModel(
        name="unordered-queue",
        init=lambda: [frozenset()],
        step=step,
        read_only=_found_empty,
        describe_operation=_describe_queue,
        describe_state=lambda state: f"{sorted(map(repr, Counter(dict(state)).elements()))}",
    )


def _found_empty(asked: tuple[str, Any], answer: Any) -> bool:
    return asked[0] == "dequeue" and answer is None


def _bag(counts: Counter[Any]) -> frozenset[tuple[Any, int]]:
    return frozenset(counts.items())


def _describe_queue(asked: tuple[str, Any], answer: Any) -> str:
    f, value = asked
    suffix = " (no answer)" if answer is UNKNOWN_OUTPUT else ""
    if f == "enqueue":
        return f"enqueued {value!r}{suffix}"
    if answer is None:
        return "found the queue empty"
    return f"dequeued{suffix or f' {answer!r}'}"


def grow_set() -> Model:
    """Return a set; the state is a frozen set, and a read answers all of it, each element once."""

    def step(state: frozenset[Any], asked: tuple[str, Any], answer: Any) -> tuple[bool, Any]:
        f, value = asked
        if f == "add":
            return True, state | {value}
        if f == "remove":
            return True, state - {value}
        if f != "read":
            raise unknown_operation("set", f, ("add", "remove", "read"))
        if answer is UNKNOWN_OUTPUT:
            return True, state
        seen = tuple(answer or ())
        return len(seen) == len(state) and frozenset(seen) == state, state

    return Model(
        name="set",
        init=frozenset,
        step=step,
        read_only=lambda asked, _: asked[0] == "read",
        describe_operation=_describe_set,
        describe_state=lambda state: "{" + ", ".join(sorted(map(repr, state))) + "}",
    )


def _describe_set(asked: tuple[str, Any], answer: Any) -> str:
    f, value = asked
    suffix = " (no answer)" if answer is UNKNOWN_OUTPUT else ""
    if f == "read":
        return f"read{suffix}" if suffix else f"read {list(answer or ())!r}"
    return f"{'added' if f == 'add' else 'removed'} {value!r}{suffix}"


def counter(initial: int = 0) -> Model:
    """Return a number that is added to; the state is the number."""

    def step(state: int, asked: tuple[str, Any], answer: Any) -> tuple[bool, Any]:
        f, value = asked
        if f == "read":
            return answer is UNKNOWN_OUTPUT or answer == state, state
        if f != "add":
            raise unknown_operation("counter", f, ("add", "read"))
        after = state + value
        return answer is UNKNOWN_OUTPUT or answer is None or answer == after, after

    return Model(
        name="counter",
        init=lambda: initial,
        step=step,
        read_only=lambda asked, _: asked[0] == "read",
        describe_operation=_describe_counter,
        describe_state=str,
    )


def _describe_counter(asked: tuple[str, Any], answer: Any) -> str:
    f, value = asked
    if answer is UNKNOWN_OUTPUT:
        return f"added {value} (no answer)" if f == "add" else "read (no answer)"
    if f == "read":
        return f"read {answer}"
    return f"added {value}" + ("" if answer is None else f" and was told {answer}")
