"""The lock checker on a run recorded from a real etcd 3.5.30 under kills, pauses and partitions: valid, and spoilt."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from splitvote.checkers.lock import LockChecker
from splitvote.harness.archive import Archive, StoreEvent
from splitvote.harness.history import History
from splitvote.harness.op import Op, Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict, run_checker
from splitvote.harness.store import load_recording
from tests.checkers.lock.system import recording

RECORDED = Path(__file__).with_name("recorded") / "lock"


@functools.cache
def recorded() -> Recording:
    return load_recording(RECORDED)


def judged(made: Recording) -> Result:
    return run_checker(LockChecker(), made, Budget())


def names(result: Result) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


@dataclass
class Draft:
    """The recording under change: its records by index and its events by revision."""

    records: list[Op]
    told: dict[int, tuple[StoreEvent, ...]]

    def change(self, op: Op | None, **fields: Any) -> None:
        assert op is not None
        self.records[op.index] = msgspec.structs.replace(op, **fields)

    def change_event(self, revision: int | None, **fields: Any) -> None:
        assert revision is not None
        (event,) = self.told[revision]
        self.told[revision] = (msgspec.structs.replace(event, **fields),)


def spoilt(change: Callable[[Draft], None]) -> Recording:
    made = recorded()
    assert made.archive is not None
    draft = Draft(list(made.history), dict(made.archive.told))
    change(draft)
    return replace(made, history=History(draft.records), archive=Archive(draft.told, made.archive.spans))


def completion(operation: Operation) -> Op:
    assert operation.completion is not None
    return operation.completion


def grants(api: str = "client") -> list[Op]:
    """Acquires that waited and were granted, in the order of their answers' revisions."""
    return sorted(
        (
            completion(operation)
            for operation in recorded().history.operations
            if operation.f == "acquire" and operation.type == "ok" and operation.invoke.value["api"] == api
        ),
        key=lambda op: op.revision or 0,
    )


def created_at(key: str, by: int | None) -> int:
    """The revision at which a key was last created."""
    assert recorded().archive is not None
    events = recorded().archive.events(key)  # type: ignore[union-attr]
    return max(event.mod_revision for event in events if event.type == "put" and event.mod_revision <= (by or 0))


def a_grant_after_waiting() -> tuple[Op, Op]:
    """A grant that had to wait for another's release, and that release (both by the client recipe)."""
    releases = {op.revision: op for op in recorded().history if op.f == "release" and op.type == "ok" and op.revision}
    for grant in grants():
        created, answered = created_at(grant.value, grant.revision), grant.revision or 0
        for revision in range(created + 1, answered + 1):
            release = releases.get(revision)
            if release is not None and release.key == grant.key and (release.extra or {}).get("deleted"):
                return grant, release
    raise AssertionError("the recording has no such grant")


def test_a_real_run_is_valid_and_its_beliefs_overlap() -> None:
    """Leases were lost under the faults, so that two believed at once to hold a lock: measured, not judged."""
    result = judged(recorded())
    assert result.verdict is Verdict.VALID, result.reason
    assert result.stats["granted"]["client"] > 20
    assert result.stats["granted"]["server"] > 20
    assert result.stats["overlapping_beliefs"] == 1
    assert result.stats["longest_overlap_s"] > 1
    holders = result.evidence["holders"]
    rows = [dict(zip(holders["columns"], row, strict=True)) for row in holders["rows"]]
    assert len(rows) == holders["of"] == sum(result.stats["granted"].values())
    (late,) = [row for row in rows if row["overlap_s"]]
    early = next(
        row
        for row in rows
        if row["process"] == late["beside"]
        and row["believed_from_s"] < late["believed_from_s"] < row["believed_until_s"]
    )
    assert early["lock"] == late["lock"]
    assert early["ended"] <= late["granted"], "by revision they did not overlap"


def granted_too_early(draft: Draft) -> None:
    """Answered one revision before the holder's release."""
    grant, release = a_grant_after_waiting()
    assert release.revision is not None
    draft.change(grant, revision=release.revision - 1)


def never_released(draft: Draft) -> None:
    """The holder's key was not deleted, whatever the release says: of the events one field."""
    _, release = a_grant_after_waiting()
    draft.change_event(release.revision, key="lock/elsewhere/1")


def own_key_made_later(draft: Draft) -> None:
    grant = grants()[5]
    assert grant.extra is not None
    draft.change(grant, extra={"create_revision": grant.extra["create_revision"] + 1})


def own_key_never_there(draft: Draft) -> None:
    """Granted to the key of a session that nobody opened."""
    grant = grants("server")[5]
    (event,) = recorded().history.events[index_of_invoke(grant)]
    draft.change(event, value={"lease": 77})


