"""Judges every watch of a run against the truth by revision, and whether all of them got there in the end.

Theory.  The archive tells the store's history by a road of its own
(``splitvote.harness.archive``).  So a watch is judged alone: what it must tell is
the history's events from its start on, of its keys, through its filter; the
promises of ETCD.md are then statements about one sequence and another
(``rules``).  The history itself is held against the writers (``writers``).
Where no member told a revision, or two tell it differently, there is no truth
from there on: such events are counted, not judged, but for what needs no truth.

A watch that lags when it ends is fine, except after the final heal: the
``converge`` operation has every member tell everything up to the newest
revision (*convergence*).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from splitvote.checkers.compactions import Compactions
from splitvote.checkers.findings import Findings
from splitvote.checkers.truth import NO_ARCHIVE, truth_of
from splitvote.checkers.watch.exercise import exercised
from splitvote.checkers.watch.logs import Logs, WatchLog, logs_of
from splitvote.checkers.watch.plan import PREFIX, WatchPlan
from splitvote.checkers.watch.rules import WatchJudge
from splitvote.checkers.watch.truth import WatchTruth
from splitvote.checkers.watch.writers import Writers
from splitvote.harness.op import Op, Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict

REFUSED_WITHOUT_USER: Final = "user name is empty"
"""Why a server ends a watch at once while a fault has it ask for users."""

MOST_UNJUDGED: Final = 0.01
"""The share of events without a truth up to which a run still counts as judged."""

STUCK_S: Final = 5.0
"""A final watch that was told something this shortly before the end of its time is slow, not stuck."""

STALLED_SHARE: Final = 0.25
"""Above this share of the final wait, our own stalls may be what looked like a watch that does not get on."""


class WatchChecker:
    """INVALID where a watch broke a promise."""

    name = "watch"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge the recording; UNKNOWN without an archive, where much of it has no truth, or where nothing was told."""
        states = truth_of(recording, PREFIX)
        if states is None:
            return Result(self.name, Verdict.UNKNOWN, NO_ARCHIVE)
        operations = recording.history.operations
        truth = WatchTruth(states)
        compactions = Compactions(recording, operations)
        findings = Findings()
        Writers(operations).check(truth, findings)
        logs = logs_of(recording.history, operations)
        judges = []
        reasons = [REFUSED_WITHOUT_USER] if any(fault.fault == "auth" for fault in recording.faults) else []
        for log in logs.watches:
            budget.check(1 + len(log.records))
            judge = WatchJudge(log, truth, compactions, findings, reasons=reasons)
            judge.run()
            judges.append((log, judge))
        _check_homeless(logs, findings)
        doubt = _check_convergence(recording, operations, logs.plans, judges, findings)
        stats = (
            exercised(logs)
            | {
                "answers_after_the_end": sum(judge.late for _, judge in judges),
                "known_revision": truth.known,
                "not_judged": findings.skipped,
            }
            | findings.counts
        )
        return self._result(truth, findings, stats, doubt)

    def _result(self, truth: WatchTruth, findings: Findings, stats: dict[str, Any], doubt: str | None) -> Result:
        if findings.anomalies:
            reason = findings.anomalies[0].story
            return Result(self.name, Verdict.INVALID, reason, tuple(findings.anomalies), stats=stats)
        if findings.skipped > MOST_UNJUDGED * stats["events"]:
            doubt = (
                f"revision {truth.known + 1}: {truth.doubt}; {findings.skipped} of {stats['events']} events "
                "are from there on and not judged"
            )
        if not stats["events"]:
            doubt = "vacuous: no watch was told of any event"
        return Result(self.name, Verdict.VALID if doubt is None else Verdict.UNKNOWN, doubt, stats=stats)


def _check_homeless(logs: Logs, findings: Findings) -> None:
    """What a stream told of a watch that nobody had asked for there."""
    for op in logs.homeless:
        if op.value[0] in ("events", "created"):
            findings.add("watch: phantom", f"{op.node} told of a watch that nobody had asked for on that stream", [op])


def _check_convergence(
    recording: Recording,
    operations: tuple[Operation, ...],
    plans: Mapping[int, WatchPlan],
    judges: list[tuple[WatchLog, WatchJudge]],
    findings: Findings,
) -> str | None:
    """Whether each watch of the final phase got to the newest revision on each member; a doubt that weakens a VALID."""
    doubt = None
    for operation in operations:
        if operation.f != "converge" or operation.type != "ok":
            continue
        newest, members = operation.output
        latest = {
            (log.created.node, log.number): (log, judge)
            for log, judge in judges
            if log.operation.invoke.index == operation.invoke.index
        }
        behind = [
            (node, number, latest.get((node, number)))
            for node in members
            for number in range(plans[operation.invoke.index].count)
        ]
        late = [each for each in behind if _is_behind(each[2], newest)]
        excuse = _stalled(recording, operation)
        bound_s = plans[operation.invoke.index].for_s
        for node, number, found in late:
            if excuse is None and not _is_getting_on(found, operation, bound_s):
                _tell_behind(operation, node, number, found, newest, findings)
        if late:
            doubt = f"{len(late)} final watches did not get to revision {newest}: " + (
                excuse or "some were still being told when their time was over; lower --rate"
            )
    return doubt


def _is_behind(found: tuple[WatchLog, WatchJudge] | None, newest: int) -> bool:
    """Whether it has not told everything; one that only claims to have is told of under another name."""
    return found is None or (found[1].upto < newest and bool(found[1].missing(newest)))


def _is_getting_on(found: tuple[WatchLog, WatchJudge] | None, operation: Operation, bound_s: float) -> bool:
    """Whether it was still being told of events when its time was over."""
    assert operation.completion is not None
    ended_ns = operation.completion.time_ns
    if found is None or ended_ns - operation.invoke.time_ns < bound_s * 1e9:
        return False
    return any(op.value[0] == "events" and op.time_ns >= ended_ns - STUCK_S * 1e9 for op in found[0].records)


def _stalled(recording: Recording, operation: Operation) -> str | None:
    """That our own event loop stood still while we waited, where it did for long."""
    assert operation.completion is not None
    began, ended = operation.invoke.time_ns, operation.completion.time_ns
    lag_ms = sum(sample.loop_lag_ms for sample in recording.samples if began <= sample.time_ns <= ended)
    share = lag_ms * 1e6 / max(1, ended - began)
    if share <= STALLED_SHARE:
        return None
    return f"the harness itself stalled for {lag_ms / 1e3:.1f} s of {(ended - began) / 1e9:.1f} s, so nobody can tell"


def _tell_behind(
    operation: Operation,
    node: str,
    number: int,
    found: tuple[WatchLog, WatchJudge] | None,
    newest: int,
    findings: Findings,
) -> None:
    assert operation.completion is not None
    ops: list[Op] = [operation.invoke, operation.completion]
    if found is None:
        story = f"after the final heal {node} never answered watch {number}"
        findings.add("watch: convergence", story, ops, node=node)
        return
    log, judge = found
    missing = judge.missing(newest)
    waited_s = (operation.completion.time_ns - operation.invoke.time_ns) / 1e9
    story = (
        f"{log.title} got to revision {judge.upto} within {waited_s:.1f} s of the final heal, and never to "
        f"{newest}: {len(missing)} events are missing, the first {missing[0]}"
    )
    findings.add("watch: convergence", story, [*ops, log.created, *log.records[-1:]], node=node, missing=missing[:10])
