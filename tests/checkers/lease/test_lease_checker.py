"""The lease checker on a run recorded from a real etcd 3.5.30: valid, and with one field changed for each rule."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from splitvote.checkers.lease import LeaseChecker
from splitvote.harness.archive import Archive, Disagreement, Span, StoreEvent
from splitvote.harness.history import History
from splitvote.harness.op import Op, Operation
from splitvote.harness.recording import ClusterSample, FaultRecord, FinalState, MemberReading, Recording
from splitvote.harness.result import Budget, Result, Verdict, run_checker
from splitvote.harness.store import load_recording

RECORDED = Path(__file__).with_name("recorded")
S = 1_000_000_000


@functools.cache
def recorded() -> Recording:
    return load_recording(RECORDED)


def judged(recording: Recording) -> Result:
    return run_checker(LeaseChecker(), recording, Budget())


def names(result: Result) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


@dataclass
class Draft:
    """A recording under change: its records by index, its events by revision, what its members told."""

    records: list[Op]
    told: dict[int, tuple[StoreEvent, ...]]
    spans: dict[str, tuple[Span, ...]]

    @property
    def operations(self) -> tuple[Operation, ...]:
        return recorded().history.operations

    def of(self, lease: int, *kinds: str, type_: str = "ok") -> list[Operation]:
        return [op for op in self.operations if op.key == lease and op.f in kinds and op.type == type_]

    def change(self, op: Op | None, **fields: Any) -> None:
        assert op is not None
        self.records[op.index] = msgspec.structs.replace(op, **fields)

    def change_event(self, revision: int, **fields: Any) -> None:
        first, *others = self.told[revision]
        self.told[revision] = (msgspec.structs.replace(first, **fields), *others)

    def deletions(self) -> Iterator[tuple[int, int, tuple[StoreEvent, ...]]]:
        """(revision, lease, events) of every revision that deletes."""
        lease_of: dict[str, int] = {}
        for revision, events in sorted(self.told.items()):
            for event in events:
                if event.type == "put":
                    lease_of[event.key] = event.lease
            if events and events[0].type == "delete" and events[0].key.startswith("lease/"):
                yield revision, lease_of[events[0].key], events

    def is_revoked(self, lease: int) -> bool:
        return bool(self.of(lease, "revoke") or self.of(lease, "revoke", type_="info"))


def mutated(change: Callable[[Draft], None]) -> Recording:
    recording = recorded()
    archive = recording.archive
    assert archive is not None
    draft = Draft(list(recording.history), dict(archive.told), dict(archive.spans))
    change(draft)
    return replace(
        recording,
        history=History(draft.records),
        archive=Archive(draft.told, draft.spans, archive.disagreements),
    )


def test_the_recording_is_valid_and_much_happened_in_it() -> None:
    result = judged(recorded())
    assert (result.verdict, result.anomalies) == (Verdict.VALID, ())
    stats = result.stats
    assert min(stats["granted"], stats["expired"], stats["leftovers_judged"]) >= 10
    assert min(stats["revoked"], stats["leader_changes"], stats["survived_a_leader_change"]) >= 1
    assert stats["reads_not_judged"] == stats["forgiven"] == 0
    assert len(stats["renewals"]) >= 4, "short and long streams, through the leader and others"


# One field changed: each rule by its name.


def told_before_its_time(draft: Draft) -> None:
    """A member tells of an expiry right after the lease's last renewal."""
    for revision, lease, _ in draft.deletions():
        renewals = draft.of(lease, "keepalive", "grant")
        if draft.is_revoked(lease) or not renewals:
            continue
        node, place = next(
            (node, place)
            for node, spans in draft.spans.items()
            for place, span in enumerate(spans)
            if span.first <= revision <= span.last
        )
        spans = list(draft.spans[node])
        spans[place] = told_at(spans[place], time_ns=renewals[-1].completion.time_ns + S // 10)  # type: ignore[union-attr]
        draft.spans[node] = tuple(spans)
        return


def told_at(span: Span, *, time_ns: int) -> Span:
    return Span(span.first, span.last, time_ns)


def a_longer_ttl_was_granted(draft: Draft) -> None:
    """A renewal gave twice the time that the lease then had."""
    lease = next(
        lease for _, lease, _ in draft.deletions() if not draft.is_revoked(lease) and draft.of(lease, "keepalive")
    )
    draft.change(draft.of(lease, "keepalive")[-1].completion, value=60)


def one_key_stays(draft: Draft) -> None:
    revision, _, events = next(each for each in draft.deletions() if len(each[2]) > 1)
    draft.told[revision] = events[1:]


def a_leftover(draft: Draft) -> None:
    query = next(op for op in draft.operations if op.f == "leftover" and op.type == "ok" and op.output[1] == 0)
    ttl_s = draft.of(query.key, "grant")[0].output
    draft.change(query.completion, value=[0, ttl_s, []])


def keys_are_left_at_the_end(draft: Draft) -> None:
    lease = next(op.key for op in draft.operations if op.f == "leftover")
    get = [op for op in draft.operations if op.f == "get" and op.type == "ok"][-1]
    draft.change(get.completion, value=[*get.output, ["left", "0", lease]])


def a_revoke_was_acknowledged_before_a_renewal(draft: Draft) -> None:
    revoke = next(
        op for op in draft.operations if op.f == "revoke" and op.type == "ok" and draft.of(op.key, "keepalive")
    )
    renewal = draft.of(revoke.key, "keepalive")[-1]
    draft.change(revoke.completion, time_ns=renewal.invoke.time_ns - 1)


def a_refused_renewal_is_granted(draft: Draft) -> None:
    refused = next(op for op in draft.operations if op.f == "keepalive" and op.type == "fail" and op.output == 0)
    draft.change(refused.completion, type="ok")


def a_key_hangs_on_another_lease(draft: Draft) -> None:
    revision = next(
        revision
        for revision, events in draft.told.items()
        if events and events[0].lease and events[0].key[:6] == "lease/"
    )
    draft.change_event(revision, lease=draft.told[revision][0].lease + 1)


def a_get_shows_another_lease(draft: Draft) -> None:
    get = next(op for op in draft.operations if op.f == "get" and op.type == "ok" and op.output)
    (name, value, lease), *others = get.output
    draft.change(get.completion, value=[[name, value, lease + 1], *others])


def a_get_shows_another_value(draft: Draft) -> None:
    get = next(op for op in draft.operations if op.f == "get" and op.type == "ok" and op.output)
    (name, value, lease), *others = get.output
    draft.change(get.completion, value=[[name, value + "0", lease], *others])


def a_query_misses_a_key(draft: Draft) -> None:
    query = next(op for op in draft.operations if op.f == "ttl" and op.type == "ok" and len(op.output[2]) > 2)
    draft.change(query.completion, value=[*query.output[:2], query.output[2][:1]])


def a_revoked_leases_key_stays(draft: Draft) -> None:
    revision = next(revision for revision, lease, _ in draft.deletions() if draft.of(lease, "revoke"))
    draft.told[revision] = ()


def a_put_names_a_lease_that_is_gone(draft: Draft) -> None:
    refused = next(
        op
        for op in draft.operations
        if op.f == "put" and op.type == "fail" and (op.completion.error or "").startswith("lease-not-found")  # type: ignore[union-attr]
    )
    draft.change(refused.completion, type="ok")


def more_is_left_than_was_granted(draft: Draft) -> None:
    query = next(op for op in draft.operations if op.f == "ttl" and op.type == "ok" and op.output[0] > 0)
    draft.change(query.completion, value=[query.output[1] + 1, *query.output[1:]])


def less_is_left_than_was_given(draft: Draft) -> None:
    """A query right after a renewal says that the time is over."""
    queries = [op for op in draft.operations if op.f == "ttl" and op.type == "ok" and op.output[0] >= 2]
    query = next(op for op in queries if any(is_right_after(op, renewal) for renewal in draft.of(op.key, "keepalive")))
    draft.change(query.completion, value=[-1, *query.output[1:]])


def is_right_after(after: Operation, before: Operation) -> bool:
    assert before.completion is not None
    return before.completion.time_ns < after.invoke.time_ns < before.completion.time_ns + S


def a_query_shows_what_was(draft: Draft) -> None:
    """A query is answered as one long before it was."""
    queries = [op for op in draft.operations if op.f == "ttl" and op.type == "ok" and op.output[1] > 0]
    before, after = next(
        (before, after)
        for before in queries
        for after in queries
        if before.key == after.key
        and before.output[2] != after.output[2]
        and S < after.invoke.time_ns - before.invoke.time_ns < 3 * S
    )
    draft.change(after.completion, value=[*after.output[:2], before.output[2]])


def the_second_grant_is_acknowledged(draft: Draft) -> None:
    again = next(op for op in draft.operations if op.f == "again" and op.type == "fail")
    draft.change(again.completion, type="ok")


def a_query_finds_a_revoked_lease(draft: Draft) -> None:
    query = next(
        op
        for op in draft.operations
        if op.f == "leftover" and op.type == "ok" and draft.of(op.key, "revoke") and draft.of(op.key, "grant")
    )
    draft.change(query.completion, value=[0, draft.of(query.key, "grant")[0].output, []])


def a_live_lease_is_not_found(draft: Draft) -> None:
    queries = [op for op in draft.operations if op.f == "ttl" and op.type == "ok" and op.output[1] > 0]
    query = next(
        op
        for op in queries
        if any(each.invoke.time_ns > op.completion.time_ns for each in draft.of(op.key, "keepalive"))  # type: ignore[union-attr]
        and op.invoke.time_ns < 2 * S
    )
    draft.change(query.completion, value=[-1, 0, []])


def an_acknowledged_put_is_not_there(draft: Draft) -> None:
    put = next(op for op in draft.operations if op.f == "put" and op.type == "ok")
    assert put.completion is not None
    draft.change(put.completion, revision=(put.completion.revision or 0) + 1)


def a_failed_put_is_there(draft: Draft) -> None:
    put = next(op for op in draft.operations if op.f == "put" and op.type == "ok")
    draft.change(put.completion, type="fail")


PLANTED: list[tuple[str, Callable[[Draft], None]]] = [
    ("lease: early expiry", told_before_its_time),
    ("lease: early expiry", a_longer_ttl_was_granted),
    ("lease: split expiry", one_key_stays),
    ("lease: late expiry", a_leftover),
    ("lease: late expiry", keys_are_left_at_the_end),
    ("lease: renewed after revoke", a_revoke_was_acknowledged_before_a_renewal),
    ("lease: renewed after revoke", a_refused_renewal_is_granted),
    ("lease: attachment", a_key_hangs_on_another_lease),
    ("lease: attachment", a_get_shows_another_lease),
    ("lease: attachment", a_query_misses_a_key),
    ("lease: attachment", a_query_shows_what_was),
    ("lease: attachment", a_revoked_leases_key_stays),
    ("lease: attachment", a_put_names_a_lease_that_is_gone),
    ("lease: ttl", more_is_left_than_was_granted),
    ("lease: ttl", less_is_left_than_was_given),
    ("lease: granted twice", the_second_grant_is_acknowledged),
    ("lease: answered after revoke", a_query_finds_a_revoked_lease),
    ("lease: refused while alive", a_live_lease_is_not_found),
    ("lease: read", a_get_shows_another_value),
    ("lease: lost write", an_acknowledged_put_is_not_there),
    ("lease: phantom", a_failed_put_is_there),
]


@pytest.mark.parametrize(("name", "change"), PLANTED, ids=[change.__name__ for _, change in PLANTED])
def test_one_changed_field_is_told_by_name(name: str, change: Callable[[Draft], None]) -> None:
    result = judged(mutated(change))
    assert result.verdict is Verdict.INVALID
    assert name in names(result)


# What is no fault of the cluster's.


@pytest.mark.parametrize("start_s", range(0, 30, 2))
def test_a_harness_that_stalls_raises_no_alarm(start_s: int) -> None:
    """What came in while we stalled for 5 s is on record at its end, and samples are missing."""
    begin_ns, end_ns = start_s * S, (start_s + 5) * S

    def shifted(time_ns: int) -> int:
        return end_ns if begin_ns < time_ns < end_ns else time_ns

    def late(op: Op) -> Op:
        is_answer = op.is_completion or (op.type == "event" and op.value[0] == "answer")
        return msgspec.structs.replace(op, time_ns=shifted(op.time_ns)) if is_answer else op

    recording = recorded()
    archive = recording.archive
    assert archive is not None
    spans = {
        node: tuple(told_at(span, time_ns=shifted(span.time_ns)) for span in theirs)
        for node, theirs in archive.spans.items()
    }
    samples = [sample for sample in recording.samples if not begin_ns < sample.time_ns < end_ns]
    first = next((place for place, sample in enumerate(samples) if sample.time_ns >= end_ns), None)
    if first is not None:
        samples[first] = msgspec.structs.replace(samples[first], loop_lag_ms=5_000.0)
    stalled = replace(
        recording,
        history=History(map(late, recording.history)),
        archive=replace(archive, spans=spans),
        samples=tuple(samples),
    )
    result = judged(stalled)
    assert (result.verdict, result.anomalies) == (Verdict.VALID, ())


def with_samples(recording: Recording, **fields: Any) -> Recording:
    samples: tuple[ClusterSample, ...] = tuple(msgspec.structs.replace(each, **fields) for each in recording.samples)
    return replace(recording, samples=samples)


def test_our_own_stalls_are_forgiven_explicitly() -> None:
    """An end that is early by less than we stalled for is not told, but counted; the allowance is in the details."""
    early = judged(mutated(told_before_its_time))
    found = next(anomaly for anomaly in early.anomalies if anomaly.name == "lease: early expiry")
    assert found.details["stall_allowance_ms"] < 1_000 < found.details["early_ms"]
    stalled = judged(with_samples(mutated(told_before_its_time), loop_lag_ms=found.details["early_ms"] + 1))
    assert "lease: early expiry" not in names(stalled)
    assert stalled.stats["forgiven"] >= 1


def clock_fault(shape: dict[str, float], at_ns: int, *, end_ns: int | None = None) -> tuple[FaultRecord, ...]:
    """A clock fault that was set within a second of a time, and healed by another (None: never)."""
    plan = {"setting": {"shape": shape}}
    begun = FaultRecord(99, "clock", "clock", "starting", at_ns, ("n1",), plan)
    later = [("active", at_ns + S)] + ([("healing", end_ns - S), ("healed", end_ns)] if end_ns is not None else [])
    return begun, *(msgspec.structs.replace(begun, phase=phase, time_ns=time_ns) for phase, time_ns in later)


def test_a_set_clock_is_forgiven_as_far_as_it_was_set() -> None:
    """An end is early by no more than a clock gained meanwhile, or it is told; the wall's clock excuses nothing."""
    spoilt = mutated(told_before_its_time)
    told = next(anomaly for anomaly in judged(spoilt).anomalies if anomaly.name == "lease: early expiry").details
    renewed_ns, seen_ns, early_ms = told["renewed_ns"], told["seen_gone_ns"], told["early_ms"]

    def is_told(faults: tuple[FaultRecord, ...]) -> bool:
        return "lease: early expiry" in names(judged(replace(spoilt, faults=(*spoilt.faults, *faults))))

    middle_ns = (renewed_ns + seen_ns) // 2
    assert not is_told(clock_fault({"monotonic_ms": early_ms + 100.0}, middle_ns)), "it jumped as far as that"
    assert is_told(clock_fault({"monotonic_ms": early_ms - 100.0}, middle_ns)), "it jumped less far"
    assert is_told(clock_fault({"monotonic_ms": 60_000.0}, renewed_ns - 2 * S)), (
        "a clock that is ahead measures time as well"
    )
    assert is_told(clock_fault({"monotonic_ms": 60_000.0}, seen_ns + S)), "it jumped later"
    assert is_told(clock_fault({"wall_ms": 60_000.0}, middle_ns)), "leases have nothing to do with the wall's clock"
    gain = early_ms / (seen_ns - renewed_ns) * 1e6
    assert not is_told(clock_fault({"monotonic_drift": gain * 1.1}, 0)), "it gained as much as that"
    assert is_told(clock_fault({"monotonic_drift": gain * 0.9}, 0)), "it gained less"
    assert is_told(clock_fault({"monotonic_drift": -0.5}, 0)), "it lost, and was not put right"
    unknown = FaultRecord(99, "clock", "skew", "active", 0, ("n1",))
    assert not is_told((unknown,)), "nobody knows how far"


def test_nothing_is_late_while_leaders_come_and_go() -> None:
    spoilt = mutated(a_leftover)
    last = spoilt.samples[-1]
    members = {
        node: msgspec.structs.replace(member, leader="n9", term=(member.term or 0) + 1)
        for node, member in last.members.items()
    }
    samples = (*spoilt.samples[:-1], msgspec.structs.replace(last, members=members))
    assert "lease: late expiry" in names(judged(replace(spoilt, samples=samples))), "the change came after the question"
    restless = [
        msgspec.structs.replace(sample, members=members) if place % 2 else sample
        for place, sample in enumerate(spoilt.samples)
    ]
    result = judged(replace(spoilt, samples=tuple(restless)))
    assert "lease: late expiry" not in names(result)
    assert result.stats["leftovers_judged"] == 0


def test_a_query_may_be_answered_from_the_memory_of_a_leader_that_a_fault_left_behind() -> None:
    """During a fault an answer may be as old as the fault; without one it may not."""
    spoilt = mutated(a_query_shows_what_was)
    assert "lease: attachment" in names(judged(spoilt))
    pause = FaultRecord(99, "pause", "pause", "active", 1, ("n1",))
    assert "lease: attachment" not in names(judged(replace(spoilt, faults=(pause,))))
    assert "lease: attachment" in names(judged(replace(spoilt, faults=clock_fault({"wall_ms": 60_000.0}, 1))))


def test_without_an_archive_there_is_no_truth() -> None:
    assert judged(replace(recorded(), archive=None)).verdict is Verdict.UNKNOWN


def test_where_members_differ_nothing_is_valid() -> None:
    archive = recorded().archive
    assert archive is not None
    split = Disagreement(40, "n2", (), "n1", archive.told[40])
    result = judged(replace(recorded(), archive=replace(archive, disagreements=(split,))))
    assert (result.verdict, result.anomalies) == (Verdict.UNKNOWN, ())
    assert "different histories" in (result.reason or "")


def test_a_run_in_which_nothing_expired_says_nothing() -> None:
    """Only the first grant, and nothing of its end."""
    grant = next(op for op in recorded().history.operations if op.f == "grant" and op.type == "ok")
    assert grant.completion is not None
    short = replace(recorded(), history=History([grant.invoke, grant.completion]), archive=Archive({1: ()}, {}))
    result = judged(replace(short, final=None))
    assert result.verdict is Verdict.UNKNOWN
    whole = FinalState(True, members={"n1": MemberReading(revision=1)})
    assert judged(replace(short, final=whole)).reason == "vacuous: no lease expired"
