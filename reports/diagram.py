"""Space-time diagrams: a few operations as bars, a lane a process, in real-time order.

The order of all beginnings and ends is kept exactly; distances are not to
scale, since microseconds and seconds meet in one witness.  Every bar is made
wide enough for its own label, so nothing has to be guessed from a tooltip.
This module computes places only; ``templates/diagram.html`` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from splitvote.harness.op import Operation
from splitvote.reports.wording import answered, called, plain

MOST_OPERATIONS: Final = 32
LANE_HEIGHT: Final = 38
BAR_HEIGHT: Final = 24
LEFT: Final = 124
_TOP: Final = 10
_AXIS_HEIGHT: Final = 26
_CHARACTER: Final = 6.7
_LEAST_GAP: Final = 9.0
_TICK_WIDTH: Final = 64
_LABEL_CHARACTERS: Final = 52


@dataclass(frozen=True, slots=True)
class Bar:
    """One operation; ``tail`` is how far right it may still take effect (None: it ended for certain)."""

    index: int
    x: float
    y: float
    width: float
    tail: float | None
    outcome: str
    label: str
    title: str
    role: str
    order: int | None
    facts: tuple[tuple[str, str], ...] = ()
    """What is said of it where the pointer rests on it."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment on the axis, named where there is room."""

    x: float
    text: str | None


@dataclass(frozen=True, slots=True)
class Lane:
    """A process's row."""

    y: float
    name: str


@dataclass(frozen=True, slots=True)
class Diagram:
    """Everything to draw, in pixels."""

    width: float
    height: float
    axis_y: float
    lanes: tuple[Lane, ...]
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]


def space_time(
    operations: Sequence[Operation],
    *,
    order: Mapping[int, int] | None = None,
    culprits: Collection[int] = (),
    since_before: Collection[int] = (),
    states: Mapping[int, str] | None = None,
) -> Diagram | None:
    """Lay out at most MOST_OPERATIONS operations; None where there is nothing to lay out.

    ``order`` gives places in a linearization by the invoke's index, and
    ``culprits`` the invokes that could not be placed.  Those in ``since_before``
    never ended and began before all others: they are put at the left edge,
    labelled with their time, so that the rest has the room.  ``states`` says, by the
    invoke's index, what state an operation leaves in the order.
    """
    drawn = sorted(operations, key=lambda operation: operation.invoke.index)[-MOST_OPERATIONS:]
    if not drawn:
        return None
    places = order or {}
    labels = {op.invoke.index: _label(op, places.get(op.invoke.index), since_before) for op in drawn}
    widths = {index: len(label) * _CHARACTER + 14 for index, label in labels.items()}
    timed = [operation for operation in drawn if operation.invoke.index not in since_before] or drawn
    x_of = _positions(timed, widths)
    for index in labels.keys() & set(since_before) if len(timed) < len(drawn) else ():
        x_of[index, 0], x_of[index, 1] = LEFT + 4.0, LEFT + 4.0 + widths[index]
    processes = list(dict.fromkeys(operation.process for operation in drawn))
    lanes = tuple(Lane(_TOP + row * LANE_HEIGHT, _who(process, drawn)) for row, process in enumerate(processes))
    right = max(x_of.values()) + 24
    bars = tuple(
        _bar(operation, labels[operation.invoke.index], lanes[processes.index(operation.process)].y, x_of, right)
        for operation in drawn
    )
    marked = tuple(_with_role(bar, places, culprits) for bar in bars)
    told = _told(marked, drawn, states or {})
    axis_y = _TOP + len(lanes) * LANE_HEIGHT + 2
    ticks = _ticks(timed, x_of)
    return Diagram(right + 16, axis_y + _AXIS_HEIGHT, axis_y, lanes, told, ticks)


def _label(operation: Operation, place: int | None, since_before: Collection[int]) -> str:
    number = "" if place is None else f"{place} · "
    if operation.invoke.index in since_before:
        number = f"since {operation.invoke.time_ns / 1e9:.2f} s · "
    text = f"{number}{called(operation.invoke)} {answered(operation)}"
    return text if len(text) <= _LABEL_CHARACTERS else f"{text[: _LABEL_CHARACTERS - 1]}…"


_End = tuple[int, int]
"""(index of the invoke, 0 for its beginning or 1 for its end)."""


