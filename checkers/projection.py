"""A checker's view of one workload of a run that had several: its operations, and the faults."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from splitvote.harness.history import History
from splitvote.harness.op import NEMESIS
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Checker, Result


def projected(recording: Recording, workload: str) -> Recording:
    """The recording without other workloads' records; records keep their index, so that it is no place any more."""
    theirs = (op for op in recording.history if op.workload == workload or op.process == NEMESIS)
    return replace(recording, history=History(theirs, torn_bytes=recording.history.torn_bytes))


class ProjectedChecker:
    """A checker that sees one workload only; its result is named ``workload/checker``."""

    def __init__(self, workload: str, checker: Checker) -> None:
        self.name = f"{workload}/{checker.name}"
        self._workload = workload
        self._checker = checker

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge the workload's own records."""
        result = self._checker.check(projected(recording, self._workload), budget)
        return msgspec.structs.replace(result, checker=self.name)
