"""The lease binding against real members: what is recorded for each request, and for streams that end badly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd.bindings import Services, binding_of
from splitvote.harness.etcd.bindings.lease import REFUSED
from splitvote.harness.etcd.connection import Connections
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op

GONE = "lease-not-found"


def op(f: str, lease: int | None, *request: Any) -> Op:
    return Op(process=0, f=f, key=lease, value=list(request))


def done(connected: Callable[..., Any], members: Any, *ops: Op, node: str = "n1") -> tuple[list[Op], list[Op]]:
    """Do these one after another; their completions, and the events."""
    events: list[Op] = []

    async def body(connections: Connections) -> list[Op]:
        binding = binding_of(["lease"], Services(nodes=connections, timeout_s=30.0))
        client = await binding.open(0, node)
        return [await client.invoke(each, events.append) for each in ops]

    return connected(members, body), events


def one_done(connected: Callable[..., Any], members: Any, each: Op) -> Op:
    completions, _ = done(connected, members, each)
    return completions[0]


@pytest.mark.etcd
def test_a_lease_is_granted_used_and_revoked(connected: Callable[..., Any], one: Any) -> None:
    """Keys hang on their lease by name, a put moves or detaches them, and the revoke takes those that are left."""
    (granted, first, second, other, moved, freed, left, revoked, rows), _ = done(
        connected,
        one,
        op("grant", 101, "grant", 101, 60),
        op("put", 101, "put", "a", "1", 101),
        op("put", 101, "put", "b", "2", 101),
        op("grant", 102, "grant", 102, 60),
        op("put", 102, "put", "b", "3", 102),
        op("put", None, "put", "c", "4", 0),
        op("ttl", 101, "ttl", 101),
        op("revoke", 101, "revoke", 101),
        op("get", None, "get"),
    )
    assert (granted.type, granted.value, granted.node) == ("ok", 60, "n1")
    assert [each.type for each in (first, second, other, moved, freed, revoked)] == ["ok"] * 6
    assert second.revision == first.revision + 1
    assert left.value[1:] == [60, ["a"]]
    assert 0 < left.value[0] <= 60
    assert revoked.extra["header"] == freed.revision + 1
    assert rows.value == [["b", "3", 102], ["c", "4", 0]]
    assert rows.revision == revoked.extra["header"]


@pytest.mark.etcd
def test_the_ttl_granted_is_no_less_than_the_least_there_is(connected: Callable[..., Any], one: Any) -> None:
    assert one_done(connected, one, op("grant", 103, "grant", 103, 1)).value == 2


@pytest.mark.etcd
def test_an_id_is_granted_once(connected: Callable[..., Any], one: Any) -> None:
    again = op("again", 104, "grant", 104, 60)
    (first, second), _ = done(connected, one, op("grant", 104, "grant", 104, 60), again)
    assert (first.type, second.type) == ("ok", "fail")
    assert second.error.startswith("lease-exists: ")


@pytest.mark.etcd
@pytest.mark.parametrize(
    "request_", [("keepalive", 999), ("revoke", 999), ("put", "x", "9", 999), ("stream", 999, 2, 3, 0.05)]
)
def test_a_lease_that_is_not_there_is_refused(connected: Callable[..., Any], one: Any, request_: Any) -> None:
    completion = one_done(connected, one, op(request_[0], 999, *request_))
    assert completion.type == "fail"
    assert completion.error.startswith(GONE)


@pytest.mark.etcd
def test_asking_for_a_lease_that_is_not_there_is_an_answer(connected: Callable[..., Any], one: Any) -> None:
    assert one_done(connected, one, op("ttl", 999, "ttl", 999)).value == [-1, 0, []]


@pytest.mark.etcd
def test_a_keepalive_renews(connected: Callable[..., Any], one: Any) -> None:
    (_, renewed), _ = done(connected, one, op("grant", 105, "grant", 105, 60), op("keepalive", 105, "keepalive", 105))
    assert (renewed.type, renewed.value) == ("ok", 60)
    assert renewed.extra["header"] >= 1


@pytest.mark.etcd
@pytest.mark.parametrize("node", ["n1", "n2", "n3"])
def test_a_stream_with_many_requests_outstanding_is_answered_through_every_member(
    connected: Callable[..., Any], three: Any, node: str
) -> None:
    """Every request is on record before it is sent, and every answer after."""
    lease = 200 + int(node[1])
    (granted, held), events = done(
        connected,
        three,
        op("grant", lease, "grant", lease, 60),
        op("stream", lease, "stream", lease, 2, 10, 0.2),
        node=node,
    )
    assert granted.type == "ok"
    assert (held.type, held.value, held.error) == ("ok", 20, None)
    assert held.extra == {"asked": 20, "answered": 20, "renewed": 20}
    kinds = [event.value[0] for event in events]
    assert kinds[:10] == ["ask"] * 10
    assert (kinds.count("ask"), kinds.count("answer")) == (20, 20)
    assert {event.value[1] for event in events if event.value[0] == "answer"} == {60}
    assert {event.type for event in events} == {"event"}


@pytest.mark.etcd
def test_a_member_that_does_not_answer_leaves_renewals_unknown(
    connected: Callable[..., Any], run_etcd: Callable[..., Any]
) -> None:
    """A paused member's keepalives may have happened or not; a query certainly did nothing."""
    with run_etcd(1) as members:

        async def body(connections: Connections) -> list[Op]:
            patient, hasty = (
                binding_of(["lease"], Services(nodes=connections, timeout_s=timeout_s)) for timeout_s in (30.0, 0.3)
            )
            early, client = await patient.open(0, "n1"), await hasty.open(0, "n1")
            asked: list[Op] = []
            first = await early.invoke(op("grant", 1, "grant", 1, 60), asked.append)
            await early.invoke(op("ttl", 1, "ttl", 1), asked.append)  # now both of the node's channels are connected
            members["n1"].pause()
            try:
                late = [
                    await client.invoke(op("keepalive", 1, "keepalive", 1), asked.append),
                    await client.invoke(op("stream", 1, "stream", 1, 1, 3, 0.0), asked.append),
                    await client.invoke(op("ttl", 1, "ttl", 1), asked.append),
                ]
            finally:
                members["n1"].resume()
            assert [event.value for event in asked] == [["ask"]] * 3
            return [first, *late]

        first, *late = connected(members, body)
    assert first.type == "ok"
    assert [each.type for each in late] == ["info", "info", "fail"]
    assert late[1].error == "no answer in time"


