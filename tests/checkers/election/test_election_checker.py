"""The election checker: a small tale of two leaders is valid, and each rule is broken by one field of one record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as remade
from typing import Any

import pytest
from msgspec.structs import replace

from splitvote.checkers.election import ElectionChecker
from splitvote.checkers.projection import ProjectedChecker
from splitvote.harness.archive import Archive, Disagreement, Span, StoreEvent
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import ClusterSample, Recording
from splitvote.harness.result import Budget, Result, Verdict
from tests.checkers.election.world import DEPOSED, World, recording_of

OLD, NEW, LATE, LAST, WAITING = (f"election/e0/{lease}" for lease in "abcde")
GUARDED = "election/guarded/e0"

Told = dict[int, tuple[StoreEvent, ...]]
Damage = Callable[[list[Op], Told], None]


def tale() -> World:
    """Three leaders and one who waits; process 2 observes twice, 3 asks who leads.

    By revision: 2 campaign of process 0 ("v0"), 3 its write ("v1"), 4 its
    proclamation ("v2"), 5 campaign of 1 ("v3"), 6 process 0 resigns, 7 not ours, 8
    write of 1 ("v6"), 9 its proclamation ("v8"), 10 its lease ends, 11 campaign of
    4 ("v9"), 12 its write of unknown outcome ("v10"), 13 its lease ends, 14 the
    final campaign of 5 ("v11"), 15 process 6 queues ("v12").
    """
    world = World(0)
    observe = _first_reign(world)
    _second_reign(world, observe)
    _last_reigns(world)
    return world


def reign(lease: int, key: str, created: int) -> dict[str, Any]:
    return {"api": "client", "lease": lease, "candidate_key": key, "create_revision": created}


def told(world: World, observe: Op, *seen: Any) -> None:
    world.record(observe.completed("event", value=list(seen), revision=world.revision, of=observe.index, stream=0))


def campaign(world: World, process: int, value: str, key: str, lease: int, **extra: Any) -> tuple[Op, dict[str, Any]]:
    op = world.invoke(process, "campaign", "e0", value, api="client", **extra)
    return op, reign(lease, key, world.put(key, value, lease))


def done(world: World, process: int, f: str, value: str, key: str, extra: dict[str, Any], lease: int = 0) -> None:
    op = world.invoke(process, f, "e0", value)
    world.complete(op, "ok", revision=world.put(key, value, lease), extra=extra)


def _first_reign(world: World) -> Op:
    op, first = campaign(world, 0, "v0", OLD, 10)
    world.complete(op, "ok", revision=2, extra=first)
    observe = world.invoke(2, "observe", "e0", 5, api="client")
    told(world, observe, OLD, "v0", 2, 2)
    done(world, 0, "write", "v1", GUARDED, first)
    done(world, 0, "proclaim", "v2", OLD, first, 10)
    told(world, observe, OLD, "v2", 2, 4)
    op = world.invoke(7, "campaign", "e1", "v5", api="client")
    world.complete(op, "fail", error="not-connected: nobody listens")
    following, second = campaign(world, 1, "v3", NEW, 11)
    op = world.invoke(3, "leader", "e0", api="client")
    world.complete(op, "ok", value=[OLD, "v2", 2, 4], revision=5)
    op = world.invoke(0, "resign", "e0")
    world.complete(op, "ok", revision=world.delete([OLD]), extra=first | {"deleted": True})
    world.put("kv/other", "not ours")
    world.complete(following, "ok", revision=7, extra=second)
    told(world, observe, NEW, "v3", 5, 5)
    return observe


def _second_reign(world: World, observe: Op) -> None:
    second = reign(11, NEW, 5)
    done(world, 1, "write", "v6", GUARDED, second)
    done(world, 1, "proclaim", "v8", NEW, second, 11)
    told(world, observe, NEW, "v8", 5, 9)
    world.complete(observe, "ok", value=4)
    world.expire(11)
    op = world.invoke(1, "write", "e0", "v7")
    world.complete(op, "fail", error=DEPOSED, revision=10, extra=second | {"lost_s": 0.001})
    op = world.invoke(3, "leader", "e0", api="client")
    world.complete(op, "ok", value=None, revision=10)
    op = world.invoke(3, "leader", "e0", api="server")
    world.complete(op, "ok", value=None)


def _last_reigns(world: World) -> None:
    observe = world.invoke(2, "observe", "e0", 5, api="server")
    op, third = campaign(world, 4, "v9", LATE, 12)
    world.complete(op, "ok", revision=11, extra=third)
    told(world, observe, LATE, "v9", 11, 11)
    world.complete(observe, "ok", value=1)
    op = world.invoke(4, "write", "e0", "v10")
    world.put(GUARDED, "v10")
    world.complete(op, "info", error="deadline: lost", extra=third)
    world.expire(12)
    op, last = campaign(world, 5, "v11", LAST, 13, is_final=True)
    world.complete(op, "ok", revision=14, extra=last)
    campaign(world, 6, "v12", WAITING, 14)


def check(recording: Recording) -> Result:
    return ElectionChecker().check(recording, Budget())


def place_of(records: list[Op], f: str, type_: str, number: int = 0, **where: Any) -> int:
    found = [
        place
        for place, op in enumerate(records)
        if op.f == f and op.type == type_ and all(getattr(op, name) == value for name, value in where.items())
    ]
    return found[number]


def op_change(f: str, type_: str, number: int = 0, where: dict[str, Any] | None = None, **changes: Any) -> Damage:
    """Change a field of one record of the history; ``extra`` is merged."""

    def damage(records: list[Op], told: Told) -> None:
        place = place_of(records, f, type_, number, **(where or {}))
        made = dict(changes)
        if "extra" in made:
            made["extra"] = (records[place].extra or {}) | made["extra"]
        records[place] = replace(records[place], **made)

    return damage


def store_change(revision: int, **changes: Any) -> Damage:
    """Change a field of the one event of a revision."""

    def damage(records: list[Op], told: Told) -> None:
        (event,) = told[revision]
        told[revision] = (replace(event, **changes),)

    return damage


def event_change(number: int, value: list[Any]) -> Damage:
    """Change what the observer was told, the n-th time."""
    return op_change("observe", "event", number, value=value)


PLANTED: list[tuple[str, str, Damage]] = [
    ("no predecessor", "won while the older was there", op_change("campaign", "ok", 1, revision=5)),
    ("no predecessor", "the older is deleted later", store_change(6, mod_revision=8)),
    ("lost key", "a key that never was", op_change("campaign", "ok", 1, extra={"create_revision": 4})),
    ("lost key", "another key", op_change("campaign", "ok", 0, extra={"candidate_key": "election/e0/f"})),
    ("fencing", "an acknowledged write after the lease's end", store_change(8, mod_revision=11)),
    ("fencing", "a write of unknown outcome after the lease's end", store_change(12, mod_revision=14)),
    ("fencing", "the lease ends before the write", store_change(13, mod_revision=11)),
    ("foreign key", "a proclamation on another's key", store_change(4, key=NEW)),
    ("foreign key", "a write elsewhere", store_change(3, key="election/guarded/e1")),
    ("foreign key", "a campaign by another's key", store_change(15, key="election/e1/e")),
    ("proclaimed after the end", "the key was created anew", store_change(4, create_revision=4)),
    ("resignation", "it did not delete it then", op_change("resign", "ok", revision=7)),
    ("resignation", "it deleted it later", op_change("resign", "ok", revision=5, extra={"deleted": False})),
    ("resignation", "the key stays", store_change(6, key="election/e0/z")),
    ("refusal", "the key was there", op_change("write", "fail", revision=9)),
    ("phantom value", "nobody's value", store_change(3, value="nobody's")),
    ("failed value", "of a campaign that failed", store_change(4, value="v5")),
    ("failed value", "of a write that is said to have failed", op_change("write", "ok", 0, type="fail")),
    ("repeated value", "once more", store_change(8, value="v1")),
    ("lost value", "at another revision", op_change("proclaim", "ok", revision=6)),
    ("lost value", "nowhere", store_change(3, value="v0")),
    ("order", "an answer from the past", op_change("leader", "ok", 1, revision=8)),
    ("order", "a write in the past", op_change("write", "ok", 1, revision=7)),
    ("invented leader", "a key that never was", event_change(0, ["election/e0/f", "v0", 2, 2])),
    ("invented leader", "a value it never had", event_change(1, [OLD, "v1", 2, 4])),
    ("invented leader", "of another election", op_change("observe", "invoke", 0, key="e1")),
    ("never led", "it waits", event_change(4, [WAITING, "v12", 15, 15])),
    ("observation went back", "to an older value", event_change(1, [OLD, "v0", 2, 1])),
    ("deposed leader observed", "after its successor", event_change(3, [OLD, "v2", 2, 4])),
    ("stale observation", "deposed before it began", event_change(4, [OLD, "v2", 2, 4])),
    ("stale observation", "an older value of the last leader", event_change(4, [NEW, "v3", 5, 5])),
    ("leader read", "nobody led then", op_change("leader", "ok", 1, value=[NEW, "v3", 5, 5])),
    ("leader read", "somebody led then", op_change("leader", "ok", 0, value=None)),
    ("leader read", "somebody led all the time", op_change("leader", "ok", 0, value=None, revision=None)),
    ("leader read", "an older value", op_change("leader", "ok", 0, value=[OLD, "v0", 2, 2])),
    ("succession", "an older leader at a later revision", op_change("leader", "ok", 1, value=[OLD, "v2", 2, 4])),
    ("liveness", "nobody wins at the end", op_change("campaign", "ok", 3, type="info", error="deadline: no turn")),
]


def damaged(damage: Damage) -> Recording:
    world = tale()
    records, history = list(world.records), dict(world.told)
    damage(records, history)
    return recording_of(records, history)


def test_the_tale_is_valid() -> None:
    result = check(tale().recording())
    assert (result.verdict, result.reason, result.anomalies) == (Verdict.VALID, None, ())
    assert result.stats["leadership_changes"] == 3
    assert result.stats["campaigns_won"] == 4
    assert result.stats["not_judged"] == 0


def test_the_table_of_reigns_tells_who_led_by_revision() -> None:
    table = check(tale().recording()).evidence["reigns"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert [(row["first"], row["end"], row["key"], row["created"], row["deleted"]) for row in rows] == [
        (2, 6, OLD, 2, 6),
        (6, 10, NEW, 5, 10),
        (11, 13, LATE, 11, 13),
        (14, None, LAST, 14, None),
    ]
    assert [(row["process"], row["api"], row["value"], row["lease"]) for row in rows] == [
        (0, "client", "v0", "a"),
        (1, "client", "v3", "b"),
        (4, "client", "v9", "c"),
        (5, "client", "v11", "d"),
    ]


@pytest.mark.parametrize(("name", "why", "damage"), PLANTED, ids=[f"{name}: {why}" for name, why, _ in PLANTED])
def test_one_field_of_one_record_breaks_the_rule_by_name(name: str, why: str, damage: Damage) -> None:
    """Named, told in words, and shown by operations of the history (but for what no operation did)."""
    result = check(damaged(damage))
    found = [anomaly for anomaly in result.anomalies if anomaly.name == f"election: {name}"]
    assert result.verdict is Verdict.INVALID
    assert result.reason == result.anomalies[0].story
    assert found, [anomaly.name for anomaly in result.anomalies]
    for anomaly in found:
        assert len(anomaly.story) > 40
        assert len(anomaly.ops) <= 4
        assert bool(anomaly.ops) == (name != "phantom value")


def test_two_leaders_are_told_with_both_campaigns() -> None:
    """The smallest set of operations: the campaign of the one who was there, and that of the one who won."""
    result = check(damaged(op_change("campaign", "ok", 1, revision=5)))
    (anomaly,) = [anomaly for anomaly in result.anomalies if anomaly.name == "election: no predecessor"]
    assert [(op.process, op.type, op.value) for op in anomaly.ops] == [
        (0, "invoke", "v0"), (0, "ok", "v0"), (1, "invoke", "v3"), (1, "ok", "v3"),
    ]  # fmt: skip
    assert anomaly.details["predecessor"] == OLD
    assert anomaly.details["predecessor_deleted"] == 6


def test_a_win_by_the_service_is_judged_up_to_what_was_answered_next() -> None:
    """Its header is that of its put; the older key must be gone by the next answer of an operation invoked later."""
    by_server = op_change("campaign", "ok", 1, revision=5, extra={"api": "server"})
    assert check(damaged(by_server)).verdict is Verdict.VALID

    def and_deleted_late(records: list[Op], history: Told) -> None:
        by_server(records, history)
        store_change(6, mod_revision=9)(records, history)

    assert "election: no predecessor" in {a.name for a in check(damaged(and_deleted_late)).anomalies}


def test_a_win_whose_own_key_is_gone_already_is_counted_and_not_judged() -> None:
    """Campaign does not look at its own key again (SOUNDNESS 15)."""

    def lease_ends_at_once(records: list[Op], history: Told) -> None:
        store_change(10, mod_revision=7)(records, history)
        del records[place_of(records, "write", "ok", 1) - 1 :]

    result = check(damaged(lease_ends_at_once))
    assert "election: no predecessor" not in result.stats
    assert result.stats["won_after_deletion"] == 1


# What cannot be judged


def test_without_an_archive_there_is_no_truth() -> None:
    recording = remade(tale().recording(), archive=None)
    assert check(recording).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("hole", range(2, 16))
def test_a_hole_in_the_archive_is_never_an_alarm(hole: int) -> None:
    world = tale()
    history = {revision: events for revision, events in world.told.items() if revision != hole}
    result = check(recording_of(world.records, history, newest=15))
    assert result.verdict is Verdict.UNKNOWN
    assert result.stats["known_revision"] == hole - 1
    assert str(hole) in (result.reason or "")


@pytest.mark.parametrize("revision", range(2, 16))
def test_a_disagreement_of_the_members_is_not_ours_to_judge(revision: int) -> None:
    world = tale()
    other = Disagreement(revision, "n2", (), "n1", world.told[revision])
    archive = Archive(world.told, {"n1": (Span(1, 15, 0),)}, (other,))
    assert check(remade(world.recording(), archive=archive)).verdict is Verdict.UNKNOWN


def test_an_archive_that_may_have_missed_the_end_is_doubted() -> None:
    world = tale()
    assert check(recording_of(world.records, world.told, is_ended=False)).verdict is Verdict.UNKNOWN


def test_what_a_hole_does_not_touch_is_judged_still() -> None:
    """Before it everything; beyond it what needs no truth."""
    world = tale()
    records, history = list(world.records), dict(world.told)
    del history[12]
    op_change("leader", "ok", 0, value=None)(records, history)
    assert [a.name for a in check(recording_of(records, history)).anomalies] == ["election: leader read"]
    records, history = list(world.records), dict(world.told)
    del history[2]
    op_change("leader", "ok", 1, value=[OLD, "v2", 2, 4])(records, history)
    assert [a.name for a in check(recording_of(records, history)).anomalies] == ["election: succession"]


def test_a_harness_that_stalled_cannot_tell_of_liveness() -> None:
    damage = op_change("campaign", "ok", 3, type="info", error="deadline: no turn")
    stalled = ClusterSample(time_ns=10**12, members={}, loop_lag_ms=500.0)
    result = check(remade(damaged(damage), samples=(stalled,)))
    assert result.verdict is Verdict.UNKNOWN
    assert "stalled" in (result.reason or "")


def test_a_run_that_was_interrupted_at_its_end_says_nothing_of_liveness() -> None:
    damage = op_change("campaign", "ok", 3, type="info", error="stopped: the run was interrupted")
    assert check(damaged(damage)).verdict is Verdict.VALID


# Measured


def test_beliefs_end_by_our_clock_or_when_one_is_told_and_their_overlap_is_measured() -> None:
    """Process 4 believes from its win; process 8 wins before 4 is refused; 4's clock had told it long before."""
    world = World(0)
    op, first = campaign(world, 4, "v0", OLD, 10)
    world.complete(op, "ok", revision=2, extra=first)
    world.expire(10)
    op, second = campaign(world, 8, "v1", NEW, 11)
    world.complete(op, "ok", revision=4, extra=second)
    late = world.invoke(4, "write", "e0", "v2")
    world.complete(late, "fail", error=DEPOSED, revision=4, extra=first | {"lost_s": 0.003})
    stats = check(world.recording()).stats
    assert stats["overlapping_beliefs"] == {"count": 1, "longest_s": 0.002, "total_s": 0.002}
    assert stats["overlapping_watchful_beliefs"]["count"] == 0


def test_in_a_run_of_several_workloads_it_sees_its_own() -> None:
    """Other workloads' operations and keys are none of its business, and indexes are no places then."""
    world = tale()
    records = []
    for op in world.records:
        records.append(replace(op, index=3 * op.index, workload="election"))
        records.append(Op(3 * op.index + 1, op.time_ns, 90, "invoke", "get", "k", ["range", "k"], workload="kv"))
        records.append(Op(3 * op.index + 2, op.time_ns, 90, "ok", "get", "k", [], revision=1, workload="kv"))
        if op.type == "event":
            records[-3] = replace(records[-3], of=3 * (op.of or 0))
    recording = recording_of(records, world.told)
    result = ProjectedChecker("election", ElectionChecker()).check(recording, Budget())
    assert (result.checker, result.verdict, result.reason) == ("election/election", Verdict.VALID, None)
    place = place_of(records, "campaign", "ok", 1)
    records[place] = replace(records[place], revision=5)
    broken = ProjectedChecker("election", ElectionChecker()).check(
        remade(recording, history=History(records)), Budget()
    )
    assert "election: no predecessor" in {anomaly.name for anomaly in broken.anomalies}
