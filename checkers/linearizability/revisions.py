"""Revision-guided decision: the answers themselves tell where an operation belongs.

etcd's answers carry the revision at which they were given, so a linearization
is known up to the order of reads at one revision.  It is put together and
*checked*, step by step and against real time: an OK is certified.  Operations
whose answer was lost are placed where others saw their effect (a key's
mod_revision, a watch event) and left out where nobody did; those whose answer
does not tell (serializable reads) go as early as real time allows.  Where the
check fails, the search decides, with the revisions as its guide.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from splitvote.checkers.linearizability.problem import REFUSED, Problem


def order_by_places(problem: Problem, places: Sequence[Any]) -> list[int] | None:
    """Return a linearization that follows the places (by operation, None where unknown), None if that is not one."""
    calls = {event: at for at, event in enumerate(problem.events) if event >= 0}
    returns = {~event: at for at, event in enumerate(problem.events) if event < 0}
    never = len(problem.events)
    placed = [number for number in calls if places[number] is not None]
    placed.sort(key=lambda number: (places[number], calls[number]))
    floating = sorted((number for number in returns if places[number] is None), key=calls.__getitem__)
    order = _with_floating(placed, floating, calls, returns, never)
    return order if _is_linearization(problem, order, calls, returns) else None


def priority_by_places(places: Sequence[Any]) -> list[int]:
    """Return the search's priorities: operations by place, then those of unknown place."""
    known = sorted((number for number, place in enumerate(places) if place is not None), key=places.__getitem__)
    priority = [len(places)] * len(places)
    for rank, number in enumerate(known):
        priority[number] = rank
    return priority


def _with_floating(
    placed: list[int], floating: list[int], calls: dict[int, int], returns: dict[int, int], never: int
) -> list[int]:
    """Put each operation of unknown place behind the last one that had returned when it was called."""
    ends = [returns.get(number, never) for number in placed]
    earliest_later = list(accumulate(reversed(ends), min))[::-1]
    order: list[int] = []
    start = 0
    for number in floating:
        gap = max(start, bisect_left(earliest_later, calls[number]))
        order += [*placed[start:gap], number]
        start = gap
    return order + placed[start:]


def _is_linearization(problem: Problem, order: list[int], calls: dict[int, int], returns: dict[int, int]) -> bool:
    """Check an order against real time and the model."""
    steps, state, latest_call = problem.steps, problem.steps.initial, -1
    for number in order:
        latest_call = max(latest_call, calls[number])
        state = steps.step(state, problem.classes[number])
        if state == REFUSED or returns.get(number, latest_call) < latest_call:
            return False
    return True
