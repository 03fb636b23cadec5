"""etcd's mixed traffic: the requests of the ``kv`` workload as Ranges, Puts, Txns and Compactions.

Key ``k`` lives at ``kv/k``.  A put with a lease first grants one, whose id is
kept in ``extra["lease"]``, with the outcome of the put itself.  A cas is a Txn;
one whose condition did not hold is ``ok`` with ``[false, ...]``, for that is what
it saw.  ``revision`` is the header's: the operation's own place (SOUNDNESS 7),
but for a Compact's, which is left out.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from splitvote.harness.client import Emit
from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd.bindings.services import UNREACHABLE_PAUSE_S, Services
from splitvote.harness.etcd.methods import COMPACT, DELETE_RANGE, LEASE_GRANT, PUT, RANGE, TXN
from splitvote.harness.etcd.outcomes import Call, classify
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.etcd.text import bytes_of, text_of
from splitvote.harness.op import Op

PREFIX: Final = "kv/"
_ALL_END: Final = b"kv0"
"""The first key after all that begin with the prefix: its last byte is one higher."""

NOT_ARCHIVED: Final = "not-archived: no member has told its history up to there, so the compaction was not sent"

_TARGETS: Final = {"version": pb.Compare.VERSION, "mod": pb.Compare.MOD, "value": pb.Compare.VALUE}
_RELATIONS: Final = {
    "=": pb.Compare.EQUAL,
    "!=": pb.Compare.NOT_EQUAL,
    "<": pb.Compare.LESS,
    ">": pb.Compare.GREATER,
}


def binding(services: Services) -> KvBinding:
    """See ``KvBinding``."""
    return KvBinding(services)


class KvBinding:
    """Opens clients over the run's connections."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def open(self, process: int, node: str) -> KvClient:
        """A client for this process; does not wait for the node."""
        return KvClient(self._services, node)

    async def close(self) -> None:
        """Nothing to let go of: the nodes' connections are not ours."""


class KvClient:
    """One process's requests to one node."""

    def __init__(self, services: Services, node: str) -> None:
        self._rpc = services.nodes[node]
        self._node = node
        self._timeout_s = services.timeout_s
        self._archivist = services.archivist
        self._do = {
            "range": self._range,
            "put": self._put,
            "delete": self._delete,
            "txn": self._txn,
            "compact": self._compact,
        }

    async def setup(self) -> None:
        """Nothing to prepare."""

    async def teardown(self) -> None:
        """Nothing to undo: the store belongs to the run."""

    async def close(self) -> None:
        """Nothing to let go of."""

    async def invoke(self, op: Op, emit: Emit) -> Op:
        """Do one request; raises ConfigError for one that is none."""
        do = self._do.get(op.value[0]) if op.value else None
        if do is None:
            raise ConfigError(f"etcd's kv has no request {op.value!r}; it has {', '.join(self._do)}")
        try:
            return await do(op)
        except TransportError as error:
            return await self._failed(op, error, _call_of(op.value))

    async def _failed(self, op: Op, error: TransportError, call: Call, **changes: Any) -> Op:
        judged = classify(error, call)
        if judged.name == "not-connected":
            await asyncio.sleep(UNREACHABLE_PAUSE_S)
        return op.completed(judged.type, error=judged.text, node=self._node, **changes)

    async def _range(self, op: Op) -> Op:
        answer = await self._rpc.unary(RANGE, _range_request(op.value), timeout_s=self._timeout_s)
        return op.completed("ok", value=_kvs(answer), node=self._node, revision=answer.header.revision)

    async def _put(self, op: Op) -> Op:
        ttl_s: int = op.value[3]
        if not ttl_s:
            answer = await self._rpc.unary(PUT, _put_request(op.value), timeout_s=self._timeout_s)
            return op.completed("ok", value=None, node=self._node, revision=answer.header.revision)
        return await self._put_with_lease(op, ttl_s)

    async def _put_with_lease(self, op: Op, ttl_s: int) -> Op:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._timeout_s
        try:
            granted = await self._rpc.unary(LEASE_GRANT, pb.LeaseGrantRequest(TTL=ttl_s), timeout_s=self._timeout_s)
        except TransportError as error:  # the put was never sent
            return op.completed("fail", error=classify(error, "write").text, node=self._node)
        request = _put_request(op.value)
        request.lease = granted.ID
        lease = {"lease": granted.ID}
        try:
            answer = await self._rpc.unary(PUT, request, timeout_s=max(0.0, deadline_s - loop.time()))
        except TransportError as error:
            return await self._failed(op, error, "write", extra=lease)
        return op.completed("ok", value=None, node=self._node, revision=answer.header.revision, extra=lease)

    async def _delete(self, op: Op) -> Op:
        answer = await self._rpc.unary(DELETE_RANGE, _delete_request(op.value), timeout_s=self._timeout_s)
        return op.completed("ok", value=answer.deleted, node=self._node, revision=answer.header.revision)

    async def _txn(self, op: Op) -> Op:
        answer = await self._rpc.unary(TXN, _txn_request(op.value), timeout_s=self._timeout_s)
        return op.completed("ok", value=_txn_answer(answer), node=self._node, revision=answer.header.revision)

    async def _compact(self, op: Op) -> Op:
        revision: int = op.value[1]
        if self._archivist is not None and not await self._archivist.reach(revision, timeout_s=self._timeout_s):
            return op.completed("fail", error=NOT_ARCHIVED, node=self._node)
        await self._rpc.unary(COMPACT, pb.CompactionRequest(revision=revision), timeout_s=self._timeout_s)
        return op.completed("ok", value=None, node=self._node)


