"""Judges leases by the archive of the store's history, the clients' answers, and what the run was like meanwhile."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from splitvote.checkers.findings import Findings
from splitvote.checkers.lease.answers import AnswerRules, check_endings, check_events, check_reads, placed_puts
from splitvote.checkers.lease.attachments import attachments_of
from splitvote.checkers.lease.conditions import Conditions
from splitvote.checkers.lease.evidence import Lease, leases_of
from splitvote.checkers.lease.expiry import ExpiryRules
from splitvote.checkers.lease.leftovers import check_leftovers
from splitvote.checkers.lease.timeline import Timeline
from splitvote.checkers.truth import NO_ARCHIVE, Truth, truth_of
from splitvote.harness.archive import Archive
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict

PREFIX: Final = "lease/"


class LeaseChecker:
    """INVALID where a lease ended too early, too late, in pieces or in vain, or where an answer belies the store.

    UNKNOWN without an archive, where it has holes, and where no lease ever ended
    for want of renewal: such a run says nothing of expiry.
    """

    name = "lease"

    def __init__(self, prefix: str = PREFIX) -> None:
        self._prefix = prefix

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge the recording."""
        truth = truth_of(recording, self._prefix)
        if truth is None or recording.archive is None:
            return Result(self.name, Verdict.UNKNOWN, NO_ARCHIVE)
        findings = Findings()
        stats = self._judge(recording, recording.archive, truth, findings, budget)
        return _result(self.name, truth, findings, stats)

    def _judge(
        self, recording: Recording, archive: Archive, truth: Truth, findings: Findings, budget: Budget
    ) -> dict[str, Any]:
        """Apply every rule; the figures of what there was to judge."""
        operations = recording.history.operations
        attachments = attachments_of(truth, self._prefix)
        placed = placed_puts(truth)
        timeline = Timeline(operations, archive, truth, placed)
        conditions = Conditions(recording)
        leases = leases_of(operations, recording.history.events, placed)
        gets = [operation for operation in operations if operation.f == "get" and operation.type == "ok"]

        check_events(operations, truth, self._prefix, placed, timeline, findings)
        check_endings(attachments, leases, findings)
        skipped = check_reads(gets, truth, findings)
        expiry = ExpiryRules(attachments, timeline, conditions, findings)
        answers = AnswerRules(truth, attachments, timeline, conditions, findings)
        expired = 0
        for lease in leases.values():
            budget.check(1 + len(lease.renewals))
            if lease.granted is not None:
                expired += expiry.check(lease)
                answers.check(lease)
        leftovers = check_leftovers(leases, gets, conditions, findings)
        return _stats(leases, conditions) | {
            "expired": expired,
            "leftovers_judged": leftovers.judged,
            "leftovers_not_judged": leftovers.not_judged,
            "reads_not_judged": skipped,
            "forgiven": findings.skipped,
        }


def _result(name: str, truth: Truth, findings: Findings, stats: dict[str, Any]) -> Result:
    if findings.anomalies:
        reason = findings.anomalies[0].story
        return Result(name, Verdict.INVALID, reason, tuple(findings.anomalies), stats=stats | findings.counts)
    if truth.doubt is not None:
        reason = f"revision {truth.known + 1}: {truth.doubt}; what leases did from there on is not known"
        return Result(name, Verdict.UNKNOWN, reason, stats=stats)
    if not stats["expired"]:
        return Result(name, Verdict.UNKNOWN, "vacuous: no lease expired", stats=stats)
    return Result(name, Verdict.VALID, stats=stats)


def _stats(leases: Mapping[int, Lease], conditions: Conditions) -> dict[str, Any]:
    granted = [lease for lease in leases.values() if lease.granted is not None]
    paths: Counter[str] = Counter()
    for lease in granted:
        for renewal in lease.renewals:
            if renewal.operation is not lease.granted:
                paths[_path(renewal.operation, conditions)] += 1
    return {
        "granted": len(granted),
        "revoked": sum(any(revoke.type == "ok" for revoke in lease.revokes) for lease in granted),
        "renewals": dict(paths),
        "leader_changes": len(conditions.changes),
        "survived_a_leader_change": sum(_has_survived(lease, conditions.changes) for lease in granted),
    }


def _path(operation: Operation, conditions: Conditions) -> str:
    """Whom a renewal was asked of, and how: "stream through the leader"."""
    completion = operation.completion
    assert completion is not None
    leader = conditions.leader_at(completion.time_ns)
    role = "nobody knows whom" if leader is None else "the leader" if completion.node == leader else "a follower"
    return f"{completion.f} through {role}"


def _has_survived(lease: Lease, changes: Sequence[tuple[int, int]]) -> bool:
    """Whether the lease was renewed after a change of leaders that it was granted before."""
    first = min((renewal.completed_ns for renewal in lease.renewals), default=0)
    last = max((renewal.invoked_ns for renewal in lease.renewals), default=0)
    place = bisect_right(changes, (first, 0))
    return place < len(changes) and changes[place][1] < last