class BrokenStream:
    """Answers so many requests for its lease, then fails as told."""

    def __init__(self, answers: list[pb.LeaseKeepAliveResponse | None], failure: TransportError | None = None) -> None:
        self._answers = answers
        self._failure = failure
        self.cancelled = False

    async def send(self, request: Any) -> None:
        pass

    async def receive(self) -> Any:
        if self._answers:
            return self._answers.pop(0)
        if self._failure is not None:
            raise self._failure
        return await asyncio.Event().wait()  # for ever

    def cancel(self) -> None:
        self.cancelled = True


def streamed(stream: BrokenStream, request: Op) -> Op:
    class Node:
        async def stream(self, *arguments: Any, **options: Any) -> BrokenStream:
            return stream

    async def go() -> Op:
        client = await binding_of(["lease"], Services(nodes={"n1": Node()}, timeout_s=0.05)).open(0, "n1")  # type: ignore[dict-item]
        return await client.invoke(request, lambda event: None)

    completion = asyncio.run(go())
    assert stream.cancelled, "left open"
    return completion


def answer(ttl_s: int, lease: int = 5) -> pb.LeaseKeepAliveResponse:
    return pb.LeaseKeepAliveResponse(header=pb.ResponseHeader(revision=3), ID=lease, TTL=ttl_s)


BROKEN = TransportError("UNAVAILABLE", "Socket closed")
STREAM = op("stream", 5, "stream", 5, 1, 4, 0.01)


def test_a_stream_that_breaks_after_a_renewal_is_ok_and_says_what_broke_it() -> None:
    held = streamed(BrokenStream([answer(60), answer(60)], BROKEN), STREAM)
    assert (held.type, held.value, held.error) == ("ok", 2, "broken-stream: Socket closed")
    assert held.extra == {"asked": 4, "answered": 2, "renewed": 2}


def test_a_stream_that_breaks_before_an_answer_is_unknown() -> None:
    held = streamed(BrokenStream([], BROKEN), STREAM)
    assert (held.type, held.error) == ("info", "broken-stream: Socket closed")


def test_a_stream_that_is_refused_after_a_renewal_stops_there() -> None:
    held = streamed(BrokenStream([answer(60), answer(0), answer(0)]), STREAM)
    assert (held.type, held.extra) == ("ok", {"asked": 4, "answered": 2, "renewed": 1})


def test_a_stream_that_is_refused_at_once_is_a_refusal() -> None:
    held = streamed(BrokenStream([answer(0)]), STREAM)
    assert (held.type, held.error) == ("fail", REFUSED)


@pytest.mark.parametrize("bad", [None, answer(60, lease=6)])
def test_an_answer_about_another_lease_or_none_is_the_streams_failure(bad: Any) -> None:
    assert streamed(BrokenStream([bad]), op("keepalive", 5, "keepalive", 5)).type == "info"


def test_an_unknown_request_is_our_own_mistake() -> None:
    with pytest.raises(ConfigError, match="no request"):
        streamed(BrokenStream([]), op("lend", 5, "lend", 5))