def index_of_invoke(grant: Op) -> int:
    return next(o.invoke.index for o in recorded().history.operations if o.completion is grant)


def key_deleted_by_another(draft: Draft) -> None:
    """The release that deleted a key was of another session's; the key's own session queued with it again."""
    assert recorded().archive is not None
    creations: dict[str, list[int]] = {}
    for event in recorded().archive.events("lock/"):  # type: ignore[union-attr]
        if event.type == "put":
            creations.setdefault(event.key, []).append(event.mod_revision)
    given_up = {o.process for o in recorded().history.operations if o.f == "acquire" and o.type != "ok"}
    for operation in recorded().history.operations:
        if operation.f != "release" or operation.type != "ok" or operation.process in given_up:
            continue
        done, (event,) = completion(operation), recorded().history.events[operation.invoke.index]
        key = f"lock/{operation.key}/{event.value['lease']:x}"
        if done.revision is not None and any(revision > done.revision for revision in creations[key]):
            draft.change(event, value={"lease": 77})
            return
    raise AssertionError("the recording has no such release")


def key_of_nobody(draft: Draft) -> None:
    """A key that no session has queued with."""
    assert recorded().archive is not None
    event = next(iter(recorded().archive.events("lock/")))  # type: ignore[union-attr]
    draft.told[max(draft.told) + 1] = (
        msgspec.structs.replace(event, key="lock/k0/77", mod_revision=max(draft.told) + 1, lease=0x77),
    )


def put_over_its_key(draft: Draft) -> None:
    """The deletion of a key is one of another's: its session's next put meets it."""
    assert recorded().archive is not None
    seen: set[str] = set()
    last: dict[str, int] = {}
    for event in recorded().archive.events("lock/"):  # type: ignore[union-attr]
        if event.type == "put" and event.key in seen:
            draft.change_event(last[event.key], key="lock/elsewhere/1")
            return
        if event.type == "delete":
            seen.add(event.key)
            last[event.key] = event.mod_revision
    raise AssertionError("the recording has no session that took a lock twice")


def release_answered_too_early(draft: Draft) -> None:
    _, release = a_grant_after_waiting()
    assert release.revision is not None
    draft.change(release, revision=release.revision - 1)


def session_closed_too_early(draft: Draft) -> None:
    closed = [op for op in recorded().history if op.type == "ok" and "revoked_by" in (op.extra or {})]
    key_end = {event.mod_revision for event in recorded().archive.events("lock/") if event.type == "delete"}  # type: ignore[union-attr]
    op = next(op for op in closed if (op.extra or {})["revoked_by"] in key_end)
    assert op.extra is not None
    draft.change(op, extra={"revoked_by": op.extra["revoked_by"] - 1})


def answer_of_the_past(draft: Draft) -> None:
    """A grant at the revision of its key, though a later one had been answered before it was asked for."""
    last = grants("server")[-1]
    draft.change(last, revision=(last.revision or 0) - 5)


def answer_beyond_the_end(draft: Draft) -> None:
    draft.change(grants()[-1], revision=max(draft.told) + 1)


def stuck_at_the_end(draft: Draft) -> None:
    last = next(o for o in reversed(recorded().history.operations) if (o.invoke.extra or {}).get("last"))
    draft.change(last.completion, type="fail", error="not-in-time: its turn did not come in time", revision=None)


PLANTED = [
    (granted_too_early, "lock: mutual exclusion"),
    (never_released, "lock: mutual exclusion"),
    (never_released, "lock: release"),
    (own_key_made_later, "lock: own key"),
    (own_key_never_there, "lock: own key"),
    (key_deleted_by_another, "lock: release by another"),
    (key_of_nobody, "lock: phantom key"),
    (put_over_its_key, "lock: guarded put"),
    (release_answered_too_early, "lock: release"),
    (session_closed_too_early, "lock: release"),
    (answer_of_the_past, "lock: order"),
    (answer_beyond_the_end, "lock: lost key"),
    (stuck_at_the_end, "lock: stuck"),
]


@pytest.mark.parametrize(("change", "name"), PLANTED, ids=lambda value: getattr(value, "__name__", value))
def test_one_changed_field_is_found_by_name(change: Callable[[Draft], None], name: str) -> None:
    result = judged(spoilt(change))
    assert result.verdict is Verdict.INVALID
    assert name in names(result), sorted(names(result))
    anomaly = next(anomaly for anomaly in result.anomalies if anomaly.name == name)
    assert anomaly.story
    indices = [op.index for op in anomaly.ops]
    assert indices == sorted(indices)


# By hand


