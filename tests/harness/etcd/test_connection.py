"""The seam on grpc.aio: deadlines, broken and refused connections, streams, closing, options."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.connection import ConnectionOptions, Connections, GrpcRpc, Tls
from splitvote.harness.etcd.outcomes import outcome
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from tests.harness.etcd.conftest import PATIENT

BOUND_S = 120.0
PROBE = pb.RangeRequest(key=b"probe")
PUT = pb.PutRequest(key=b"connection/key", value=b"1")


@asynccontextmanager
async def answering(handler: Callable[[Any, Any], Awaitable[pb.RangeResponse]]) -> AsyncIterator[str]:
    """A gRPC server of our own that answers KV/Range with the handler; its address."""
    import grpc
    import grpc.aio

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(
        handler, pb.RangeRequest.FromString, pb.RangeResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("etcdserverpb.KV", {"Range": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def fails(call: Awaitable[object]) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await call
    return caught.value


def test_a_failed_call_is_made_once() -> None:
    """SOUNDNESS 20: a retried call may see its own earlier success."""
    import grpc

    calls = []

    async def refuse(request: pb.RangeRequest, context: Any) -> pb.RangeResponse:
        calls.append(request.key)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: leader changed")
        raise AssertionError("abort returned")

    async def body() -> TransportError:
        async with answering(refuse) as endpoint:
            rpc = GrpcRpc(endpoint, PATIENT)
            error = await fails(rpc.unary(m.RANGE, PROBE, timeout_s=30))
            await rpc.close()
        return error

    error = asyncio.run(body())
    assert (error.code, error.message) == ("UNAVAILABLE", "etcdserver: leader changed")
    assert calls == [b"probe"]


def test_a_call_refused_by_the_transport_is_made_once_too() -> None:
    """A GOAWAY that disowns the call is what gRPC retries on its own, without any policy, where retries are enabled."""
    headers, settings, goaway = 1, 4, 7
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        writers.append(writer)
        try:
            await reader.readexactly(len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
            writer.write(bytes([0, 0, 0, settings, 0, 0, 0, 0, 0]))
            while True:
                length, kind = struct.unpack(">3sB5x", await reader.readexactly(9))
                await reader.readexactly(int.from_bytes(length))
                if kind == headers:
                    seen += 1
                    last_stream = no_error = 0
                    writer.write(struct.pack(">3sBBIII", (8).to_bytes(3), goaway, 0, 0, last_stream, no_error))
        except (asyncio.IncompleteReadError, ConnectionError):  # what the client had not read makes a reset of its end
            with suppress(ConnectionError):
                await writer.wait_closed()
            ended.set()

    async def body() -> TransportError:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        rpc = GrpcRpc(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", PATIENT)
        error = await fails(rpc.unary(m.PUT, PUT, timeout_s=30))
        await rpc.close()
        server.close()
        for writer in writers:
            writer.close()
        async with asyncio.timeout(BOUND_S):
            await ended.wait()
        return error

    ended = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []
    error = asyncio.run(body())
    assert error.code == "UNAVAILABLE"
    assert outcome(error, is_read=False).type == "info"
    assert seen == 1


def test_a_call_the_server_cancels_is_a_transport_error_and_not_a_cancelled_task() -> None:
    import grpc

    async def cancel(request: pb.RangeRequest, context: Any) -> pb.RangeResponse:
        await context.abort(grpc.StatusCode.CANCELLED, "etcdserver: request cancelled")
        raise AssertionError("abort returned")

    async def body() -> TransportError:
        async with answering(cancel) as endpoint:
            rpc = GrpcRpc(endpoint, PATIENT)
            error = await fails(rpc.unary(m.RANGE, PROBE, timeout_s=30))
            await rpc.close()
        return error

    error = asyncio.run(body())
    assert error.code == "CANCELLED"
    assert outcome(error, is_read=False).type == "info"


def test_calls_share_the_nodes_few_connections() -> None:
    peers = []

    async def answer(request: pb.RangeRequest, context: Any) -> pb.RangeResponse:
        peers.append(context.peer())
        return pb.RangeResponse(count=1)

    async def body() -> None:
        async with answering(answer) as endpoint:
            rpc = GrpcRpc(endpoint, ConnectionOptions(channels=3, connect_timeout_ms=PATIENT.connect_timeout_ms))
            await asyncio.gather(*(rpc.unary(m.RANGE, PROBE, timeout_s=30) for _ in range(60)))
            await rpc.close()

    asyncio.run(body())
    assert len(peers) == 60
    assert len(set(peers)) == 3


def test_the_deadline_is_the_calls_own() -> None:
    async def body() -> tuple[TransportError, float]:
        async def sleep(request: pb.RangeRequest, context: Any) -> pb.RangeResponse:
            await released.wait()
            return pb.RangeResponse()

        released = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with answering(sleep) as endpoint:
            rpc = GrpcRpc(endpoint, PATIENT)
            started_s = loop.time()
            async with asyncio.timeout(BOUND_S):  # the server would never answer
                error = await fails(rpc.unary(m.RANGE, PROBE, timeout_s=0.3))
            elapsed_s = loop.time() - started_s
            released.set()
            await rpc.close()
        return error, elapsed_s

    error, elapsed_s = asyncio.run(body())
    assert error.code == "DEADLINE_EXCEEDED"
    assert elapsed_s > 0.25


def test_a_dead_endpoint_is_a_definite_failure() -> None:
    import socket

    async def body(port: int) -> TransportError:
        rpc = GrpcRpc(f"127.0.0.1:{port}")
        error = await fails(rpc.unary(m.PUT, PUT, timeout_s=30))
        await rpc.close()
        return error

    with socket.socket() as bound:  # bound and not listening: nobody else can take the port meanwhile
        bound.bind(("127.0.0.1", 0))
        error = asyncio.run(body(bound.getsockname()[1]))
    judged = outcome(error, is_read=False)
    assert (judged.name, judged.type) == ("not-connected", "fail")


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    async def answer(request: pb.RangeRequest, context: Any) -> pb.RangeResponse:
        return pb.RangeResponse(count=7)

    async def body() -> int:
        async with answering(answer) as endpoint:
            rpc = GrpcRpc(endpoint, PATIENT)
            count = (await rpc.unary(m.RANGE, PROBE, timeout_s=30)).count
            await rpc.close()
        return count

    assert asyncio.run(body()) == 7


def test_closing_under_a_call_is_a_transport_error_and_leaves_no_task() -> None:
    async def body() -> None:
        async def sleep(request: pb.RangeRequest, context: Any) -> pb.RangeResponse:
            arrived.set()
            await released.wait()
            return pb.RangeResponse()

        arrived, released = asyncio.Event(), asyncio.Event()
        async with answering(sleep) as endpoint:
            rpc = GrpcRpc(endpoint, PATIENT)
            before = asyncio.all_tasks()
            call = asyncio.create_task(fails(rpc.unary(m.RANGE, PROBE, timeout_s=BOUND_S)))
            async with asyncio.timeout(BOUND_S):
                await arrived.wait()
            await rpc.close()
            error = await call
            released.set()
            assert error.code == "CANCELLED"
            assert outcome(error, is_read=False).type == "info"
            async with asyncio.timeout(BOUND_S):
                while any("unary_unary" in repr(task.get_coro()) for task in asyncio.all_tasks() - before):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            assert (await fails(rpc.unary(m.RANGE, PROBE, timeout_s=1))).code == "CANCELLED"
            await rpc.close()

    asyncio.run(body())


def test_cancelling_the_task_of_a_call_cancels_the_task() -> None:
    async def body() -> bool:
        async def sleep(request: pb.RangeRequest, context: Any) -> pb.RangeResponse:
            arrived.set()
            await released.wait()
            return pb.RangeResponse()

        arrived, released = asyncio.Event(), asyncio.Event()
        async with answering(sleep) as endpoint:
            rpc = GrpcRpc(endpoint, PATIENT)
            call = asyncio.create_task(rpc.unary(m.RANGE, PROBE, timeout_s=BOUND_S))
            async with asyncio.timeout(BOUND_S):
                await arrived.wait()
            call.cancel()
            (outcome,) = await asyncio.gather(call, return_exceptions=True)
            released.set()
            await rpc.close()
        return isinstance(outcome, asyncio.CancelledError)

    assert asyncio.run(body())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConnectionOptions(user="root"), "password"),
        (lambda: ConnectionOptions(password="secret"), "user"),
        (lambda: ConnectionOptions(channels=0), "channels=0"),
        (lambda: ConnectionOptions(tls=Tls(ca=Path("/nowhere/ca.pem"))), "/nowhere/ca.pem"),
        (lambda: ConnectionOptions(tls=Tls(ca=Path(__file__), cert=Path(__file__))), "key"),
        (lambda: GrpcRpc("https://127.0.0.1:2379"), "TLS options"),
        (
            lambda: GrpcRpc("http://127.0.0.1:2379", ConnectionOptions(tls=Tls(ca=Path(__file__)))),
            "no TLS endpoint",
        ),
    ],
)
def test_impossible_options_are_refused_with_the_reason(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_a_password_is_not_shown() -> None:
    assert "hunter2" not in repr(ConnectionOptions(user="root", password="hunter2"))


@pytest.mark.etcd
def test_a_cancelled_receive_loses_nothing(one: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        stream = await rpc.stream(m.WATCH)
        await stream.send(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"connection/patient")))
        assert (await stream.receive()) is not None
        for value in (b"1", b"2"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await stream.receive()
            await rpc.unary(m.PUT, pb.PutRequest(key=b"connection/patient", value=value), timeout_s=30)
            answer = await stream.receive()
            assert answer is not None
            assert [event.kv.value for event in answer.events] == [value]

    connected(one, body)


@pytest.mark.etcd
def test_a_stream_ends_when_cancelled(one: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        stream = await connections["n1"].stream(m.WATCH)
        await stream.send(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"connection/ended")))
        assert (await stream.receive()) is not None
        waiting = asyncio.create_task(fails(stream.receive()))
        await asyncio.sleep(0)
        stream.cancel()
        stream.cancel()
        assert (await waiting).code == "CANCELLED"
        assert (await fails(stream.receive())).code == "CANCELLED"
        assert (await fails(stream.send(pb.WatchRequest()))).code == "CANCELLED"

    connected(one, body)


@pytest.mark.etcd
def test_a_stream_has_a_deadline(one: Any, connected: Callable[..., Any]) -> None:
    create = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"connection/bounded"))

    async def body(connections: Connections) -> None:
        # A slow machine needs longer than the shortest of these until the watch is there.
        for deadline_s in (0.3, 3.0, 30.0):
            stream = await connections["n1"].stream(m.WATCH, timeout_s=deadline_s)
            with suppress(TransportError):
                await stream.send(create)
                if await stream.receive() is not None:
                    break
        else:
            raise AssertionError("no watch was created")
        async with asyncio.timeout(BOUND_S):
            error = await fails(stream.receive())
        # Both sides know the deadline; etcd words its end of a watch as a cancellation.
        assert error.code in ("DEADLINE_EXCEEDED", "CANCELLED")

    connected(one, body)


@pytest.mark.etcd
def test_a_stream_to_a_dead_node_fails_as_never_connected(three: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        three["n3"].kill()
        try:
            stream = await connections["n3"].stream(m.LEASE_KEEP_ALIVE)
            error = await fails(stream.send(pb.LeaseKeepAliveRequest(ID=1)))
            assert outcome(error, is_read=False).name == "not-connected"
            server_stream = await connections["n3"].stream(m.SNAPSHOT, pb.SnapshotRequest())
            error = await fails(server_stream.receive())
            assert outcome(error, is_read=False).name == "not-connected"
        finally:
            three["n3"].start()
            await three.ready()

    connected(three, body)


@pytest.mark.etcd
def test_a_stream_that_requires_a_leader_breaks_without_one(
    run_etcd: Callable[..., Any], connected: Callable[..., Any]
) -> None:
    """After three election timeouts, which therefore are short here."""

    async def body(connections: Connections) -> None:
        stream = await connections["n1"].stream(m.WATCH, require_leader=True)
        await stream.send(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"connection/led")))
        assert (await stream.receive()) is not None
        for name in ("n2", "n3"):
            members[name].pause()
        async with asyncio.timeout(BOUND_S):
            error = await fails(stream.receive())
        assert (error.code, error.message) == ("UNAVAILABLE", "etcdserver: no leader")

    with run_etcd(3, flags=["--election-timeout=1000"]) as members:
        connected(members, body)


def unread_bytes(port: int) -> int:
    """Bytes that have reached the process listening on this port and that it has not read."""
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        int(fields[4].partition(":")[2], 16) for fields in sockets if int(fields[1].partition(":")[2], 16) == port
    )


@pytest.mark.etcd
def test_a_member_killed_under_a_call_breaks_it_indefinitely(three: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        for _ in range(4):  # every channel is connected
            await rpc.unary(m.PUT, PUT, timeout_s=30)
        port = int(three["n1"].endpoint.rpartition(":")[2])
        three["n1"].pause()
        try:
            large = pb.PutRequest(key=PUT.key, value=b"x" * 20_000)
            put = asyncio.create_task(fails(rpc.unary(m.PUT, large, timeout_s=BOUND_S)))
            while unread_bytes(port) < len(large.value):
                assert not put.done()
                await asyncio.sleep(0.01)
            three["n1"].kill()
            error = await put
        finally:
            three["n1"].kill()
            three["n1"].start()
            await three.ready()
        judged = outcome(error, is_read=False)
        assert (judged.name, judged.type) == ("broken-stream", "info")

    connected(three, body)