def _positions(operations: Sequence[Operation], widths: Mapping[int, float]) -> dict[_End, float]:
    """The x of every beginning and end: in real-time order, each bar at least as wide as its label."""
    ends: list[tuple[int, int, _End]] = []
    for operation in operations:
        index = operation.invoke.index
        ends.append((operation.invoke.time_ns, operation.invoke.index, (index, 0)))
        if operation.completion is not None:
            ends.append((operation.completion.time_ns, operation.completion.index, (index, 1)))
    x_of: dict[_End, float] = {}
    x, before_ns = float(LEFT + 12), min(ends)[0]
    for time_ns, _, (index, half) in sorted(ends):
        if x_of:
            x += _LEAST_GAP + 5 * math.log10(1 + (time_ns - before_ns) / 1e4)
        if half == 1:
            x = max(x, x_of[index, 0] + widths[index])
        x_of[index, half], before_ns = x, time_ns
    for operation in operations:
        if operation.completion is None:
            index = operation.invoke.index
            x_of[index, 1] = max(x, x_of[index, 0] + widths[index])
    return x_of


def _bar(operation: Operation, label: str, y: float, x_of: Mapping[_End, float], right: float) -> Bar:
    index = operation.invoke.index
    x, end = x_of[index, 0], x_of[index, 1]
    completion = operation.completion
    error = "" if completion is None or completion.error is None else f" ({completion.error[:200]})"
    title = f"op {index}: {called(operation.invoke)} {answered(operation)}{error}"
    tail = right if operation.type == "info" else None
    top = y + (LANE_HEIGHT - BAR_HEIGHT) / 2
    return Bar(index, x, top, end - x, tail, operation.type, label, title, "context", None)


def _with_role(bar: Bar, places: Mapping[int, int], culprits: Collection[int]) -> Bar:
    role = "culprit" if bar.index in culprits else "placed" if bar.index in places else "context"
    return replace(bar, role=role, order=places.get(bar.index))


def _told(bars: Sequence[Bar], operations: Sequence[Operation], states: Mapping[int, str]) -> tuple[Bar, ...]:
    """Each bar with what is said of it: who, when, and the state before and after it in the order."""
    by_order = {bar.order: states[bar.index] for bar in bars if bar.order is not None and bar.index in states}
    last = by_order[max(by_order)] if by_order else None
    told = []
    for bar, operation in zip(bars, operations, strict=True):
        facts = [
            ("process", f"{operation.process}{_at_node(operation)}"),
            ("invoked", _moment(operation.invoke.time_ns)),
        ]
        if operation.completion is not None:
            facts.append(("answered", _moment(operation.completion.time_ns)))
        if bar.order is not None:
            facts.append(("place in the order", f"{bar.order:,}"))
        if bar.order is not None and bar.index in states:
            facts += [("state before it", by_order[bar.order - 1])] if bar.order - 1 in by_order else []
            facts.append(("state after it", states[bar.index]))
        elif bar.role == "culprit" and last is not None:
            facts.append(("state it would find", f"{last}, and so it fits nowhere"))
        if operation.type == "info":
            facts.append(("outcome", "unknown: it may have happened then, later, or never"))
        told.append(replace(bar, facts=tuple(facts)))
    return tuple(told)


def _who(process: int, operations: Sequence[Operation]) -> str:
    """A process, and its node where all its operations are at one."""
    nodes = {_at_node(operation) for operation in operations if operation.process == process}
    return f"process {process}{nodes.pop() if len(nodes) == 1 else ''}"


def _at_node(operation: Operation) -> str:
    node = operation.completion.node if operation.completion is not None else None
    node = node or operation.invoke.node
    return f" at {plain(node, 40)}" if node else ""


def _moment(time_ns: int) -> str:
    return f"{time_ns / 1e9:.6f} s"


def _ticks(operations: Sequence[Operation], x_of: Mapping[_End, float]) -> tuple[Tick, ...]:
    moments = [((op.invoke.index, 0), op.invoke.time_ns) for op in operations]
    moments += [((op.invoke.index, 1), op.completion.time_ns) for op in operations if op.completion is not None]
    ticks: list[Tick] = []
    named_x = -math.inf
    for end, time_ns in sorted(moments, key=lambda moment: x_of[moment[0]]):
        x = x_of[end]
        has_room = x - named_x >= _TICK_WIDTH
        named_x = x if has_room else named_x
        ticks.append(Tick(x, f"{time_ns / 1e9:.4f} s" if has_room else None))
    return tuple(ticks)
