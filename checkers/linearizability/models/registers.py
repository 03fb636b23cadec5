"""Registers: values read, written, compared and set.

Inputs are pairs (f, value) as in a history: ("read", None), ("write", v),
("cas", (old, new)).  The output of a read is the value seen (None: absent); a
cas that took effect answers anything, one whose comparison failed answers
FAILED, and one of unknown outcome UNKNOWN_OUTPUT.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from splitvote.checkers.linearizability.model import FAILED, KEEP, UNKNOWN_OUTPUT, Guarded, Model

READS: Final = ("read", "r")
WRITES: Final = ("write", "w")


def register(initial: Any = None) -> Model:
    """Return a register of reads and writes."""
    return _register_model("register", initial, ("read", "write"))


def cas_register(initial: Any = None) -> Model:
    """Return a register that also compares and sets.

    A failed cas is an observation: the state was not ``old`` (Porcupine's
    reading; Knossos leaves failed operations out, and so may a caller).
    """
    return _register_model("cas-register", initial, ("read", "write", "cas"))


def _register_model(name: str, initial: Any, allowed: tuple[str, ...]) -> Model:
    @lru_cache(maxsize=4096)  # the keys of a run often share their few values
    def guarded(asked: tuple[str, Any], answer: Any) -> Guarded:
        f, value = asked
        if f not in allowed:
            raise unknown_operation(name, f, allowed)
        if f == "write":
            return Guarded("any", None, value)
        if f == "cas":
            old, new = value
            return Guarded("is-not", old, KEEP) if answer is FAILED else Guarded("is", old, new)
        if answer is UNKNOWN_OUTPUT:
            return Guarded("any", None, KEEP)
        return Guarded("is", answer, KEEP)

    return Model(
        name=name,
        init=lambda: initial,
        step=lambda state, asked, answer: apply_guarded(state, guarded(asked, answer)),
        guarded=guarded,
        read_only=lambda asked, answer: asked[0] == "read" or answer is FAILED,
        describe_operation=describe_register_operation,
        describe_state=describe_value,
    )


def apply_guarded(state: Any, guard: Guarded) -> tuple[bool, Any]:
    """Step a state by a guarded assignment."""
    if guard.test != "any" and (guard.test == "is") != (state == guard.operand):
        return False, state
    return True, state if guard.assign is KEEP else guard.assign


def multi_register(initial: Mapping[Any, Any] | None = None) -> Model:
    """Return several registers read and written together, atomically.

    The input is ("txn", ((f, key, value), ...)) with f "read" or "write" ("r",
    "w"), the output the same micro-operations with what the reads saw; they are
    applied in order.  Keys not in ``initial`` are absent (None).  The state is
    the frozen set of (key, value) that are present.
    """

    def step(state: frozenset[tuple[Any, Any]], asked: tuple[str, Any], answer: Any) -> tuple[bool, Any]:
        values = dict(state)
        known = answer is not UNKNOWN_OUTPUT
        for f, key, value in answer if known else asked[1]:
            if f in WRITES:
                values[key] = value
            elif f not in READS:
                raise unknown_operation("multi-register", f, READS + WRITES)
            elif known and values.get(key) != value:
                return False, state
        return True, frozenset((key, value) for key, value in values.items() if value is not None)

    return Model(
        name="multi-register",
        init=lambda: frozenset((key, value) for key, value in (initial or {}).items() if value is not None),
        step=step,
        read_only=lambda asked, answer: all(f in READS for f, _, _ in asked[1]),
        describe_operation=_describe_transaction,
        describe_state=lambda state: ", ".join(sorted(f"{key}={value!r}" for key, value in state)) or "empty",
    )


def versioned_register(initial: Any = None) -> Model:
    """Return a cas-register whose version starts at 0 and grows by one with each write.

    A read answers (version, value); a write or cas its version, or (version,
    value), or None where the client was not told.  The state is (version, value).
    """

    def step(state: tuple[int, Any], asked: tuple[str, Any], answer: Any) -> tuple[bool, Any]:
        version, current = state
        f, value = asked
        if f == "read":
            return answer is UNKNOWN_OUTPUT or tuple(answer) == state, state
        if f not in ("write", "cas"):
            raise unknown_operation("versioned-register", f, ("read", "write", "cas"))
        if answer is FAILED:
            return current != value[0], state
        if f == "cas" and current != value[0]:
            return False, state
        told = answer[0] if isinstance(answer, tuple) else answer
        if told is not None and told is not UNKNOWN_OUTPUT and told != version + 1:
            return False, state
        return True, (version + 1, value[1] if f == "cas" else value)

    return Model(
        name="versioned-register",
        init=lambda: (0, initial),
        step=step,
        read_only=lambda asked, answer: asked[0] == "read" or answer is FAILED,
        describe_operation=_describe_versioned,
        describe_state=lambda state: f"{describe_value(state[1])} at version {state[0]}",
    )


def unknown_operation(model: str, f: object, allowed: tuple[str, ...]) -> ValueError:
    """Return the error for an operation a model does not have."""
    return ValueError(f"model {model} knows no operation {f!r}; it has {', '.join(allowed)}")


def describe_value(value: Any) -> str:
    """Return a value as a user wrote it, "absent" for none."""
    return "absent" if value is None else repr(value)


def describe_register_operation(asked: tuple[str, Any], answer: Any) -> str:
    """Say what an operation on a register did, in words."""
    f, value = asked
    if f == "read":
        if answer is UNKNOWN_OUTPUT:
            return "read (no answer)"
        return "read that it was absent" if answer is None else f"read {answer!r}"
    suffix = " (no answer)" if answer is UNKNOWN_OUTPUT else ""
    if f == "write":
        return f"wrote {value!r}{suffix}"
    old, new = value
    if answer is FAILED:
        return f"compared with {old!r} to set {new!r}, and was told it was not {old!r}"
    return f"changed {old!r} to {new!r}{suffix}"


def _describe_versioned(asked: tuple[str, Any], answer: Any) -> str:
    if asked[0] == "read" and answer is not UNKNOWN_OUTPUT:
        return f"read {describe_value(answer[1])} at version {answer[0]}"
    words = describe_register_operation(asked, answer)
    told = answer[0] if isinstance(answer, tuple) else answer
    return words if not isinstance(told, int) else f"{words} as version {told}"


def _describe_transaction(asked: tuple[str, Any], answer: Any) -> str:
    known = answer is not UNKNOWN_OUTPUT
    parts = [
        f"wrote {key}={value!r}" if f in WRITES else f"read {key}={value!r}" if known else f"read {key}"
        for f, key, value in (answer if known else asked[1])
    ]
    return ", ".join(parts) + ("" if known else " (no answer)")