class Story:
    """A small history told step by step; every put and delete is a revision."""

    def __init__(self) -> None:
        self.records: list[Op] = []
        self.told: dict[int, tuple[StoreEvent, ...]] = {1: ()}

    def put(self, lock: str, lease: int) -> int:
        revision = len(self.told) + 1
        self.told[revision] = (StoreEvent("put", f"lock/{lock}/{lease:x}", revision, "", revision, 1, lease),)
        return revision

    def delete(self, lock: str, *leases: int) -> int:
        revision = len(self.told) + 1
        self.told[revision] = tuple(StoreEvent("delete", f"lock/{lock}/{lease:x}", revision) for lease in leases)
        return revision

    def note(self, op: Op) -> Op:
        op = msgspec.structs.replace(op, index=len(self.records), time_ns=len(self.records) * 10)
        self.records.append(op)
        return op

    def ask(
        self, process: int, lock: str, lease: int, *, f: str = "acquire", value: Any = None, api: str = "server"
    ) -> Op:
        invoke = self.note(Op(process=process, f=f, key=lock, value=value or {"api": api}, type="invoke"))
        self.note(invoke.completed("event", value={"lease": lease}, of=invoke.index))
        return invoke

    def answer(self, invoke: Op, type_: Any = "ok", **changes: Any) -> None:
        self.note(invoke.completed(type_, **changes))

    def judged(self) -> Result:
        return judged(recording(self.records, self.told))


def two_in_a_queue(first_answered: bool) -> Story:
    """Both queue; the second is granted while the first's key lives."""
    story = Story()
    one, other = story.ask(0, "a", 1), story.ask(1, "a", 2)
    story.put("a", 1)
    second = story.put("a", 2)
    if first_answered:
        story.answer(one, revision=second)
    story.answer(other, revision=second)
    return story


def test_two_that_were_granted_exclude_each_other() -> None:
    result = two_in_a_queue(first_answered=True).judged()
    assert names(result) == {"lock: mutual exclusion"}
    assert "both held the lock at revision 3" in (result.reason or "")


def test_who_overtakes_a_waiter_had_no_turn() -> None:
    result = two_in_a_queue(first_answered=False).judged()
    assert names(result) == {"lock: no predecessor"}


def test_a_grant_at_the_very_revision_of_the_older_keys_end_is_right() -> None:
    story = two_in_a_queue(first_answered=True)
    gone = story.delete("a", 1)
    last = story.records[-1]
    story.records[-1] = msgspec.structs.replace(last, revision=gone)
    assert story.judged().verdict is Verdict.VALID


def test_a_win_of_the_server_with_a_key_that_is_gone_is_counted_only() -> None:
    """The Lock of etcd 3.4 does not look again after waiting."""
    story = Story()
    one, other = story.ask(0, "a", 1), story.ask(1, "a", 2)
    story.answer(one, revision=story.put("a", 1))
    story.put("a", 2)
    story.delete("a", 2)
    story.answer(other, revision=story.delete("a", 1))
    result = story.judged()
    assert result.verdict is Verdict.VALID, result.reason
    assert result.stats["won_with_a_dead_key"] == 1


def test_a_given_up_acquire_may_delete_its_key_once_and_only_once() -> None:
    """The server tidies up after a Lock that timed out, also when the session queues again meanwhile."""
    story = Story()
    gave_up = story.ask(0, "a", 1)
    story.put("a", 1)
    story.answer(gave_up, "fail", error="not-in-time: waited")
    story.delete("a", 1)
    again = story.ask(0, "a", 1)
    story.answer(again, revision=story.put("a", 1))
    story.delete("a", 1)
    third = story.ask(0, "a", 1)
    story.answer(third, revision=story.put("a", 1))
    result = story.judged()
    assert names(result) == {"lock: release by another"}


def test_all_keys_of_a_lease_that_ends_go_at_once_and_nobody_is_to_blame() -> None:
    story = Story()
    for lock in ("a", "b"):
        story.answer(story.ask(0, lock, 1), revision=story.put(lock, 1))
    revision = story.delete("a", 1)
    story.told[revision] += (StoreEvent("delete", "lock/b/1", revision),)
    assert story.judged().verdict is Verdict.VALID
    story.told[revision] = story.told[revision][:1]
    assert names(story.judged()) == {"lock: release by another"}, "the key of b outlives that of a"


def test_without_an_archive_or_with_holes_nobody_knows() -> None:
    made = recorded()
    assert judged(replace(made, archive=None)).verdict is Verdict.UNKNOWN
    assert made.archive is not None
    told = {revision: events for revision, events in made.archive.told.items() if revision != 40}
    result = judged(replace(made, archive=Archive(told, made.archive.spans)))
    assert result.verdict is Verdict.UNKNOWN
    assert "revision 40" in (result.reason or "")
    assert result.stats["not_judged"] > 20
