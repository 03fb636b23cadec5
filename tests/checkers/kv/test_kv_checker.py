"""The kv and store history checkers on a run recorded from a real etcd 3.5.30: valid, and with one field changed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from splitvote.checkers.kv import KvChecker
from splitvote.checkers.store_history import StoreHistoryChecker
from splitvote.harness.archive import Archive, Disagreement, StoreEvent
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import ClusterSample, FaultRecord, Recording
from splitvote.harness.result import Budget, Result, Verdict, run_checker
from splitvote.harness.store import load_recording

RECORDED = Path(__file__).with_name("recorded")
Found = Callable[[Op, Op], bool]


@functools.cache
def recorded() -> Recording:
    return load_recording(RECORDED)


def judged(recording: Recording) -> Result:
    return run_checker(KvChecker(), recording, Budget())


def names(result: Result) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


@dataclass
class Draft:
    """A recording under change: its records by index and its events by revision."""

    records: list[Op]
    told: dict[int, tuple[StoreEvent, ...]]

    def find(self, suits: Found, *, last: bool = False) -> Op:
        """The first (or last) ok completion that suits, with its invocation."""
        invokes: dict[int, Op] = {}
        found = []
        for op in self.records:
            if op.type == "invoke":
                invokes[op.process] = op
            elif op.type == "ok" and suits(invokes[op.process], op):
                found.append(op)
        return found[-1 if last else 0]

    def change(self, op: Op, **fields: Any) -> None:
        self.records[op.index] = msgspec.structs.replace(op, **fields)

    def change_event(self, revision: int, place: int = 0, **fields: Any) -> None:
        events = list(self.told[revision])
        events[place] = msgspec.structs.replace(events[place], **fields)
        self.told[revision] = tuple(events)


def is_put(invoke: Op, op: Op) -> bool:
    return invoke.f == "put" and not invoke.value[3] and op.revision is not None and op.revision > 20


def is_read(invoke: Op, op: Op, *, stale: bool = False) -> bool:
    return invoke.f == "get" and not invoke.value[2] and invoke.value[3] is stale and bool(op.value)


def is_stale_read(invoke: Op, op: Op) -> bool:
    return is_read(invoke, op, stale=True)


def planted(mutate: Callable[[Draft], None]) -> Recording:
    recording = recorded()
    assert recording.archive is not None
    draft = Draft(list(recording.history), dict(recording.archive.told))
    mutate(draft)
    archive = Archive(draft.told, recording.archive.spans, recording.archive.disagreements)
    return replace(recording, history=History(draft.records), archive=archive)


def test_a_recorded_run_is_valid_and_was_judged_whole() -> None:
    result = judged(recorded())
    assert result.verdict is Verdict.VALID, result.reason
    assert result.stats["operations"] > 300
    assert result.stats["writes"] > 100
    assert result.stats["not_judged"] == 0
    assert StoreHistoryChecker(["kv/"]).check(recorded(), Budget()).verdict is Verdict.VALID


# Each plant changes one field of one record.


def read_answers_a_version_more(draft: Draft) -> None:
    op = draft.find(is_read)
    draft.change(op, value=[[*op.value[0][:4], op.value[0][4] + 1, 0]])


def stale_read_answers_another_create_revision(draft: Draft) -> None:
    op = draft.find(is_stale_read)
    draft.change(op, value=[[*op.value[0][:2], op.value[0][2] - 1, *op.value[0][3:]]])


def read_loses_the_key(draft: Draft) -> None:
    draft.change(draft.find(is_read), value=[])


def txn_answers_another_branch(draft: Draft) -> None:
    op = draft.find(lambda invoke, op: invoke.f == "cas" and op.value[0])
    draft.change(op, value=[False, op.value[1]])


def put_was_acknowledged_a_revision_late(draft: Draft) -> None:
    op = draft.find(is_put)
    assert op.revision is not None
    draft.change(op, revision=op.revision + 1)


def put_of_another_value(draft: Draft) -> None:
    op = draft.find(is_put)
    invoke = next(each for each in reversed(draft.records[: op.index]) if each.process == op.process)
    draft.change(invoke, value=["put", invoke.value[1], "another", 0])


def put_is_not_in_the_store(draft: Draft) -> None:
    revision = draft.find(is_put).revision
    assert revision is not None
    draft.change_event(revision, key="other/key")


def put_failed(draft: Draft) -> None:
    draft.change(draft.find(is_put), type="fail", error="too-many-requests: etcdserver: too many requests")


def delete_was_acknowledged_by_nobody(draft: Draft) -> None:
    draft.change(draft.find(lambda invoke, op: invoke.f == "delete" and op.value == 1), type="fail")


def two_writes_share_a_revision(draft: Draft) -> None:
    first = draft.find(is_put)
    assert first.revision is not None
    second = draft.find(lambda invoke, op: is_put(invoke, op) and op.revision != first.revision)
    draft.change(second, revision=first.revision)


def write_is_in_the_store_twice(draft: Draft) -> None:
    op = draft.find(is_put)
    again = draft.find(is_put, last=True)
    assert op.revision is not None
    assert again.revision is not None
    draft.change_event(again.revision, value=draft.told[op.revision][0].value)


def store_holds_another_version(draft: Draft) -> None:
    op = draft.find(is_put, last=True)
    assert op.revision is not None
    draft.change_event(op.revision, version=draft.told[op.revision][0].version + 1)


def read_goes_back_in_time(draft: Draft) -> None:
    op = draft.find(lambda invoke, op: is_read(invoke, op) and op.value[0][3] > 30, last=True)
    draft.change(op, revision=op.value[0][3] - 1, value=_value_before(draft, op))


def _value_before(draft: Draft, op: Op) -> list[Any]:
    """What the key's read would have answered a revision before its last change."""
    key, mod = op.value[0][0], op.value[0][3]
    before = [event for revision in sorted(draft.told) for event in draft.told[revision] if revision < mod]
    last = next((event for event in reversed(before) if event.key == f"kv/{key}"), None)
    if last is None or last.type == "delete":
        return []
    return [[key, last.value, last.create_revision, last.mod_revision, last.version, last.lease]]


