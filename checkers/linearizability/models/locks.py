"""Locks: mutual exclusion as a sequential model.

Inputs are ("acquire", owner) and ("release", owner); owner None stands for
nobody in particular, as in Knossos' mutex.  FAILED as the answer of an acquire
says that the lock was seen held, of a release that its owner did not hold it.
"""

from __future__ import annotations

from typing import Any, Final

from splitvote.checkers.linearizability.model import FAILED, KEEP, UNKNOWN_OUTPUT, Guarded, Model
from splitvote.checkers.linearizability.models.registers import apply_guarded, unknown_operation

FREE: Final = "free"
OPERATIONS: Final = ("acquire", "release")


def mutex() -> Model:
    """Return a lock; its state is FREE or ("held", owner)."""

    def guarded(asked: tuple[str, Any], answer: Any) -> Guarded:
        f, owner = asked
        if f == "acquire":
            return Guarded("is-not", FREE, KEEP) if answer is FAILED else Guarded("is", FREE, ("held", owner))
        if f != "release":
            raise unknown_operation("mutex", f, OPERATIONS)
        held = ("held", owner)
        return Guarded("is-not", held, KEEP) if answer is FAILED else Guarded("is", held, FREE)

    return Model(
        name="mutex",
        init=lambda: FREE,
        step=lambda state, asked, answer: apply_guarded(state, guarded(asked, answer)),
        guarded=guarded,
        read_only=lambda _, answer: answer is FAILED,
        describe_operation=_describe,
        describe_state=lambda state: "free" if state == FREE else _held(state[1]),
    )


def fenced_mutex() -> Model:
    """Return a lock whose acquire answers a fencing token, an integer greater than all before.

    The state is (FREE or ("held", owner), least value the last token can have
    had).  A token that the client did not see is taken to be the least possible,
    which forbids nothing that another choice would allow.
    """

    def step(state: tuple[Any, int], asked: tuple[str, Any], answer: Any) -> tuple[bool, Any]:
        holder, token = state
        f, owner = asked
        if f == "release":
            held = holder == ("held", owner)
            return (not held, state) if answer is FAILED else (held, (FREE, token) if held else state)
        if f != "acquire":
            raise unknown_operation("fenced-mutex", f, OPERATIONS)
        if answer is FAILED:
            return holder != FREE, state
        if holder != FREE:
            return False, state
        if answer is UNKNOWN_OUTPUT or answer is None:
            return True, (("held", owner), token + 1)
        return answer > token, (("held", owner), answer)

    return Model(
        name="fenced-mutex",
        init=lambda: (FREE, 0),
        step=step,
        read_only=lambda _, answer: answer is FAILED,
        describe_operation=_describe,
        describe_state=lambda state: f"{'free' if state[0] == FREE else _held(state[0][1])}, last token {state[1]}",
    )


def _held(owner: Any) -> str:
    return "held" if owner is None else f"held by {owner!r}"


def _describe(asked: tuple[str, Any], answer: Any) -> str:
    f, owner = asked
    words = f"{f}d the lock" if f == "release" else "acquired the lock"
    if answer is FAILED:
        words = "found the lock held" if f == "acquire" else "was told it did not hold the lock"
    elif answer is UNKNOWN_OUTPUT:
        words += " (no answer)"
    elif isinstance(answer, int) and not isinstance(answer, bool):
        words += f" with token {answer}"
    return words if owner is None else f"{words} as {owner!r}"
