"""Cycles of transactions, drawn: boxes one below the other, each dependency an arrow beside them with its number.

What is drawn is what the isolation checkers put into ``Anomaly.details``:
``cycle`` (steps with ``from``, ``to``, ``type``, ``explanation`` and perhaps ``key``)
and ``transactions`` (by label: ``process``, ``outcome``, ``invoked_at``).  Results may
come from elsewhere, so anything of another shape is no cycle, never an error.
This module computes places only; ``templates/cycle.html`` draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitvote.harness.op import Operation
from splitvote.reports.wording import abridged, plain, shown

MOST_STEPS: Final = 24
BOX_HEIGHT: Final = 44
_ROW: Final = 70
_TOP: Final = 10
_CHARACTER: Final = 6.9
_LABEL_CHARACTERS: Final = 96
_ARC: Final = 34
_ARC_STEP: Final = 22

_MEANINGS: Final = {
    "ww": "overwrote",
    "wr": "was read by",
    "rw": "missed the write of",
    "process": "came first in its process",
    "realtime": "ended before",
}
"""What an arrow of each kind says of the transaction it leaves."""


@dataclass(frozen=True, slots=True)
class Box:
    """One transaction; ``index`` is its invocation's."""

    label: str
    who: str
    what: str
    outcome: str
    index: int | None
    x: float
    y: float
    width: float


@dataclass(frozen=True, slots=True)
class Edge:
    """One dependency: its number in the list of explanations, its curve and where its label stands."""

    number: int
    kind: str
    meaning: str
    about: str
    source: str
    target: str
    explanation: str
    path: str
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True, slots=True)
class CycleDrawing:
    """Everything to draw, in pixels."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


def cycle_of(details: Mapping[str, Any], operation_at: Callable[[int], Operation | None]) -> CycleDrawing | None:
    """The drawing of an anomaly's cycle; None where its details hold none, or one too long to be read."""
    steps = [step for step in _listed(details.get("cycle")) if _is_step(step)]
    if not steps or len(steps) > MOST_STEPS or len(steps) != len(_listed(details.get("cycle"))):
        return None
    labels = list(dict.fromkeys(label for step in steps for label in (step["from"], step["to"])))
    described = details.get("transactions")
    texts = [_texts(label, described if isinstance(described, dict) else {}, operation_at) for label in labels]
    spans = [abs(labels.index(step["to"]) - labels.index(step["from"])) for step in steps]
    margin = _ARC + _ARC_STEP * min(max(spans), 6) + 74
    width = max(max(len(label) + len(who) + 1, len(what)) for label, who, what, _, _ in texts) * _CHARACTER + 26
    boxes = tuple(
        Box(plain(label, 20), who, what, outcome, index, margin, _TOP + row * _ROW, width)
        for row, (label, who, what, outcome, index) in enumerate(texts)
    )
    edges = tuple(_edge(number, step, boxes, labels) for number, step in enumerate(steps, 1))
    return CycleDrawing(width + 2 * margin, 2 * _TOP + (len(boxes) - 1) * _ROW + BOX_HEIGHT, boxes, edges)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _is_step(step: Any) -> bool:
    return isinstance(step, dict) and all(isinstance(step.get(name), str) for name in ("from", "to", "type"))


def _texts(
    label: str, transactions: Mapping[str, Any], operation_at: Callable[[int], Operation | None]
) -> tuple[str, str, str, str, int | None]:
    """A transaction's label, who did it, what it did, its outcome and the index of its invocation."""
    described = transactions.get(label)
    index = described.get("invoked_at") if isinstance(described, dict) else None
    operation = operation_at(index) if isinstance(index, int) else None
    if operation is None:
        return label, "", "", "info", None
    invoke, completion = operation.invoke, operation.completion
    node = completion.node if completion is not None and completion.node is not None else invoke.node
    who = f"process {operation.process}{f' at {plain(node, 20)}' if node else ''}, op {invoke.index}"
    value = completion.value if completion is not None and operation.type == "ok" else invoke.value
    return label, who, _micro_ops(value), operation.type, invoke.index


def _micro_ops(value: Any) -> str:
    """A transaction's micro-operations in short, ``append x 1; r y [1,2]``; any other value as it is."""
    listed = _listed(value)
    if not listed or not all(isinstance(part, (list, tuple)) and len(part) == 3 for part in listed):
        return shown(value, _LABEL_CHARACTERS)
    text = "; ".join(f"{_word(f)} {_word(key)} {_argument(argument)}" for f, key, argument in listed)
    return text if len(text) <= _LABEL_CHARACTERS else f"{text[: _LABEL_CHARACTERS - 1]}…"


def _argument(value: Any) -> str:
    return shown(value, 40) if not isinstance(value, list) else plain(abridged(shown(value, 4000)), 60)


def _word(value: Any) -> str:
    return plain(value, 24) if isinstance(value, str) else shown(value, 24)


def _edge(number: int, step: Mapping[str, Any], boxes: Sequence[Box], labels: Sequence[str]) -> Edge:
    """An arrow: to the right of the boxes when it leads down, to the left when it leads up."""
    source, target = labels.index(step["from"]), labels.index(step["to"])
    is_down = target > source
    box = boxes[source]
    side, away = (box.x + box.width, 1) if is_down else (box.x, -1)
    bend = side + away * (_ARC + _ARC_STEP * min(abs(target - source), 6))
    # Starts and ends are apart, so that an arrow in and one out of the same box do not meet.
    start = _TOP + source * _ROW + (BOX_HEIGHT - 14 if is_down else 14)
    end = _TOP + target * _ROW + (14 if is_down else BOX_HEIGHT - 14)
    about = _word(step["key"]) if step.get("key") is not None else ""
    return Edge(
        number=number,
        kind=plain(step["type"], 16),
        meaning=_MEANINGS.get(step["type"], "comes before"),
        about=about,
        source=boxes[source].label,
        target=boxes[target].label,
        explanation=plain(abridged(str(step.get("explanation", ""))), 700),
        path=f"M{side:.0f} {start}C{bend:.0f} {start} {bend:.0f} {end} {side:.0f} {end}",
        label_x=round((side + 3 * bend) / 4 + 5 * away, 1),
        label_y=(start + end) / 2 + 4,
        anchor="start" if is_down else "end",
    )