def stale_read_goes_back_on_its_member(draft: Draft) -> None:
    op = draft.find(lambda invoke, op: is_stale_read(invoke, op) and op.value[0][3] > 30, last=True)
    draft.change(op, revision=op.value[0][3] - 1, value=_value_before(draft, op))


def put_took_place_before_it_was_asked_for(draft: Draft) -> None:
    """A later put and an earlier one change places: each answer is right, the order is not."""
    first = draft.find(is_put)
    last = draft.find(is_put, last=True)
    assert first.revision is not None
    assert last.revision is not None
    for op, revision in ((first, last.revision), (last, first.revision)):
        invoke = next(each for each in reversed(draft.records[: op.index]) if each.process == op.process)
        event = draft.told[revision][0]
        draft.change(invoke, value=["put", event.key.removeprefix("kv/"), event.value, 0])
        draft.change(op, revision=revision)


def read_of_the_future(draft: Draft) -> None:
    op = draft.find(lambda invoke, op: invoke.f == "get" and invoke.value[2] > 0)
    invoke = next(each for each in reversed(draft.records[: op.index]) if each.process == op.process)
    assert op.revision is not None
    draft.change(invoke, value=["range", invoke.value[1], op.revision + 1, invoke.value[3]])


def answer_has_no_revision(draft: Draft) -> None:
    draft.change(draft.find(is_read), revision=None)


def read_was_refused_before_any_compaction(draft: Draft) -> None:
    first = next(op for op in draft.records if op.f == "compact")
    op = draft.find(lambda invoke, op: invoke.f in ("get", "range") and invoke.value[2] > 1 and op.index < first.index)
    draft.change(op, type="fail", error="compacted: etcdserver: mvcc: required revision has been compacted", value=None)


def compaction_did_nothing(draft: Draft) -> None:
    """A past read that was served is as of a revision that had been compacted before."""
    compacted = draft.find(lambda invoke, op: invoke.f == "compact")
    op = draft.find(
        lambda invoke, op: (
            invoke.index > compacted.index and invoke.f == "get" and invoke.value[2] > 0 and not invoke.value[3]
        )
    )
    asked = next(each for each in reversed(draft.records[: compacted.index]) if each.process == compacted.process)
    read = next(each for each in reversed(draft.records[: op.index]) if each.process == op.process)
    draft.change(asked, value=["compact", read.value[2] + 1])


