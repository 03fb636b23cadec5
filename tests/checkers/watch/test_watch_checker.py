"""Each promise of a watch, broken in a recorded run by one changed record, is told by its name."""

from __future__ import annotations

from typing import Any

import pytest

from splitvote.harness.op import Op
from splitvote.harness.recording import ClusterSample, FaultRecord
from splitvote.harness.result import Result, Verdict
from tests.checkers.watch.draft import LIVE, PAST, Draft, changed_event, judged, names, only, recorded


def test_a_recorded_run_is_valid_and_says_what_it_exercised() -> None:
    result = judged(recorded())
    assert (result.verdict, result.anomalies) == (Verdict.VALID, ()), result.reason
    stats = result.stats
    assert set(stats["by_start"]) == {"now", "past", "compacted", "compaction", "future"}
    assert set(stats["by_member"]) == {"n1", "n2"}
    assert stats["events"] > 1000
    assert stats["resumed"] > 5
    assert stats["canceled_as_compacted"] > 5
    assert stats["canceled"] == stats["canceled_as_compacted"] + 1
    assert stats["progress"] > 5
    assert stats["slow_readers"] == 1
    assert stats["not_judged"] == 0


def test_two_answers_in_the_wrong_order_are_not_ordered() -> None:
    draft = Draft()
    first, second = draft.told(LIVE, "events", 0)[5:7]
    draft.change(first, value=second.value)
    draft.change(second, value=first.value)
    only(draft.result(), "watch: ordered")


def test_an_event_told_twice_is_not_unique() -> None:
    draft = Draft()
    draft.edit(draft.told(LIVE, "events", 0)[5], 3, lambda events: [*events, events[-1]])
    only(draft.result(), "watch: unique")


def test_an_answer_told_twice_is_not_unique() -> None:
    draft = Draft()
    before, after = draft.told(LIVE, "events", 0)[5:7]
    draft.edit(after, 3, lambda events: [*before.value[3], *events])
    only(draft.result(), "watch: unique")


def test_a_revision_in_two_answers_is_not_atomic() -> None:
    """Revision 3 has five events; the last of them comes with the next revision's."""
    draft = Draft()
    first, second = draft.told(LIVE, "events", 0)[1:3]
    late = first.value[3][-1]
    draft.edit(first, 3, lambda events: events[:-1])
    draft.edit(second, 3, lambda events: [late, *events])
    only(draft.result(), "watch: atomic")


def test_a_part_of_a_revision_is_not_atomic() -> None:
    draft = Draft()
    draft.edit(draft.told(LIVE, "events", 0)[1], 3, lambda events: events[:-1])
    only(draft.result(), "watch: atomic")


def test_fragments_are_for_those_who_asked_for_them() -> None:
    draft = Draft()
    draft.edit(draft.told(LIVE, "events", 0)[1], 2, lambda _: 1)
    only(draft.result(), "watch: atomic")


def test_an_answer_left_out_is_a_gap() -> None:
    draft = Draft()
    draft.drop(draft.told(LIVE, "events", 0)[5])
    only(draft.result(), "watch: reliable")


def test_progress_vouches_for_what_never_came() -> None:
    """The last event before a progress answer, with nothing after it on that stream."""
    draft = Draft()
    progress = draft.told(PAST, "progress", None, stream=1)[-1]
    later = [op for op in draft.told(PAST, "events", 1, stream=1) if op.index > progress.index]
    before = [op for op in draft.told(PAST, "events", 1, stream=1) if op.index < progress.index]
    draft.drop(before[-1], *later)
    only(draft.result(), "watch: reliable")


def test_a_watch_from_the_past_begins_with_the_first_event() -> None:
    """Its start lowered by a revision that it should have told of, and does not."""
    draft = Draft()
    (created,) = draft.told(PAST, "created", 0, stream=2)
    draft.edit(created, 2, lambda start: start - 1)
    only(draft.result(), "watch: resumable")


