"""The lease workload: leases live in slots, are renewed, moved to, ended, and asked for once they are gone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from splitvote.checkers.lease import LATE_AFTER_S
from splitvote.harness.errors import ConfigError
from splitvote.harness.generator import Context, clients, lift, time_limit
from splitvote.harness.generator.simulation import imperfect, perfect, simulate
from splitvote.harness.history import History
from splitvote.harness.op import Op, OpType
from splitvote.workloads import WorkloadOptions, workload_named
from splitvote.workloads.lease import LONG_TTL_S, SHORT_TTL_S, LeaseOps, Slot

OPTIONS = WorkloadOptions(concurrency=6, rate=200)


def invokes(options: WorkloadOptions = OPTIONS, seconds: float = 60) -> list[Op]:
    generator = time_limit(seconds, clients(workload_named("lease", options).generator))
    history = perfect(generator, concurrency=options.concurrency, seed=3)
    return [op for op in history if op.type == "invoke"]


@pytest.mark.parametrize("concurrency", [2, 3, 10])
def test_every_kind_of_operation_occurs_on_every_thread(concurrency: int) -> None:
    ops = invokes(WorkloadOptions(concurrency=concurrency, rate=200))
    kinds = Counter(op.f for op in ops)
    assert kinds.keys() == {"grant", "again", "keepalive", "stream", "revoke", "ttl", "put", "get"}
    assert min(kinds.values()) >= 10
    assert {op.process for op in ops} == set(range(concurrency))


def test_no_lease_is_granted_twice_and_no_value_put_twice() -> None:
    ops = invokes()
    granted = [op.key for op in ops if op.f == "grant"]
    values = [op.value[2] for op in ops if op.f == "put"]
    assert len(granted) == len(set(granted)) > 30
    assert len(values) == len(set(values)) > 1000


def test_keys_move_between_leases_and_are_detached() -> None:
    on: dict[str, set[int]] = {}
    for op in invokes():
        if op.f == "put":
            on.setdefault(op.value[1], set()).add(op.value[3])
    assert all(0 in leases and len(leases) > 5 for leases in on.values())


def ttl_of_renewed(ops: list[Op]) -> set[int]:
    """The TTLs of the leases that were renewed before they were revoked."""
    asked = {op.key: op.value[2] for op in ops if op.f == "grant"}
    revoked_ns = {op.key: op.time_ns for op in ops if op.f == "revoke"}
    renewals = [op for op in ops if op.f in ("keepalive", "stream")]
    return {asked[op.key] for op in renewals if op.time_ns <= revoked_ns.get(op.key, op.time_ns)}


def test_with_15247_avoided_only_leases_that_outlast_every_pause_are_renewed() -> None:
    plain = invokes()
    avoiding = invokes(WorkloadOptions(concurrency=6, rate=200, avoid=frozenset({"15247"})))
    assert ttl_of_renewed(plain) == set(SHORT_TTL_S)
    assert ttl_of_renewed(avoiding) == {LONG_TTL_S}
    assert {op.value[2] for op in avoiding if op.f == "grant"} == {*SHORT_TTL_S, LONG_TTL_S}, "short ones still expire"


def test_a_lease_is_renewed_through_the_length_of_a_fault_and_then_ends_either_way() -> None:
    ops = invokes()
    granted_ns = {op.key: op.time_ns for op in ops if op.f == "grant"}
    last_ns: dict[int, int] = {}
    for op in ops:
        if op.f in ("keepalive", "stream"):
            last_ns[op.key] = op.time_ns
    held_s = [(last_ns[lease] - granted_ns[lease]) / 1e9 for lease in last_ns]
    assert sum(seconds > 10 for seconds in held_s) > 5
    revoked = {op.key for op in ops if op.f == "revoke"}
    assert 5 < len(revoked) < len(granted_ns) - 5


def answering(op: Op, ctx: Context) -> tuple[OpType, int]:
    """Streams last, everything else is answered at once; every third put finds its lease gone."""
    if op.f == "put" and op.value[3] and int(op.value[2]) % 3 == 0:
        return "fail", 1_000_000
    return "ok", 2_000_000_000 if op.f == "stream" else 1_000_000


def test_streams_leave_two_thirds_of_the_threads_free() -> None:
    generator = time_limit(20, clients(workload_named("lease", OPTIONS).generator))
    still, most = 0, 0
    for op in simulate(generator, answering, concurrency=6, seed=1):
        if op.f == "stream":
            still += 1 if op.type == "invoke" else -1
            most = max(most, still)
    assert most == 2


def state(**changes: Any) -> LeaseOps:
    slots = (Slot(7, 2, True, 10**12, "revoke", True), Slot(8, 2, True, 10**12, "expire", True))
    return msgspec.structs.replace(LeaseOps(slots, ("a",), (2,), 1), **changes)


def after(ops: LeaseOps, **fields: Any) -> LeaseOps:
    made = ops.update(Context.start(2), Op(process=0, **fields))
    assert isinstance(made, LeaseOps)
    return made


def test_what_answers_say_of_leases_is_remembered() -> None:
    gone = after(state(), type="fail", f="keepalive", key=7, error="lease-not-found: no such lease")
    assert (gone.slots[0].lease, gone.gone) == (0, (7,))
    assert after(state(), type="fail", f="keepalive", key=7, error="deadline: late") == state()
    unseen = after(state(), type="ok", f="ttl", key=8, value=[-1, 0, []])
    assert (unseen.slots[1].lease, unseen.fading, unseen.gone) == (0, (8,), ()), "some member says so, not the store"
    assert after(state(), type="ok", f="ttl", key=8, value=[-1, 2, []]) == state(), "past its time, and still there"
    assert after(state(), type="ok", f="revoke", key=7, value=None).gone == (7,)
    lost = after(state(), type="info", f="revoke", key=7)
    assert (lost.slots[0].lease, lost.gone) == (0, ()), "who knows whether it is gone"
    fading = after(state(fading=(5,)), type="fail", f="put", key=5, error="lease-not-found: no such lease")
    assert (fading.fading, fading.gone) == ((), (5,))


def test_a_lease_that_was_not_surely_granted_is_left_alone() -> None:
    asked = state(slots=(Slot(9, 2, True, 10**12, "revoke", False),))
    assert after(asked, type="ok", f="grant", key=9, value=2).slots[0].is_ready
    assert after(asked, type="info", f="grant", key=9).slots[0].lease == 0
    assert after(asked, type="fail", f="grant", key=9, error="no-leader").slots[0].lease == 0


def test_the_end_waits_for_the_short_leases_and_asks_for_every_one() -> None:
    final = workload_named("lease", OPTIONS).final([4, 9])
    ops = [op for op in perfect(lift(final), concurrency=3) if op.type == "invoke"]
    asked = [op for op in ops if op.f == "leftover"]
    assert sorted(op.key for op in asked) == [4, 9]
    assert min(op.time_ns for op in ops) >= (max(SHORT_TTL_S) + LATE_AFTER_S) * 1e9
    reads = [op for op in ops if op.f == "get"]
    assert {op.process for op in reads} == {0, 1, 2}
    assert min(op.time_ns for op in reads) > max(op.time_ns for op in asked)


def test_crashing_clients_do_not_stop_the_workload() -> None:
    ops = imperfect(time_limit(10, clients(workload_named("lease", OPTIONS).generator)), concurrency=6)
    assert sum(op.type == "info" for op in ops) > 100
    assert len(History(ops).operations) > 1000


def test_one_thread_is_too_few() -> None:
    with pytest.raises(ConfigError, match="2 client threads"):
        workload_named("lease", WorkloadOptions(concurrency=1, rate=10))
