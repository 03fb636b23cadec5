"""The workloads over transactions all at once on a real member: what their checkers say, and what they catch.

The run is recorded, projected and judged; then one field of one record of it is
changed, and the right checker must say so by the anomaly's name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from splitvote.harness.etcd.bindings import Services, binding_of
from splitvote.harness.etcd.connection import Connections
from splitvote.harness.generator import clients, limit
from splitvote.harness.history import History, HistoryWriter, read_history
from splitvote.harness.op import Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Checker, Result, Verdict, run_checker
from splitvote.harness.runner import Runner
from splitvote.workloads import Together, WorkloadOptions, workloads_named
from splitvote.workloads.micro_ops import LONGEST

pytestmark = pytest.mark.etcd

WORKLOADS = ("append", "wr", "set", "bank", "counter", "queue", "unique-ids", "long-fork", "causal")
OPTIONS = WorkloadOptions(concurrency=18, rate=900.0, ops_per_key=40)
OPERATIONS = 2_700
"""Three seconds' worth; counted, so that a slow machine makes no fewer of them."""


@pytest.fixture(scope="module")
def together() -> Together:
    return workloads_named("+".join(WORKLOADS), OPTIONS)


@pytest.fixture(scope="module")
def recorded(run_etcd: Callable[..., Any], together: Together, tmp_path_factory: pytest.TempPathFactory) -> History:
    """A run of all nine, with their final operations."""
    path = tmp_path_factory.mktemp("together") / "history.jsonl"
    with run_etcd(1) as members:
        asyncio.run(run_together(members, together, path))
    return read_history(path)


async def run_together(members: Any, together: Together, path: Path) -> None:
    connections = Connections(members.endpoints, members.options)
    binding = binding_of([workload.name for workload in together.workloads], Services(nodes=connections, timeout_s=30))
    history = HistoryWriter(path)
    used: dict[str | None, dict[Any, None]] = {}

    def note(op: Op) -> None:
        used.setdefault(op.workload, {}).update({} if op.key is None else {op.key: None})

    runner = Runner(
        binding=binding,
        nodes=["n1"],
        history=history,
        concurrency=OPTIONS.concurrency,
        seed=11,
        backstop_s=60,
        on_record=note,
    )
    try:
        await runner.run(limit(OPERATIONS, clients(together.generator)))
        await runner.run(together.final({workload: list(keys) for workload, keys in used.items()}))
    finally:
        await runner.close()
        history.close()
        await connections.close()
    assert runner.failure is None


def judged(checkers: Sequence[Checker], records: History) -> dict[str, Result]:
    return {checker.name: run_checker(checker, Recording(records), Budget()) for checker in checkers}


def test_all_at_once_are_well(recorded: History, together: Together) -> None:
    results = judged(together.checkers, recorded)
    assert {name: (result.verdict, result.reason) for name, result in results.items()} == dict.fromkeys(
        results, (Verdict.VALID, None)
    )
    kinds = {f"{op.invoke.workload}/{op.f}" for op in recorded.operations if op.type == "ok"}
    assert set(together.least_ok) <= kinds


Change = Callable[[Op, History], dict[str, Any] | None]
"""What to change in an ok record of the workload, given all of them; None where the change would prove nothing."""


def read_of(change: Callable[[Any], Any]) -> Change:
    """Change the value of a read that found something."""
    return lambda op, _: {"value": change(op.value)} if op.f == "read" and op.value else None


def is_everything(op: Op) -> bool:
    return op.f == "txn" and len(op.value) > LONGEST


def one_of_everything(change: Callable[[Any], Any]) -> Change:
    """Change what the final transaction read of one key: that of the longest list, or any that was written."""

    def one(op: Op, _: History) -> dict[str, Any] | None:
        if not is_everything(op):
            return None
        size = [len(found) if isinstance(found, list) else found is not None for _, _, found in op.value]
        place = size.index(max(size))
        f, key, found = op.value[place]
        return {"value": [*op.value[:place], [f, key, change(found)], *op.value[place + 1 :]]}

    return one


def forget_everything(op: Op, _: History) -> dict[str, Any] | None:
    """The final transaction read the empty store of the beginning."""
    return {"value": [["r", key, None] for _, key, _ in op.value]} if is_everything(op) else None


def abort_what_was_read(op: Op, records: History) -> dict[str, Any] | None:
    final = next(each for each in reversed(records) if each.type == "ok" and is_everything(each))
    was_read = any(f == "w" and ["r", key, value] in final.value for f, key, value in op.value)
    return {"type": "fail", "error": "too-many-requests: x"} if was_read else None


def take(value: Any) -> Change:
    """A dequeue took something else."""
    return lambda op, _: {"value": value} if op.f == "dequeue" and op.value is not None else None


def overtake(op: Op, records: History) -> dict[str, Any] | None:
    """A dequeue took nothing, though what it took was in for sure before another element that has come out."""
    if op.f != "dequeue" or op.value is None:
        return None
    enqueues = {each.invoke.value: each for each in records.operations if each.f == "enqueue" and each.key == op.key}
    came_out = [each.value for each in records if each.f == "dequeue" and each.type == "ok" and each.key == op.key]
    acknowledged = enqueues[op.value].completion
    is_before = acknowledged is not None and any(
        enqueues[value].invoke.index > acknowledged.index for value in came_out if value is not None
    )
    return {"value": None} if is_before else None


