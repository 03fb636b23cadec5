"""Judges locks in revision order; beliefs, which may overlap, are measured (``beliefs.py``).

- *turns* (``grants.py``): an acquire is granted only when no older key lives;
- *keys* (``keys.py``): a lock key is put by an acquire, and deleted by its own
  session or with its lease; an acknowledged release has released;
- *order*: an answer is not older than one that had been given before it was
  asked for;
- *progress*: after the final heal every lock can be had.
"""

from __future__ import annotations

from typing import Any, Final

from splitvote.checkers.findings import Findings
from splitvote.checkers.lock import beliefs
from splitvote.checkers.lock.claims import NOT_IN_TIME, Claim, read
from splitvote.checkers.lock.grants import Grant, check_turns, granted
from splitvote.checkers.lock.keys import check_deletions, check_puts, check_releases
from splitvote.checkers.lock.lives import Lives, lives_of
from splitvote.checkers.truth import NO_ARCHIVE, Truth, truth_of
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict

PREFIX: Final = "lock/"


class LockChecker:
    """INVALID where a grant, a release or a key contradicts the store's history."""

    name = "lock"

    def __init__(self, prefix: str = PREFIX) -> None:
        self._prefix = prefix

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge the recording; UNKNOWN without an archive, or where it has holes."""
        truth = truth_of(recording, self._prefix)
        if truth is None:
            return Result(self.name, Verdict.UNKNOWN, NO_ARCHIVE)
        budget.check(len(recording.history))
        lives = lives_of(truth, self._prefix)
        claims, releases = read(recording.history, self._prefix)
        findings = Findings()
        grants = granted(claims, lives, truth, findings)
        check_turns(grants, lives, findings)
        check_puts(claims, lives, findings)
        budget.check(len(lives.all))
        check_deletions(claims, releases, lives, findings)
        check_releases(releases, lives, truth, findings)
        _check_order(recording, findings)
        _check_progress(claims, lives, findings)
        held = beliefs.beliefs(recording.history, grants)
        stats = _stats(grants, lives, truth, findings) | beliefs.stats(held)
        return self._result(truth, findings, beliefs.evidence(held), stats)

    def _result(self, truth: Truth, findings: Findings, evidence: dict[str, Any], stats: dict[str, Any]) -> Result:
        if findings.anomalies:
            reason = findings.anomalies[0].story
            return Result(self.name, Verdict.INVALID, reason, tuple(findings.anomalies), evidence, stats)
        if truth.doubt is not None:
            reason = (
                f"revision {truth.known + 1}: {truth.doubt}; {findings.skipped} answers from there on are not judged"
            )
            return Result(self.name, Verdict.UNKNOWN, reason, evidence=evidence, stats=stats)
        return Result(self.name, Verdict.VALID, evidence=evidence, stats=stats)


def _check_order(recording: Recording, findings: Findings) -> None:
    """Grants and releases in real time: none is answered at a revision that had been passed when it was invoked."""
    by_invoke = {operation.invoke.index: operation for operation in recording.history.operations}
    by_completion = {op.completion.index: op for op in by_invoke.values() if op.completion is not None}
    newest: tuple[int, Operation | None] = (0, None)
    passed: dict[int, tuple[int, Operation | None]] = {}
    for op in recording.history:
        if op.type == "invoke":
            passed[op.index] = newest
        elif op.type == "ok" and op.revision is not None and op.index in by_completion:
            operation = by_completion[op.index]
            floor, holder = passed[operation.invoke.index]
            if op.revision < floor and holder is not None:
                findings.add(
                    "lock: order",
                    f"process {op.process}'s {op.f} of {op.key} was answered at revision {op.revision}, though "
                    f"process {holder.process}'s {holder.f} of {holder.key} had been answered at {floor} before it "
                    "was invoked",
                    [holder, operation],
                    revision=op.revision,
                    floor=floor,
                )
            newest = max(newest, (op.revision, operation), key=lambda each: each[0])


def _check_progress(claims: list[Claim], lives: Lives, findings: Findings) -> None:
    """The last acquire of each lock, made after the final heal when every session had been ended, comes to its turn."""
    for claim in claims:
        completion = claim.operation.completion
        is_last = (claim.operation.invoke.extra or {}).get("last") is True
        if not is_last or completion is None or not (completion.error or "").startswith(NOT_IN_TIME):
            continue
        before = [life for life in lives.all if life.lock == claim.lock and life.end is None and life.key != claim.key]
        why = f"the key {before[0].key}, created at {before[0].create}, is still there" if before else "nobody holds it"
        findings.add(
            "lock: stuck",
            f"after the final heal {claim.told} did not get the lock for all its patience: {why}",
            [claim.operation],
            lock=claim.lock,
            before=[life.key for life in before],
        )


def _stats(grants: list[Grant], lives: Lives, truth: Truth, findings: Findings) -> dict[str, Any]:
    by_api: dict[str, int] = {}
    for grant in grants:
        api = str(grant.claim.operation.invoke.value["api"])
        by_api[api] = by_api.get(api, 0) + 1
    return {
        "granted": by_api,
        "keys": len(lives.all),
        "won_with_a_dead_key": sum(not grant.is_alive for grant in grants),
        "known_revision": truth.known,
        "not_judged": findings.skipped,
    } | findings.counts