def test_an_event_that_progress_had_vouched_for_is_the_bug_15220() -> None:
    draft = Draft()
    progress = draft.told(LIVE, "progress", None)[2]
    draft.change(progress, revision=progress.revision + 1)
    only(draft.result(), "watch: bookmarkable")


@pytest.mark.parametrize("without", ["puts", "deletes"])
def test_events_that_the_filter_excludes(without: str) -> None:
    draft = Draft()
    invoke = draft.records[LIVE]
    watches = [dict(watch) for watch in invoke.value["watches"]]
    watches[0]["without"] = without
    draft.change(invoke, value=invoke.value | {"watches": watches})
    only(draft.result(), "watch: filter")


def test_events_of_a_key_that_is_not_watched() -> None:
    draft = Draft()
    draft.edit(
        draft.told(LIVE, "events", 1)[-1], 3, lambda events: [*events, [events[-1][0] + 1, "k0005", "9", 1, 1, 0]]
    )
    only(draft.result(), "watch: filter")


@pytest.mark.parametrize("field", [0, 2, 3, 4, 5])
def test_a_previous_state_that_was_not(field: int) -> None:
    """Mod revision, value, create revision, version or lease of the state before."""
    draft = Draft()
    told = next(op for op in draft.told(LIVE, "events", 3) if len(op.value) > 4 and op.value[4][0] is not None)

    def other(befores: list[Any]) -> list[Any]:
        befores[0][field] = "other" if field == 2 else befores[0][field] + 1
        return befores

    draft.edit(told, 4, other)
    only(draft.result(), "watch: prev_kv")


def test_a_previous_state_left_out() -> None:
    """Nobody had compacted up to there by then."""
    draft = Draft()
    told = next(op for op in draft.told(LIVE, "events", 3) if len(op.value) > 4 and op.value[4][0] is not None)
    draft.edit(told, 4, lambda befores: [None, *befores[1:]])
    only(draft.result(), "watch: prev_kv")


def test_a_previous_state_may_be_missing_where_it_may_have_been_compacted() -> None:
    """The same, after the nemesis had begun to compact beyond that revision."""
    draft = Draft()
    told = next(op for op in draft.told(LIVE, "events", 3) if len(op.value) > 4 and op.value[4][0] is not None)
    draft.edit(told, 4, lambda befores: [None, *befores[1:]])
    revision = told.value[3][0][0]

    def compacted(up_to: int) -> Result:
        begun = FaultRecord(0, "admin", "compact", "starting", told.time_ns - 1)
        done = FaultRecord(0, "admin", "compact", "active", told.time_ns + 1, observed={"revision": up_to})
        return draft.result(faults=(begun, done))

    assert compacted(revision).verdict is Verdict.VALID
    only(compacted(revision - 1), "watch: prev_kv")


def test_a_previous_state_that_nobody_asked_for() -> None:
    draft = Draft()
    told = draft.told(LIVE, "events", 0)[5]
    draft.change(told, value=[*told.value, [[1, "k0000", "1", 1, 1, 0]]])
    only(draft.result(), "watch: prev_kv")


@pytest.mark.parametrize("field", [3, 4])
def test_a_create_revision_or_version_that_is_not_the_keys(field: int) -> None:
    draft = Draft()
    told = next(op for op in draft.told(LIVE, "events", 0) if op.value[3][0][2] is not None)
    draft.edit(told, 3, lambda events: changed_event(events, field, events[0][field] + 1))
    only(draft.result(), "watch: is-create")


@pytest.mark.parametrize(("field", "value"), [(2, "other"), (2, None), (5, 77)])
def test_an_event_that_never_was(field: int, value: Any) -> None:
    """Another value, a delete instead of a put, another lease."""
    draft = Draft()
    told = next(op for op in draft.told(LIVE, "events", 0) if op.value[3][0][2] is not None)
    draft.edit(told, 3, lambda events: changed_event(events, field, value))
    only(draft.result(), "watch: phantom")


