"""Intervals become records, calls before returns at equal times."""

from __future__ import annotations

import pytest

from splitvote.harness.errors import HistoryError
from splitvote.harness.formats import Interval, history_of_intervals


def test_calls_come_before_returns_at_equal_times() -> None:
    """Closed intervals that touch overlap."""
    history = history_of_intervals(
        [
            Interval(process=0, f="write", value=1, call_ns=0, return_ns=5, output=1),
            Interval(process=1, f="read", value=None, call_ns=5, return_ns=5, output=1),
            Interval(process=2, f="write", value=2, call_ns=3, return_ns=None),
            Interval(process=3, f="cas", value=[0, 1], call_ns=4, return_ns=6, type="fail", extra={"observed": True}),
        ]
    )
    assert [(op.index, op.time_ns, op.process, op.type, op.value) for op in history] == [
        (0, 0, 0, "invoke", 1),
        (1, 3, 2, "invoke", 2),
        (2, 4, 3, "invoke", [0, 1]),
        (3, 5, 1, "invoke", None),
        (4, 5, 0, "ok", 1),
        (5, 5, 1, "ok", 1),
        (6, 6, 3, "fail", None),
    ]
    assert history[6].extra == {"observed": True}
    assert [operation.type for operation in history.operations] == ["ok", "info", "fail", "ok"]


def test_a_return_before_its_call_is_refused() -> None:
    with pytest.raises(HistoryError, match=r"row 0: process 4 returns from 'read' at 1 ns, before its call at 2 ns"):
        history_of_intervals([Interval(process=4, f="read", value=None, call_ns=2, return_ns=1)])