PLANTS = {
    "kv: linearizable read": [read_answers_a_version_more, read_loses_the_key],
    "kv: serializable read": [stale_read_answers_another_create_revision],
    "kv: transaction answer": [txn_answers_another_branch],
    "kv: write at another revision": [put_was_acknowledged_a_revision_late],
    "kv: lost write": [put_is_not_in_the_store],
    "kv: failed write": [put_failed],
    "kv: phantom": [delete_was_acknowledged_by_nobody],
    "kv: two writes at one revision": [two_writes_share_a_revision],
    "kv: repeated write": [write_is_in_the_store_twice],
    "kv: effect": [store_holds_another_version, put_of_another_value],
    "kv: stale read": [read_goes_back_in_time],
    "kv: member went back": [stale_read_goes_back_on_its_member],
    "kv: write order": [put_took_place_before_it_was_asked_for],
    "kv: future read": [read_of_the_future],
    "kv: answer": [answer_has_no_revision],
    "kv: compacted too early": [read_was_refused_before_any_compaction],
    "kv: read of the compacted": [compaction_did_nothing],
}


@pytest.mark.parametrize(
    ("name", "mutate"),
    [pytest.param(name, mutate, id=mutate.__name__) for name, each in PLANTS.items() for mutate in each],
)
def test_a_planted_violation_is_caught_by_its_name(name: str, mutate: Callable[[Draft], None]) -> None:
    result = judged(planted(mutate))
    assert result.verdict is Verdict.INVALID
    assert name in names(result)


def test_without_an_archive_nothing_is_decided() -> None:
    result = judged(replace(recorded(), archive=None))
    assert result.verdict is Verdict.UNKNOWN
    assert "archive" in (result.reason or "")


def test_an_archive_with_a_hole_is_judged_up_to_it() -> None:
    def forget(draft: Draft) -> None:
        del draft.told[60]

    result = judged(planted(forget))
    assert result.verdict is Verdict.UNKNOWN
    assert result.stats["known_revision"] == 59
    assert result.stats["not_judged"] > 0


def test_a_violation_before_the_hole_is_still_one() -> None:
    def forget_and_lie(draft: Draft) -> None:
        read_answers_a_version_more(draft)
        del draft.told[max(draft.told) - 1]

    assert judged(planted(forget_and_lie)).verdict is Verdict.INVALID


def test_an_unknown_put_may_have_happened_or_not() -> None:
    """Whether or not the store has it: an answer that was lost is no violation."""

    def lose_answer(draft: Draft) -> None:
        op = draft.find(is_put)
        draft.change(op, type="info", error="deadline", revision=None)
        for later in draft.records[op.index + 1 :]:
            if later.process == op.process:
                draft.change(later, process=later.process + 1000)

    assert judged(planted(lose_answer)).verdict is Verdict.VALID


def test_a_restart_may_take_a_member_back() -> None:
    """The same read that is a violation while the member lives is none when its process was killed in between."""

    def killed(recording: Recording) -> Recording:
        read = next(a for a in judged(recording).anomalies if a.name == "kv: member went back").ops[-1]
        fault = FaultRecord(1, "kill", "kill", "active", read.time_ns - 1, targets=(str(read.node),))
        return replace(recording, faults=(fault,))

    assert "kv: member went back" not in names(judged(killed(planted(stale_read_goes_back_on_its_member))))


@pytest.mark.parametrize("is_over", [False, True])
def test_a_member_that_is_replaced_may_go_back_until_that_is_done(*, is_over: bool) -> None:
    """It begins a new life somewhere between the records of the fault's beginning, and at no time after them."""
    recording = planted(stale_read_goes_back_on_its_member)
    floor, read = next(a for a in judged(recording).anomalies if a.name == "kv: member went back").ops[-2:]
    started_ns, done_ns = (0, 1) if is_over else (0, read.time_ns + 1)
    assert floor.time_ns > 1
    faults = tuple(
        FaultRecord(1, "member", "replace", phase, time_ns, targets=(str(read.node),))
        for phase, time_ns in (("starting", started_ns), ("active", done_ns))
    )
    assert ("kv: member went back" in names(judged(replace(recording, faults=faults)))) is is_over


