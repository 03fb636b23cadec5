"""Verdicts rank, budgets bound, and a checker's crash is UNKNOWN, never an exception."""

from __future__ import annotations

import pytest

from splitvote.harness.history import History
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, BudgetExceeded, Result, Verdict, run_checker, worst

EMPTY = Recording(History())


def test_the_worst_verdict_wins() -> None:
    assert worst([Verdict.VALID, Verdict.SLO_MISSED]) is Verdict.SLO_MISSED
    assert worst([Verdict.UNKNOWN, Verdict.SLO_MISSED]) is Verdict.UNKNOWN
    assert worst([Verdict.UNKNOWN, Verdict.INVALID, Verdict.VALID]) is Verdict.INVALID
    assert worst([]) is Verdict.VALID


def test_exit_codes_are_the_documented_ones() -> None:
    assert [verdict.exit_code for verdict in (Verdict.VALID, Verdict.INVALID, Verdict.UNKNOWN, Verdict.SLO_MISSED)] == [
        0,
        1,
        2,
        4,
    ]


@pytest.mark.parametrize(
    ("budget", "complaint"),
    [
        (Budget(max_steps=10), "gave up after 11 steps"),
        (Budget(memory_bytes=1), "MiB of memory"),
        (Budget(time_s=1, clock=iter([0.0, 2.0]).__next__), "gave up after 1 s"),
    ],
)
def test_every_bound_of_a_budget_is_enforced_and_named(budget: Budget, complaint: str) -> None:
    with pytest.raises(BudgetExceeded, match=complaint):
        budget.check(11)


class Crashing:
    name = "crashing"

    def __init__(self, crash: Exception) -> None:
        self.crash = crash

    def check(self, recording: Recording, budget: Budget) -> Result:
        raise self.crash


def test_a_crash_and_a_spent_budget_are_unknown_with_the_reason() -> None:
    crashed = run_checker(Crashing(KeyError("n9")), EMPTY, Budget())
    assert crashed.verdict is Verdict.UNKNOWN
    assert crashed.reason is not None
    assert "KeyError: 'n9'" in crashed.reason
    assert "test_result.py" in crashed.evidence["traceback"]
    spent = run_checker(Crashing(BudgetExceeded("gave up after 3 s")), EMPTY, Budget())
    assert (spent.verdict, spent.reason) == (Verdict.UNKNOWN, "gave up after 3 s")
