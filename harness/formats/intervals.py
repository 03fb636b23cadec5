"""Histories given as intervals: a row an operation, with the times of its call and its return.

Porcupine's ``Operation`` and most home-made logs look like this.  Intervals are
closed: where a call and a return have the same time, the two operations
overlap, so calls are put before returns (Porcupine's reading).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from splitvote.harness.errors import HistoryError
from splitvote.harness.history import History
from splitvote.harness.op import Op, OpType


class Interval(msgspec.Struct, frozen=True):
    """One operation; ``return_ns`` None: it never answered.  ``type`` is how it ended, if it did."""

    process: int
    f: str
    value: Any
    call_ns: int
    return_ns: int | None
    output: Any = None
    type: OpType = "ok"
    key: Any = None
    extra: dict[str, Any] | None = None


def history_of_intervals(intervals: Iterable[Interval]) -> History:
    """The records of the intervals in real-time order, calls before returns at equal times.

    Two calls (or two returns) at one time stay in the order given.  Raises
    HistoryError where an operation returns before it is called.
    """
    halves: list[tuple[int, int, int, Op]] = []
    for number, row in enumerate(intervals):
        invoke = Op(process=row.process, f=row.f, key=row.key, value=row.value)
        halves.append((row.call_ns, 0, number, invoke))
        if row.return_ns is None:
            continue
        if row.return_ns < row.call_ns:
            raise HistoryError(
                f"row {number}: process {row.process} returns from {row.f!r} at {row.return_ns} ns, before its call "
                f"at {row.call_ns} ns; check that both columns come from one clock"
            )
        done = invoke.completed(row.type, value=row.output, extra=row.extra)
        halves.append((row.return_ns, 1, number, done))
    halves.sort(key=lambda half: half[:3])
    return History(
        msgspec.structs.replace(op, index=index, time_ns=time_ns) for index, (time_ns, _, _, op) in enumerate(halves)
    )
