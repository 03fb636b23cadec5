"""Workloads that are expected to fail: the verdict stays, and everybody is told that it is no surprise."""

from __future__ import annotations

import msgspec
import pytest

from splitvote.checkers.expectation import ExpectedUnsafe, expected_of
from splitvote.harness.generator import lift
from splitvote.harness.history import History
from splitvote.harness.judge import verdict_lines
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Expected, Result, Verdict
from splitvote.harness.store import Results
from splitvote.workloads.together import together
from splitvote.workloads.workload import Workload, WorkloadOptions


class Saying:
    """A checker that says what it was told to."""

    name = "saying"

    def __init__(self, verdict: Verdict, reason: str | None = None) -> None:
        self._result = Result(self.name, verdict, reason)

    def check(self, recording: Recording, budget: Budget) -> Result:
        return self._result


NOTHING = Recording(History())
LOST = Saying(Verdict.INVALID, "element 3 lost")


def test_an_invalid_of_an_unsafe_workload_stays_invalid_and_says_that_it_was_expected() -> None:
    result = ExpectedUnsafe(LOST).check(NOTHING, Budget())
    assert (result.checker, result.verdict, result.expected) == ("saying", Verdict.INVALID, "unsafe")
    assert result.reason == "expected: unsafe; element 3 lost"
    assert msgspec.to_builtins(result)["expected"] == "unsafe"


@pytest.mark.parametrize(("verdict", "reason"), [(Verdict.VALID, None), (Verdict.UNKNOWN, "never read")])
def test_any_other_verdict_keeps_its_reason(verdict: Verdict, reason: str | None) -> None:
    result = ExpectedUnsafe(Saying(verdict, reason)).check(NOTHING, Budget())
    assert (result.verdict, result.reason, result.expected) == (verdict, reason, "unsafe")


def results(*said: tuple[Verdict, Expected]) -> list[Result]:
    return [Result(f"c{number}", verdict, expected=expected) for number, (verdict, expected) in enumerate(said)]


INVALID, VALID = Verdict.INVALID, Verdict.VALID


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([(VALID, "safe"), (INVALID, "safe")], "safe"),
        ([(INVALID, "unsafe"), (VALID, "safe")], "unsafe"),
        ([(VALID, "unsafe"), (VALID, "safe")], "unsafe"),
        ([(INVALID, "unsafe"), (INVALID, "safe")], "safe"),
    ],
)
def test_a_run_is_no_surprise_unless_something_else_is_invalid(
    said: list[tuple[Verdict, Expected]], expected: Expected
) -> None:
    assert expected_of(results(*said)) == expected


@pytest.mark.parametrize(
    ("verdict", "expected", "line"),
    [
        (INVALID, "unsafe", "verdict: INVALID (expected: unsafe)"),
        (VALID, "unsafe", "verdict: VALID (expected: unsafe; this run did not show it)"),
        (INVALID, "safe", "verdict: INVALID"),
    ],
)
def test_the_terminal_says_so_beside_the_verdict(verdict: Verdict, expected: Expected, line: str) -> None:
    assert verdict_lines(Results(verdict, (), expected=expected))[0] == line


def test_of_several_workloads_only_the_unsafe_ones_are_excused() -> None:
    def make(name: str, options: WorkloadOptions) -> Workload:
        expected: Expected = "unsafe" if name == "careless" else "safe"
        return Workload(
            name=name, generator=lift(None), final=lambda keys: None, checkers=(LOST,), least_ok={}, expected=expected
        )

    both = together("careful+careless", WorkloadOptions(concurrency=2, rate=1.0), make)
    said = {result.checker: result.expected for result in (c.check(NOTHING, Budget()) for c in both.checkers)}
    assert said == {"careful/saying": "safe", "careless/saying": "unsafe"}
    (alone,) = together("careless", WorkloadOptions(concurrency=1, rate=1.0), make).checkers
    assert alone.check(NOTHING, Budget()).expected == "unsafe"
