"""Judges mixed traffic: every answer against the truth by revision, every event against the writes, order against time.

Theory.  etcd serializes writes: each gets a revision, and the answer's header
says which (for reads, the revision of the state read).  The archive tells every
revision's events by a road of its own.  So linearizability needs no search:

- *content*: an answer at revision R equals what the request gives on the state
  at R (reads) or makes of the state at R - 1 (writes);
- *attribution*: every event belongs to exactly one write that was invoked and
  did not certainly fail, or to the expiry of a lease;
- *order*: an operation invoked after another's completion has no smaller
  revision, and a larger one if it wrote (``order``).

If all three hold the history is strictly serializable: ordering operations by
(revision, writes first, time) is the witness.
"""

from __future__ import annotations

from typing import Final

from splitvote.checkers.findings import Findings
from splitvote.checkers.kv.attribution import Attribution, attribute
from splitvote.checkers.kv.compaction import check_compaction
from splitvote.checkers.kv.order import check_members, check_real_time, floors_of
from splitvote.checkers.kv.requests import evaluate, has_written, may_write
from splitvote.checkers.truth import NO_ARCHIVE, Truth, truth_of
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict

PREFIX: Final = "kv/"


class KvChecker:
    """INVALID where an answer, an event or the order contradicts the store's history."""

    name = "kv"

    def __init__(self, prefix: str = PREFIX) -> None:
        self._prefix = prefix

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge the recording; UNKNOWN without an archive, or where it has holes."""
        truth = truth_of(recording, self._prefix)
        if truth is None:
            return Result(self.name, Verdict.UNKNOWN, NO_ARCHIVE)
        operations = recording.history.operations
        findings = Findings()
        floors = floors_of(recording.history, operations)
        attribution = attribute(operations, floors, truth, self._prefix, findings, budget)
        for operation in operations:
            budget.check(1)
            if operation.type == "ok" and operation.f != "compact":
                self._check_answer(operation, truth, attribution, findings)
        check_real_time(operations, floors, attribution.writer_at, findings)
        if recording.archive is None or not recording.archive.is_shared:  # others may restart their members
            check_members(recording.history, operations, recording.faults, findings)
        check_compaction(recording, operations, findings)
        return self._result(truth, attribution, findings, len(operations))

    def _check_answer(self, operation: Operation, truth: Truth, attribution: Attribution, findings: Findings) -> None:
        completion = operation.completion
        assert completion is not None
        request, revision = operation.invoke.value, completion.revision
        if revision is None:
            findings.add("kv: answer", "an answer carries no revision", [operation])
            return
        if revision > truth.known:
            if truth.doubt is None:
                findings.add(
                    "kv: lost write",
                    f"a {operation.f} was answered at revision {revision}, but at the end no member has any beyond "
                    f"{truth.known}",
                    [operation],
                    revision=revision,
                )
            findings.skipped += 1
            return
        wrote = may_write(request) and has_written(request, completion.value)
        if wrote and attribution.writer_at.get(revision) is not operation:
            if revision not in attribution.contested:
                _tell_lost(operation, revision, truth, findings)
            return
        lease = (completion.extra or {}).get("lease", 0)
        expected = evaluate(request, truth, revision - 1 if wrote else revision, lease=lease)
        if expected.answer != completion.value:
            name, what = _kind_of_read(operation, wrote=wrote)
            findings.add(
                name,
                f"{what} of revision {revision} answered {completion.value!r}, but the store's history gives "
                f"{expected.answer!r}",
                [operation],
                expected=expected.answer,
                answered=completion.value,
                revision=revision,
            )

    def _result(self, truth: Truth, attribution: Attribution, findings: Findings, count: int) -> Result:
        stats = {
            "operations": count,
            "writes": len(attribution.writer_at),
            "expiries": attribution.expiries,
            "newest_revision": truth.newest,
            "known_revision": truth.known,
            "not_judged": findings.skipped,
        } | findings.counts
        if findings.anomalies:
            reason = findings.anomalies[0].story
            return Result(self.name, Verdict.INVALID, reason, tuple(findings.anomalies), stats=stats)
        if truth.doubt is not None:
            reason = (
                f"revision {truth.known + 1}: {truth.doubt}; {findings.skipped} answers from there on are not judged"
            )
            return Result(self.name, Verdict.UNKNOWN, reason, stats=stats)
        return Result(self.name, Verdict.VALID, stats=stats)


def _kind_of_read(operation: Operation, *, wrote: bool) -> tuple[str, str]:
    request = operation.invoke.value
    if wrote or may_write(request) or request[0] == "txn":
        return "kv: transaction answer", f"a {operation.f}"
    if request[3]:
        return "kv: serializable read", f"a serializable {operation.f}"
    return "kv: linearizable read", f"a linearizable {operation.f}"


def _tell_lost(operation: Operation, revision: int, truth: Truth, findings: Findings) -> None:
    there = [event.key for event in truth.groups.get(revision, ())]
    findings.add(
        "kv: lost write",
        f"a {operation.f} was acknowledged at revision {revision}, where the store's history has "
        f"{'changes of ' + ', '.join(there) + ', which it did not make' if there else 'no change of these keys'}",
        [operation],
        revision=revision,
    )
