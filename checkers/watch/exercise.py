"""What a run exercised: a VALID of watches that saw nothing means nothing, so the figures are in every result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from splitvote.checkers.watch.logs import Logs, WatchLog


def exercised(logs: Logs) -> dict[str, Any]:
    """Watches by kind, start and member, streams, answers and what they were."""
    kinds: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    progress: set[int] = set()
    for log in logs.watches:
        kinds.update(_kinds_of(log))
        for op in log.records:
            kind = op.value[0]
            if kind == "progress":
                progress.add(op.index)  # one answer may be about many watches
            answers["fragments" if kind == "events" and op.value[2] else kind] += 1
            answers["compacted"] += kind == "canceled" and bool(op.value[2])
            answers["events"] += len(op.value[3]) if kind == "events" else 0
    streams = Counter((log.operation.invoke.index, log.created.stream) for log in logs.watches)
    return {
        "watches": len(logs.watches),
        "by_start": dict(Counter(log.watched.start for log in logs.watches)),
        "by_kind": dict(kinds),
        "by_member": dict(Counter(log.created.node for log in logs.watches)),
        "streams": len(streams),
        "most_watches_on_a_stream": max(streams.values(), default=0),
        "streams_ended": logs.ended,
        "resumed": _resumed(logs.watches),
        "slow_readers": sum(bool(plan.pauses_s) for plan in logs.plans.values()),
        "events": answers["events"],
        "fragments": answers["fragments"],
        "progress": len(progress),
        "canceled": answers["canceled"],
        "canceled_as_compacted": answers["compacted"],
    }


def _kinds_of(log: WatchLog) -> list[str]:
    watched = log.watched
    has = {
        "single key": watched.key is not None and watched.end is None,
        "several keys": watched.key is None or watched.end is not None,
        "prev_kv": watched.prev_kv,
        "filter": watched.without != "nothing",
        "fragment": watched.fragment,
        "progress_notify": watched.progress_notify,
    }
    return [kind for kind, is_so in has.items() if is_so]


def _resumed(watches: Sequence[WatchLog]) -> int:
    """Watches that went on where an earlier stream of the same operation had ended."""
    begun: set[tuple[int, int, str | None]] = set()
    resumed = 0
    for log in watches:
        # The final phase asks every member for the same watches.
        place = (log.operation.invoke.index, log.number, log.created.node if log.operation.f == "converge" else None)
        resumed += place in begun
        begun.add(place)
    return resumed