def test_an_event_too_many() -> None:
    draft = Draft()
    draft.edit(draft.told(LIVE, "events", 0)[5], 3, lambda events: [*events, [events[0][0], "k0009", "9", 5, 1, 0]])
    only(draft.result(), "watch: phantom")


def test_events_of_a_watch_that_was_never_created() -> None:
    draft = Draft()
    draft.edit(draft.told(PAST, "events", 2)[0], 1, lambda _: -1)
    assert "watch: phantom" in names(draft.result())


def test_an_event_from_before_the_start() -> None:
    draft = Draft()
    (created,) = draft.told(PAST, "created", 0, stream=2)
    draft.edit(created, 2, lambda start: start + 1)
    only(draft.result(), "watch: start revision")


def test_a_watch_from_now_begins_no_earlier_than_the_one_created_before_it() -> None:
    """Its member creates one after another; revision 2 was there when it created the one before."""
    draft = Draft()
    early = draft.told(LIVE, "events", 0)[0].value[3]
    assert [event[0] for event in early] == [draft.told(LIVE, "created", 2)[0].revision]
    first = draft.told(LIVE, "events", 3)[0]
    draft.change(first, value=[*first.value[:3], early + first.value[3], [None, *first.value[4]]])
    only(draft.result(), "watch: start revision")


def test_a_watch_from_now_may_begin_before_the_revision_of_its_answer() -> None:
    """Seen on 3.5.30: the answer's revision is read after the watch has begun."""
    draft = Draft()
    (created,) = draft.told(LIVE, "created", 3)
    assert created.revision == 2
    draft.change(created, revision=6)
    assert draft.result().verdict is Verdict.VALID
    draft.drop(draft.told(LIVE, "events", 3)[1])
    only(draft.result(), "watch: reliable")


@pytest.mark.parametrize(
    ("compacted", "why"),
    [(0, "no reason"), (11, "it was not in need of that"), (28, "nobody compacted there"), (29 + 50, "not yet")],
)
def test_a_watch_ended_without_reason(compacted: int, why: str) -> None:
    """It starts at 11, and the only compactions so far were up to 1 and up to 29."""
    draft = Draft()
    (canceled,) = draft.told(PAST, "canceled", 0)
    draft.edit(canceled, 2, lambda _: compacted)
    only(draft.result(), "watch: compacted")


def test_a_watch_ended_that_nobody_asked_to_end() -> None:
    draft = Draft()
    draft.drop(*draft.told(LIVE, "cancelling", 1))
    only(draft.result(), "watch: compacted")


@pytest.mark.parametrize("is_on", [False, True])
def test_a_watch_may_be_refused_for_want_of_a_user_only_where_a_fault_asks_for_one(*, is_on: bool) -> None:
    draft = Draft()
    (canceled,) = draft.told(PAST, "canceled", 0)
    refusal = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"
    draft.change(canceled, value=[*canceled.value[:2], 0, refusal])
    faults = (FaultRecord(1, "admin", "auth", "starting", 0, ("n1",)),) if is_on else ()
    assert draft.result(faults=faults).verdict is (Verdict.VALID if is_on else Verdict.INVALID)


def test_a_compacted_start_that_is_served() -> None:
    """What its member had compacted is told in full, in place of the refusal."""
    draft = Draft()
    (canceled,) = draft.told(PAST, "canceled", 0)
    archive = recorded().archive
    assert archive is not None
    events = [
        [
            e.mod_revision,
            e.key.removeprefix("watch/"),
            e.value if e.type == "put" else None,
            e.create_revision,
            e.version,
            0,
        ]
        for e in archive.events("watch/")
        if 11 <= e.mod_revision <= 28
    ]
    draft.change(canceled, value=["events", 0, 0, events], revision=28)
    only(draft.result(), "watch: compacted")