# The store's own history.


def store_judged(recording: Recording) -> set[str]:
    return names(StoreHistoryChecker(["kv/"]).check(recording, Budget()))


def _last_put(draft: Draft) -> int:
    revision = draft.find(is_put, last=True).revision
    assert revision is not None
    return revision


STORE_PLANTS: dict[str, Callable[[Draft], None]] = {
    "store history: version": lambda draft: draft.change_event(_last_put(draft), version=77),
    "store history: create revision": lambda draft: draft.change_event(_last_put(draft), create_revision=2),
    "store history: mod revision": lambda draft: draft.change_event(_last_put(draft), mod_revision=1),
    "store history: unknown key": lambda draft: draft.change_event(_last_put(draft), key="stranger/1"),
    "store history: empty revision": lambda draft: draft.told.update({_last_put(draft): ()}),
    "store history: delete of nothing": lambda draft: draft.change_event(
        _last_put(draft), type="delete", key="kv/none"
    ),
}


@pytest.mark.parametrize("name", STORE_PLANTS)
def test_a_planted_flaw_in_the_stores_history_is_caught_by_its_name(name: str) -> None:
    assert name in store_judged(planted(STORE_PLANTS[name]))


def test_a_member_that_tells_another_history_is_named() -> None:
    recording = recorded()
    assert recording.archive is not None
    theirs = (msgspec.structs.replace(recording.archive.told[40][0], value="another"),)
    split = Disagreement(40, "n2", theirs, "n1", recording.archive.told[40])
    told = replace(recording, archive=Archive(recording.archive.told, recording.archive.spans, (split,)))
    result = StoreHistoryChecker(["kv/"]).check(told, Budget())
    assert result.verdict is Verdict.INVALID
    assert result.anomalies[0].details["revision"] == 40
    assert "n2" in result.anomalies[0].story
    assert judged(told).verdict is Verdict.UNKNOWN  # from there on, nobody knows the truth


@pytest.mark.parametrize("what", ["revision", "applied_index"])
def test_a_member_whose_state_falls_while_it_lives_is_named(what: str) -> None:
    def falling(sample: ClusterSample) -> ClusterSample:
        member = msgspec.structs.replace(sample.members["n1"], **{what: 1})
        return msgspec.structs.replace(sample, members=sample.members | {"n1": member})

    recording = recorded()
    spoilt = replace(recording, samples=(*recording.samples[:-1], falling(recording.samples[-1])))
    assert any("went back" in name for name in store_judged(spoilt))
    fault = FaultRecord(1, "kill", "kill", "active", spoilt.samples[-2].time_ns, targets=("n1",))
    assert not any("went back" in name for name in store_judged(replace(spoilt, faults=(fault,))))


def shared(recording: Recording, base: int) -> Recording:
    """The recording as if the store was others', too, and had that many revisions before the run."""
    assert recording.archive is not None
    archive = recording.archive
    told = {revision: events for revision, events in archive.told.items() if revision > base}
    return replace(recording, archive=Archive(told, archive.spans, archive.disagreements, base))


def test_in_a_store_that_others_use_too_revisions_of_theirs_are_no_flaw() -> None:
    """An empty revision is somebody else's there; what is said of our own keys is judged as ever."""
    emptied = planted(STORE_PLANTS["store history: empty revision"])
    assert "store history: empty revision" not in store_judged(shared(emptied, 1))
    wrong = planted(STORE_PLANTS["store history: version"])
    assert "store history: version" in store_judged(shared(wrong, 1))
    stranger = planted(STORE_PLANTS["store history: delete of nothing"])
    assert "store history: delete of nothing" in store_judged(shared(stranger, 1))


def test_a_member_that_others_may_have_restarted_may_go_back() -> None:
    """Who shares a cluster does not tell us when it restarts a member."""
    back = planted(stale_read_goes_back_on_its_member)
    assert "kv: member went back" in names(judged(back))
    assert "kv: member went back" not in names(judged(shared(back, 1)))