def _call_of(request: list[Any]) -> Call:
    if request[0] == "range":
        return "read"
    if request[0] == "compact":
        return "compact"
    if request[0] == "txn" and not writes(request):
        return "read"
    return "write"


def writes(request: list[Any]) -> bool:
    """Whether a request may change the store, whichever branch it takes."""
    if request[0] == "txn":
        return any(writes(part) for branch in request[2:] for part in branch)
    return request[0] in ("put", "delete")


def _span(key: str | None) -> tuple[bytes, bytes]:
    return (PREFIX.encode(), _ALL_END) if key is None else (bytes_of(PREFIX + key), b"")


def _range_request(request: list[Any]) -> pb.RangeRequest:
    key, end = _span(request[1])
    return pb.RangeRequest(key=key, range_end=end, revision=request[2], serializable=request[3])


def _put_request(request: list[Any]) -> pb.PutRequest:
    return pb.PutRequest(key=bytes_of(PREFIX + request[1]), value=bytes_of(request[2]))


def _delete_request(request: list[Any]) -> pb.DeleteRangeRequest:
    key, end = _span(request[1])
    return pb.DeleteRangeRequest(key=key, range_end=end)


def _txn_request(request: list[Any]) -> pb.TxnRequest:
    _, compares, then, otherwise = request
    return pb.TxnRequest(
        compare=[_compare(*compare) for compare in compares],
        success=[_part(part) for part in then],
        failure=[_part(part) for part in otherwise],
    )


def _compare(key: str, target: str, relation: str, operand: Any) -> pb.Compare:
    made = pb.Compare(target=_TARGETS[target], result=_RELATIONS[relation], key=bytes_of(PREFIX + key))
    if target == "value":
        made.value = bytes_of(operand)
    elif target == "version":
        made.version = operand
    else:
        made.mod_revision = operand
    return made


def _part(part: list[Any]) -> pb.RequestOp:
    if part[0] == "range":
        return pb.RequestOp(request_range=_range_request(part))
    if part[0] == "put":
        return pb.RequestOp(request_put=_put_request(part))
    if part[0] == "delete":
        return pb.RequestOp(request_delete_range=_delete_request(part))
    return pb.RequestOp(request_txn=_txn_request(part))


def _txn_answer(answer: pb.TxnResponse) -> list[Any]:
    return [answer.succeeded, [_part_answer(part) for part in answer.responses]]


def _part_answer(part: pb.ResponseOp) -> Any:
    kind = part.WhichOneof("response")
    if kind == "response_range":
        return _kvs(part.response_range)
    if kind == "response_delete_range":
        return part.response_delete_range.deleted
    return _txn_answer(part.response_txn) if kind == "response_txn" else None


def _kvs(answer: pb.RangeResponse) -> list[list[Any]]:
    skipped = len(PREFIX)
    return [
        [text_of(kv.key[skipped:]), text_of(kv.value), kv.create_revision, kv.mod_revision, kv.version, kv.lease]
        for kv in answer.kvs
    ]
