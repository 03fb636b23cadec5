"""Judges elections: candidates and observers against the store's history, and whether leaders emerge after all faults.

The truth is the archive's history of the elections' keys by revision
(``reigns.py``); ``candidates.py`` and ``observers.py`` hold the answers against
it.  Where it has holes, what depends on them is not judged and the verdict is
UNKNOWN at best; only *order* and *succession*, which need no truth, still are.
"""

from __future__ import annotations

from typing import Any, Final

from splitvote.checkers.election.beliefs import beliefs_of, overlaps
from splitvote.checkers.election.bounds import Bounds
from splitvote.checkers.election.candidates import Case, check_candidates
from splitvote.checkers.election.claims import Claims
from splitvote.checkers.election.observers import check_observers
from splitvote.checkers.election.reigns import Reigns
from splitvote.checkers.findings import Findings
from splitvote.checkers.truth import NO_ARCHIVE, truth_of
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict

PREFIX: Final = "election/"
MOST_REIGNS: Final = 500
STALLED_SHARE: Final = 0.25
"""Above this share of a final campaign's patience, our own stalls may be why nobody won."""

COLUMNS: Final = ("election", "first", "end", "key", "lease", "created", "deleted", "process", "api", "value")
"""Of the table of reigns: revisions from and up to which the key led, its life, and who campaigned with what."""


class ElectionChecker:
    """INVALID where an answer or the store's history breaks a rule of elections."""

    name = "election"

    def __init__(self, prefix: str = PREFIX) -> None:
        self._prefix = prefix

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge the recording; UNKNOWN without an archive, or where it has holes."""
        truth = truth_of(recording, self._prefix)
        if truth is None:
            return Result(self.name, Verdict.UNKNOWN, NO_ARCHIVE)
        newest = None if recording.final is None else recording.final.newest_revision
        budget.check(len(recording.history))
        claims = Claims(recording.history)
        case = Case(
            claims=claims,
            reigns=Reigns(truth, self._prefix),
            truth=truth,
            bounds=Bounds(recording.history, final_revision=newest),
            findings=Findings(),
            prefix=self._prefix,
        )
        check_candidates(case)
        budget.check(len(claims.operations))
        check_observers(case, recording.history)
        stalled = _check_liveness(case, recording)
        stats = self._stats(case) | overlaps(beliefs_of(recording.history, claims))
        return self._result(case, stats, stalled)

    def _stats(self, case: Case) -> dict[str, Any]:
        reigns = [reign for each in case.reigns.by_election.values() for reign in each]
        return {
            "elections": len(case.reigns.by_election),
            "candidacies": len(case.reigns.tenures),
            "leadership_changes": max(0, len(reigns) - len(case.reigns.by_election)),
            "campaigns_won": len(case.claims.won),
            "known_revision": case.reigns.known,
            "not_judged": case.findings.skipped,
        } | case.counted

    def _result(self, case: Case, stats: dict[str, Any], stalled: str | None) -> Result:
        findings, evidence = case.findings, {"reigns": _table(case)}
        stats |= findings.counts
        if findings.anomalies:
            reason: str | None = findings.anomalies[0].story
            return Result(self.name, Verdict.INVALID, reason, tuple(findings.anomalies), evidence, stats)
        reason = stalled
        if case.truth.doubt is not None:
            reason = (
                f"revision {case.truth.known + 1}: {case.truth.doubt}; {findings.skipped} answers from there on are "
                "not judged"
            )
        verdict = Verdict.VALID if reason is None else Verdict.UNKNOWN
        return Result(self.name, verdict, reason, evidence=evidence, stats=stats)


def _check_liveness(case: Case, recording: Recording) -> str | None:
    """Election: liveness.  Some campaign after the final heal is won in every election; why nobody can tell, else."""
    final: dict[str, list[Operation]] = {}
    for operation in case.claims.operations:
        if operation.f == "campaign" and (operation.invoke.extra or {}).get("is_final"):
            final.setdefault(operation.key, []).append(operation)
    doubt = None
    for election, campaigns in final.items():
        if any(campaign.type == "ok" or _was_cut_off(campaign) for campaign in campaigns):
            continue
        first_ns = campaigns[0].invoke.time_ns
        tried_s = sum(_length_s(campaign) for campaign in campaigns)
        stalled_s = sum(s.loop_lag_ms for s in recording.samples if s.time_ns >= first_ns) / 1e3
        story = f"no leader emerged in {election} after all faults were healed: {len(campaigns)} campaigns of "
        story += f"{tried_s:.1f} s in all were lost, though everybody had retired"
        if stalled_s > STALLED_SHARE * tried_s:
            doubt = f"{story}; but the harness itself stalled for {stalled_s:.1f} s meanwhile, so nobody can tell"
        else:
            case.findings.add("election: liveness", story, campaigns, election=election)
    return doubt


def _was_cut_off(campaign: Operation) -> bool:
    """Whether the run was interrupted meanwhile."""
    return campaign.completion is None or (campaign.completion.error or "").startswith("stopped:")


def _length_s(campaign: Operation) -> float:
    return 0.0 if campaign.completion is None else (campaign.completion.time_ns - campaign.invoke.time_ns) / 1e9


def _table(case: Case) -> dict[str, Any]:
    """Who led by revision."""
    rows = []
    every = sorted(
        (reign for reigns in case.reigns.by_election.values() for reign in reigns), key=lambda reign: reign.first
    )
    for reign in every[:MOST_REIGNS]:
        tenure = reign.tenure
        value = tenure.values[0][1]
        campaign = case.claims.by_value.get(value)
        who = (None, None) if campaign is None else (campaign.process, (campaign.invoke.extra or {}).get("api"))
        key = (tenure.key, f"{tenure.lease:x}", tenure.created, tenure.deleted)
        rows.append([tenure.election, reign.first, reign.end, *key, *who, value])
    return {"columns": list(COLUMNS), "rows": rows, "of": len(every)}
