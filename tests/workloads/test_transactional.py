"""The workloads over transactions: what their generators make, for every outcome and number of clients."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from splitvote.harness.errors import ConfigError
from splitvote.harness.generator import clients, lift, limit, time_limit
from splitvote.harness.generator.simulation import imperfect, invocations, perfect, quick
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.workloads import Workload, WorkloadOptions, workload_named

WORKLOADS = ("append", "wr", "set", "bank", "counter", "queue", "unique-ids", "long-fork", "causal")
EVERY = pytest.mark.parametrize("name", WORKLOADS)


def made(name: str, concurrency: int = 10, **options: Any) -> Workload:
    return workload_named(name, WorkloadOptions(**{"concurrency": concurrency, "rate": 200.0} | options))


def simulated(name: str, concurrency: int = 10, seconds: float = 5, **options: Any) -> list[Op]:
    generator = clients(made(name, concurrency, **options).generator)
    return list(invocations(perfect(time_limit(seconds, generator), concurrency=concurrency)))


def micro_ops(ops: list[Op]) -> list[list[Any]]:
    return [micro_op for op in ops for micro_op in op.value]


@EVERY
@pytest.mark.parametrize("concurrency", [1, 4, 10])
def test_every_thread_takes_part_at_the_rate(name: str, concurrency: int) -> None:
    ops = simulated(name, concurrency)
    assert {op.process for op in ops} == set(range(concurrency))
    assert len(ops) == pytest.approx(1000, rel=0.02)


@EVERY
def test_every_kind_that_is_needed_occurs_often_enough(name: str) -> None:
    kinds = Counter(op.f for op in simulated(name))
    least = made(name).least_ok
    assert set(least) <= set(kinds)
    assert all(kinds[f] >= needed for f, needed in least.items())


@EVERY
def test_crashing_and_failing_clients_do_not_stop_it(name: str) -> None:
    ops = imperfect(time_limit(5, clients(made(name).generator)), concurrency=10)
    assert len([op for op in ops if op.type == "info"]) > 100
    assert len(History(ops).operations) > 900


@EVERY
def test_it_ends_by_itself_after_the_faults(name: str) -> None:
    workload = made(name)
    keys = list(dict.fromkeys(op.key for op in simulated(name) if op.key is not None))
    ending = workload.final(keys)
    assert ending is not None
    assert 0 < len(list(invocations(quick(lift(ending), concurrency=10, max_ops=20_000)))) < 20_000


@pytest.mark.parametrize(("name", "kinds"), [("set", ["add", "read"]), ("counter", ["read"]), ("causal", ["read"])])
def test_the_end_is_on_every_key(name: str, kinds: list[str]) -> None:
    ops = list(invocations(quick(lift(made(name).final([3, 5, 9])), concurrency=2)))
    assert sorted((op.key, op.f) for op in ops) == [(key, kind) for key in (3, 5, 9) for kind in kinds]
    assert made(name).final([]) is None


def test_a_queue_is_emptied_until_it_says_so() -> None:
    """With answers that are never None, as many times as there can be elements and some more."""
    full = list(invocations(imperfect(lift(made("queue", ops_per_key=30).final([1])), concurrency=1)))
    assert [op.f for op in full[:2]] == ["enqueue", "enqueue"]
    assert [op.f for op in quick(lift(made("queue").final([1])), concurrency=1) if op.type == "ok"] == [
        "enqueue",
        "dequeue",  # answers None
    ]


@pytest.mark.parametrize("name", ["append", "wr"])
def test_no_value_is_written_twice_and_keys_come_and_go(name: str) -> None:
    written = "append" if name == "append" else "w"
    ops = simulated(name, seconds=20, ops_per_key=100, keys=3)
    values = [value for f, _, value in micro_ops(ops) if f == written]
    assert len(values) == len(set(values)) > 3000
    touched = Counter(key for _, key, _ in micro_ops(ops))
    assert sorted(touched) == list(range(max(touched) + 1))
    inner = [touched[key] for key in range(3, max(touched) - 3)]
    assert sum(inner) / len(inner) == pytest.approx(100, rel=0.1)
    first = {key: place for place, op in reversed(list(enumerate(ops))) for _, key, _ in op.value}
    last = {key: place for place, op in enumerate(ops) for _, key, _ in op.value}
    assert all(first[key + 4] > last[key] - 10 for key in range(max(touched) - 4)), "more than three keys at a time"


def test_a_wr_transaction_writes_a_key_once_and_an_append_may_append_twice() -> None:
    def most_writes(name: str) -> int:
        per_txn = (Counter(key for f, key, _ in op.value if f != "r") for op in simulated(name, keys=2))
        return max(max(each.values(), default=0) for each in per_txn)

    assert most_writes("wr") == 1
    assert most_writes("append") > 1


@pytest.mark.parametrize("name", ["set", "queue"])
def test_elements_are_unique(name: str) -> None:
    added = [op.value for op in simulated(name) if op.f in ("add", "enqueue")]
    assert len(added) == len(set(added)) > 300
    assert min(added) >= 0, "the last element is -1"


def test_every_account_is_opened_before_anything_else() -> None:
    ops = simulated("bank")
    kinds = [op.f for op in ops]
    opened = kinds.count("open")
    assert kinds[:opened] == ["open"] * opened
    assert sum(ops[0].value.values()) == 80
    assert all(op.value["from"] != op.value["to"] for op in ops if op.f == "transfer")
    assert {account for op in ops if op.f == "transfer" for account in (op.value["from"], op.value["to"])} == set(
        ops[0].value
    )


def test_the_bank_waits_for_an_opening_that_was_ok() -> None:
    ops = imperfect(limit(30, clients(made("bank").generator)), concurrency=2)
    opened = next(op.index for op in ops if op.f == "open" and op.type == "ok")
    assert all(op.index > opened for op in ops if op.f != "open")


@pytest.mark.parametrize(("ops_per_key", "size"), [(8, 2), (200, 25), (10_000, 64)])
def test_a_long_forks_groups_are_written_in_pairs_once_a_key(ops_per_key: int, size: int) -> None:
    ops = simulated("long-fork", concurrency=1, seconds=30, ops_per_key=ops_per_key)
    written = [op.value[0][1] for op in ops if op.f == "write"]
    assert len(written) == len(set(written)) > 50
    assert all(len(op.value) == size for op in ops if op.f == "read")
    assert all({key // size for _, key, _ in op.value} == {op.key} for op in ops)
    places = [place for place, op in enumerate(ops) if op.f == "write"]
    adjacent = sum(b - a == 1 for a, b in pairwise(places))
    assert adjacent > 0.45 * len(places), "but for groups whose operations ended within a pair"


def test_a_causal_client_links_each_operation_to_the_one_before() -> None:
    """Positions come from the completions, here without any; after a write of unknown outcome nothing is linked."""
    ops = imperfect(time_limit(5, clients(made("causal", concurrency=1, ops_per_key=500).generator)), concurrency=1)
    crashed = next(op.index for op in ops if op.type == "info" and op.f == "write")
    invokes = [op for op in ops if op.type == "invoke"]
    assert invokes[0].f == "read-init"
    assert Counter(op.f for op in invokes)["read-init"] == len({op.key for op in invokes})
    first_key = [op for op in invokes if op.key == invokes[0].key]
    assert all(op.extra == {"link": "init"} for op in first_key if op.index < crashed)
    assert all(op.extra is None for op in first_key if op.index > crashed)


@pytest.mark.parametrize("name", ["append", "wr", "set", "bank", "long-fork"])
def test_serializable_reads_are_marked_and_the_final_ones_are_not(name: str) -> None:
    weaker = made(name, extra={"reads": "serializable"})
    ops = list(invocations(perfect(time_limit(5, clients(weaker.generator)), concurrency=10)))
    marked = [op for op in ops if op.extra == {"serializable": True}]
    assert marked
    assert all(op.f in ("read", "txn") for op in marked)
    assert all(f == "r" for op in marked if op.f == "txn" for f, _, _ in op.value)
    final = invocations(quick(lift(weaker.final([1])), concurrency=10))
    assert all(op.extra is None for op in final)
    assert all(op.extra is None for op in simulated(name))


@pytest.mark.parametrize(
    ("name", "option"),
    [("append", "reads"), ("wr", "reads"), ("set", "held"), ("set", "reads"), ("unique-ids", "ids")],
)
def test_an_unknown_choice_is_refused(name: str, option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        made(name, extra={option: "sometimes"})


def test_a_bank_has_no_more_accounts_than_one_transaction_opens() -> None:
    assert len(simulated("bank", keys=100)[0].value) == 100
    with pytest.raises(ConfigError, match="give 100 at most"):
        made("bank", keys=101)


@pytest.mark.parametrize(("keys", "at_a_time"), [(1, 1), (3, 3), (5, 5), (10, 10), (99, 10)])
def test_the_clients_share_out_over_the_keys_that_are_asked_for(keys: int, at_a_time: int) -> None:
    ops = simulated("counter", keys=keys, ops_per_key=10_000)
    assert len({op.key for op in ops}) == at_a_time
