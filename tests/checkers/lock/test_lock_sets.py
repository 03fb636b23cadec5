"""Lock-guarded sets: a lost element is found, and the write that dropped it is named with what became of its lock.

The recordings are one set each of runs against a real etcd 3.5.30: a fenced one
under kills, pauses, partitions and compactions, an unfenced one under pauses
and partitions.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from splitvote.checkers.lock.sets import LockSetChecker
from splitvote.harness.archive import Archive, Span, StoreEvent
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict, run_checker
from splitvote.harness.store import load_recording

RECORDED = Path(__file__).with_name("recorded")


def judged(recording: Recording) -> Result:
    return run_checker(LockSetChecker(), recording, Budget())


def test_a_real_fenced_set_is_valid_and_its_fence_was_needed() -> None:
    result = judged(load_recording(RECORDED / "fenced"))
    assert result.verdict is Verdict.VALID, result.reason
    assert result.stats["refused_by_the_fence"] > 0
    assert result.stats["stable"] > 50


def test_one_element_less_in_one_read_of_a_real_set_is_found() -> None:
    made = load_recording(RECORDED / "fenced")
    records = list(made.history)
    place = next(p for p, op in enumerate(records) if op.f == "read" and op.type == "ok" and len(op.value) > 20)
    gone = records[place].value[9]
    records[place] = msgspec.structs.replace(records[place], value=[e for e in records[place].value if e != gone])
    result = judged(replace(made, history=History(records)))
    assert result.verdict is Verdict.INVALID
    assert [(a.name, a.details["element"]) for a in result.anomalies] == [("set: stale", gone)]


def test_a_real_unfenced_set_lost_elements_to_writers_whose_lock_was_gone() -> None:
    """It is the lost leases that did it: of the write that was lost and the one over it, one had lost its lock."""
    result = judged(load_recording(RECORDED / "unfenced"))
    assert result.verdict is Verdict.INVALID
    lost = [anomaly.details for anomaly in result.anomalies if anomaly.name == "set: lost"]
    assert len(lost) == 16
    assert all(details["lock_key_gone_at"] or details["its_lock_key_gone_at"] for details in lost)
    assert all(details["written_at"] < details["written_over_at"] for details in lost)


class Story:
    """A run told step by step, with the store's history beside it; ``is_archived`` where the sets are in etcd."""

    def __init__(self) -> None:
        self.records: list[Op] = []
        self.told: dict[int, tuple[StoreEvent, ...]] = {1: ()}
        self.sets: dict[int, list[int]] = {}

    def note(self, op: Op) -> Op:
        op = msgspec.structs.replace(op, index=len(self.records), time_ns=len(self.records) * 10)
        self.records.append(op)
        return op

    def change(self, event: StoreEvent) -> int:
        revision = len(self.told) + 1
        self.told[revision] = (msgspec.structs.replace(event, mod_revision=revision),)
        return revision

    def locked(self, process: int, key: int, element: int) -> tuple[Op, list[int]]:
        """An add that has its lock, and has read the set."""
        invoke = self.note(Op(process=process, f="add", key=key, value=element, type="invoke"))
        self.note(invoke.completed("event", value={"lease": process}, of=invoke.index))
        self.change(StoreEvent("put", f"lock-set/lock/{key}/{process:x}", 0, "", len(self.told) + 1, 1, process))
        return invoke, list(self.sets.get(key, []))

    def unlocked(self, process: int, key: int) -> int:
        return self.change(StoreEvent("delete", f"lock-set/lock/{key}/{process:x}", 0))

    def write(self, add: Op, seen: list[int], type_: Any = "ok") -> int:
        self.sets[add.key] = [*seen, add.value]
        value = msgspec.json.encode(self.sets[add.key]).decode()
        revision = self.change(StoreEvent("put", f"lock-set/set/{add.key}", 0, value))
        self.note(add.completed(type_))
        return revision

    def add(self, process: int, key: int, element: int) -> None:
        add, seen = self.locked(process, key, element)
        self.write(add, seen)
        self.unlocked(process, key)

    def read(self, key: int, value: list[int] | None = None) -> None:
        invoke = self.note(Op(process=9, f="read", key=key, type="invoke"))
        self.note(invoke.completed("ok", value=self.sets.get(key, []) if value is None else value))

    def judged(self, *, is_archived: bool = True) -> Result:
        archive = Archive(self.told, {"n1": (Span(1, len(self.told), 0),)}) if is_archived else None
        return judged(Recording(History(self.records), archive=archive))


def healthy() -> Story:
    story = Story()
    for key in (0, 1):
        for element in range(3):
            story.add(1 + element, key, 10 * key + element)
        story.read(key)
    return story


