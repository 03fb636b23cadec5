"""The register workload: unique values, whole groups of threads, every key read at the end, and its checker bites."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from splitvote.harness.generator import clients, lift, time_limit
from splitvote.harness.generator.simulation import imperfect, perfect
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Verdict
from splitvote.workloads import NAMES, WorkloadOptions, workload_named

DOCS = Path(__file__).resolve().parents[2] / "docs"


def simulated(concurrency: int, seconds: float = 10, ops_per_key: int = 50) -> list[Op]:
    options = WorkloadOptions(concurrency=concurrency, rate=200, ops_per_key=ops_per_key)
    generator = time_limit(seconds, clients(workload_named("register", options).generator))
    return perfect(generator, concurrency=concurrency)


@pytest.mark.parametrize("concurrency", [1, 3, 5, 7, 10, 13])
def test_any_concurrency_works_and_every_thread_takes_part(concurrency: int) -> None:
    invokes = [op for op in simulated(concurrency) if op.type == "invoke"]
    assert {op.process for op in invokes} == set(range(concurrency))
    assert len(invokes) == pytest.approx(2000, rel=0.02)


def test_values_are_never_written_twice() -> None:
    written = [
        op.value[1] if op.f == "cas" else op.value
        for op in simulated(10)
        if op.type == "invoke" and op.f in ("write", "cas")
    ]
    assert len(written) == len(set(written)) > 100


def test_every_kind_occurs_and_keys_are_used_up_in_turn() -> None:
    invokes = [op for op in simulated(10) if op.type == "invoke"]
    assert min(Counter(op.f for op in invokes).values()) > 200
    per_key = Counter(op.key for op in invokes)
    assert max(per_key.values()) == 50
    assert sorted(per_key) == list(range(len(per_key)))


def test_a_cas_compares_with_a_value_that_was_seen_on_its_key() -> None:
    seen: dict[int, set[int | None]] = {}
    for op in simulated(5):
        if op.type == "invoke" and op.f == "cas":
            assert op.value[0] in seen.get(op.key, set()) | {None}
        if op.type == "ok":
            seen.setdefault(op.key, set()).add(op.value[1] if op.f == "cas" else op.value)


def test_the_end_reads_every_key_once() -> None:
    workload = workload_named("register", WorkloadOptions(concurrency=4, rate=10))
    ops = perfect(lift(workload.final([3, 5, 9])), concurrency=4)
    assert sorted(op.key for op in ops if op.type == "ok") == [3, 5, 9]
    assert workload.final([]) is None


def test_the_checker_of_the_workload_catches_a_stale_read() -> None:
    checker = workload_named("register", WorkloadOptions(concurrency=2, rate=1)).checkers[0]
    ops = [
        Op(0, 0, 0, "invoke", "write", 1, 10), Op(1, 1, 0, "ok", "write", 1, 10),
        Op(2, 2, 0, "invoke", "write", 1, 11), Op(3, 3, 0, "ok", "write", 1, 11),
        Op(4, 4, 1, "invoke", "read", 1), Op(5, 5, 1, "ok", "read", 1, 10),
    ]  # fmt: skip
    assert checker.check(Recording(History(ops)), Budget()).verdict is Verdict.INVALID
    assert checker.check(Recording(History(ops[:4])), Budget()).verdict is Verdict.VALID


def test_crashing_clients_do_not_stop_the_workload() -> None:
    options = WorkloadOptions(concurrency=6, rate=500, ops_per_key=20)
    ops = imperfect(time_limit(5, clients(workload_named("register", options).generator)), concurrency=6)
    assert len([op for op in ops if op.type == "info"]) > 100
    assert len(History(ops).operations) > 1000


def test_an_unknown_workload_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        workload_named("registr", WorkloadOptions(concurrency=1, rate=1))


@pytest.mark.parametrize("name", NAMES)
def test_every_workload_is_made_by_its_name(name: str) -> None:
    assert workload_named(name, WorkloadOptions(concurrency=10, rate=100)).name == name


def test_the_example_of_the_manual_works() -> None:
    definition, trial = re.findall(r"```python\n(.*?)```", (DOCS / "workloads.md").read_text(), re.DOTALL)
    scope: dict[str, list[Op]] = {}
    exec(compile(definition + trial, "workloads.md", "exec"), scope)
    assert {op.f for op in scope["ops"]} == {"read", "write"}
