"""etcd's leases: the requests of the ``lease`` workload as lease calls, keepalive streams, Puts and Ranges.

Key ``k`` lives at ``lease/k``; lease ids are the workload's own numbers.
``revision`` is set for Puts and Ranges only, whose headers mark the operation's
own place; the headers of lease calls are filled in later, by whichever member
was asked (SOUNDNESS 7), and are kept in ``extra["header"]`` as what they are: a
revision that the store had by then.

A keepalive that is answered with TTL 0 was refused: the operation fails with
``lease-not-found``, as a put or a revoke of a lease that is gone does.  A lease
that is gone has TTL -1 and a granted TTL of 0 to TimeToLive, which is ``ok``.

A stream sends its requests without waiting for answers, and emits an event
before each request and at each answer.  Its operation is ``ok`` when it renewed
the lease at least once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from splitvote.harness.client import Emit
from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd.bindings.services import UNREACHABLE_PAUSE_S, Services
from splitvote.harness.etcd.methods import (
    LEASE_GRANT,
    LEASE_KEEP_ALIVE,
    LEASE_REVOKE,
    LEASE_TIME_TO_LIVE,
    PUT,
    RANGE,
)
from splitvote.harness.etcd.outcomes import Call, classify
from splitvote.harness.etcd.rpc import Rpc, Stream
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.etcd.text import bytes_of, text_of
from splitvote.harness.op import Op

PREFIX: Final = "lease/"
_ALL_END: Final = b"lease0"
"""The first key after all that begin with the prefix: its last byte is one higher."""

REFUSED: Final = "lease-not-found: the keepalive was answered with TTL 0"

_CALLS: Final[dict[str, Call]] = {"ttl": "read", "get": "read", "keepalive": "composite", "stream": "composite"}
"""What each request is to the error table; any other is a write."""

KeepAlive = Stream[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]


def binding(services: Services) -> LeaseBinding:
    """See ``LeaseBinding``."""
    return LeaseBinding(services)


class LeaseBinding:
    """Opens clients over the run's connections."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def open(self, process: int, node: str) -> LeaseClient:
        """A client for this process; does not wait for the node."""
        return LeaseClient(self._services.nodes[node], node, self._services.timeout_s)

    async def close(self) -> None:
        """Nothing to let go of: the nodes' connections are not ours."""


class LeaseClient:
    """One process's requests to one node."""

    def __init__(self, rpc: Rpc, node: str, timeout_s: float) -> None:
        self._rpc = rpc
        self._node = node
        self._timeout_s = timeout_s
        self._do: dict[str, Callable[[Op, Emit], Awaitable[Op]]] = {
            "grant": self._grant,
            "keepalive": self._keep_alive,
            "stream": self._stream,
            "revoke": self._revoke,
            "ttl": self._time_to_live,
            "put": self._put,
            "get": self._get,
        }

    async def setup(self) -> None:
        """Nothing to prepare."""

    async def teardown(self) -> None:
        """Nothing to undo: the store belongs to the run."""

    async def close(self) -> None:
        """Nothing to let go of: a stream ends with its operation."""

    async def invoke(self, op: Op, emit: Emit) -> Op:
        """Do one request; raises ConfigError for one that is none."""
        do = self._do.get(op.value[0]) if op.value else None
        if do is None:
            raise ConfigError(f"etcd's leases have no request {op.value!r}; they have {', '.join(self._do)}")
        try:
            return await do(op, emit)
        except TransportError as error:
            judged = classify(error, _CALLS.get(op.value[0], "write"))
            if judged.name == "not-connected":
                await asyncio.sleep(UNREACHABLE_PAUSE_S)
            return op.completed(judged.type, error=judged.text, node=self._node)

    async def _grant(self, op: Op, emit: Emit) -> Op:
        _, lease, ttl_s = op.value
        answer = await self._rpc.unary(
            LEASE_GRANT, pb.LeaseGrantRequest(ID=lease, TTL=ttl_s), timeout_s=self._timeout_s
        )
        return self._answered(op, answer.TTL, answer.header)

    async def _revoke(self, op: Op, emit: Emit) -> Op:
        answer = await self._rpc.unary(LEASE_REVOKE, pb.LeaseRevokeRequest(ID=op.value[1]), timeout_s=self._timeout_s)
        return self._answered(op, None, answer.header)

    async def _time_to_live(self, op: Op, emit: Emit) -> Op:
        request = pb.LeaseTimeToLiveRequest(ID=op.value[1], keys=True)
        answer = await self._rpc.unary(LEASE_TIME_TO_LIVE, request, timeout_s=self._timeout_s)
        keys = sorted(_name_of(key) for key in answer.keys)
        return self._answered(op, [answer.TTL, answer.grantedTTL, keys], answer.header)

    async def _put(self, op: Op, emit: Emit) -> Op:
        _, key, value, lease = op.value
        request = pb.PutRequest(key=bytes_of(PREFIX + key), value=bytes_of(value), lease=lease)
        answer = await self._rpc.unary(PUT, request, timeout_s=self._timeout_s)
        return op.completed("ok", value=None, node=self._node, revision=answer.header.revision)

    async def _get(self, op: Op, emit: Emit) -> Op:
        request = pb.RangeRequest(key=PREFIX.encode(), range_end=_ALL_END)
        answer = await self._rpc.unary(RANGE, request, timeout_s=self._timeout_s)
        rows = [[_name_of(kv.key), text_of(kv.value), kv.lease] for kv in answer.kvs]
        return op.completed("ok", value=rows, node=self._node, revision=answer.header.revision)

    async def _keep_alive(self, op: Op, emit: Emit) -> Op:
        lease: int = op.value[1]
        stream = await self._rpc.stream(LEASE_KEEP_ALIVE, timeout_s=self._timeout_s)
        try:
            await stream.send(pb.LeaseKeepAliveRequest(ID=lease))
            answer = _checked(await stream.receive(), lease)
        finally:
            stream.cancel()
        if answer.TTL <= 0:
            header = {"header": answer.header.revision}
            return op.completed("fail", value=answer.TTL, error=REFUSED, node=self._node, extra=header)
        return self._answered(op, answer.TTL, answer.header)

    def _answered(self, op: Op, value: Any, header: pb.ResponseHeader) -> Op:
        return op.completed("ok", value=value, node=self._node, extra={"header": header.revision})

    async def _stream(self, op: Op, emit: Emit) -> Op:
        _, lease, bursts, size, every_s = op.value
        held = _Held(op, emit, lease, self._node)
        stream = await self._rpc.stream(LEASE_KEEP_ALIVE)
        try:
            await held.renew(stream, bursts, size, every_s, self._timeout_s)
        except TransportError as error:
            held.broke(error)
        finally:
            stream.cancel()
        return held.completion()


