"""Elements: the opaque values that sets, queues and counters of ids hold, compared and put into words.

JSON has no tuples, so an element may come back as a list; it is compared as a
tuple.  Everything here is pure and knows no checker.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from splitvote.harness.op import Op, Operation

LISTED: Final = 8
MOST_ANOMALIES: Final = 16
"""A checker explains this many anomalies of one name; the rest is counted."""


def element(value: Any) -> Any:
    """The value as something hashable: lists as tuples, maps as frozensets of pairs."""
    if isinstance(value, (list, tuple)):
        return tuple(map(element, value))
    if isinstance(value, Mapping):
        return frozenset((key, element(item)) for key, item in value.items())
    if isinstance(value, (set, frozenset)):
        return frozenset(map(element, value))
    return value


def elements(value: Any) -> list[Any]:
    """The elements of what a read returned; an empty list for None."""
    return [] if value is None else [element(item) for item in value]


def in_order(values: Iterable[Any]) -> list[Any]:
    """The values sorted, numbers before all else; the order never depends on hashing."""
    return sorted(values, key=_order)


def _order(value: Any) -> tuple[int, float, str]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, value, "") if is_number else (1, 0, repr(value))


def listed(values: Collection[Any], most: int = LISTED) -> str:
    """Values as words, sorted, whole numbers as ranges: ``1-5, 9, 'a' and 3 more``."""
    parts = _ranges(in_order(values))
    words = ", ".join(text for text, _ in parts[:most])
    more = sum(count for _, count in parts[most:])
    return f"{words} and {more} more" if more else words


def _ranges(values: list[Any]) -> list[tuple[str, int]]:
    """Runs of consecutive whole numbers, and all else by itself, each with how many values it stands for."""
    parts: list[tuple[Any, Any, int]] = []
    for value in values:
        if parts and _follows(parts[-1][1], value):
            first, _, count = parts[-1]
            parts[-1] = (first, value, count + 1)
        else:
            parts.append((value, value, 1))
    return [(repr(first) if count == 1 else f"{first!r}-{last!r}", count) for first, last, count in parts]


def _follows(last: Any, value: Any) -> bool:
    return type(last) is int and type(value) is int and value == last + 1


def records_of(*operations: Operation | None) -> tuple[Op, ...]:
    """The records of the operations in history order, each once."""
    found = {}
    for operation in operations:
        if operation is not None:
            for op in (operation.invoke, operation.completion):
                if op is not None:
                    found[op.index] = op
    return tuple(found[index] for index in sorted(found))


def told(operation: Operation) -> str:
    """An operation in words, with its records: ``process 3's add of 5 (record 10, ok at 12)``."""
    value = "" if operation.invoke.value is None else f" of {operation.invoke.value!r}"
    end = "never answered" if operation.completion is None else f"{operation.type} at {operation.completion.index}"
    return f"process {operation.process}'s {operation.f}{value} (record {operation.invoke.index}, {end})"


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def plural(count: int, noun: str) -> str:
    """``1 element``, ``2 elements``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
