"""The lock and lock-set workloads: who does what when, how they end, and what is expected of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from splitvote.harness.errors import ConfigError
from splitvote.harness.generator import clients, lift, time_limit
from splitvote.harness.generator.simulation import imperfect, perfect
from splitvote.harness.op import Op
from splitvote.workloads import Workload, WorkloadOptions, workload_named, workloads_named


def made(name: str, *, concurrency: int = 6, **options: Any) -> Workload:
    return workload_named(name, WorkloadOptions(concurrency=concurrency, rate=500, **options))


def simulated(workload: Workload, *, concurrency: int = 6, seconds: float = 20, crashing: bool = False) -> list[Op]:
    drive = imperfect if crashing else perfect
    return drive(time_limit(seconds, clients(workload.generator)), concurrency=concurrency)


def check_discipline(ops: list[Op]) -> None:
    """A process releases and stalls with what it holds only, and acquires when it holds nothing."""
    held: dict[int, Any] = {}
    for op in ops:
        holds = held.get(op.process)
        if op.type == "invoke" and op.f == "acquire":
            assert holds is None
        elif op.type == "invoke":
            assert op.key == holds
        elif op.type == "ok" and op.f == "acquire":
            held[op.process] = op.key
        elif op.f == "release" and (op.type == "ok" or (op.type == "fail" and op.value == "close")):
            held[op.process] = None


def test_every_process_releases_what_it_holds() -> None:
    ops = simulated(made("lock"))
    check_discipline(ops)
    kinds = Counter((op.f, op.value if op.f == "release" else None) for op in ops if op.type == "invoke")
    assert kinds["release", "unlock"] > 10 * kinds["release", "orphan"] > 0
    assert kinds["release", "close"] > 0
    assert kinds["stall", None] > 0
    assert {op.key for op in ops} == {"k0", "k1", "k2", "k3", "k4"}


def test_a_process_that_crashed_is_followed_by_one_that_holds_nothing() -> None:
    ops = simulated(made("lock"), crashing=True)
    assert sum(op.type == "info" for op in ops) > 50
    check_discipline(ops)


@pytest.mark.parametrize(
    ("option", "apis"), [("both", {"client", "server"}), ("client", {"client"}), ("server", {"server"})]
)
def test_the_option_says_how_locks_are_taken(option: str, apis: set[str]) -> None:
    ops = simulated(made("lock", extra={"api": option}), seconds=2)
    assert {op.value["api"] for op in ops if op.type == "invoke" and op.f == "acquire"} == apis


def test_at_the_end_every_session_is_closed_before_each_lock_is_acquired_once_more() -> None:
    ending = made("lock").final(["k1", "k0"])
    ops = perfect(lift(ending), concurrency=6)
    invokes = [op for op in ops if op.type == "invoke"]
    assert [(op.f, op.value) for op in invokes[:6]] == [("release", "close")] * 6
    assert [op.key for op in invokes[6:]] == ["k1", "k0"]
    assert all(op.extra == {"last": True} for op in invokes[6:])
    closed = max(op.index for op in ops if op.f == "release")
    assert closed < min(op.index for op in ops if op.f == "acquire")
    assert made("lock").final([]) is None


def test_times_to_live_are_whole_seconds() -> None:
    ops = simulated(made("lock", extra={"ttl_s": 2.5}), seconds=1)
    assert {op.value["ttl_s"] for op in ops if op.type == "invoke" and op.f == "acquire"} == {3}


def test_elements_are_never_added_twice_and_sets_are_used_up_in_turn() -> None:
    ops = [op for op in simulated(made("lock-set", ops_per_key=40, keys=2)) if op.type == "invoke"]
    added = [op.value for op in ops if op.f == "add"]
    assert len(added) == len(set(added)) > 500
    per_set = Counter(op.key for op in ops)
    assert max(per_set.values()) == 40
    assert sorted(per_set) == list(range(len(per_set)))
    adds = [op.extra for op in ops if op.f == "add" and op.extra is not None]
    assert {extra["ttl_s"] for extra in adds} == {2}
    assert min(extra["think_s"] for extra in adds if extra["stalls"]) >= 2.5
    assert max(extra["think_s"] for extra in adds if not extra["stalls"]) > 1


def test_every_set_is_read_at_the_end() -> None:
    ops = perfect(lift(made("lock-set").final([4, 7])), concurrency=2)
    assert sorted(op.key for op in ops if op.type == "ok") == [4, 7]
    assert made("lock-set").final([]) is None


@pytest.mark.parametrize(
    ("extra", "expected"),
    [({}, "safe"), ({"fenced": "yes"}, "safe"), ({"fenced": "no"}, "unsafe"), ({"where": "memory"}, "unsafe"),
     ({"where": "memory", "fenced": "no"}, "unsafe")],
)  # fmt: skip
def test_what_is_not_fenced_is_expected_to_fail(extra: dict[str, str], expected: str) -> None:
    assert made("lock-set", extra=extra).expected == expected


@pytest.mark.parametrize(
    ("name", "extra", "words"),
    [
        ("lock-set", {"where": "memory", "fenced": "yes"}, "cannot be fenced"),
        ("lock-set", {"where": "disk"}, "etcd, memory"),
        ("lock-set", {"fenced": "maybe"}, "unknown --option fenced"),
        ("lock", {"api": "sever"}, "did you mean 'server'"),
        ("lock", {"ttl_s": 0}, "positive"),
    ],
)
def test_what_cannot_be_is_refused(name: str, extra: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made(name, extra=extra)


def test_without_stalls_no_client_stalls() -> None:
    ops = simulated(made("lock-set", extra={"stalls": "no"}), seconds=5)
    assert not any(op.extra["stalls"] for op in ops if op.f == "add" and op.type == "invoke" and op.extra)


def test_both_run_beside_others() -> None:
    together = workloads_named("register+lock+lock-set", WorkloadOptions(concurrency=9, rate=300))
    ops = perfect(time_limit(5, clients(together.generator)), concurrency=9)
    of_lock = [op for op in ops if op.workload == "lock"]
    check_discipline(of_lock)
    assert len(of_lock) > 100
    assert {op.workload for op in ops} == {"register", "lock", "lock-set"}
    ending = together.final({"register": (), "lock": ["k0"], "lock-set": [1]})
    finals = [op for op in perfect(lift(ending), concurrency=9) if op.type == "invoke"]
    assert [op.key for op in finals if op.workload == "lock-set"] == [1]
    assert sum(op.workload == "lock" and op.f == "release" for op in finals) == 9
