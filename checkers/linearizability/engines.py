"""Choosing an engine for a history, and running it.

==================  =========================================================
zones               registers (any model of guarded assignments) whose values
                    are written once; near-linear, NumPy
zones + search      the same where failed compare-and-sets leave zones
                    undecided: the search, guided by the order zones found
revisions           models whose answers tell their place (etcd's revisions)
revisions + search  the same where that order is no linearization
search (C)          anything
search (Python)     anything, where the C search was not built
==================  =========================================================

Short histories go to the search first, under a small bound: it decides most of
them before NumPy has its first array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from splitvote.checkers.linearizability.compiled import engine_available, search_compiled
from splitvote.checkers.linearizability.model import CheckResult, Model, Operation
from splitvote.checkers.linearizability.problem import GuardedSteps, Problem, encode
from splitvote.checkers.linearizability.revisions import order_by_places, priority_by_places
from splitvote.checkers.linearizability.search import SearchOutcome, search
from splitvote.checkers.linearizability.witness import replay
from splitvote.harness.result import Budget, BudgetExceeded

ZONES_FROM: Final = 400
"""Operations from which zones are asked before the search."""

FIRST_SHARE: Final = 200_000
"""Steps that ``decide_many`` gives each history in its first round."""

QUICK_NODES: Final = 20
"""Configurations an operation that a short history's first search may explore."""


class Share(Budget):
    """A part of a budget: its own bound on steps, and the whole's bounds."""

    def __init__(self, whole: Budget, max_steps: int) -> None:
        super().__init__(max_steps=max_steps)
        self._whole = whole

    def check(self, steps: int = 0) -> None:
        """Count in both; raises BudgetExceeded when either is spent."""
        self._whole.check(steps)
        super().check(steps)

    @property
    def remaining_s(self) -> float | None:
        """Seconds left of the whole."""
        return self._whole.remaining_s


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for one partition.

    ``linearize()`` returns an order of operations: of all where the answer is OK, else
    of those before ``furthest``, the place in ``problem.events`` of a return
    that no linearization passes (ILLEGAL) or that none passed in time (UNKNOWN).
    Zones know neither of an ILLEGAL, only ``evidence``; ``locate`` finds them.
    ``reason`` explains UNKNOWN.
    """

    engine: str
    problem: Problem
    result: CheckResult
    nodes: int = 0
    furthest: int | None = None
    linearize: Callable[[], list[int]] = list
    evidence: tuple[int, ...] = ()
    reason: str | None = None


def decide(model: Model, operations: Sequence[Operation], budget: Budget) -> Decision:
    """Decide the history of one partition; UNKNOWN when the budget is spent."""
    problem = encode(model, operations)
    if model.places is not None:
        return _decide_by_places(problem, model.places(operations), budget)
    if not isinstance(problem.steps, GuardedSteps):
        return _decide_by_search(problem, budget)
    if len(operations) < ZONES_FROM:
        quick = _decide_by_search(problem, Share(budget, QUICK_NODES * ZONES_FROM))
        if quick.result is not CheckResult.UNKNOWN:
            return quick
    return _decide_by_zones(problem, budget) or _decide_by_search(problem, budget)


def decide_parts(model: Model, operations: Sequence[Operation], budget: Budget) -> Iterator[Decision]:
    """Decide a history partition by partition, as the model cuts it."""
    for part in [operations] if model.partition is None else model.partition(operations):
        yield decide(model, part, budget)


def decide_many(model: Model, histories: Iterable[Sequence[Operation]], budget: Budget) -> list[Decision]:
    """Decide many histories (the keys of a run) under one budget, the hard ones last.

    The first round gives each a share of steps, so that one hard history does
    not starve the others; the second gives what is left of the budget.
    """
    decisions = [decide(model, operations, Share(budget, FIRST_SHARE)) for operations in histories]
    for at, decision in enumerate(decisions):
        if decision.result is CheckResult.UNKNOWN and not is_spent(budget):
            decisions[at] = decide(model, decision.problem.operations, budget)
    return decisions


def is_spent(budget: Budget) -> bool:
    """Whether nothing is left of a budget."""
    try:
        budget.check()
    except BudgetExceeded:
        return True
    return False


def result_of(decisions: Iterable[Decision]) -> CheckResult:
    """Return a history's answer: ILLEGAL if a part is (the rest is not looked at), else UNKNOWN if a part is."""
    worst = CheckResult.OK
    for decision in decisions:
        if decision.result is CheckResult.ILLEGAL:
            return CheckResult.ILLEGAL
        if decision.result is CheckResult.UNKNOWN:
            worst = CheckResult.UNKNOWN
    return worst


