"""The vacuity gate: a run in which too little happened proves nothing, and says so instead of VALID.

A workload declares the least success it needs per kind of operation; faults
count by family, and only those whose effect was proven.  Times in which the
plan itself takes the quorum away expect no progress.  What was missing is
listed; the verdict is UNKNOWN (vacuous), never INVALID.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from splitvote.harness.history import History
from splitvote.harness.op import Operation
from splitvote.harness.recording import FaultRecord, Recording
from splitvote.harness.result import Budget, Result, Verdict

_LEADER_CHANGERS: Final = frozenset({"kill", "stop", "pause", "partition"})
_SILENCE_BOUND_S: Final = 30.0


class VacuityChecker:
    """UNKNOWN (vacuous) when operations, faults or progress were too few.

    ``least_ok`` is the number of ok operations needed by f (``workload/f`` in a
    run of several workloads); ``families`` are the families of faults that were
    asked for.  Those that the schedule begins in the time there is (``planned``;
    None: all) must each have been proven at least once: where many are asked for
    and the time is short, a seed has some of them and another seed the others.
    """

    name = "vacuity"

    def __init__(
        self, least_ok: Mapping[str, int], families: tuple[str, ...] = (), planned: tuple[str, ...] | None = None
    ) -> None:
        self._least_ok = least_ok
        self._families = families
        self._planned = families if planned is None else planned

    def check(self, recording: Recording, budget: Budget) -> Result:
        """List everything that was missing."""
        succeeded = Counter(_kind(operation) for operation in recording.history.operations if operation.type == "ok")
        proven = proven_by_family(recording.faults)
        missing = [
            f"{f}: {succeeded[f]} ok of the {least} needed"
            for f, least in sorted(self._least_ok.items())
            if succeeded[f] < least
        ]
        missing += [f"faults: no {family} was proven to take effect" for family in self._planned if not proven[family]]
        if self._families and not self._planned:
            missing.append("faults: the run was too short for any of them; give it more --time")
        if silence := longest_silence(recording.history, recording.faults, load_s=_load_s(recording)):
            missing.append(silence)
        stats = {"ok": dict(succeeded), "proven_faults": dict(proven), "leaders": leaders_seen(recording)}
        evidence = {"missing": missing, "notes": self._notes(recording, proven)}
        if missing:
            return Result(self.name, Verdict.UNKNOWN, "vacuous: " + "; ".join(missing), evidence=evidence, stats=stats)
        return Result(self.name, Verdict.VALID, evidence=evidence, stats=stats)

    def _notes(self, recording: Recording, proven: Mapping[str, int]) -> list[str]:
        """Things that weaken a VALID without making it vacuous."""
        notes = []
        left_out = [family for family in self._families if family not in self._planned and not proven[family]]
        if left_out:
            notes.append(f"the run was too short for every family of faults: it had no {', '.join(left_out)}")
        if _LEADER_CHANGERS & set(self._families) and recording.samples and leaders_seen(recording) < 2:
            notes.append("the leader never changed: the faults missed it every time")
        unproven = sum(fault.phase in ("unproven", "heal_unproven") for fault in recording.faults)
        if unproven:
            notes.append(f"{unproven} fault(s) could not be proven to take effect or to end")
        return notes


def _kind(operation: Operation) -> str:
    """The operation's f, with its workload's name where there are several."""
    workload = operation.invoke.workload
    return operation.f if workload is None else f"{workload}/{operation.f}"


def proven_by_family(faults: tuple[FaultRecord, ...]) -> Counter[str]:
    """How many faults of each family were seen to take effect."""
    return Counter(fault.family for fault in faults if fault.phase == "active")


def leaders_seen(recording: Recording) -> int:
    """How many different (leader, term) pairs the members named."""
    return len(
        {
            (member.leader, member.term)
            for sample in recording.samples
            for member in sample.members.values()
            if member.leader is not None
        }
    )


def quorum_lost_intervals(faults: tuple[FaultRecord, ...], end_ns: int) -> list[tuple[int, int]]:
    """(start, end) in ns of the times in which the plan itself takes the quorum away."""
    intervals = []
    begun: dict[int, int] = {}
    for fault in faults:
        if fault.affects_quorum and fault.phase in ("starting", "active", "unproven"):
            begun.setdefault(fault.id, fault.time_ns)
        elif fault.phase in ("healed", "heal_unproven") and fault.id in begun:
            intervals.append((begun.pop(fault.id), fault.time_ns))
    return sorted(intervals + [(start, end_ns) for start in begun.values()])


def _load_s(recording: Recording) -> float | None:
    return recording.config.time_s or None if recording.config is not None else None


def longest_silence(history: History, faults: tuple[FaultRecord, ...], *, load_s: float | None = None) -> str | None:
    """Say so when no operation succeeded for over 30 s that the plan does not explain.

    After ``load_s`` clients ask for nothing but the final operations, however
    long the undoing of a fault takes: that is no silence.
    """
    operations = history.operations
    if not operations:
        return "no operation was invoked"
    last_ns = history[-1].time_ns
    end_ns = last_ns if load_s is None else min(last_ns, int(load_s * 1e9))
    excused = quorum_lost_intervals(faults, end_ns)
    completed = (_completed_ns(operation) for operation in operations if operation.type == "ok")
    times = sorted(time_ns for time_ns in completed if time_ns <= end_ns)
    for start, end in zip([operations[0].invoke.time_ns, *times], [*times, end_ns], strict=False):
        overlap = sum(max(0, min(end, stop) - max(start, begin)) for begin, stop in excused)
        if (end - start - overlap) / 1e9 > _SILENCE_BOUND_S:
            return (
                f"no operation succeeded between {start / 1e9:.1f} s and {end / 1e9:.1f} s, "
                "though the plan left a quorum standing"
            )
    return None


def _completed_ns(operation: Operation) -> int:
    assert operation.completion is not None
    return operation.completion.time_ns
