"""The figures of a run: operations by kind and outcome, latencies (Jepsen's stats checker), faults, recovery.

They are what the index of a store shows of a run, which reads results.json and
no history; definitions of recovery and windows are those of
``splitvote.harness.availability``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from splitvote.harness.availability import recoveries, unavailable_windows
from splitvote.harness.history import History
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict
from splitvote.harness.spans import fault_spans


class StatsChecker:
    """Counts; always VALID (whether enough succeeded is the vacuity gate's question)."""

    name = "stats"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Count outcomes and latencies by f, faults by family, and what the faults cost."""
        stats = operation_stats(recording.history) | fault_stats(recording)
        return Result(self.name, Verdict.VALID, stats=stats)


def operation_stats(history: History) -> dict[str, Any]:
    """Outcomes by f and in all, and quantiles of the latency in ms of ok operations from start and from intent."""
    outcomes: dict[str, Counter[str]] = {}
    actual_ns: list[int] = []
    intended_ns: list[int] = []
    for operation in history.operations:
        outcomes.setdefault(operation.f, Counter())[operation.type] += 1
        if operation.completion is not None and operation.type == "ok":
            invoke = operation.invoke
            actual_ns.append(operation.completion.time_ns - invoke.time_ns)
            wanted = invoke.time_ns if invoke.intended_ns is None else invoke.intended_ns
            intended_ns.append(operation.completion.time_ns - wanted)
    total = sum(outcomes.values(), Counter())
    return {
        "total": _row(total),
        "by_f": {f: _row(counts) for f, counts in sorted(outcomes.items())},
        "latency_ms": quantiles_ms(actual_ns),
        "latency_from_intent_ms": quantiles_ms(intended_ns),
    }


def fault_stats(recording: Recording) -> dict[str, Any]:
    """Faults by family (all, and those proven), quantiles in ms of the time to recover, and windows without success.

    Of the windows those in which the plan itself took the quorum away are left out.
    """
    operations, spans = recording.history.operations, fault_spans(recording.faults)
    families: dict[str, Counter[str]] = {}
    for span in spans:
        families.setdefault(span.family, Counter()).update(injected=1, proven=int(span.proven))
    end_ns = recording.history[-1].time_ns if len(recording.history) else 0
    windows = [window for window in unavailable_windows(operations, spans, end_ns) if not window.planned]
    lengths_ms = [(window.end_ns - window.start_ns) / 1e6 for window in windows]
    return {
        "faults": {family: dict(counts) for family, counts in sorted(families.items())},
        "recovery_ms": quantiles_ms([round(found.time_ns) for found in recoveries(operations, spans).values()]),
        "unavailable": {"windows": len(windows), "longest_ms": round(max(lengths_ms, default=0.0), 3)},
    }


def _row(counts: Counter[str]) -> dict[str, int]:
    return {"invoked": counts.total(), **{outcome: counts[outcome] for outcome in ("ok", "fail", "info")}}


def quantiles_ms(samples_ns: list[int]) -> dict[str, float]:
    """p50, p95, p99 and max of durations in ns, as ms; empty for no samples."""
    if not samples_ns:
        return {}
    ordered = sorted(samples_ns)
    last = len(ordered) - 1
    picks = {"p50": last // 2, "p95": last * 95 // 100, "p99": last * 99 // 100, "max": last}
    return {name: round(ordered[place] / 1e6, 3) for name, place in picks.items()}
