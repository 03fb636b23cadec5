"""Who compacted, when, and how far: why a watch or a past read may be refused, or a previous state missing.

Known are the workload's own compactions and the nemesis's.  Where others may
have compacted (another workload of the run, etcd itself, a nemesis that cannot
say how far), any time may have seen any compaction up to the furthest that the
members report at the end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from splitvote.harness.op import Operation
from splitvote.harness.recording import FaultRecord, Recording

UNBOUNDED: Final = 2**63


class Compactions:
    """What is known of a run's compactions."""

    def __init__(self, recording: Recording, operations: Sequence[Operation]) -> None:
        asked = [
            (op.invoke.time_ns, op.invoke.value[1]) for op in operations if op.f == "compact" and op.type != "fail"
        ]
        by_nemesis, has_unsaid = _of_nemesis(recording.faults)
        asked = sorted(asked + by_nemesis)
        self._times = [time_ns for time_ns, _ in asked]
        self._furthest = list(accumulate((revision for _, revision in asked), max))
        final = _final_compact_revision(recording)
        has_others = any(op.invoke.workload is not None for op in operations[:1]) or _compacts_itself(recording)
        self._any_time = 0
        if has_unsaid or has_others or (final or 0) > max(self._furthest, default=0):
            self._any_time = UNBOUNDED if final is None else final
        self._revisions = frozenset(revision for _, revision in asked)
        self._is_exact = not (by_nemesis or has_unsaid or self._any_time)
        self._certain = _certainly_applied(operations)

    def furthest_by(self, time_ns: int) -> int:
        """The furthest compact revision that a member can have had at a time; 0 for none."""
        place = bisect_right(self._times, time_ns)
        return max(self._any_time, self._furthest[place - 1] if place else 0)

    def is_possible(self, revision: int, time_ns: int) -> bool:
        """Whether a member can have had exactly this compact revision at a time.

        A nemesis asks one member after another, and reports the last answer
        only, so that its other revisions cannot be told.
        """
        return revision <= self.furthest_by(time_ns) and (not self._is_exact or revision in self._revisions)

    def certain_at(self, revision: int) -> int:
        """The furthest compaction that a member whose store is at this revision has certainly applied; 0 for none."""
        place = bisect_right(self._certain, (revision, UNBOUNDED))
        return self._certain[place - 1][1] if place else 0


def _of_nemesis(faults: Sequence[FaultRecord]) -> tuple[list[tuple[int, int]], bool]:
    """The nemesis's compactions by the time they began, and whether there was one that does not say how far."""
    began: dict[int, int] = {}
    reached: dict[int, int] = {}
    for fault in faults:
        if "compact" in fault.fault:
            began.setdefault(fault.id, fault.time_ns)
            if isinstance(revision := fault.observed.get("revision"), int):
                reached[fault.id] = revision
    return [(began[fault], revision) for fault, revision in reached.items()], len(reached) < len(began)


def _compacts_itself(recording: Recording) -> bool:
    flags = recording.config.options.get("etcd_args") if recording.config is not None else None
    return any("auto-compaction" in str(flag) for flag in flags or ())


def _final_compact_revision(recording: Recording) -> int | None:
    members = recording.final.members.values() if recording.final is not None else ()
    return max((member.compact_revision for member in members if member.compact_revision is not None), default=None)


def _certainly_applied(operations: Sequence[Operation]) -> list[tuple[int, int]]:
    """(store revision, compact revision): whoever has reached the first has applied the second.

    Members apply one log in one order.  A write that was invoked after a
    compaction had been acknowledged comes after it, so a store that shows the
    write's revision is compacted.  Only puts: other writes may change nothing,
    and are then answered with a revision that was there before.
    """
    compactions = [
        (operation.completion.index, operation.invoke.value[1])
        for operation in operations
        if operation.f == "compact" and operation.type == "ok" and operation.completion is not None
    ]
    writes = [
        (operation.invoke.index, operation.completion.revision)
        for operation in operations
        if operation.f == "put" and operation.type == "ok" and operation.completion is not None
    ]
    found = []
    newest_first = iter(sorted(writes, reverse=True))
    write = next(newest_first, None)
    soonest = UNBOUNDED
    for acknowledged, revision in sorted(compactions, reverse=True):
        while write is not None and write[0] > acknowledged:
            soonest = min(soonest, write[1] or UNBOUNDED)
            write = next(newest_first, None)
        found.append((soonest, revision))
    found.sort()
    furthest = accumulate((revision for _, revision in found), max)
    return [(at, revision) for (at, _), revision in zip(found, furthest, strict=True)]
