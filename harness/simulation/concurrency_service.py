"""The Lock and Election services: the client's own recipes, run by the member on itself.

As in etcd, where these services hold a client of the member's own: what goes
wrong in a recipe reaches the caller as UNKNOWN with the words of the error, and
a caller that goes away takes its place in the queue with it, if the member can
still delete its key.  Source: etcd's server/etcdserver/api/v3lock and v3election.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.methods import Method
from splitvote.harness.etcd.recipes import Election, LeaseHolder, Mutex, Observer, SessionExpired, Standing, leader_of
from splitvote.harness.etcd.rpc import Rpc
from splitvote.harness.etcd.stubs import election_pb2 as election
from splitvote.harness.etcd.stubs import lock_pb2 as lock
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.interface import ServerCore, ServerStream
from splitvote.harness.simulation.refusals import (
    MISSING_LEADER_KEY,
    NO_ELECTION_LEADER,
    NOT_ELECTION_LEADER,
    SESSION_EXPIRED,
    error,
)

PATIENCE_S: Final = 3600.0
"""The bound on a recipe's wait; the caller's own deadline ends it long before."""

SESSION_TTL_S: Final = 60
"""The TTL of the lease that is granted for a caller who names none."""


@dataclass(frozen=True, slots=True)
class _Holder:
    """A session of which the caller keeps the lease alive, not we (see ``LeaseHolder``)."""

    rpc: Rpc
    lease: int


class ConcurrencyService:
    """See the module; ``header`` makes an answer's header, of a revision or of the store's newest."""

    def __init__(self, core: ServerCore, rpc: Rpc, header: Callable[[int], pb.ResponseHeader]) -> None:
        self._core = core
        self._rpc = rpc
        self._header = header

    def unary(self) -> dict[Method[Any, Any], Callable[[Any], Awaitable[Any]]]:
        """The handlers of calls."""
        return {
            m.LOCK: self._lock,
            m.UNLOCK: self._unlock,
            m.CAMPAIGN: self._campaign,
            m.PROCLAIM: self._proclaim,
            m.LEADER: self._leader,
            m.RESIGN: self._resign,
        }

    async def _session(self, lease: int) -> LeaseHolder:
        if lease == 0:
            granted = await self._rpc.unary(
                m.LEASE_GRANT, pb.LeaseGrantRequest(TTL=SESSION_TTL_S), timeout_s=PATIENCE_S
            )
            lease = granted.ID
        return self._session_of(lease)

    def _session_of(self, lease: int) -> LeaseHolder:
        return _Holder(self._rpc, lease)

    async def _recipe(self, recipe: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await recipe
        except TransportError as failure:
            raise TransportError("UNKNOWN", failure.message) from None

    async def _with_way_back(
        self, recipe: Coroutine[Any, Any, Any], leave: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Any:
        """Await a recipe; leave the queue, once in it, if the recipe fails or its caller goes away."""
        try:
            return await self._recipe(recipe)
        except (TransportError, asyncio.CancelledError):
            self._core.spawn(_left(leave), "leave a queue")
            raise

    # ---- Lock

    async def _lock(self, request: lock.LockRequest) -> lock.LockResponse:
        mutex = Mutex(await self._recipe(self._session(request.lease)), request.name)
        locking = mutex.lock(timeout_s=PATIENCE_S)
        try:
            revision = await self._with_way_back(locking, lambda: _unlocked(mutex))
        except SessionExpired:
            raise error(SESSION_EXPIRED) from None
        return lock.LockResponse(header=self._header(revision), key=mutex.key)

    async def _unlock(self, request: lock.UnlockRequest) -> lock.UnlockResponse:
        deletion = pb.DeleteRangeRequest(key=request.key)
        answer = await self._recipe(self._rpc.unary(m.DELETE_RANGE, deletion, timeout_s=PATIENCE_S))
        return lock.UnlockResponse(header=answer.header)

    # ---- Election

    async def _campaign(self, request: election.CampaignRequest) -> election.CampaignResponse:
        session = await self._recipe(self._session(request.lease))
        candidate = Election(session, request.name)
        campaigning = candidate.campaign(request.value, timeout_s=PATIENCE_S)
        try:
            await self._with_way_back(campaigning, lambda: _resigned(candidate))
        except SessionExpired:
            raise error(NOT_ELECTION_LEADER) from None
        created = candidate.create_revision or 0
        leader = election.LeaderKey(name=request.name, key=candidate.key, rev=created, lease=session.lease)
        # The header is that of its own put, not of the moment when it came to lead.
        return election.CampaignResponse(header=self._header(created), leader=leader)

    def _resumed(self, key: election.LeaderKey) -> Election:
        candidate = Election(self._session_of(key.lease), key.name)
        candidate.key = key.key
        candidate.create_revision = key.rev
        return candidate

    async def _proclaim(self, request: election.ProclaimRequest) -> election.ProclaimResponse:
        if not request.HasField("leader"):
            raise error(MISSING_LEADER_KEY)
        candidate = self._resumed(request.leader)
        done = await self._recipe(candidate.proclaim(request.value, timeout_s=PATIENCE_S))
        if not done.succeeded:
            raise error(NOT_ELECTION_LEADER)
        return election.ProclaimResponse(header=self._header(done.revision))

    async def _resign(self, request: election.ResignRequest) -> election.ResignResponse:
        if not request.HasField("leader"):
            raise error(MISSING_LEADER_KEY)
        done = await self._recipe(self._resumed(request.leader).resign(timeout_s=PATIENCE_S))
        return election.ResignResponse(header=self._header(done.revision))

    async def _leader(self, request: election.LeaderRequest) -> election.LeaderResponse:
        revision, standing = await self._recipe(leader_of(self._rpc, request.name, timeout_s=PATIENCE_S))
        if standing is None:
            raise error(NO_ELECTION_LEADER)
        return election.LeaderResponse(header=self._header(revision), kv=_shown(standing))

    async def observe(self, stream: ServerStream) -> None:
        """Serve Observe: every leader and value that is seen; ends in order when a read or watch fails."""
        observer = Observer(self._rpc, stream.request.name, timeout_s=PATIENCE_S)
        try:
            async for standing in observer:
                header = self._header(standing.revision)
                await stream.send(election.LeaderResponse(header=header, kv=_shown(standing)))
        except TransportError:
            pass
        finally:
            observer.close()


async def _left(leave: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    with contextlib.suppress(TransportError):  # the key is then left behind until its lease ends
        await leave()


async def _unlocked(mutex: Mutex) -> None:
    if mutex.create_revision is not None:
        await mutex.unlock(timeout_s=PATIENCE_S)


async def _resigned(candidate: Election) -> None:
    if candidate.create_revision is not None:
        await candidate.resign(timeout_s=PATIENCE_S)


def _shown(standing: Standing) -> pb.KeyValue:
    return pb.KeyValue(
        key=standing.key,
        value=standing.value,
        create_revision=standing.create_revision,
        mod_revision=standing.mod_revision,
        version=standing.version,
        lease=standing.lease,
    )
