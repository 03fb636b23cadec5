"""The bindings over transactions: what is recorded for each outcome, on a real member and on a scripted one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from splitvote.harness.errors import ConfigError, SplitvoteError, TransportError
from splitvote.harness.etcd.bindings import Services, binding_of
from splitvote.harness.etcd.bindings.bank import TOO_POOR
from splitvote.harness.etcd.bindings.queue import TAKEN
from splitvote.harness.etcd.bindings.transactions import GUARD_FAILED, Attempt
from splitvote.harness.etcd.connection import Connections
from splitvote.harness.etcd.methods import DELETE_RANGE, PUT, RANGE, TXN
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op

WORKLOADS = ("append", "wr", "set", "bank", "counter", "queue", "unique-ids", "long-fork", "causal")


def no_event(op: Op) -> None:
    raise AssertionError(f"transactions emit no events: {op}")


# Each operation against one member.


@pytest.fixture
def ask(one: Any, connected: Callable[..., Any]) -> Callable[..., list[Op]]:
    """Operations of one workload, one after another, against the member; its keys are removed before."""

    def go(workload: str, *ops: Op, **options: Any) -> list[Op]:
        async def body(connections: Connections) -> list[Op]:
            await wipe(connections, workload)
            binding = binding_of([workload], Services(nodes=connections, options=options, timeout_s=30))
            client = await binding.open(4, "n1")
            await client.setup()
            done = [await client.invoke(op, no_event) for op in ops]
            await client.teardown()
            await client.close()
            await binding.close()
            return done

        done: list[Op] = connected(one, body)
        assert {op.node for op in done} == {"n1"}
        assert [op for op in done if op.revision is None] == []
        return done

    return go


async def wipe(connections: Connections, workload: str) -> None:
    begin, end = f"{workload}/".encode(), f"{workload}0".encode()
    request = pb.DeleteRangeRequest(key=begin, range_end=end)
    await connections["n1"].unary(DELETE_RANGE, request, timeout_s=60)


def outcomes(ops: Sequence[Op]) -> list[tuple[str, Any]]:
    return [(op.type, op.value) for op in ops]


def txn(*micro_ops: list[Any]) -> Op:
    return Op(f="txn", value=list(micro_ops))


@pytest.mark.etcd
def test_append_reads_its_own_appends_and_those_before(ask: Callable[..., list[Op]]) -> None:
    done = ask(
        "append",
        txn(["r", 2, None], ["append", 2, 5], ["r", 2, None], ["append", 2, 6], ["r", 0, None]),
        txn(["append", 0, 7], ["r", 2, None]),
        txn(["r", 0, None], ["r", 2, None]),
        txn(["r", None, None]),
    )
    assert outcomes(done) == [
        ("ok", [["r", 2, []], ["append", 2, 5], ["r", 2, [5]], ["append", 2, 6], ["r", 0, []]]),
        ("ok", [["append", 0, 7], ["r", 2, [5, 6]]]),
        ("ok", [["r", 0, [7]], ["r", 2, [5, 6]]]),
        ("ok", [["r", 0, [7]], ["r", 1, []], ["r", 2, [5, 6]]]),
    ]
    first = done[0].revision
    assert first is not None
    assert [op.revision for op in done] == [first, first + 1, first + 1, first + 1]


@pytest.mark.etcd
def test_wr_is_one_step_whose_reads_see_the_writes_before_them(ask: Callable[..., list[Op]]) -> None:
    done = ask(
        "wr",
        txn(["r", 1, None], ["w", 1, 10], ["r", 1, None], ["w", 0, 11]),
        txn(["r", 0, None], ["r", 1, None], ["r", 7, None]),
        txn(["r", None, None]),
    )
    assert outcomes(done) == [
        ("ok", [["r", 1, None], ["w", 1, 10], ["r", 1, 10], ["w", 0, 11]]),
        ("ok", [["r", 0, 11], ["r", 1, 10], ["r", 7, None]]),
        ("ok", [["r", 0, 11], ["r", 1, 10]]),
    ]


@pytest.mark.etcd
@pytest.mark.parametrize("held", ["keys", "value"])
def test_a_set_holds_what_was_added_once(ask: Callable[..., list[Op]], held: str) -> None:
    adds = [Op(f="add", key=1, value=value) for value in (10, 9, -1, 9)]
    done = ask("set", Op(f="read", key=1), *adds, Op(f="read", key=1), Op(f="read", key=11), held=held)
    assert {op.type for op in done} == {"ok"}
    assert [op.value for op in done[:5]] == [[], 10, 9, -1, 9]
    assert (sorted(done[5].value), done[6].value) == ([-1, 9, 10], [])


@pytest.mark.etcd
def test_the_bank_opens_once_and_never_overdraws(ask: Callable[..., list[Op]]) -> None:
    def transfer(amount: int) -> Op:
        return Op(f="transfer", value={"from": "0", "to": "1", "amount": amount})

    opening = Op(f="open", value={"0": 10, "1": 10})
    done = ask("bank", opening, transfer(4), opening, transfer(7), transfer(6), Op(f="read"))
    assert [op.type for op in done] == ["ok", "ok", "ok", "fail", "ok", "ok"]
    assert done[3].error == TOO_POOR
    assert done[-1].value == {"0": 0, "1": 20}


@pytest.mark.etcd
def test_a_counter_starts_at_zero(ask: Callable[..., list[Op]]) -> None:
    done = ask(
        "counter", *(Op(f=f, key=3, value=v) for f, v in (("read", None), ("add", 5), ("add", -7), ("read", None)))
    )
    assert outcomes(done) == [("ok", 0), ("ok", 5), ("ok", -7), ("ok", -2)]


@pytest.mark.etcd
def test_a_queue_gives_back_in_the_order_of_enqueueing(ask: Callable[..., list[Op]]) -> None:
    dequeue = Op(f="dequeue", key=1)
    puts = [Op(f="enqueue", key=key, value=value) for key, value in ((1, 30), (1, 4), (11, 1), (1, -1))]
    done = ask("queue", dequeue, *puts, dequeue, dequeue, dequeue, dequeue)
    assert {op.type for op in done} == {"ok"}
    assert [op.value for op in done if op.f == "dequeue"] == [None, 30, 4, -1, None]


@pytest.mark.etcd
def test_ids_are_revisions_or_versions(ask: Callable[..., list[Op]]) -> None:
    generate = [Op(f="generate", key=key) for key in (0, 1, 0)]
    by_revision = ask("unique-ids", *generate)
    assert [op.value for op in by_revision] == [op.revision for op in by_revision]
    assert [op.value for op in ask("unique-ids", *generate, ids="version")] == [[0, 1], [1, 1], [0, 2]]


@pytest.mark.etcd
def test_long_fork_reads_a_group_at_once(ask: Callable[..., list[Op]]) -> None:
    read = Op(f="read", value=[["r", 4, None], ["r", 5, None]], extra={"serializable": True})
    done = ask("long-fork", read, Op(f="write", value=[["w", 5, 9]]), read)
    assert outcomes(done) == [
        ("ok", [["r", 4, None], ["r", 5, None]]),
        ("ok", [["w", 5, 9]]),
        ("ok", [["r", 4, None], ["r", 5, 9]]),
    ]
    assert done[2].extra == {"serializable": True}


@pytest.mark.etcd
def test_causal_tells_what_it_replaced_and_what_it_made(ask: Callable[..., list[Op]]) -> None:
    linked: dict[str, Any] = {"key": 2, "extra": {"link": "init"}}
    done = ask(
        "causal",
        Op(f="read-init", **linked),
        Op(f="write", value=5, **linked),
        Op(f="write", value=6, **linked),
        Op(f="read", **linked),
        Op(f="read", key=2),
    )
    first = done[1].revision
    assert first is not None
    assert [(op.value, op.extra) for op in done] == [
        (None, {"link": "init", "position": "init"}),
        (5, {"link": "init", "position": first}),
        (6, {"link": first, "position": first + 1}),
        (6, {"link": first + 1, "position": first + 1}),
        (6, None),
    ]


@pytest.mark.etcd
@pytest.mark.parametrize("workload", WORKLOADS)
def test_an_operation_that_is_none_is_refused(ask: Callable[..., list[Op]], workload: str) -> None:
    with pytest.raises(ConfigError, match=f"{workload} has no operation 'burn'; it has "):
        ask(workload, Op(f="burn"))


# What interferes between an operation's read and its write, and what fails, on a scripted seam.


class Scripted:
    """A seam that answers each call with the next line of its script, and keeps what it was asked."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.asked: list[tuple[Any, Any]] = []

    async def unary(self, method: Any, request: Any, *, timeout_s: float) -> Any:
        assert 0 <= timeout_s <= 1.5
        self.asked.append((method, request))
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def stream(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError("transactions need no streams")

    async def close(self) -> None:
        raise AssertionError("the seam is not the binding's to close")


def do(workload: str, op: Op, *script: Any, **options: Any) -> tuple[Op, Scripted]:
    """One operation against a script that must be used up; its completion and what was asked."""
    rpc = Scripted(*script)

    async def go() -> Op:
        binding = binding_of([workload], Services(nodes={"n1": rpc}, options=options))  # type: ignore[arg-type]
        client = await binding.open(0, "n1")
        return await client.invoke(op, no_event)

    completion = asyncio.run(go())
    assert not rpc.script, f"never asked for: {rpc.script}"
    return completion, rpc


def ranged(*kvs: pb.KeyValue) -> pb.RangeResponse:
    return pb.RangeResponse(header=pb.ResponseHeader(revision=20), kvs=kvs)


def ranged_txn(*found: bytes | None) -> pb.TxnResponse:
    """The answer to a read of several keys, absent or last changed at revision 12."""
    parts = [ranged(*([] if value is None else [pb.KeyValue(value=value, mod_revision=12)])) for value in found]
    return pb.TxnResponse(
        header=pb.ResponseHeader(revision=20), responses=[pb.ResponseOp(response_range=part) for part in parts]
    )


def guarded(succeeded: bool) -> pb.TxnResponse:
    return pb.TxnResponse(header=pb.ResponseHeader(revision=21), succeeded=succeeded)


LOST = TransportError("DEADLINE_EXCEEDED", "Deadline Exceeded")
GUARDED: list[tuple[str, Op, Any, dict[str, Any]]] = [
    ("append", txn(["r", 1, None], ["append", 2, 9]), ranged_txn(None, b"7"), {}),
    ("bank", Op(f="transfer", value={"from": "0", "to": "1", "amount": 2}), ranged_txn(b"5", b"5"), {}),
    ("counter", Op(f="add", key=1, value=4), ranged(pb.KeyValue(value=b"3", mod_revision=12)), {}),
    ("set", Op(f="add", key=1, value=4), ranged(pb.KeyValue(value=b"3", mod_revision=12)), {"held": "value"}),
    ("queue", Op(f="dequeue", key=1), ranged(pb.KeyValue(key=b"queue/1/8", mod_revision=12)), {}),
]
EACH_GUARDED = pytest.mark.parametrize(
    ("workload", "op", "seen", "options"), GUARDED, ids=[each[0] for each in GUARDED]
)


@EACH_GUARDED
def test_every_key_that_was_read_guards_the_write(workload: str, op: Op, seen: Any, options: dict[str, Any]) -> None:
    done, rpc = do(workload, op, seen, guarded(True), **options)
    assert (done.type, done.revision) == ("ok", 21)
    request = rpc.asked[-1][1]
    assert {compare.target for compare in request.compare} == {pb.Compare.MOD}
    assert {compare.result for compare in request.compare} == {pb.Compare.EQUAL}
    expected = {"append": [0, 12], "bank": [12, 12]}.get(workload, [12])
    assert [compare.mod_revision for compare in request.compare] == expected
    written = {part.request_put.key or part.request_delete_range.key for part in request.success}
    assert written <= {compare.key for compare in request.compare}


@EACH_GUARDED
def test_a_guard_that_failed_is_a_fail_and_nothing_is_tried_again(
    workload: str, op: Op, seen: Any, options: dict[str, Any]
) -> None:
    done, _ = do(workload, op, seen, guarded(False), **options)
    assert (done.type, done.value, done.revision) == ("fail", op.value if workload != "queue" else None, 21)
    assert done.error == (TAKEN if workload == "queue" else GUARD_FAILED)


@EACH_GUARDED
def test_a_lost_read_is_a_fail_and_a_lost_write_is_not(
    workload: str, op: Op, seen: Any, options: dict[str, Any]
) -> None:
    before, _ = do(workload, op, LOST, **options)
    assert (before.type, before.value, before.error) == ("fail", op.value, "deadline: Deadline Exceeded")
    after, _ = do(workload, op, seen, LOST, **options)
    assert (after.type, after.error) == ("info", "deadline: Deadline Exceeded")
    assert after.value == (8 if workload == "queue" else op.value), "a dequeue says what it may have taken"


@pytest.mark.parametrize(
    ("workload", "op"),
    [
        ("wr", txn(["r", 1, None], ["w", 1, 2])),
        ("long-fork", Op(f="write", value=[["w", 1, 2]])),
        ("set", Op(f="add", key=1, value=2)),
        ("bank", Op(f="open", value={"0": 1})),
        ("queue", Op(f="enqueue", key=1, value=2)),
        ("unique-ids", Op(f="generate", key=1)),
        ("causal", Op(f="write", key=1, value=2)),
    ],
)
def test_a_write_without_a_read_is_unknown_when_it_is_lost_and_failed_when_refused(workload: str, op: Op) -> None:
    done, _ = do(workload, op, LOST)
    assert (done.type, done.value) == ("info", op.value)
    refused, _ = do(workload, op, TransportError("RESOURCE_EXHAUSTED", "etcdserver: too many requests"))
    assert refused.type == "fail"


@pytest.mark.parametrize(
    ("workload", "op"),
    [
        ("append", txn(["r", 1, None])),
        ("append", txn(["r", None, None])),
        ("wr", txn(["r", 1, None], ["r", 2, None])),
        ("long-fork", Op(f="read", value=[["r", 1, None]])),
        ("set", Op(f="read", key=1)),
        ("bank", Op(f="read")),
    ],
)
def test_reads_are_serializable_where_the_invocation_says_so(workload: str, op: Op) -> None:
    def reads(asked: Op) -> set[bool]:
        _, rpc = do(workload, asked, LOST)
        [(method, request)] = rpc.asked
        parts = [request] if method is RANGE else [part.request_range for part in request.success]
        return {part.serializable for part in parts}

    assert reads(op) == {False}
    assert reads(msgspec.structs.replace(op, extra={"serializable": True})) == {True}


@pytest.mark.parametrize(
    ("workload", "op", "seen", "value"),
    [
        ("append", txn(["r", 1, None]), ranged_txn(b"1,x"), [["r", 1, [1, "x"]]]),
        ("wr", txn(["r", 1, None]), ranged_txn(b"\xff"), [["r", 1, "base64:/w=="]]),
        ("counter", Op(f="read", key=1), ranged(pb.KeyValue(value=b"one")), "one"),
        ("bank", Op(f="read"), ranged(pb.KeyValue(key=b"bank/0", value=b"much")), {"0": None}),
        ("queue", Op(f="dequeue", key=1), ranged(pb.KeyValue(key=b"queue/1/x")), "x"),
    ],
)
def test_what_no_client_wrote_is_recorded_for_the_checker_to_see(workload: str, op: Op, seen: Any, value: Any) -> None:
    done, _ = do(workload, op, seen, *([guarded(True)] if workload == "queue" else []))
    assert (done.type, done.value) == ("ok", value)


def test_nothing_is_built_on_a_counter_or_an_account_that_holds_no_number() -> None:
    counter, _ = do("counter", Op(f="add", key=1, value=1), ranged(pb.KeyValue(value=b"one")))
    transfer = Op(f="transfer", value={"from": "0", "to": "1", "amount": 2})
    account, _ = do("bank", transfer, ranged_txn(b"5", None))
    assert (counter.type, account.type) == ("fail", "fail")


def test_an_operation_that_writes_twice_is_our_own_mistake() -> None:
    async def twice() -> None:
        attempt = Attempt(Op(f="twice"), Scripted(LOST), node="n1", prefix="x/", timeout_s=1)
        with pytest.raises(TransportError):
            await attempt.write(TXN, pb.TxnRequest())
        await attempt.write(PUT, pb.PutRequest())

    with pytest.raises(SplitvoteError, match="'twice' has written already"):
        asyncio.run(twice())
