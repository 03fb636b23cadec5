"""Cycles as drawings: every step an arrow, every transaction a box, and nothing else taken for one."""

from __future__ import annotations

from typing import Any

import pytest

from splitvote.harness.op import Op, Operation
from splitvote.reports.cycles import MOST_STEPS, cycle_of


def operations(index: int) -> Operation | None:
    invoke = Op(index=index, process=index, f="txn", value=[["append", "a", index]], node="n1")
    return Operation(invoke, invoke.completed("ok", value=[["r", "a", [1, 2]], ["append", "b", 3]]))


def steps(*pairs: str, **more: Any) -> dict[str, Any]:
    """Steps such as "T1T2", with the transactions they name."""
    cycle = [
        {"from": pair[:2], "to": pair[2:], "type": "rw", "explanation": f"because of {pair}"} | more for pair in pairs
    ]
    labels = sorted({label for step in cycle for label in (step["from"], step["to"])})
    return {"cycle": cycle, "transactions": {label: {"invoked_at": place} for place, label in enumerate(labels)}}


def test_boxes_say_who_did_what_and_arrows_why() -> None:
    """One box a transaction in the order of the steps, one numbered arrow a step; down at the right, up at the left."""
    drawing = cycle_of(steps("T1T2", "T2T3", "T3T1", key="a"), operations)
    assert drawing is not None
    assert [box.label for box in drawing.boxes] == ["T1", "T2", "T3"]
    assert drawing.boxes[1].who == "process 1 at n1, op 1"
    assert drawing.boxes[1].what == "r a [1,2]; append b 3"
    assert [(edge.number, edge.source, edge.target, edge.about) for edge in drawing.edges] == [
        (1, "T1", "T2", "a"),
        (2, "T2", "T3", "a"),
        (3, "T3", "T1", "a"),
    ]
    assert [edge.anchor for edge in drawing.edges] == ["start", "start", "end"]
    assert drawing.edges[2].explanation == "because of T3T1"
    assert all(0 <= edge.label_x <= drawing.width for edge in drawing.edges)


def test_an_unknown_transaction_is_a_box_without_words() -> None:
    """Where the record is not in the history (a damaged file), the cycle is still there."""
    drawing = cycle_of(steps("T1T2", "T2T1"), lambda index: None)
    assert drawing is not None
    assert [(box.who, box.index) for box in drawing.boxes] == [("", None), ("", None)]


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"cycle": "T1 < T2"},
        {"cycle": [{"from": "T1"}]},
        {"cycle": [{"from": 1, "to": 2, "type": "ww"}]},
        steps(*[f"T{at % 10}T{(at + 1) % 10}" for at in range(MOST_STEPS + 1)]),
    ],
)
def test_what_is_no_cycle_or_too_long_is_not_drawn(details: dict[str, Any]) -> None:
    """Details of another shape stay details."""
    assert cycle_of(details, operations) is None
