"""Elections through etcd's own service (v3election), which runs the client recipe inside a member.

The keys are laid out as the client recipe's, so that both may contend in one
election.  What the service tells is less: the header of a campaign is that of
putting the key and not of the victory, a refused proclamation has none, and
resigning is OK whether or not there was anything to resign from.  Source: etcd's
server/etcdserver/api/v3election/election.go.
"""

from __future__ import annotations

import asyncio
from typing import Final

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import CAMPAIGN, LEADER, OBSERVE, PROCLAIM, RESIGN
from splitvote.harness.etcd.recipes.election import Guarded, Standing, standing_of
from splitvote.harness.etcd.recipes.session import Session
from splitvote.harness.etcd.recipes.waiting import has_created
from splitvote.harness.etcd.rpc import Rpc, Stream
from splitvote.harness.etcd.stubs import election_pb2 as v3election
from splitvote.harness.etcd.stubs import rpc_pb2 as pb

NOT_LEADER: Final = "election: not leader"
NO_LEADER: Final = "election: no leader"


class ServedElection:
    """A session's candidacy below ``prefix``, by the service of the session's member; see ``Election``."""

    def __init__(self, session: Session, prefix: bytes) -> None:
        self.session = session
        self._name = prefix
        self._leader: v3election.LeaderKey | None = None

    @property
    def create_revision(self) -> int | None:
        """The create revision of our key, once a campaign was won."""
        return None if self._leader is None else self._leader.rev

    async def campaign(self, value: bytes, *, timeout_s: float) -> int:
        """Contend until we lead; returns the revision at which the key was put (or found).

        Raises TransportError, which is of a call of several steps: the key may
        be left behind, and unlike ``Election`` nothing here knows.
        """
        request = v3election.CampaignRequest(name=self._name, lease=self.session.lease, value=value)
        answer = await self.session.rpc.unary(CAMPAIGN, request, timeout_s=timeout_s)
        self._leader = answer.leader
        return answer.header.revision

    async def proclaim(self, value: bytes, *, timeout_s: float) -> Guarded:
        """See ``Election.proclaim``; a refusal has no revision."""
        request = v3election.ProclaimRequest(leader=self._leader, value=value)
        try:
            answer = await self.session.rpc.unary(PROCLAIM, request, timeout_s=timeout_s)
        except TransportError as error:
            if error.message != NOT_LEADER:
                raise
            self._leader = None
            return Guarded(False, None)
        return Guarded(True, answer.header.revision)

    async def resign(self, *, timeout_s: float) -> Guarded:
        """Give up our key; that it ``succeeded`` says only that the key is gone at the answer's revision."""
        request = v3election.ResignRequest(leader=self._leader)
        self._leader = None
        answer = await self.session.rpc.unary(RESIGN, request, timeout_s=timeout_s)
        return Guarded(True, answer.header.revision)

    def leader_compare(self) -> pb.Compare:
        """See ``Election.leader_compare``."""
        if self._leader is None:
            raise ValueError("the candidate has no key in the store to compare with: campaign() first")
        return has_created(self._leader.key, self._leader.rev)


async def served_leader_of(rpc: Rpc, prefix: bytes, *, timeout_s: float) -> tuple[int | None, Standing | None]:
    """See ``leader_of``; that there is no leader is told without a revision."""
    try:
        answer = await rpc.unary(LEADER, v3election.LeaderRequest(name=prefix), timeout_s=timeout_s)
    except TransportError as error:
        if error.message != NO_LEADER:
            raise
        return None, None
    return answer.header.revision, standing_of(answer.kv, answer.header.revision)


class ServedObserver:
    """Follows an election's leaders by the service; see ``Observer``.  ``timeout_s`` bounds the opening of a stream."""

    def __init__(self, rpc: Rpc, prefix: bytes, *, timeout_s: float) -> None:
        self._rpc = rpc
        self._request = v3election.LeaderRequest(name=prefix)
        self._timeout_s = timeout_s
        self._stream: Stream[v3election.LeaderRequest, v3election.LeaderResponse] | None = None

    def __aiter__(self) -> ServedObserver:
        """Itself."""
        return self

    async def __anext__(self) -> Standing:
        """The next leader, or the leader's next value."""
        try:
            if self._stream is None:
                self._stream = await self._open()
            answer = await self._stream.receive()
            if answer is None:
                raise TransportError("UNAVAILABLE", "the server ended the observation")
        except TransportError:
            self.close()
            raise
        return standing_of(answer.kv, answer.header.revision)

    async def _open(self) -> Stream[v3election.LeaderRequest, v3election.LeaderResponse]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._rpc.stream(OBSERVE, self._request)
        except TimeoutError:
            raise TransportError("DEADLINE_EXCEEDED", f"no stream within {self._timeout_s:g} s") from None

    def close(self) -> None:
        """End the stream that is open."""
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
