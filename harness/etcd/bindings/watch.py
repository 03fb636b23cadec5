"""etcd's watches: the requests of the ``watch`` workload as Puts, Txns, Compactions and Watch streams.

Key ``k`` lives at ``watch/k``.  ``checkers.watch.plan`` has the requests' language
and that of the events; what a watch operation does is in ``watching``.  Writes
carry the header's revision, their own place, but for a Compact's, which is left
out.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from splitvote.checkers.watch.plan import PREFIX, stored_value
from splitvote.harness.client import Emit
from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd.bindings.services import UNREACHABLE_PAUSE_S, Services
from splitvote.harness.etcd.bindings.watching import Horizon, converge, watch
from splitvote.harness.etcd.methods import COMPACT, DELETE_RANGE, PUT, TXN
from splitvote.harness.etcd.outcomes import classify
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.etcd.text import bytes_of
from splitvote.harness.op import Op

NOT_ARCHIVED: Final = "not-archived: no member has told its history up to there, so the compaction was not sent"


def binding(services: Services) -> WatchBinding:
    """See ``WatchBinding``."""
    return WatchBinding(services)


class WatchBinding:
    """Opens clients over the run's connections; together they know the newest revision and compaction."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._horizon = Horizon()

    async def open(self, process: int, node: str) -> WatchClient:
        """A client for this process; does not wait for the node."""
        return WatchClient(self._services, node, self._horizon)

    async def close(self) -> None:
        """Nothing to let go of: the nodes' connections are not ours."""


class WatchClient:
    """One process's writes to one node, and its streams to any."""

    def __init__(self, services: Services, node: str, horizon: Horizon) -> None:
        self._services = services
        self._rpc = services.nodes[node]
        self._node = node
        self._horizon = horizon
        self._writes = {"put": self._put, "delete": self._delete, "txn": self._txn, "compact": self._compact}

    async def setup(self) -> None:
        """Nothing to prepare."""

    async def teardown(self) -> None:
        """Nothing to undo: the store belongs to the run."""

    async def close(self) -> None:
        """Nothing to let go of: streams end with their operation."""

    async def invoke(self, op: Op, emit: Emit) -> Op:
        """Do one write, watch or final watch; raises ConfigError for any other operation."""
        if op.f == "watch":
            return await watch(op, emit, self._services, self._node, self._horizon)
        if op.f == "converge":
            return await converge(op, emit, self._services, self._node, self._horizon)
        write = self._writes.get(op.f)
        if write is None:
            raise ConfigError(
                f"etcd's watch has no operation {op.f!r}; it has {', '.join(self._writes)}, watch, converge"
            )
        try:
            return await write(op)
        except TransportError as error:
            judged = classify(error, "compact" if op.f == "compact" else "write")
            if judged.name == "not-connected":
                await asyncio.sleep(UNREACHABLE_PAUSE_S)
            return op.completed(judged.type, error=judged.text, node=self._node)

    async def _put(self, op: Op) -> Op:
        answer = await self._rpc.unary(PUT, _put_request(op.value), timeout_s=self._services.timeout_s)
        return self._done(op, None, answer.header.revision)

    async def _delete(self, op: Op) -> Op:
        answer = await self._rpc.unary(DELETE_RANGE, _delete_request(op.value), timeout_s=self._services.timeout_s)
        return self._done(op, answer.deleted, answer.header.revision)

    async def _txn(self, op: Op) -> Op:
        request = pb.TxnRequest(success=[_part(part) for part in op.value[1:]])
        answer = await self._rpc.unary(TXN, request, timeout_s=self._services.timeout_s)
        return self._done(op, [_part_answer(part) for part in answer.responses], answer.header.revision)

    def _done(self, op: Op, value: Any, revision: int) -> Op:
        self._horizon.note_revision(revision)
        return op.completed("ok", value=value, node=self._node, revision=revision)

    async def _compact(self, op: Op) -> Op:
        revision: int = op.value[1]
        archivist, timeout_s = self._services.archivist, self._services.timeout_s
        if archivist is not None and not await archivist.reach(revision, timeout_s=timeout_s):
            return op.completed("fail", error=NOT_ARCHIVED, node=self._node)
        await self._rpc.unary(COMPACT, pb.CompactionRequest(revision=revision), timeout_s=timeout_s)
        self._horizon.note_compaction(revision)
        return op.completed("ok", value=None, node=self._node)


def _put_request(request: list[Any]) -> pb.PutRequest:
    return pb.PutRequest(key=bytes_of(PREFIX + request[1]), value=bytes_of(stored_value(request)))


def _delete_request(request: list[Any]) -> pb.DeleteRangeRequest:
    end = bytes_of(PREFIX + request[2]) if len(request) > 2 else b""
    return pb.DeleteRangeRequest(key=bytes_of(PREFIX + request[1]), range_end=end)


def _part(part: list[Any]) -> pb.RequestOp:
    if part[0] == "put":
        return pb.RequestOp(request_put=_put_request(part))
    return pb.RequestOp(request_delete_range=_delete_request(part))


def _part_answer(part: pb.ResponseOp) -> int | None:
    return part.response_delete_range.deleted if part.WhichOneof("response") == "response_delete_range" else None
