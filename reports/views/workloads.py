"""Which views a run has: by the workloads it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from splitvote.harness.op import Op, Operation
from splitvote.reports.stored import StoredRun
from splitvote.reports.views.elections import election_views
from splitvote.reports.views.leases import lease_views
from splitvote.reports.views.locks import lock_views
from splitvote.reports.views.revisions import RevisionClock
from splitvote.reports.views.shapes import View
from splitvote.reports.views.watches import watch_views


def views_of(run: StoredRun, operations: Sequence[Operation], events: Mapping[int, Sequence[Op]]) -> list[View]:
    """The views of every workload of the run that has one, in the order in which they were named."""
    names = run.config.workload.split("+") if run.config is not None else []
    known = {"lock", "lock-set", "election", "lease", "watch"}
    if not known & set(names):
        return []
    clock = RevisionClock(run.records, run.samples)
    found: list[View] = []
    for name in names:
        own = [op for op in operations if op.invoke.workload in (None, name)] if len(names) > 1 else operations
        evidence = _evidence(run, name, is_alone=len(names) == 1)
        match name:
            case "lock" | "lock-set":
                found += lock_views(evidence, clock)
            case "election":
                found += election_views(own, evidence, clock, run.end_ns)
            case "lease":
                found += lease_views(own, events, run.archive)
            case "watch":
                found += watch_views(own, events, clock)
    return found


def _evidence(run: StoredRun, workload: str, *, is_alone: bool) -> dict[str, Any]:
    """What the workload's own checkers left, put together; of several workloads' results theirs have its name first."""
    results = run.results.results if run.results is not None else ()
    merged: dict[str, Any] = {}
    for result in results:
        if is_alone or result.checker.split("/")[0] == workload:
            merged |= result.evidence
    return merged
