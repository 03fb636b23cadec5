"""A session: a lease that a task of ours keeps alive, and what its owner may believe of it.

Expiry is the server's to decide, so the owner's view is a bound from below: the
session counts as lost once the granted TTL has passed since the *request* of
the last keepalive that succeeded, or when one is answered with TTL 0 (the lease
is gone).  Without clock skew or a defect of the lessor that is before the server
lets go of the lease's keys.  Source: etcd's client/v3/concurrency/session.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE
from splitvote.harness.etcd.rpc import Rpc, Stream
from splitvote.harness.etcd.stubs import rpc_pb2 as pb

KEEP_ALIVES_A_TTL: Final = 3
RECONNECT_PAUSE_S: Final = 0.1

_KeepAlives = Stream[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """One keepalive that was answered: when it was sent and answered by the loop's clock, and the TTL granted anew.

    ``ttl_s`` 0 is a refusal: the lease is gone.  ``revision`` (of the header) is
    a bound only, no place in the store's history (SOUNDNESS 7).
    """

    requested_s: float
    answered_s: float
    ttl_s: int
    revision: int


class LeaseHolder(Protocol):
    """All that a recipe asks of a session: whose lease its key has, and through whom it calls."""

    @property
    def rpc(self) -> Rpc:
        """The member that is asked."""
        ...

    @property
    def lease(self) -> int:
        """The lease's id; somebody keeps it alive."""
        ...


class Session:
    """A lease held by this client; made by ``Session.open``.

    ``lease`` is its id, ``ttl_s`` the TTL that was granted (not less than the
    one asked for), ``rpc`` the member that it is kept alive at.
    """

    def __init__(
        self, rpc: Rpc, granted: pb.LeaseGrantResponse, requested_s: float, on_answer: Callable[[KeepAlive], None]
    ) -> None:
        self.rpc = rpc
        self.lease: int = granted.ID
        self.ttl_s: int = granted.TTL
        self._loop = asyncio.get_running_loop()
        self._on_answer = on_answer
        self._lost = asyncio.Event()
        self.expires_s = requested_s + self.ttl_s
        self._expiry = self._loop.call_at(self.expires_s, self._lost.set)
        self._renewing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        rpc: Rpc,
        *,
        ttl_s: int,
        timeout_s: float,
        on_answer: Callable[[KeepAlive], None] = lambda answer: None,
    ) -> Session:
        """Grant a lease and begin to keep it alive; raises TransportError when none was granted in time.

        ``on_answer`` hears of every keepalive that was answered.  A grant whose
        answer was lost leaves a lease that nobody renews.
        """
        requested_s = asyncio.get_running_loop().time()
        granted = await rpc.unary(LEASE_GRANT, pb.LeaseGrantRequest(TTL=ttl_s), timeout_s=timeout_s)
        session = cls(rpc, granted, requested_s, on_answer)
        session._renewing = asyncio.create_task(session._renew(), name=f"splitvote session {session.lease:x}")
        return session

    @property
    def is_alive(self) -> bool:
        """Whether its owner may believe that the lease lives."""
        return not self._lost.is_set() and self._loop.time() < self.expires_s

    async def lost(self) -> None:
        """Wait until the session is lost: its time is over by our own clock, it was refused, or closed."""
        await self._lost.wait()

    async def orphan(self) -> None:
        """Renew no more and let the lease expire, as a process that crashed or hangs does."""
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def close(self, *, timeout_s: float) -> int:
        """Renew no more and revoke the lease with all its keys; returns the answer's revision.

        Raises TransportError when the revocation was not acknowledged in time;
        the lease then expires, if it was not revoked after all.
        """
        await self.orphan()
        self._lose()
        answer = await self.rpc.unary(LEASE_REVOKE, pb.LeaseRevokeRequest(ID=self.lease), timeout_s=timeout_s)
        return answer.header.revision

    def _lose(self) -> None:
        self._expiry.cancel()
        self.expires_s = min(self.expires_s, self._loop.time())
        self._lost.set()

    async def _renew(self) -> None:
        """Keep alive until lost; a stream that breaks or does not answer is opened anew."""
        interval_s = self.ttl_s / KEEP_ALIVES_A_TTL
        stream: _KeepAlives | None = None
        try:
            while self.is_alive:
                try:
                    # One request at a time, so that an answer belongs to the request before it.
                    async with asyncio.timeout(interval_s):
                        if stream is None:
                            stream = await self.rpc.stream(LEASE_KEEP_ALIVE)
                        await self._keep_alive(stream)
                    pause_s = interval_s
                except (TransportError, TimeoutError):
                    if stream is not None:
                        stream.cancel()
                    stream, pause_s = None, RECONNECT_PAUSE_S
                await asyncio.sleep(pause_s)
        finally:
            if stream is not None:
                stream.cancel()

    async def _keep_alive(self, stream: _KeepAlives) -> None:
        requested_s = self._loop.time()
        await stream.send(pb.LeaseKeepAliveRequest(ID=self.lease))
        answer = await stream.receive()
        if answer is None:
            raise TransportError("UNAVAILABLE", "the server ended the keepalive stream")
        if not self.is_alive:
            return  # what was lost by our own clock stays lost, whatever the server says
        if answer.TTL <= 0:
            self._lose()
        else:
            self._expiry.cancel()
            self.expires_s = requested_s + answer.TTL
            self._expiry = self._loop.call_at(self.expires_s, self._lost.set)
        self._on_answer(KeepAlive(requested_s, self._loop.time(), max(0, answer.TTL), answer.header.revision))
