"""The watch workload: writes of every kind with unique values, streams of every kind, and its options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from splitvote.checkers.watch.plan import WatchPlan, parts_of, plan_of
from splitvote.harness.errors import ConfigError
from splitvote.harness.generator import Context, clients, lift, limit, time_limit
from splitvote.harness.generator.simulation import imperfect, perfect
from splitvote.harness.op import Op
from splitvote.workloads import WorkloadOptions, workload_named
from splitvote.workloads.watch import PAST, PROGRESS_S, WIDE_KEYS, WriteOps


def simulated(concurrency: int = 10, seconds: float = 30, **options: Any) -> list[Op]:
    made = workload_named("watch", WorkloadOptions(**{"concurrency": concurrency, "rate": 200, **options}))
    return perfect(time_limit(seconds, clients(made.generator)), concurrency=concurrency)


def invokes(ops: list[Op], *fs: str) -> list[Op]:
    return [op for op in ops if op.type == "invoke" and (not fs or op.f in fs)]


def plans(ops: list[Op]) -> list[WatchPlan]:
    return [plan_of(op.value) for op in invokes(ops, "watch")]


@pytest.mark.parametrize("concurrency", [2, 3, 7, 10])
def test_half_of_the_threads_watch_and_the_rate_is_the_writers(concurrency: int) -> None:
    ops = simulated(concurrency, seconds=10)
    watchers = {op.process for op in invokes(ops, "watch")}
    assert watchers == set(range(concurrency // 2))
    writers = {op.process for op in invokes(ops) if op.f != "watch"}
    assert writers == set(range(concurrency // 2, concurrency))
    assert len([op for op in invokes(ops) if op.f != "watch"]) == pytest.approx(2000, rel=0.02)


def test_every_kind_of_write_occurs_and_no_value_comes_twice() -> None:
    ops = simulated()
    kinds = Counter(op.f for op in invokes(ops))
    assert min(kinds["put"], kinds["txn"], kinds["delete"]) > 500
    assert kinds["compact"] > 5
    puts = [part for op in invokes(ops, "put", "txn") for part in parts_of(op.value) if part[0] == "put"]
    values = [part[2] for part in puts]
    assert len(set(values)) == len(values)
    assert any(len(op.value) == 3 for op in invokes(ops, "delete")), "of a range"
    assert {part[1] for part in puts if len(part) == 4} == set(WIDE_KEYS)


def test_a_transaction_changes_each_key_once() -> None:
    """A request that does otherwise is refused."""
    for keys in (1, 2, 40):
        for op in invokes(simulated(keys=keys, seconds=10), "txn"):
            changed = [part[1] for part in parts_of(op.value)]
            assert len(set(changed)) == len(changed)


def test_compactions_follow_the_newest_revision_seen() -> None:
    """Mostly far behind it, at times right behind it or at the newest deletion, never beyond."""
    ops = WriteOps(("k0",), 1.0, 0.0, 10_000, 9_970)
    compacted = [op.value[1] for op in invokes(perfect(limit(300, clients(ops)), concurrency=5))]
    assert max(compacted) <= 10_000
    assert min(compacted) >= 10_000 - PAST - PAST // 8
    assert sum(revision > 10_000 - 20 for revision in compacted) > 10
    assert sum(revision == 9_970 for revision in compacted) > 10
    assert sum(revision <= 10_000 - PAST // 8 for revision in compacted) > len(compacted) / 2


def test_deletions_are_remembered_where_something_was_there() -> None:
    """By deletes and transactions, answered at a revision of their own."""
    context = Context.start(1)
    ops: Any = WriteOps(("k0",), 0.0, 0.0)
    for f, value, revision, deletion in (
        ("put", None, 2, 1),
        ("delete", 1, 3, 3),
        ("delete", 0, 3, 3),
        ("txn", [None, None], 4, 3),
        ("txn", [None, 1], 5, 5),
    ):
        ops = ops.update(context, Op(type="ok", f=f, value=value, revision=revision))
        assert (ops.newest, ops.deletion) == (revision, deletion)


def test_streams_of_every_kind_occur() -> None:
    many = plans(simulated(20, seconds=60, rate=20))
    kinds: Mapping[str, Any] = {
        "crowded": lambda plan: plan.count == 300,
        "single": lambda plan: plan.count == 1,
        "cut": lambda plan: plan.cuts_s and plan.resume == "same",
        "cut and moved": lambda plan: plan.cuts_s and plan.resume == "next",
        "slow": lambda plan: plan.pauses_s and plan.pauses_s[0][1] >= 1.0,
        "asking for progress": lambda plan: plan.progress_every_s,
        "not asking": lambda plan: not plan.progress_every_s,
        "with a leader only": lambda plan: plan.require_leader,
        "with a cancel": lambda plan: plan.cancels,
    }
    for kind, is_so in kinds.items():
        assert sum(bool(is_so(plan)) for plan in many) > len(many) / 100, kind
    assert {plan.progress_every_s for plan in many} == {0.0, *PROGRESS_S}
    assert all(all(at < plan.for_s for at in plan.cuts_s) for plan in many)
    assert all(0 <= number < plan.count for plan in many for _, number in plan.cancels)


def test_watches_of_every_kind_occur() -> None:
    watches = [watched for plan in plans(simulated(20, seconds=60, rate=20)) for watched in plan.watches]
    starts = Counter(watched.start for watched in watches)
    assert set(starts) == {"now", "past", "compacted", "compaction", "future"}
    assert min(starts.values()) > len(watches) / 100
    selections = Counter((watched.key is None, watched.end is None) for watched in watches)
    assert len(selections) == 3, "one key, a range, all"
    assert {watched.without for watched in watches} == {"nothing", "puts", "deletes"}
    for flag in ("prev_kv", "fragment", "progress_notify"):
        share = sum(getattr(watched, flag) for watched in watches) / len(watches)
        assert 0.1 < share < 0.9, flag


def test_the_options_say_who_watches_how_much() -> None:
    ops = simulated(10, seconds=20, extra={"watchers": 3, "watches": 7, "watching": "mixed"})
    assert {op.process for op in invokes(ops, "watch")} == {0, 1, 2}
    assert max(plan.count for plan in plans(ops)) == 7
    everything = plans(simulated(10, seconds=5, extra={"watching": "all"}))
    assert {(plan.count, plan.watches[0].start, plan.progress_every_s) for plan in everything} == {(1, "now", 0.0)}


@pytest.mark.parametrize(
    ("concurrency", "extra"), [(1, {}), (4, {"watchers": 4}), (4, {"watches": 0}), (4, {"watching": "none"})]
)
def test_what_cannot_be_is_refused(concurrency: int, extra: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        workload_named("watch", WorkloadOptions(concurrency=concurrency, rate=10, extra=extra))


def test_keys_are_as_many_as_asked_for() -> None:
    ops = simulated(keys=3, seconds=10)
    written = {part[1] for op in invokes(ops, "put", "txn") for part in parts_of(op.value)} - set(WIDE_KEYS)
    assert len(written) == 3


def test_the_end_watches_everything_once() -> None:
    workload = workload_named("watch", WorkloadOptions(concurrency=4, rate=10))
    (op,) = invokes(perfect(lift(workload.final([])), concurrency=4))
    assert op.f == "converge"
    plan = plan_of(op.value)
    assert plan.for_s < workload.longest_op_s
    assert all(watched.start == "past" for watched in plan.watches)


def test_crashing_clients_do_not_stop_the_workload() -> None:
    made = workload_named("watch", WorkloadOptions(concurrency=6, rate=200))
    ops = imperfect(time_limit(10, clients(made.generator)), concurrency=6)
    assert len(invokes(ops)) > 1000
