"""A store of keys and values: get, put, append, delete and cas, each key on its own.

An input is (f, key, value), or (f, value) where a history is of one key
already.  A get answers the value, and that of an absent key is ``initial``
(Porcupine's store answers the empty string).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Final

from splitvote.checkers.linearizability.model import (
    FAILED,
    KEEP,
    UNKNOWN_OUTPUT,
    Guarded,
    Model,
    Operation,
    partition_by,
)
from splitvote.checkers.linearizability.models.registers import apply_guarded, describe_value, unknown_operation

OPERATIONS: Final = ("get", "put", "append", "delete", "cas")


def kv(initial: Any = "") -> Model:
    """Return a store whose keys hold ``initial`` until they are put; the state is one key's value."""

    def guarded(asked: tuple[Any, ...], answer: Any) -> Guarded | None:
        f, value = asked[0], asked[-1]
        if f == "get":
            return Guarded("any", None, KEEP) if answer is UNKNOWN_OUTPUT else Guarded("is", answer, KEEP)
        if f == "put":
            return Guarded("any", None, value)
        if f == "delete":
            return Guarded("any", None, initial)
        if f == "cas":
            old, new = value
            return Guarded("is-not", old, KEEP) if answer is FAILED else Guarded("is", old, new)
        if f != "append":
            raise unknown_operation("kv", f, OPERATIONS)
        return None

    def can_reach(state: Any, asked: tuple[Any, ...], answer: Any) -> bool:
        """A value only grows at its end; puts, deletes and cas are resets."""
        if asked[0] != "get" or not (isinstance(state, str) and isinstance(answer, str)):
            return True
        return answer.startswith(state)

    def resets_to(asked: tuple[Any, ...]) -> Any:
        f, value = asked[0], asked[-1]
        if f == "cas":
            return value[1]
        return value if f == "put" else initial if f == "delete" else KEEP

    def step(state: Any, asked: tuple[Any, ...], answer: Any) -> tuple[bool, Any]:
        if asked[0] == "append":
            return True, state + asked[-1]
        guard = guarded(asked, answer)
        assert guard is not None  # only an append is no guarded assignment
        return apply_guarded(state, guard)

    return Model(
        name="kv",
        init=lambda: initial,
        step=step,
        partition=partition_by(lambda asked: asked[1] if len(asked) == 3 else None),
        guarded=guarded,
        can_reach=can_reach,
        resets_to=resets_to,
        guide=guide_by_gets,
        read_only=lambda asked, answer: asked[0] == "get" or answer is FAILED,
        describe_operation=_describe,
        describe_state=describe_value,
    )


def guide_by_gets(history: Sequence[Operation]) -> list[int]:
    """Guess at the order: as early as an operation must have happened, in the order in which gets saw what was written.

    What comes earlier in a value must have happened before the returns of what
    comes later in it.  An append that nobody saw probably came before the put
    that it overlaps.
    """
    ends = [math.inf if operation.return_ is None else operation.return_ for operation in history]
    due = [(end, 0) for end in ends]
    unseen, puts = set(range(len(history))), []
    for get, writers in _pieces_seen(history, ends):
        bound = ends[get]
        for position, number in reversed(list(enumerate(writers))):
            bound = min(bound, ends[number])
            due[number] = (bound, position)
            if history[number].input[0] == "put":
                puts.append(bound)
        unseen.difference_update(writers)
    puts.sort()
    for number in unseen:
        if history[number].input[0] == "append":
            at = bisect_left(puts, history[number].call)
            if at < len(puts) and puts[at] <= ends[number]:
                due[number] = (puts[at], -1)
    priority = [0] * len(history)
    for place, number in enumerate(sorted(range(len(history)), key=due.__getitem__)):
        priority[number] = place
    return priority


def _pieces_seen(history: Sequence[Operation], ends: Sequence[float]) -> Iterator[tuple[int, list[int]]]:
    """Yield each get with the operations that wrote what it saw, beyond what the get before it saw, in its order."""
    pieces = {asked[-1]: at for at, (_, asked, _, _, _) in enumerate(history) if asked[0] in ("put", "append")}
    lengths = sorted({len(piece) for piece in pieces if isinstance(piece, str)} - {0}, reverse=True)
    gets = [at for at, operation in enumerate(history) if operation.input[0] == "get" and ends[at] < math.inf]
    seen = ""
    for at in sorted(gets, key=ends.__getitem__):
        value = history[at].output
        if not isinstance(value, str):
            continue
        start = len(seen) if value.startswith(seen) else 0
        seen = value
        writers = []
        while start < len(value):
            length = next((length for length in lengths if value[start : start + length] in pieces), 0)
            if not length:
                break
            writers.append(pieces[value[start : start + length]])
            start += length
        yield at, writers


def _describe(asked: tuple[Any, ...], answer: Any) -> str:
    f, value = asked[0], asked[-1]
    key = f" {asked[1]!r}" if len(asked) == 3 else ""
    suffix = " (no answer)" if answer is UNKNOWN_OUTPUT else ""
    if f == "get":
        return f"got{key}{suffix}" if suffix else f"got{key} {describe_value(answer)}"
    if f == "cas":
        old, new = value
        done = f"was told{key} was not {old!r}" if answer is FAILED else f"changed{key} {old!r} to {new!r}"
        return done + suffix
    if f == "delete":
        return f"deleted{key}{suffix}"
    return f"{'put' if f == 'put' else 'appended'}{key} {value!r}{suffix}"