def overwritten() -> tuple[Story, int, int]:
    """Process 1 loses its lock while it thinks; process 2 adds; process 1 writes what it had read."""
    story = Story()
    story.add(3, 0, 5)
    late, seen = story.locked(1, 0, 6)
    gone = story.unlocked(1, 0)
    story.add(2, 0, 7)
    revision = story.write(late, seen)
    story.read(0)
    return story, gone, revision


def test_sets_that_kept_everything_are_valid() -> None:
    result = healthy().judged()
    assert result.verdict is Verdict.VALID, result.reason
    assert result.stats["sets"] == 2
    assert result.stats["stable"] == result.stats["adds"] == 6


def test_a_lost_element_is_told_with_the_write_that_dropped_it_and_its_lost_lock() -> None:
    story, gone, revision = overwritten()
    result = story.judged()
    assert result.verdict is Verdict.INVALID
    (anomaly,) = result.anomalies
    assert (anomaly.name, anomaly.key) == ("set: lost", 0)
    assert anomaly.details == {
        "element": 7, "written_at": revision - 2, "lock_key_gone_at": None,
        "written_over_at": revision, "written_over_by": 6, "its_lock_key_gone_at": gone,
    }  # fmt: skip
    assert anomaly.story.endswith(
        f"It was written at revision {revision - 2} by process 2's add of 7, and written over at revision {revision} "
        f"by process 1's add of 6, whose lock key had been deleted at revision {gone}."
    )
    assert [op.process for op in anomaly.ops] == [1, 2, 2, 1, 9, 9]
    assert (result.reason or "").startswith("1 set broken (0); set 0: 1 element lost: 7")


def test_without_an_archive_the_element_is_lost_all_the_same() -> None:
    """In memory there is no store to tell who wrote over it."""
    result = overwritten()[0].judged(is_archived=False)
    assert result.verdict is Verdict.INVALID
    assert result.anomalies[0].details == {"element": 7}


def test_an_element_that_was_written_without_the_lock_is_told_so_itself() -> None:
    """The holder, which wrote over it, had read the set before and did nothing wrong."""
    story = Story()
    late, seen = story.locked(1, 0, 6)
    gone = story.unlocked(1, 0)
    holder, also_seen = story.locked(2, 0, 7)
    story.write(late, seen)
    story.write(holder, also_seen)
    story.read(0)
    (anomaly,) = story.judged().anomalies
    assert anomaly.details["element"] == 6
    assert (anomaly.details["lock_key_gone_at"], anomaly.details["its_lock_key_gone_at"]) == (gone, None)


def test_where_both_had_their_locks_no_lease_is_blamed() -> None:
    """Then it is a worse thing: the lock was two's at once."""
    story = Story()
    first, seen = story.locked(1, 0, 6)
    second, also_seen = story.locked(2, 0, 7)
    story.write(second, also_seen)
    story.write(first, seen)
    story.read(0)
    (anomaly,) = story.judged().anomalies
    assert anomaly.details["lock_key_gone_at"] is anomaly.details["its_lock_key_gone_at"] is None
    assert "had been deleted" not in anomaly.story


def test_each_planted_change_of_a_read_is_found_by_name() -> None:
    for value, name in (([0, 1], "lost"), ([0, 1, 2, 2], "duplicate"), ([0, 1, 2, 99], "unexpected")):
        story = healthy()
        story.read(0, value)
        result = story.judged()
        assert result.verdict is Verdict.INVALID
        assert {anomaly.name for anomaly in result.anomalies} == {f"set: {name}"}
    story = healthy()
    story.read(0, [0, 1])
    story.read(0)
    assert {anomaly.name for anomaly in story.judged().anomalies} == {"set: stale"}


def test_a_set_with_nothing_in_it_is_no_reason_for_doubt_beside_others() -> None:
    story = healthy()
    failed, _ = story.locked(1, 2, 30)
    story.note(failed.completed("fail", error="fenced: the write was refused"))
    result = story.judged()
    assert result.verdict is Verdict.VALID
    assert result.stats["refused_by_the_fence"] == 1


def test_where_no_set_was_read_nobody_knows() -> None:
    story = Story()
    story.add(1, 0, 1)
    result = story.judged()
    assert (result.verdict, result.reason) == (Verdict.UNKNOWN, "no set was seen to keep an element")


def test_a_write_of_unknown_outcome_may_be_there_or_not() -> None:
    for is_there in (True, False):
        story = Story()
        story.add(1, 0, 1)
        unknown, seen = story.locked(2, 0, 2)
        if is_there:
            story.write(unknown, seen, "info")
        else:
            story.note(unknown.completed("info", error="deadline: no answer"))
        story.read(0)
        assert story.judged().verdict is Verdict.VALID
