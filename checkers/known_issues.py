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
from typing import Any, Final

import msgspec

from splitvote.harness.op import Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Result

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KnownIssue:
    """One issue; ``is_on`` tells by version, ``matches`` by anomaly and recording."""

    number: str
    title: str
    is_on: Callable[[Version], bool]
    matches: Callable[[Anomaly, Recording], bool]
    can_be_avoided: bool = False


def _is_divergence(anomaly: Anomaly) -> bool:
    return anomaly.name.startswith(("member agreement", "store history: disagreement"))


def _has_fault(recording: Recording, *names: str) -> bool:
    return any(fault.fault in names or fault.family in names for fault in recording.faults)


def _reads_past(request: Any) -> bool:
    return isinstance(request, list) and len(request) > 2 and request[0] == "range" and bool(request[2])


def _parts(request: list[Any]) -> list[Any]:
    """Every part of a kv transaction, nested ones too."""
    parts = []
    for branch in request[2:]:
        for part in branch:
            parts.append(part)
            if part[0] == "txn":
                parts += _parts(part)
    return parts


def _writes_and_reads_past(op: Op) -> bool:
    """Whether a kv operation is a transaction that writes and ranges at a revision."""
    if op.type != "invoke" or not isinstance(op.value, list) or op.value[:1] != ["txn"]:
        return False
    parts = _parts(op.value)
    return any(_reads_past(part) for part in parts) and any(part[0] in ("put", "delete") for part in parts)


def _of_18667(anomaly: Anomaly, recording: Recording) -> bool:
    """Divergence, in a history in which such a transaction was refused or left open: it met a compaction."""
    if not (_is_divergence(anomaly) or anomaly.name.startswith("kv: ")):
        return False
    return any(
        _writes_and_reads_past(operation.invoke)
        for operation in recording.history.operations
        if operation.type == "info"
        and "compacted" in (operation.completion.error or "" if operation.completion else "")
    )


def _of_15247(anomaly: Anomaly, recording: Recording) -> bool:
    return anomaly.name == "lease: early expiry" and _has_fault(recording, "pause")


def _of_15220(anomaly: Anomaly, recording: Recording) -> bool:
    return anomaly.name == "watch: bookmarkable"


def _of_13766(anomaly: Anomaly, recording: Recording) -> bool:
    return _is_divergence(anomaly) and _has_fault(recording, "kill")


def _of_14685(anomaly: Anomaly, recording: Recording) -> bool:
    return _is_divergence(anomaly) and _has_fault(recording, "crash_during_defragment")


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
"""In the order in which they are tried; the first that matches names the anomaly."""

AVOIDABLE: Final = tuple(issue.number for issue in ISSUES if issue.can_be_avoided)


def name_known_issues(results: Sequence[Result], recording: Recording) -> list[Result]:
    """Put ``known_issue`` ("18667: ...") into the details of every anomaly that matches one."""
    versions = versions_of(recording)
    possible = [issue for issue in ISSUES if any(issue.is_on(version) for version in versions)]
    return [_named(result, recording, possible) if result.anomalies else result for result in results]


def _named(result: Result, recording: Recording, possible: Sequence[KnownIssue]) -> Result:
    anomalies = []
    for anomaly in result.anomalies:
        issue = next((issue for issue in possible if issue.matches(anomaly, recording)), None)
        if issue is not None:
            details = anomaly.details | {"known_issue": f"{issue.number}: {issue.title}"}
            anomaly = msgspec.structs.replace(anomaly, details=details)
        anomalies.append(anomaly)
    return msgspec.structs.replace(result, anomalies=tuple(anomalies))


def versions_of(recording: Recording) -> list[Version]:
    """The versions of etcd that the members ran; none where that is unknown."""
    told = recording.config.system_versions.values() if recording.config is not None else ()
    return [tuple(map(int, re.findall(r"\d+", version)[:3])) for version in sorted(set(told))]
