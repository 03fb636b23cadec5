"""The register binding: what is recorded for each outcome, against real members and a scripted one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd.bindings.register import COMPARE_FAILED, CasOn, RegisterBinding
from splitvote.harness.etcd.connection import Connections
from splitvote.harness.etcd.methods import PUT, RANGE, TXN
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op

BOUND_S = 120.0
BOTH = pytest.mark.parametrize("cas_on", ["value", "mod_revision"])


def no_event(op: Op) -> None:
    raise AssertionError(f"a register emits no events: {op}")


class Scripted:
    """A seam that answers each call with the next line of its script, and keeps what it was asked."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.asked: list[tuple[Any, Any, float]] = []

    async def unary(self, method: Any, request: Any, *, timeout_s: float) -> Any:
        self.asked.append((method, request, timeout_s))
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def stream(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError("a register needs no streams")

    async def close(self) -> None:
        assert not self.script, f"never asked for: {self.script}"


class Nodes(dict[str, Scripted]):
    async def close(self) -> None:
        for node in self.values():
            await node.close()


def do(op: Op, *script: Any, cas_on: CasOn = "value", timeout_s: float = 1.5) -> tuple[Op, Scripted]:
    """One operation against a script; its completion and what was asked."""

    async def go() -> tuple[Op, Scripted]:
        rpc = Scripted(*script)
        binding = RegisterBinding(Nodes(n1=rpc), cas_on=cas_on, timeout_s=timeout_s)
        client = await binding.open(0, "n1")
        completion = await client.invoke(op, no_event)
        await client.close()
        await binding.close()
        return completion, rpc

    return asyncio.run(go())


def shown(value: bytes | None, *, revision: int, mod_revision: int = 0, version: int = 1) -> pb.RangeResponse:
    kvs = [] if value is None else [pb.KeyValue(value=value, mod_revision=mod_revision, version=version)]
    return pb.RangeResponse(header=pb.ResponseHeader(revision=revision), kvs=kvs)


def refused(seen: pb.RangeResponse) -> pb.TxnResponse:
    return pb.TxnResponse(header=seen.header, responses=[pb.ResponseOp(response_range=seen)])


CAS = Op(process=3, f="cas", key=7, value=[1, 2])


@pytest.mark.etcd
@BOTH
def test_a_register_from_absent_to_written(one: Any, connected: Callable[..., Any], cas_on: CasOn) -> None:
    async def body(connections: Connections) -> list[Op]:
        binding = RegisterBinding(connections, prefix=f"register-{cas_on}/", cas_on=cas_on, timeout_s=BOUND_S)
        client = await binding.open(5, "n1")
        await client.setup()
        ops = [
            Op(process=5, f="read", key=1),
            Op(process=5, f="cas", key=1, value=[4, 5]),
            Op(process=5, f="cas", key=1, value=[None, 10]),
            Op(process=5, f="cas", key=1, value=[None, 11]),
            Op(process=5, f="write", key=1, value=-12),
            Op(process=5, f="cas", key=1, value=[-12, 13]),
            Op(process=5, f="cas", key=1, value=[-12, 14]),
            Op(process=5, f="read", key=1),
            Op(process=5, f="read", key=2),
        ]
        done = [await client.invoke(op, no_event) for op in ops]
        await client.teardown()
        await client.close()
        return done

    done = connected(one, body)
    assert [op.type for op in done] == ["ok", "fail", "ok", "fail", "ok", "ok", "fail", "ok", "ok"]
    assert [op.error for op in done if op.type == "fail"] == [COMPARE_FAILED] * 3
    first = done[0].revision
    assert first is not None
    assert [op.revision - first for op in done if op.revision is not None] == [0, 0, 1, 1, 2, 3, 3, 3, 3]
    assert done[0].value is None
    assert done[0].extra is None
    assert done[1].extra == {"observed": True, "saw": None}
    assert done[3].extra == {"observed": True, "saw": 10, "mod_revision": first + 1, "version": 1}
    assert done[6].extra == {"observed": True, "saw": 13, "mod_revision": first + 3, "version": 3}
    assert done[7].value == 13
    assert done[7].extra == {"mod_revision": first + 3, "version": 3}
    assert done[8].value is None
    assert {(op.node, op.process) for op in done} == {("n1", 5)}
    assert {op.key for op in done} == {1, 2}


@pytest.mark.etcd
def test_a_node_that_is_down_fails_definitely_and_a_stopped_one_does_not(
    three: Any, connected: Callable[..., Any]
) -> None:
    async def body(connections: Connections) -> None:
        loop = asyncio.get_running_loop()
        client = await RegisterBinding(connections, timeout_s=BOUND_S).open(0, "n2")
        hasty = await RegisterBinding(connections, timeout_s=0.5).open(0, "n2")
        write, read = Op(f="write", key="down", value=1), Op(f="read", key="down")
        for _ in range(4):  # every channel is connected
            assert (await client.invoke(write, no_event)).type == "ok"
        try:
            three["n2"].pause()
            started_s = loop.time()
            async with asyncio.timeout(BOUND_S):
                paused = await hasty.invoke(write, no_event)
                elapsed_s = loop.time() - started_s
                paused_read = await hasty.invoke(read, no_event)
        finally:
            three["n2"].resume()
        try:
            three["n2"].kill()
            for _ in range(4):  # the first on each channel may meet the broken connection
                await client.invoke(read, no_event)
            down, down_read, down_cas = [await client.invoke(op, no_event) for op in (write, read, CAS)]
        finally:
            three["n2"].start()
            await three.ready()
        assert (paused.type, paused.value, paused.node) == ("info", 1, "n2")
        assert paused.error is not None
        assert paused.error.startswith("deadline: ")
        assert elapsed_s > 0.45
        assert paused_read.type == "fail"
        for op in (down, down_read, down_cas):
            assert op.type == "fail"
            assert op.error is not None
            assert op.error.startswith("not-connected: failed to connect to all addresses")
            assert op.extra is None

        async def is_back() -> bool:
            return (await client.invoke(read, no_event)).type == "ok"

        await three.until(is_back, what="the channels connect again by themselves")

    connected(three, body)


@pytest.mark.parametrize("old", [1, None])
def test_a_cas_on_value_is_one_txn_and_shows_what_it_saw(old: int | None) -> None:
    op = Op(process=3, f="cas", key=7, value=[old, 2])
    done, rpc = do(op, refused(shown(b"9", revision=40, mod_revision=30, version=4)))
    assert (done.type, done.error, done.revision, done.value) == ("fail", COMPARE_FAILED, 40, [old, 2])
    assert done.extra == {"observed": True, "saw": 9, "mod_revision": 30, "version": 4}
    ((method, request, timeout_s),) = rpc.asked
    assert (method, timeout_s) == (TXN, 1.5)
    (compare,) = request.compare
    if old is None:
        assert (compare.target, compare.create_revision, compare.WhichOneof("target_union")) == (
            pb.Compare.CREATE,
            0,
            "create_revision",
        )
    else:
        assert (compare.target, compare.value) == (pb.Compare.VALUE, b"1")
    assert request.success[0].request_put.value == b"2"


def test_a_cas_on_mod_revision_that_finds_another_value_sends_no_txn() -> None:
    done, rpc = do(CAS, shown(b"9", revision=40, mod_revision=30, version=4), cas_on="mod_revision")
    assert (done.type, done.error, done.revision) == ("fail", COMPARE_FAILED, 40)
    assert done.extra == {"observed": True, "saw": 9, "mod_revision": 30, "version": 4}
    assert [method for method, _, _ in rpc.asked] == [RANGE]


def test_a_cas_on_mod_revision_guards_with_the_revision_it_read() -> None:
    succeeded = pb.TxnResponse(header=pb.ResponseHeader(revision=41), succeeded=True)
    done, rpc = do(CAS, shown(b"1", revision=40, mod_revision=30), succeeded, cas_on="mod_revision")
    assert (done.type, done.error, done.revision, done.value) == ("ok", None, 41, [1, 2])
    (_, _, first_s), (_, request, second_s) = rpc.asked
    assert (request.compare[0].target, request.compare[0].mod_revision) == (pb.Compare.MOD, 30)
    assert 0 < second_s <= first_s == 1.5


@pytest.mark.parametrize(("seen", "observed"), [(b"8", True), (b"1", False), (None, True)])
def test_a_cas_overtaken_between_its_calls_observes_only_another_value(seen: bytes | None, observed: bool) -> None:
    """The key rewritten to the very value it had (ABA) fails the guard and says nothing about the value."""
    script = shown(b"1", revision=40, mod_revision=30), refused(shown(seen, revision=42, mod_revision=42))
    done, _ = do(CAS, *script, cas_on="mod_revision")
    assert (done.type, done.error, done.revision) == ("fail", COMPARE_FAILED, 42)
    assert done.extra is not None
    assert done.extra["observed"] is observed
    assert done.extra["saw"] == (None if seen is None else int(seen))


BROKEN = TransportError("UNAVAILABLE", "Socket closed")


def test_a_cas_on_mod_revision_whose_read_failed_certainly_did_not_happen() -> None:
    done, _ = do(CAS, BROKEN, cas_on="mod_revision")
    assert (done.type, done.error, done.extra) == ("fail", "broken-stream: Socket closed", None)


def test_a_cas_on_mod_revision_whose_txn_broke_may_have_happened() -> None:
    done, _ = do(CAS, shown(b"1", revision=40, mod_revision=30), BROKEN, cas_on="mod_revision")
    assert (done.type, done.error, done.extra) == ("info", "broken-stream: Socket closed", None)


@pytest.mark.parametrize(
    ("f", "value", "type_"), [("read", None, "fail"), ("write", 3, "info"), ("cas", [1, 2], "info")]
)
def test_an_error_is_judged_by_what_the_operation_does(f: str, value: Any, type_: str) -> None:
    done, _ = do(Op(process=1, f=f, key=7, value=value), BROKEN)
    assert (done.type, done.error, done.node, done.value) == (type_, "broken-stream: Socket closed", "n1", value)


def test_a_value_no_client_wrote_is_recorded_as_it_is() -> None:
    done, _ = do(Op(f="read", key=7), shown(b"\xff", revision=3, mod_revision=2))
    assert (done.type, done.value) == ("ok", "base64:/w==")


def test_the_keys_of_the_store_carry_the_prefix() -> None:
    put = pb.PutResponse(header=pb.ResponseHeader(revision=5))
    done, rpc = do(Op(f="write", key=17, value=3), put)
    assert (done.type, done.revision) == ("ok", 5)
    ((method, request, _),) = rpc.asked
    assert (method, request.key, request.value) == (PUT, b"register/17", b"3")


def test_an_operation_etcd_has_not_got_ends_the_run() -> None:
    with pytest.raises(ConfigError, match="'increment'; it has read, write, cas"):
        do(Op(f="increment", key=1))