class _Held:
    """One long stream: what was asked and answered, as events of its operation."""

    def __init__(self, op: Op, emit: Emit, lease: int, node: str) -> None:
        self._op = op
        self._emit = emit
        self._lease = lease
        self._node = node
        self._asked = 0
        self._answered = 0
        self._renewed = 0
        self._error: TransportError | None = None

    async def renew(self, stream: KeepAlive, bursts: int, size: int, every_s: float, patience_s: float) -> None:
        """Send the bursts; then wait for what is outstanding, until nothing has come for ``patience_s``."""
        loop = asyncio.get_running_loop()
        for _ in range(bursts):
            for _ in range(size):
                self._note(["ask"])
                self._asked += 1
                await stream.send(pb.LeaseKeepAliveRequest(ID=self._lease))
            until_s = loop.time() + every_s
            while self._answered < self._asked and await self._receive(stream, until_s):
                if self._is_refused:
                    return
            await asyncio.sleep(max(0.0, until_s - loop.time()))
        while self._answered < self._asked and await self._receive(stream, loop.time() + patience_s):
            pass

    @property
    def _is_refused(self) -> bool:
        return self._renewed < self._answered

    async def _receive(self, stream: KeepAlive, until_s: float) -> bool:
        """Take one answer; False when none has come by then."""
        try:
            async with asyncio.timeout_at(until_s):
                answer = await stream.receive()
        except TimeoutError:
            return False
        ttl_s = _checked(answer, self._lease).TTL
        self._answered += 1
        self._renewed += ttl_s > 0
        self._note(["answer", ttl_s])
        return True

    def _note(self, value: list[Any]) -> None:
        self._emit(self._op.completed("event", value=value, node=self._node))

    def broke(self, error: TransportError) -> None:
        """The stream ended before we ended it."""
        self._error = error

    def completion(self) -> Op:
        """Ok when the lease was renewed at all, a fail when it was only refused; else nobody knows."""
        told = {"asked": self._asked, "answered": self._answered, "renewed": self._renewed}
        error = None if self._error is None else classify(self._error, "composite").text
        if self._renewed:
            return self._op.completed("ok", value=self._renewed, node=self._node, error=error, extra=told)
        if self._answered:
            return self._op.completed("fail", error=REFUSED, node=self._node, extra=told)
        return self._op.completed("info", error=error or "no answer in time", node=self._node, extra=told)


def _checked(answer: pb.LeaseKeepAliveResponse | None, lease: int) -> pb.LeaseKeepAliveResponse:
    """The answer; one that is missing, or about another lease, is the stream's failure."""
    if answer is None:
        raise TransportError("UNAVAILABLE", "the server ended the keepalive stream")
    if lease != answer.ID:
        raise TransportError("INTERNAL", f"a keepalive of lease {lease} was answered for lease {answer.ID}")
    return answer


def _name_of(key: bytes) -> str:
    return text_of(key[len(PREFIX) :])
