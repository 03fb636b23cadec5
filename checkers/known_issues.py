"""Known issues of etcd, by their fingerprints: a violation that matches one is still INVALID, but named.

A fingerprint is as narrow as the evidence allows: the anomaly's name, the
versions that have the defect, and the operation or fault that triggers it.  What
matches none is new, or not recognised: nothing is ever excused by this table.
Source: the issues of the etcd project, by number; docs/track-record.md has the
command that shows each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from splitvote.checkers.kv.requests import may_write, past_reads
from splitvote.harness.op import Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Result

Version = tuple[int, ...]

_SOON_NS: Final = 5_000_000_000
"""How long after a paused member goes on its revocations are seen at the latest."""


@dataclass(frozen=True, slots=True)
class KnownIssue:
    """One issue; ``is_on`` tells by version, ``matches`` by anomaly and recording."""

    number: str
    title: str
    is_on: Callable[[Version], bool]
    matches: Callable[[Anomaly, Recording], bool]
    can_be_avoided: bool = False


def _is_divergence(anomaly: Anomaly, recording: Recording) -> bool:
    """Whether it is a divergence of the members, or what clients saw of one that the members tell of."""
    if anomaly.name.startswith(("member agreement", "store history: disagreement")):
        return True
    has_split = recording.archive is not None and bool(recording.archive.disagreements)
    return has_split and anomaly.name.startswith(("kv: ", "election: "))


def _has_fault(recording: Recording, *names: str) -> bool:
    return any(fault.fault in names or fault.family in names for fault in recording.faults)


def _writes_and_reads_past(op: Op) -> bool:
    """Whether a kv operation is a transaction that may write and range at a revision."""
    if op.type != "invoke" or not isinstance(op.value, list) or op.value[:1] != ["txn"]:
        return False
    return may_write(op.value) and any(past_reads(op.value))


def _of_18667(anomaly: Anomaly, recording: Recording) -> bool:
    """Divergence, in a history in which such a transaction was refused or left open: it met a compaction."""
    if not _is_divergence(anomaly, recording):
        return False
    return any(
        _writes_and_reads_past(operation.invoke)
        for operation in recording.history.operations
        if operation.type == "info"
        and "compacted" in (operation.completion.error or "" if operation.completion else "")
    )


def _of_15247(anomaly: Anomaly, recording: Recording) -> bool:
    """A lease seen gone just after a paused member went on; or its second grant, a consequence of that."""
    resumed = [fault.time_ns for fault in recording.faults if fault.family == "pause" and fault.phase == "healing"]
    if anomaly.name == "lease: granted twice":
        return bool(resumed)
    seen_ns = anomaly.details.get("seen_gone_ns")
    if anomaly.name != "lease: early expiry" or not isinstance(seen_ns, int):
        return False
    return any(0 <= seen_ns - at_ns <= _SOON_NS for at_ns in resumed)


def _of_17642(anomaly: Anomaly, recording: Recording) -> bool:
    return anomaly.name == "lease: ttl"


def _of_15220(anomaly: Anomaly, recording: Recording) -> bool:
    return anomaly.name == "watch: bookmarkable"


def _of_13766(anomaly: Anomaly, recording: Recording) -> bool:
    return _is_divergence(anomaly, recording) and _has_fault(recording, "kill")


def _of_14685(anomaly: Anomaly, recording: Recording) -> bool:
    return _is_divergence(anomaly, recording) and _has_fault(recording, "crash_during_defragment")


ISSUES: Final = (
    KnownIssue(
        "18667",
        "a transaction with a range at a compacted revision diverges members",
        lambda version: True,
        _of_18667,
        can_be_avoided=True,
    ),
    KnownIssue(
        "15247",
        "a leader that was paused for longer than a lease's TTL revokes the lease though it was renewed",
        lambda version: True,
        _of_15247,
        can_be_avoided=True,
    ),
    KnownIssue(
        "17642",
        "a query for a lease's TTL during a change of leaders answers nonsense",
        lambda version: version < (3, 4, 32) or (3, 5) <= version < (3, 5, 14),
        _of_17642,
    ),
    KnownIssue(
        "15220",
        "a progress notification overtakes the events it vouches for",
        lambda version: version < (3, 4, 25) or (3, 5) <= version < (3, 5, 8),
        _of_15220,
    ),
    KnownIssue(
        "14685",
        "a crash in the middle of a defragmentation loses writes of the member",
        lambda version: (3, 5) <= version < (3, 5, 6),
        _of_14685,
    ),
    KnownIssue(
        "13766",
        "a member killed under load loses or repeats writes",
        lambda version: (3, 5) <= version < (3, 5, 3),
        _of_13766,
    ),
)
"""Every one that matches names the anomaly: two may fit, and nobody can tell them apart from outside."""

AVOIDABLE: Final = tuple(issue.number for issue in ISSUES if issue.can_be_avoided)


def name_known_issues(results: Sequence[Result], recording: Recording) -> list[Result]:
    """Put ``known_issue`` ("18667: ...", several joined by "; or") into the details of every anomaly that matches."""
    versions = versions_of(recording)
    possible = [issue for issue in ISSUES if any(issue.is_on(version) for version in versions)]
    return [_named(result, recording, possible) if result.anomalies else result for result in results]


def _named(result: Result, recording: Recording, possible: Sequence[KnownIssue]) -> Result:
    anomalies = []
    for anomaly in result.anomalies:
        told = [f"{issue.number}: {issue.title}" for issue in possible if issue.matches(anomaly, recording)]
        if told:
            anomaly = msgspec.structs.replace(anomaly, details=anomaly.details | {"known_issue": "; or ".join(told)})
        anomalies.append(anomaly)
    return msgspec.structs.replace(result, anomalies=tuple(anomalies))


def versions_of(recording: Recording) -> list[Version]:
    """The versions of etcd that the members ran; none where that is unknown."""
    told = recording.config.system_versions.values() if recording.config is not None else ()
    return [tuple(map(int, re.findall(r"\d+", version)[:3])) for version in sorted(set(told))]
