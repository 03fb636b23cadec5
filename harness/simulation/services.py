"""etcd's RPCs on one simulated member: which handler answers which method; KV, Cluster and Maintenance.

The seam is that of real members: requests and answers are etcd's messages,
refusals are TransportErrors with etcd's codes and words.  What is not simulated
(auth, the hash of a whole database file, downgrades) is refused by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.methods import Method
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation import validation
from splitvote.harness.simulation.concurrency_service import ConcurrencyService
from splitvote.harness.simulation.interface import MemberInfo, ServerCore, ServerStream
from splitvote.harness.simulation.lease_service import LeaseService
from splitvote.harness.simulation.local_rpc import LocalRpc
from splitvote.harness.simulation.mvcc import Machine
from splitvote.harness.simulation.refusals import (
    NO_LEADER,
    NOT_FOR_LEARNERS,
    NOT_LEADER,
    REQUEST_TOO_LARGE,
    error,
)
from splitvote.harness.simulation.requests import answer_range, compares_hold, decided, do_txn, is_read_only
from splitvote.harness.simulation.watch_service import serve_watch

VERSION: Final = "3.5.30"
"""The etcd that is simulated."""

MAX_REQUEST_BYTES: Final = 1536 * 1024
SNAPSHOT_PART_BYTES: Final = 32 * 1024

_Unary = Callable[[Any], Awaitable[Any]]
_Streaming = Callable[[ServerStream], Awaitable[None]]


class Services:
    """See the module and ``interface.Services``."""

    def __init__(self, core: ServerCore) -> None:
        machine = core.machine
        assert isinstance(machine, Machine)
        self._core = core
        self._machine = machine
        leases = LeaseService(core, machine, self._proposed, self._header)
        concurrency = ConcurrencyService(core, LocalRpc(core, self), self._header)
        self._unary: dict[Method[Any, Any], _Unary] = {
            m.RANGE: self._range,
            m.PUT: self._put,
            m.DELETE_RANGE: self._delete_range,
            m.TXN: self._txn,
            m.COMPACT: self._proposed,
            m.MEMBER_LIST: self._member_list,
            m.MEMBER_ADD: self._member_add,
            m.MEMBER_REMOVE: self._member_remove,
            m.MEMBER_UPDATE: self._member_update,
            m.MEMBER_PROMOTE: self._member_promote,
            m.STATUS: self._status,
            m.ALARM: self._proposed,
            m.HASH_KV: self._hash_kv,
            m.DEFRAGMENT: self._defragment,
            m.MOVE_LEADER: self._move_leader,
            **leases.unary(),
            **concurrency.unary(),
        }
        self._streams: dict[Method[Any, Any], _Streaming] = {
            m.WATCH: lambda stream: serve_watch(core, machine, stream),
            m.LEASE_KEEP_ALIVE: leases.keep_alive,
            m.OBSERVE: concurrency.observe,
            m.SNAPSHOT: self._snapshot,
        }
        self._peer = leases.peer()

    async def unary(self, method: Method[Any, Any], request: Any) -> Any:
        """See ``interface.Services``."""
        handler = self._unary.get(method)
        if handler is None:
            raise _not_simulated(method)
        if self._core.is_learner and method is not m.STATUS and not (method is m.RANGE and request.serializable):
            raise error(NOT_FOR_LEARNERS)
        return await handler(request)

    async def stream(self, method: Method[Any, Any], stream: ServerStream) -> None:
        """See ``interface.Services``."""
        handler = self._streams.get(method)
        if handler is None:
            raise _not_simulated(method)
        if self._core.is_learner and method is not m.SNAPSHOT:
            raise error(NOT_FOR_LEARNERS)
        await handler(stream)

    async def peer(self, method: Method[Any, Any], request: Any) -> Any:
        """Answer another member, which takes this one for the leader (see ``ServerCore.forwarded``)."""
        return await self._peer[method](request)

    # ---- what all have in common

    def _header(self, revision: int = 0) -> pb.ResponseHeader:
        core = self._core
        return pb.ResponseHeader(
            cluster_id=core.cluster_id,
            member_id=core.member_id,
            revision=revision or self._machine.revision,
            raft_term=core.term,
        )

    def _filled(self, answer: Any) -> Any:
        """Complete the header of an answer; the revision is its own place, where it has one."""
        header = answer.header
        header.cluster_id = self._core.cluster_id
        header.member_id = self._core.member_id
        header.raft_term = self._core.term
        if not header.revision:
            header.revision = self._machine.revision
        return answer

    async def _proposed(self, request: Any) -> Any:
        """The answer to a request (one of ``interface.Request``) that goes through the log."""
        if request.ByteSize() > MAX_REQUEST_BYTES:
            raise error(REQUEST_TOO_LARGE)
        outcome = await self._core.propose(request)
        if outcome.error is not None:
            raise outcome.error
        return self._filled(outcome.answer)

    # ---- KV

    async def _range(self, request: pb.RangeRequest) -> pb.RangeResponse:
        validation.check_key(request)
        if not request.serializable:
            await self._core.read_index()
        answer: pb.RangeResponse = self._filled(answer_range(self._machine.store, request))
        return answer

    async def _put(self, request: pb.PutRequest) -> Any:
        validation.check_put(request)
        return await self._proposed(request)

    async def _delete_range(self, request: pb.DeleteRangeRequest) -> Any:
        validation.check_key(request)
        return await self._proposed(request)

    async def _txn(self, request: pb.TxnRequest) -> Any:
        validation.check_txn(request)
        if not is_read_only(request):
            if request.compare and self._core.mutants.has("compare-on-stale-view"):
                return await self._decided_early(request)
            return await self._proposed(request)
        if not _is_serializable(request):
            await self._core.read_index()
        return self._filled(do_txn(self._machine.store, self._machine.lessor, request))

    async def _decided_early(self, request: pb.TxnRequest) -> Any:
        """Mutant: decide a transaction before it has its place; it matters where that is another decision then."""
        store = self._machine.store
        holds, rest = decided(store, request)
        answer = await self._proposed(rest)
        is_write = not is_read_only(pb.TxnRequest(success=rest.success if holds else rest.failure))
        before = answer.header.revision - is_write
        if before >= store.compacted and compares_hold(store, request, before) != holds:
            self._core.mutants.fires("compare-on-stale-view")
        return answer

    # ---- Cluster

    def _members(self) -> list[pb.Member]:
        return [_member(info) for info in self._core.members()]

    async def _member_list(self, request: pb.MemberListRequest) -> pb.MemberListResponse:
        if request.linearizable:
            await self._core.read_index()
        return pb.MemberListResponse(header=self._header(), members=self._members())

    async def _member_add(self, request: pb.MemberAddRequest) -> pb.MemberAddResponse:
        info = await self._core.add_member(tuple(request.peerURLs), is_learner=request.isLearner)
        return pb.MemberAddResponse(header=self._header(), member=_member(info), members=self._members())

    async def _member_remove(self, request: pb.MemberRemoveRequest) -> pb.MemberRemoveResponse:
        await self._core.remove_member(request.ID)
        return pb.MemberRemoveResponse(header=self._header(), members=self._members())

    async def _member_update(self, request: pb.MemberUpdateRequest) -> pb.MemberUpdateResponse:
        await self._core.update_member(request.ID, tuple(request.peerURLs))
        return pb.MemberUpdateResponse(header=self._header(), members=self._members())

    async def _member_promote(self, request: pb.MemberPromoteRequest) -> pb.MemberPromoteResponse:
        await self._core.promote_member(request.ID)
        return pb.MemberPromoteResponse(header=self._header(), members=self._members())

    # ---- Maintenance

    async def _status(self, request: pb.StatusRequest) -> pb.StatusResponse:
        core = self._core
        errors = [] if core.leader_id else [NO_LEADER[1]]
        errors += [
            f"memberID:{member} alarm:{pb.AlarmType.Name(kind)} " for member, kind in self._machine.backend.alarms
        ]
        return pb.StatusResponse(
            header=self._header(),
            version=VERSION,
            dbSize=core.database_bytes,
            dbSizeInUse=self._machine.backend.used_bytes,
            leader=core.leader_id,
            raftIndex=core.committed_index,
            raftAppliedIndex=core.applied_index,
            raftTerm=core.term,
            isLearner=core.is_learner,
            errors=errors,
        )

    async def _hash_kv(self, request: pb.HashKVRequest) -> pb.HashKVResponse:
        found = self._machine.hash_kv(request.revision)
        return pb.HashKVResponse(header=self._header(), hash=found.value, compact_revision=found.compacted)

    async def _defragment(self, request: pb.DefragmentRequest) -> pb.DefragmentResponse:
        await self._core.defragment()
        return pb.DefragmentResponse()

    async def _move_leader(self, request: pb.MoveLeaderRequest) -> pb.MoveLeaderResponse:
        if self._core.leader_id != self._core.member_id:
            raise error(NOT_LEADER)
        await self._core.move_leader(request.targetID)
        return pb.MoveLeaderResponse()

    async def _snapshot(self, stream: ServerStream) -> None:
        """The database as bytes of our own making, and their SHA-256 at the end."""
        records = self._machine.snapshot().records
        database = b"".join(b"%d.%d:" % (record.main, record.sub) + record.kv.SerializeToString() for record in records)
        for first in range(0, len(database), SNAPSHOT_PART_BYTES):
            part = database[first : first + SNAPSHOT_PART_BYTES]
            await stream.send(pb.SnapshotResponse(remaining_bytes=len(database) - first - len(part), blob=part))
        await stream.send(pb.SnapshotResponse(blob=hashlib.sha256(database).digest()))


def _not_simulated(method: Method[Any, Any]) -> TransportError:
    return TransportError("UNIMPLEMENTED", f"{method} is not simulated: ask a real member")


def _is_serializable(request: pb.TxnRequest) -> bool:
    return all(op.request_range.serializable for ops in (request.success, request.failure) for op in ops)


def _member(info: MemberInfo) -> pb.Member:
    return pb.Member(
        ID=info.id, name=info.name, peerURLs=info.peer_urls, clientURLs=info.client_urls, isLearner=info.is_learner
    )