def test_what_comes_after_its_end_is_counted_and_not_judged() -> None:
    draft = Draft()
    (canceled,) = draft.told(LIVE, "canceled", 1)
    draft.change(draft.told(LIVE, "events", 0)[-1], value=["events", 1, 0, [[1, "x", "y", 1, 1, 0]]])
    result = draft.result()
    assert result.verdict is Verdict.VALID
    assert result.stats["answers_after_the_end"] == 1
    assert canceled.value[2] == 0


def test_progress_of_a_stream_is_not_about_a_watch_that_is_about_to_end() -> None:
    """A member that has ended a watch may speak of the others before it says so: what it did not tell is not owed."""
    draft = Draft()
    (cancelling,) = draft.told(LIVE, "cancelling", 1)
    (canceled,) = draft.told(LIVE, "canceled", 1)
    between = [draft.records[index] for index in range(cancelling.index + 1, canceled.index)]
    assert [op.value[:2] for op in between] == [["events", 1], ["events", 3], ["events", 0]]
    draft.change(between[0], value=between[1].value)
    draft.change(between[1], value=between[2].value)
    draft.change(between[2], value=["progress", None])
    assert draft.result().verdict is Verdict.VALID
    draft.change(canceled, value=["progress", None])
    draft.drop(cancelling)
    only(draft.result(), "watch: reliable")


def converging() -> int:
    return next(op.index for op in recorded().history if op.f == "converge")


def final_records(draft: Draft, node: str, watch: int) -> list[Op]:
    return [
        op
        for op in draft.records.values()
        if op.of == converging()
        and op.node == node
        and op.value[0] in ("events", "progress")
        and op.value[1] in (watch, None)
    ]


def test_a_member_that_does_not_get_to_the_newest_revision_has_not_converged() -> None:
    draft = Draft()
    draft.drop(*final_records(draft, "n2", 1))
    result = draft.result()
    only(result, "watch: convergence")
    assert "n2" in result.anomalies[0].story


def test_the_last_event_of_the_run_left_out_has_not_converged() -> None:
    draft = Draft()
    told = [op for op in final_records(draft, "n1", 1) if op.value[0] == "events"][-1]
    draft.drop(*[op for op in final_records(draft, "n1", 1) if op.index > told.index])
    draft.edit(told, 3, lambda events: [event for event in events if event[0] < events[-1][0]])
    only(draft.result(), "watch: convergence")


def test_a_member_that_is_still_telling_when_the_time_is_over_is_slow() -> None:
    """The same, where the final operation had taken all of its 30 seconds."""
    draft = Draft()
    told = [op for op in final_records(draft, "n1", 1) if op.value[0] == "events"][-1]
    draft.drop(*[op for op in final_records(draft, "n1", 1) if op.index > told.index])
    draft.edit(told, 3, lambda events: [event for event in events if event[0] < events[-1][0]])
    invoke = draft.records[converging()]
    draft.change(invoke, time_ns=invoke.time_ns - 30_000_000_000)
    result = draft.result()
    assert result.verdict is Verdict.UNKNOWN
    assert "still being told" in (result.reason or "")


def test_a_member_that_never_answers_has_not_converged() -> None:
    draft = Draft()
    draft.drop(*[op for op in draft.records.values() if op.of == converging() and op.node == "n2"])
    only(draft.result(), "watch: convergence")


def test_a_harness_that_stalled_cannot_tell_convergence() -> None:
    draft = Draft()
    draft.drop(*final_records(draft, "n2", 1))
    final = next(op for op in draft.records.values() if op.f == "converge" and op.type == "ok")
    waited_ms = (final.time_ns - draft.records[converging()].time_ns) / 1e6
    result = draft.result(samples=(ClusterSample(final.time_ns, {}, loop_lag_ms=0.5 * waited_ms),))
    assert result.verdict is Verdict.UNKNOWN
    assert "stalled" in (result.reason or "")
