"""Porcupine's entry points under their own names, in Python's spelling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from splitvote.checkers.linearizability.engines import decide_parts, result_of, run_search
from splitvote.checkers.linearizability.info import LinearizationInfo, part_of
from splitvote.checkers.linearizability.model import (
    CheckResult,
    Event,
    Model,
    NondeterministicModel,
    Operation,
    operations_of_events,
)
from splitvote.harness.result import Budget

if TYPE_CHECKING:
    from splitvote.checkers.linearizability.columns import Columns


def check_operations(
    model: Model | NondeterministicModel, operations: Sequence[Operation], *, timeout_s: float | None = None
) -> CheckResult:
    """Decide whether a history is linearizable; UNKNOWN when the time is up (Porcupine: CheckOperationsTimeout)."""
    return result_of(decide_parts(_plain(model), operations, Budget(time_s=timeout_s)))


def check_events(
    model: Model | NondeterministicModel, events: Iterable[Event], *, timeout_s: float | None = None
) -> CheckResult:
    """Decide a history given as events (Porcupine: CheckEventsTimeout); raises ValueError where they do not pair."""
    return check_operations(model, operations_of_events(events), timeout_s=timeout_s)


def check_operations_verbose(
    model: Model | NondeterministicModel, operations: Sequence[Operation], *, timeout_s: float | None = None
) -> tuple[CheckResult, LinearizationInfo]:
    """Decide every partition, and say how far each is linearizable (Porcupine: CheckOperationsVerbose)."""
    budget = Budget(time_s=timeout_s)
    decisions = list(decide_parts(_plain(model), operations, budget))
    parts = [part_of(decision, budget) for decision in decisions]
    return result_of(decisions), LinearizationInfo(_plain(model), parts)


def check_events_verbose(
    model: Model | NondeterministicModel, events: Iterable[Event], *, timeout_s: float | None = None
) -> tuple[CheckResult, LinearizationInfo]:
    """Do for events what ``check_operations_verbose`` does (Porcupine: CheckEventsVerbose)."""
    return check_operations_verbose(model, operations_of_events(events), timeout_s=timeout_s)


def check_columns(columns: Columns, *, timeout_s: float | None = None) -> CheckResult:
    """Decide a register's history given as NumPy columns (``columns.from_register``): for a million operations."""
    import numpy as np

    from splitvote.checkers.linearizability.columns import to_problem
    from splitvote.checkers.linearizability.guided import decide_columns

    budget = Budget(time_s=timeout_s)
    outcome = decide_columns(columns, budget, run_search)
    if outcome.result is not None:
        return outcome.result
    return run_search(to_problem(columns, np.arange(len(columns.call))), budget).result


def _plain(model: Model | NondeterministicModel) -> Model:
    return model.to_model() if isinstance(model, NondeterministicModel) else model
