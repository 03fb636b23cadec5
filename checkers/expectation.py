"""Workloads that are expected to fail: what their checkers find is marked as no surprise, and stays what it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Checker, Expected, Result, Verdict

LABEL: Final = "expected: unsafe"


class ExpectedUnsafe:
    """A checker of a workload that shows what the system does not promise."""

    def __init__(self, checker: Checker) -> None:
        self.name = checker.name
        self._checker = checker

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge as ever; the result says that an INVALID was to be expected."""
        result = self._checker.check(recording, budget)
        reason = f"{LABEL}; {result.reason}" if result.verdict is Verdict.INVALID else result.reason
        return msgspec.structs.replace(result, expected="unsafe", reason=reason)


def expected_of(results: Iterable[Result]) -> Expected:
    """What was expected of a whole run: unsafe where a workload is, unless a result that is not its own is INVALID."""
    found = list(results)
    if any(result.verdict is Verdict.INVALID and result.expected == "safe" for result in found):
        return "safe"
    return "unsafe" if any(result.expected == "unsafe" for result in found) else "safe"