def run_search(problem: Problem, budget: Budget, *, priority: Sequence[int] | None = None) -> SearchOutcome:
    """Run the fastest search there is."""
    return (search_compiled if engine_available() else search)(problem, budget, priority=priority)


def search_name() -> str:
    """Return the name of the search that ``run_search`` runs."""
    return "search (C)" if engine_available() else "search (Python)"


def _decide_by_search(problem: Problem, budget: Budget) -> Decision:
    outcome = run_search(problem, budget)
    linearize = partial(replay, problem, outcome.choices)
    return Decision(
        search_name(), problem, outcome.result, outcome.nodes, outcome.furthest, linearize, reason=outcome.reason
    )


def _decide_by_places(problem: Problem, places: Sequence[Any], budget: Budget) -> Decision:
    """Decide by the places that the answers tell, with the search's help where their order is not a linearization."""
    order = order_by_places(problem, places)
    if order is not None:
        return Decision("revisions", problem, CheckResult.OK, len(order), len(problem.events), order.copy)
    guided = replace(problem, priority=priority_by_places(places))
    return replace(_decide_by_search(guided, budget), engine="revisions + search")


def _decide_by_zones(problem: Problem, budget: Budget) -> Decision | None:
    """Decide by zones, with the search's help; None where they do not apply."""
    from splitvote.checkers.linearizability.columns import from_problem
    from splitvote.checkers.linearizability.guided import decide_columns

    outcome = decide_columns(from_problem(problem), budget, run_search)
    if outcome.result is None:
        return None
    return Decision(
        "zones + search" if outcome.searched else "zones",
        problem,
        outcome.result,
        outcome.nodes,
        outcome.stuck_at,
        outcome.linearize,
        outcome.evidence,
        reason=outcome.reason if outcome.result is CheckResult.UNKNOWN else None,
    )


def locate(decision: Decision, budget: Budget) -> Decision:
    """Find how far an ILLEGAL history is linearizable, where its engine did not.

    Zones name a bad set only, and a search with an outlook gives up in view of
    reads that are still to come; both are asked again about ever better guesses
    of the longest prefix (bisection).
    """
    problem, furthest = decision.problem, decision.furthest
    if furthest is None:
        from splitvote.checkers.linearizability.columns import from_problem
        from splitvote.checkers.linearizability.guided import longest_prefix

        evidence = set(decision.evidence)
        last = max(place for place, event in enumerate(problem.events) if ~event in evidence)
        times = [place for place, event in enumerate(problem.events[: last + 1]) if event < 0]
        furthest, order = longest_prefix(from_problem(problem), budget, run_search, times)
    elif problem.outlook is not None:
        furthest, order = _first_illegal(decision, furthest, budget)
    else:
        return decision
    return replace(decision, furthest=furthest, linearize=order.copy)


def _first_illegal(decision: Decision, furthest: int, budget: Budget) -> tuple[int, list[int]]:
    """Bisect the returns from ``furthest`` on for the first by which the history is illegal."""
    problem, order = decision.problem, decision.linearize()
    returns = [place for place, event in enumerate(problem.events) if event < 0 and place >= furthest]
    low, high = 0, len(returns) - 1
    while low < high:
        middle = (low + high) // 2
        prefix = problem.until(returns[middle])
        outcome = run_search(prefix, budget)
        if outcome.result is CheckResult.ILLEGAL:
            high = middle
        else:
            low, order = middle + 1, replay(prefix, outcome.choices)
    return returns[high], order