def enqueue_for_nothing(op: Op, _: History) -> dict[str, Any] | None:
    return {"type": "fail", "error": "too-many-requests: x"} if op.f == "enqueue" else None


def forget_the_first_key(op: Op, records: History) -> dict[str, Any] | None:
    """A read of a group did not see its first key, and saw another that a read which saw the first did not."""
    if op.f != "read" or op.value[0][2] is None:
        return None
    seen = {key for _, key, value in op.value[1:] if value is not None}
    others = [each.value for each in records if each.type == "ok" and each.f == "read" and each.key == op.key]
    is_fork = any(
        other[0][2] is not None and any(key in seen and value is None for _, key, value in other) for other in others
    )
    return {"value": [["r", op.value[0][1], None], *op.value[1:]]} if is_fork else None


def link_elsewhere(op: Op, _: History) -> dict[str, Any] | None:
    is_linked = op.f == "write" and op.extra is not None and op.extra["link"] != "init"
    return {"extra": {**(op.extra or {}), "link": 1}} if is_linked else None


def generate_again(op: Op, _: History) -> dict[str, Any] | None:
    return {"value": op.value - 1}


PLANTED: list[tuple[str, Change, str]] = [
    ("append/list-append", one_of_everything(lambda found: found[1:]), "incompatible-order"),
    ("append/list-append", one_of_everything(lambda found: found[:-1]), "G-single(-process|-realtime)?"),
    ("append/list-append", one_of_everything(lambda found: [*found, found[0]]), "duplicate-elements"),
    ("append/list-append", one_of_everything(lambda found: [*found, 10**9]), "unwritten-read"),
    ("append/list-append", forget_everything, "G-single-(process|realtime)"),
    ("wr/rw-register", one_of_everything(lambda found: 10**9), "unwritten-read"),
    ("wr/rw-register", one_of_everything(lambda found: None), "cyclic-versions"),
    ("wr/rw-register", abort_what_was_read, "G1a"),
    ("set/set-full by key", read_of(lambda found: found[1:]), "set: lost"),
    ("set/set-full by key", read_of(lambda found: [*found, 10**9]), "set: unexpected"),
    ("set/set-full by key", read_of(lambda found: [*found, found[0]]), "set: duplicate"),
    ("bank/bank", read_of(lambda found: {**found, "3": found["3"] + 1}), "bank: wrong total"),
    ("bank/bank", read_of(lambda found: {**found, "3": None}), "bank: no balance"),
    ("counter/counter by key", read_of(lambda found: found + 1000), "counter: out of bounds"),
    ("queue/total-queue by key", take(None), "queue: lost"),
    ("queue/queue by key", take(10**9), "queue: from nowhere"),
    ("queue/queue by key", enqueue_for_nothing, "queue: from nowhere"),
    ("queue/fifo by key", take(None), "fifo: not empty"),
    ("queue/fifo by key", overtake, "fifo: out of order"),
    ("unique-ids/unique-ids", generate_again, "unique-ids: duplicate"),
    ("long-fork/long-fork", forget_the_first_key, "long-fork"),
    ("causal/causal by key", read_of(lambda found: found + 10**9), "causal: wrong value"),
    ("causal/causal by key", link_elsewhere, "causal: broken link"),
]


def planted(records: History, workload: str, change: Change) -> Op:
    """The last record that the change can be made to, changed."""
    theirs = History(op for op in records if op.workload == workload)
    for op in reversed(theirs):
        if op.type == "ok" and (changes := change(op, theirs)) is not None:
            return msgspec.structs.replace(op, **changes)
    raise AssertionError(f"no record of {workload} can be changed so")


@pytest.mark.parametrize(("checker", "change", "anomaly"), PLANTED, ids=[f"{c}: {a}" for c, _, a in PLANTED])
def test_a_planted_violation_is_caught_by_name(
    recorded: History, together: Together, checker: str, change: Change, anomaly: str
) -> None:
    workload = checker.partition("/")[0]
    changed = planted(recorded, workload, change)
    concerned = [each for each in together.checkers if each.name == checker or not each.name.startswith(workload)]
    results = judged(concerned, History(changed if op.index == changed.index else op for op in recorded))
    result = results.pop(checker)
    assert result.verdict is Verdict.INVALID, result.reason
    found = [each for each in result.anomalies if re.fullmatch(anomaly, each.name)]
    assert found, [each.name for each in result.anomalies]
    named = [txn["invoked_at"] for each in found for txn in each.details.get("transactions", {}).values()]
    assert all((recorded[at].workload, recorded[at].type) == (workload, "invoke") for at in named)
    assert all(op.workload == workload for each in found for op in each.ops)
    assert {each.verdict for each in results.values()} == {Verdict.VALID}, "of the other workloads"
