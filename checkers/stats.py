"""How many operations of each kind were invoked and how they ended, with latencies (Jepsen's stats checker)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from splitvote.harness.history import History
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict


class StatsChecker:
    """Counts; always VALID (whether enough succeeded is the vacuity gate's question)."""

    name = "stats"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Count outcomes and latencies by f."""
        return Result(self.name, Verdict.VALID, stats=operation_stats(recording.history))


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
