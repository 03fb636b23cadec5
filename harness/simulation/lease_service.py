"""The Lease service: grants and revocations through the log, renewals and remaining times from the leader's lessor.

A member that does not lead forwards what only the leader knows to it over the
peer network, as etcd does over HTTP, again and again until the request's time is
over.  Source: etcd's server/etcdserver/v3_server.go and server/lease/leasehttp.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.methods import Method
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.interface import ServerCore, ServerStream
from splitvote.harness.simulation.lessor import NotPrimary
from splitvote.harness.simulation.mvcc import Machine
from splitvote.harness.simulation.refusals import (
    LEADER_CHANGED,
    LEASE_NOT_FOUND,
    NO_LEADER,
    TIMEOUT,
    TIMEOUT_WAIT_APPLIED,
    error,
)

APPLY_BOUND_S: Final = 1.0
"""How long a leader waits until it has applied what it knows to be committed."""

REQUEST_BASE_S: Final = 5.0
FORWARD_PAUSE_S: Final = 0.05
"""Between two attempts to reach the leader."""

NOT_FOUND_TTL: Final = -1


class LeaseService:
    """See the module; ``proposed`` sends a request through the log, ``header`` makes an answer's header."""

    def __init__(
        self,
        core: ServerCore,
        machine: Machine,
        proposed: Callable[[Any], Awaitable[Any]],
        header: Callable[[], pb.ResponseHeader],
    ) -> None:
        self._core = core
        self._machine = machine
        self._lessor = machine.lessor
        self._proposed = proposed
        self._header = header

    def unary(self) -> dict[Method[Any, Any], Callable[[Any], Awaitable[Any]]]:
        """The handlers of calls."""
        return {
            m.LEASE_GRANT: self._grant,
            m.LEASE_REVOKE: self._proposed,
            m.LEASE_TIME_TO_LIVE: self._time_to_live,
            m.LEASE_LEASES: self._leases,
        }

    def peer(self) -> dict[Method[Any, Any], Callable[[Any], Awaitable[Any]]]:
        """The handlers of what other members forward to this one."""
        return {m.LEASE_KEEP_ALIVE: self._renew_for_peer, m.LEASE_TIME_TO_LIVE: self._time_to_live_for_peer}

    async def _grant(self, request: pb.LeaseGrantRequest) -> Any:
        if request.ID == 0:
            request = pb.LeaseGrantRequest(TTL=request.TTL, ID=self._core.next_id())
        return await self._proposed(request)

    async def _leases(self, request: pb.LeaseLeasesRequest) -> pb.LeaseLeasesResponse:
        leases = [pb.LeaseStatus(ID=lease.id) for lease in self._lessor.leases()]
        return pb.LeaseLeasesResponse(header=self._header(), leases=leases)

    # ---- renewals

    async def keep_alive(self, stream: ServerStream) -> None:
        """Serve a stream of keepalives, one after another; a lease that is gone is answered with TTL 0."""
        while (request := await stream.receive()) is not None:
            # The header is from before the renewal: else it could be of a revision at which the lease is gone already.
            answer = pb.LeaseKeepAliveResponse(header=self._header(), ID=request.ID)
            try:
                answer.TTL = await self._renew(request)
            except TransportError as refusal:
                if not _is_not_found(refusal):
                    raise
            await stream.send(answer)

    async def _renew(self, request: pb.LeaseKeepAliveRequest) -> int:
        """The TTL granted anew."""
        await self._confirm_lead()
        if self._leads():
            await self._has_applied()
            try:
                return await self._lessor.renew(request.ID)
            except NotPrimary:
                pass  # the lead was lost meanwhile
        answer = await self._forwarded(m.LEASE_KEEP_ALIVE, request)
        return int(answer.TTL)

    async def _renew_for_peer(self, request: pb.LeaseKeepAliveRequest) -> pb.LeaseKeepAliveResponse:
        await self._confirm_lead()
        await self._has_applied()
        try:
            return pb.LeaseKeepAliveResponse(ID=request.ID, TTL=await self._lessor.renew(request.ID))
        except NotPrimary:
            raise error(LEADER_CHANGED) from None

    # ---- remaining time

    async def _time_to_live(self, request: pb.LeaseTimeToLiveRequest) -> pb.LeaseTimeToLiveResponse:
        try:
            if self._leads():
                answer = await self._time_to_live_for_peer(request)
            else:
                answer = await self._forwarded(m.LEASE_TIME_TO_LIVE, request)
        except TransportError as refusal:
            if not _is_not_found(refusal):
                raise
            return pb.LeaseTimeToLiveResponse(header=self._header(), ID=request.ID, TTL=NOT_FOUND_TTL)
        told = pb.LeaseTimeToLiveResponse()
        told.CopyFrom(answer)
        told.header.CopyFrom(self._header())
        return told

    async def _time_to_live_for_peer(self, request: pb.LeaseTimeToLiveRequest) -> pb.LeaseTimeToLiveResponse:
        await self._has_applied()
        lease = self._lessor.get(request.ID)
        if lease is None:
            raise error(LEASE_NOT_FOUND)
        if not self._lessor.is_primary:
            raise error(LEADER_CHANGED)
        return pb.LeaseTimeToLiveResponse(
            ID=request.ID,
            TTL=int(self._lessor.remaining_s(lease)),
            grantedTTL=lease.ttl_s,
            keys=sorted(lease.keys) if request.keys else (),
        )

    # ---- the leader

    def _leads(self) -> bool:
        return self._core.leader_id == self._core.member_id

    async def _confirm_lead(self) -> None:
        """Have a quorum confirm the lead where this process may have slept through its loss (issue 15247)."""
        if self._leads() and self._lessor.is_doubtful:
            await self._core.read_index()
            self._lessor.is_doubtful = False

    async def _has_applied(self) -> None:
        """Wait until all that is known to be committed is applied here."""
        applied = self._machine.applied(self._core.committed_index)
        if applied.done():
            return
        timer = self._core.clock.call_later(APPLY_BOUND_S, _give_up, applied)
        try:
            if not await applied:
                raise error(TIMEOUT_WAIT_APPLIED)
        finally:
            timer.cancel()

    async def _forwarded(self, method: Method[Any, Any], request: Any) -> Any:
        """The leader's answer, asked for until the time of a request is over."""
        clock = self._core.clock
        deadline_s = clock.now_s() + REQUEST_BASE_S + 2 * self._core.election_timeout_s
        while (left_s := deadline_s - clock.now_s()) > 0:
            if self._core.leader_id == 0:
                if left_s <= self._core.election_timeout_s:
                    await clock.sleep(left_s)
                    raise error(NO_LEADER)
                await clock.sleep(self._core.election_timeout_s)
                continue
            try:
                return await self._core.forwarded(method, request, left_s)
            except TransportError as refusal:
                if _is_not_found(refusal):
                    raise
            await clock.sleep(FORWARD_PAUSE_S)
        raise error(TIMEOUT)


def _give_up(waiting: asyncio.Future[bool]) -> None:
    if not waiting.done():
        waiting.set_result(False)


def _is_not_found(refusal: TransportError) -> bool:
    return (refusal.code, refusal.message) == LEASE_NOT_FOUND
