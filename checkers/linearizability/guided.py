"""Zones first; where they cannot tell, the search, guided by the order that they found.

What makes the search cheap here: a crashed operation whose value was seen must
have taken effect before it was first seen, so it gets that time as its return;
and crashed operations that nobody saw can matter only to failed
compare-and-sets, so they are left out at first, and put back a few at a time,
the latest first, where the search got stuck without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from splitvote.checkers.linearizability.columns import NEVER, Columns, to_problem
from splitvote.checkers.linearizability.model import CheckResult
from splitvote.checkers.linearizability.problem import Problem
from splitvote.checkers.linearizability.search import SearchOutcome
from splitvote.checkers.linearizability.witness import replay
from splitvote.checkers.linearizability.zones import ZonesOutcome, decide_by_zones
from splitvote.harness.result import Budget

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

Search = Callable[..., SearchOutcome]
"""``search.search`` or ``compiled.search_compiled``."""

FIRST_RETURNED: Final = 16
"""Crashed operations put back in the first round; each round puts back four times as many."""


@dataclass(frozen=True, slots=True)
class ColumnsOutcome:
    """The decision of a history in columns.

    ``result`` is None where zones do not apply at all.  ``searched`` says that
    the search decided.  ``linearize()`` returns rows: a linearization of all
    (OK) or of what comes before the time ``stuck_at``, whose return no
    linearization passes (ILLEGAL by search; zones know only ``evidence``).
    """

    result: CheckResult | None
    searched: bool = False
    nodes: int = 0
    linearize: Callable[[], list[int]] = list
    stuck_at: int | None = None
    evidence: tuple[int, ...] = ()
    reason: str | None = None


def decide_columns(columns: Columns, budget: Budget, search: Search) -> ColumnsOutcome:
    """Decide a history of a register whose values are written once."""
    zones = decide_by_zones(columns)
    if zones.result is not None:
        linearize: Callable[[], list[int]] = list if zones.order is None else zones.order.tolist
        return ColumnsOutcome(zones.result, linearize=linearize, evidence=zones.evidence, reason=zones.why or None)
    if zones.order is None:
        return ColumnsOutcome(None, reason=zones.why)
    return _search_guided(columns, zones, budget, search)


def _search_guided(columns: Columns, zones: ZonesOutcome, budget: Budget, search: Search) -> ColumnsOutcome:
    import numpy as np

    assert zones.order is not None
    assert zones.deadline is not None
    due = zones.deadline
    place = np.full(len(columns.call), len(columns.call), np.int64)
    place[zones.order] = np.arange(len(zones.order))
    kept = (columns.return_ < NEVER) | (due < NEVER)
    left_out = np.flatnonzero(~kept & (columns.assign >= 0) & (columns.assign != columns.operand))
    left_out = left_out[np.argsort(columns.call[left_out], kind="stable")]
    count, nodes = FIRST_RETURNED, 0
    while True:
        rows = np.flatnonzero(kept)
        problem = to_problem(columns, rows, due)
        outcome = search(problem, budget, priority=place[rows].tolist())
        nodes += outcome.nodes
        linearize = partial(_rows_in_order, rows, problem, outcome)
        if outcome.result is CheckResult.OK:
            return ColumnsOutcome(CheckResult.OK, True, nodes, linearize)
        stuck_at = _time_of(columns, due, rows, problem, outcome)
        helpful = left_out[columns.call[left_out] <= stuck_at]
        helpful = helpful[~kept[helpful]][-count:]
        if outcome.result is CheckResult.UNKNOWN or not len(helpful):
            return ColumnsOutcome(outcome.result, True, nodes, linearize, stuck_at, reason=outcome.reason)
        kept[helpful] = True
        count *= 4


def _rows_in_order(rows: Ints, problem: Problem, outcome: SearchOutcome) -> list[int]:
    order: list[int] = rows[replay(problem, outcome.choices)].tolist()
    return order


def _time_of(columns: Columns, due: Ints, rows: Ints, problem: Problem, outcome: SearchOutcome) -> int:
    """Return the time of the return at which a search was stuck."""
    row = rows[~problem.events[outcome.furthest]]
    return int(min(columns.return_[row], due[row]))


def longest_prefix(columns: Columns, budget: Budget, search: Search, times: Sequence[int]) -> tuple[int, list[int]]:
    """Find, by bisection, the first of some times by which an illegal history is illegal.

    Returns that time and a linearization of the history before it.  What cannot
    be decided within the budget counts as linearizable, with no order known.
    """
    low, high, order = 0, len(times) - 1, list[int]()
    while low < high:
        middle = (low + high) // 2
        outcome = decide_columns(columns.until(times[middle]), budget, search)
        if outcome.result is CheckResult.ILLEGAL:
            high = middle
        else:
            low, order = middle + 1, outcome.linearize()
    return times[high], order
