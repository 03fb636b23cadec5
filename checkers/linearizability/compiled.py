"""The search in C, where it was built; the pure-Python search stands in for it silently.

A wheel or an editable install builds ``_search.c`` if a compiler is there.  The
two engines visit the same configurations in the same order, so that verdicts,
node counts and witnesses do not depend on which one ran.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from splitvote.checkers.linearizability.model import CheckResult
from splitvote.checkers.linearizability.problem import GuardedSteps, Problem
from splitvote.checkers.linearizability.search import CHECK_EVERY, SearchOutcome
from splitvote.harness.result import Budget, BudgetExceeded

_SearchInC = Callable[..., tuple[int, int, int, list[int]]]


def _load() -> _SearchInC | None:
    try:
        from splitvote.checkers.linearizability import _search  # type: ignore[attr-defined,unused-ignore]
    except ImportError:
        return None
    found: _SearchInC = _search.search
    return found


_search_in_c = _load()

_RESULTS = {1: CheckResult.OK, 0: CheckResult.ILLEGAL, -1: CheckResult.UNKNOWN}


def engine_available() -> bool:
    """Whether the C search was built and can be loaded (``splitvote doctor`` says so)."""
    return _search_in_c is not None


def search_compiled(
    problem: Problem, budget: Budget | None = None, *, priority: Sequence[int] | None = None
) -> SearchOutcome:
    """Do what ``search.search`` does, in C; raises RuntimeError where it was not built."""
    if _search_in_c is None:
        raise RuntimeError("the C search was not built: install a C compiler and reinstall splitvote")
    reasons: list[str] = []

    def tick(nodes: int) -> bool:
        try:
            budget.check(nodes)  # type: ignore[union-attr]
        except BudgetExceeded as exceeded:
            reasons.append(str(exceeded))
            return False
        return True

    steps = problem.steps
    guards: Any = None
    step: Any = steps.step
    if isinstance(steps, GuardedSteps):
        guards, step = (steps.tests, steps.operands, steps.assigns), None
    result, nodes, furthest, choices = _search_in_c(
        problem.events,
        problem.optional,
        problem.classes,
        steps.read_only,
        steps.initial,
        step,
        guards,
        priority or problem.priority,
        None if budget is None else tick,
        CHECK_EVERY,
        None if problem.outlook is None else (problem.outlook.can_reach, problem.outlook.reset_states),
    )
    return SearchOutcome(_RESULTS[result], nodes, furthest, choices, reasons[0] if reasons else None)
