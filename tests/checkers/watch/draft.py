"""A run recorded from two members of etcd 3.5.30, and a draft of it that a test may change."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from splitvote.checkers.watch import WatchChecker
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict, run_checker
from splitvote.harness.store import load_recording

RECORDED = Path(__file__).with_name("recorded")

LIVE, PAST = 1, 189
"""The operations, by their invoke: watches from now, one of them ended by its client; watches from the past, compacted,
resumed on another member, then cut and resumed once more."""

Edit = Callable[[Any], Any]


@functools.cache
def recorded() -> Recording:
    return load_recording(RECORDED)


def judged(recording: Recording) -> Result:
    return run_checker(WatchChecker(), recording, Budget())


def names(result: Result) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


class Draft:
    """The recorded history under change, its records by index."""

    def __init__(self) -> None:
        self.records: dict[int, Op] = {op.index: op for op in recorded().history}

    def told(self, of: int, kind: str, watch: int | None, *, stream: int = 0) -> list[Op]:
        """The records of one kind about a watch."""
        return [
            op
            for op in self.records.values()
            if op.type == "event" and op.of == of and op.stream == stream and op.value[:2] == [kind, watch]
        ]

    def change(self, op: Op, **fields: Any) -> None:
        self.records[op.index] = msgspec.structs.replace(op, **fields)

    def edit(self, op: Op, place: int, edit: Edit) -> None:
        """Change one element of a record's value."""
        value = list(op.value)
        value[place] = edit(msgspec.json.decode(msgspec.json.encode(value[place])))
        self.change(op, value=value)

    def drop(self, *ops: Op) -> None:
        for op in ops:
            del self.records[op.index]

    def result(self, **parts: Any) -> Result:
        records = [self.records[index] for index in sorted(self.records)]
        return judged(replace(recorded(), history=History(records), **parts))


def only(result: Result, name: str) -> None:
    """Found, under this name and no other, with records that show it."""
    assert result.verdict is Verdict.INVALID, result.reason
    assert names(result) == {name}, [anomaly.story for anomaly in result.anomalies]
    assert result.anomalies[0].ops
    assert [op.index for op in result.anomalies[0].ops] == sorted(op.index for op in result.anomalies[0].ops)


def changed_event(events: list[list[Any]], field: int, value: Any) -> list[list[Any]]:
    events[0][field] = value
    return events
