"""What watches are held against in a recorded run: the writers, the archive as far as it goes, who compacted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from splitvote.harness.archive import Archive, Disagreement, StoreEvent
from splitvote.harness.recording import FaultRecord
from splitvote.harness.result import Result, Verdict
from tests.checkers.watch.draft import LIVE, Draft, changed_event, judged, names, only, recorded

# The truth itself.


def with_told(change: Callable[[dict[int, tuple[StoreEvent, ...]]], Any], **parts: Any) -> Result:
    archive = recorded().archive
    assert archive is not None
    told = dict(archive.told)
    change(told)
    return judged(replace(recorded(), archive=Archive(told, archive.spans, **parts)))


def a_put(told: dict[int, tuple[StoreEvent, ...]]) -> int:
    return next(revision for revision, events in told.items() if [event.type for event in events] == ["put"])


def test_a_write_that_was_acknowledged_and_is_not_there_is_lost() -> None:
    def lose(told: dict[int, tuple[StoreEvent, ...]]) -> None:
        told[a_put(told)] = ()

    assert "watch: lost write" in names(with_told(lose))


def test_an_event_that_all_members_invented_is_a_phantom() -> None:
    def invent(told: dict[int, tuple[StoreEvent, ...]]) -> None:
        revision = a_put(told)
        told[revision] = (msgspec.structs.replace(told[revision][0], value="invented"),)

    assert {"watch: phantom", "watch: lost write"} <= names(with_told(invent))


def test_a_write_that_certainly_failed_and_is_there_is_a_phantom() -> None:
    draft = Draft()
    done = next(op for op in draft.records.values() if op.f == "put" and op.type == "ok")
    draft.change(done, type="fail", error="not-connected: never sent", revision=None)
    only(draft.result(), "watch: phantom")


def test_a_write_of_unknown_outcome_may_be_there() -> None:
    draft = Draft()
    for f in ("put", "delete", "txn"):
        done = next(op for op in draft.records.values() if op.f == f and op.type == "ok")
        draft.change(done, type="info", error="deadline: no answer", revision=None)
        process = [op for op in draft.records.values() if op.process == done.process and op.index > done.index]
        for op in process:  # a crashed process is followed by a new one
            draft.change(op, process=op.process + 3)
    assert draft.result().verdict is Verdict.VALID


# What is not known is not judged.


def test_without_an_archive_nobody_knows() -> None:
    assert judged(replace(recorded(), archive=None)).verdict is Verdict.UNKNOWN
    assert judged(replace(recorded(), archive=Archive())).verdict is Verdict.UNKNOWN


def test_from_a_hole_on_nothing_is_judged() -> None:
    """One revision that no member told, and a wrong event after it."""
    draft = Draft()
    told = draft.told(LIVE, "events", 0)[30]
    draft.edit(told, 3, lambda events: changed_event(events, 2, "other"))
    archive = recorded().archive
    assert archive is not None
    with_hole = {revision: events for revision, events in archive.told.items() if revision != told.value[3][0][0] - 5}
    result = draft.result(archive=Archive(with_hole, archive.spans))
    assert result.verdict is Verdict.UNKNOWN
    assert "not judged" in (result.reason or "")
    assert result.stats["not_judged"] > 100


def test_from_a_disagreement_on_only_what_needs_no_truth_is_judged() -> None:
    draft = Draft()
    archive = recorded().archive
    assert archive is not None
    split = Disagreement(10, "n2", (), "n1", archive.told[10])
    assert draft.result(archive=replace(archive, disagreements=(split,))).verdict is Verdict.UNKNOWN
    draft.edit(draft.told(LIVE, "events", 0)[20], 3, lambda events: [*events, events[-1]])
    only(draft.result(archive=replace(archive, disagreements=(split,))), "watch: unique")


def test_an_archive_that_ends_early_is_not_held_against_the_watches() -> None:
    archive = recorded().archive
    assert archive is not None
    cut = Archive({revision: events for revision, events in archive.told.items() if revision <= 100}, archive.spans)
    result = judged(replace(recorded(), archive=cut))
    assert result.verdict is Verdict.UNKNOWN, result.reason


def test_a_run_whose_watches_saw_nothing_proves_nothing() -> None:
    draft = Draft()
    draft.drop(*[op for op in draft.records.values() if op.type == "event"])
    draft.drop(*[op for op in draft.records.values() if op.f == "converge"])
    result = draft.result()
    assert result.verdict is Verdict.UNKNOWN
    assert "vacuous" in (result.reason or "")


# Compactions by others.


def test_where_the_nemesis_compacted_a_refusal_is_its_doing() -> None:
    """The workload's own compaction is left out of the history, the nemesis's is in the journal."""
    draft = Draft()
    compactions = [op for op in draft.records.values() if op.f == "compact"]
    draft.drop(*compactions)
    by_nemesis = (
        FaultRecord(0, "admin", "compact", "starting", 0),
        FaultRecord(0, "admin", "compact", "active", 1, observed={"revision": 77}),
    )
    assert draft.result(faults=by_nemesis).verdict is Verdict.VALID
    assert draft.result(faults=by_nemesis[:1]).verdict is Verdict.VALID, "one that does not say how far"
    result = draft.result(final=None, faults=())
    assert "watch: compacted" in names(result)


def test_in_a_run_of_several_workloads_others_may_have_compacted() -> None:
    draft = Draft()
    draft.drop(*[op for op in draft.records.values() if op.f == "compact"])
    for op in list(draft.records.values()):
        draft.change(op, workload="watch")
    assert draft.result().verdict is Verdict.VALID
