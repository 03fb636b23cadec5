"""An election: whoever's key has the smallest create revision below the prefix leads, as long as its session lives.

Candidates queue as for a mutex; the key's value is what the leader proclaims.  As
in etcd, ``campaign`` does not look at its own key again before it tells of
victory, so a winner may be deposed already.  Source: etcd's
client/v3/concurrency/election.go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import RANGE, TXN
from splitvote.harness.etcd.recipes.session import LeaseHolder
from splitvote.harness.etcd.recipes.waiting import (
    KeyWatch,
    SessionExpired,
    end_of,
    has_created,
    key_below,
    oldest_key,
    wait_for_turn,
)
from splitvote.harness.etcd.rpc import Rpc
from splitvote.harness.etcd.stubs import rpc_pb2 as pb


@dataclass(frozen=True, slots=True)
class Guarded:
    """A write guarded by the leader's key: whether it was done, and the revision of the answer (its own place).

    ``revision`` is None where the answer does not tell.
    """

    succeeded: bool
    revision: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """The leader as it stood at ``revision``: its key with the value it had proclaimed."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int
    revision: int


class Election:
    """A session's candidacy below ``prefix``.

    ``key`` is the session's own key; ``create_revision`` is its create revision
    while the recipe knows of one (leading, or queueing where ``campaign``
    failed), and what a leader's writes are to be guarded with (``leader_compare``).
    """

    def __init__(self, session: LeaseHolder, prefix: bytes) -> None:
        self.session = session
        self._prefix = prefix + b"/"
        self.key = key_below(self._prefix, session.lease)
        self.create_revision: int | None = None

    async def campaign(self, value: bytes, *, timeout_s: float) -> int:
        """Put our key with this value and wait for its turn; returns the revision at which no older key was left.

        A key of ours that is there already, with another value, proclaims the
        new one first.  Raises TransportError when the turn did not come in time
        (``outcome_of`` tells whether the key is left behind; ``resign`` removes
        it), SessionExpired when our key was gone before it could proclaim.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        answer = await self.session.rpc.unary(TXN, self._candidacy(value), timeout_s=timeout_s)
        if answer.succeeded:
            self.create_revision = answer.header.revision
        else:
            own = answer.responses[0].response_range.kvs[0]
            self.create_revision = own.create_revision
            if own.value != value:
                proclaimed = await self.proclaim(value, timeout_s=max(0.0, deadline_s - loop.time()))
                if not proclaimed.succeeded:
                    raise SessionExpired(f"its key was gone at revision {proclaimed.revision}")
        return await wait_for_turn(self.session.rpc, self._prefix, self.create_revision, deadline_s=deadline_s)

    def _candidacy(self, value: bytes) -> pb.TxnRequest:
        return pb.TxnRequest(
            compare=[has_created(self.key, 0)],
            success=[pb.RequestOp(request_put=self._put(value))],
            failure=[pb.RequestOp(request_range=pb.RangeRequest(key=self.key))],
        )

    def _put(self, value: bytes) -> pb.PutRequest:
        return pb.PutRequest(key=self.key, value=value, lease=self.session.lease)

    async def proclaim(self, value: bytes, *, timeout_s: float) -> Guarded:
        """Give our key a new value, if it is still the one we campaigned with; raises TransportError."""
        done = await self._guarded(pb.RequestOp(request_put=self._put(value)), timeout_s)
        if not done.succeeded:
            self.create_revision = None
        return done

    async def resign(self, *, timeout_s: float) -> Guarded:
        """Delete our key, if it is still the one we campaigned with; raises TransportError.

        Whatever comes of it, the recipe has no key any more.
        """
        deletion = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=self.key))
        try:
            return await self._guarded(deletion, timeout_s)
        finally:
            self.create_revision = None

    async def _guarded(self, write: pb.RequestOp, timeout_s: float) -> Guarded:
        request = pb.TxnRequest(compare=[self.leader_compare()], success=[write])
        answer = await self.session.rpc.unary(TXN, request, timeout_s=timeout_s)
        return Guarded(answer.succeeded, answer.header.revision)

    def leader_compare(self) -> pb.Compare:
        """The condition that guards a leader's write: that its key is the one it campaigned with."""
        if self.create_revision is None:
            raise ValueError("the candidate has no key in the store to compare with: campaign() first")
        return has_created(self.key, self.create_revision)


async def leader_of(rpc: Rpc, prefix: bytes, *, timeout_s: float) -> tuple[int, Standing | None]:
    """Read who leads: the revision of the answer (its own place), and the leader, if there is one."""
    answer = await rpc.unary(RANGE, oldest_key(prefix + b"/"), timeout_s=timeout_s)
    revision = answer.header.revision
    return revision, standing_of(answer.kvs[0], revision) if answer.kvs else None


class Observer:
    """Follows an election's leaders and what they proclaim: an async iterator of ``Standing``, without end.

    It may skip leaders and values, but tells them in the order in which they
    were.  ``timeout_s`` bounds each read.  A read or watch that fails raises
    TransportError; iterating on begins anew with a read, and may tell the leader
    of before once more.  ``close`` it in the end.
    """

    def __init__(self, rpc: Rpc, prefix: bytes, *, timeout_s: float) -> None:
        self._rpc = rpc
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._ready: deque[Standing] = deque()
        self._watch: KeyWatch | None = None
        self._watches_leader = False

    def __aiter__(self) -> Observer:
        """Itself."""
        return self

    async def __anext__(self) -> Standing:
        """The next leader, or the leader's next value."""
        try:
            while not self._ready:
                await self._advance()
        except TransportError:
            self.close()
            raise
        return self._ready.popleft()

    def close(self) -> None:
        """End the watch that is open."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def _advance(self) -> None:
        if self._watch is None:
            revision, leader = await leader_of(self._rpc, self._prefix, timeout_s=self._timeout_s)
            if leader is None:
                await self._await_first(revision)
            else:
                await self._follow(leader)
        elif self._watches_leader:
            self._take(await self._watch.events())
        else:
            first = next((event for event in await self._watch.events() if event.type == pb.Event.PUT), None)
            if first is not None:  # the first put of an empty prefix is the leader's
                self.close()
                await self._follow(standing_of(first.kv, first.kv.mod_revision))

    async def _await_first(self, revision: int) -> None:
        below = self._prefix + b"/"
        self._watches_leader = False
        self._watch = await KeyWatch.open(self._rpc, below, start_revision=revision + 1, range_end=end_of(below))

    async def _follow(self, leader: Standing) -> None:
        """Tell of this leader, and of what its key does next."""
        self._ready.append(leader)
        self._watches_leader = True
        self._watch = await KeyWatch.open(self._rpc, leader.key, start_revision=leader.revision + 1)

    def _take(self, events: Sequence[pb.Event]) -> None:
        for event in events:
            if event.type == pb.Event.DELETE:
                self.close()  # deposed: who leads now is for the next read to say
                return
            self._ready.append(standing_of(event.kv, event.kv.mod_revision))


def standing_of(kv: pb.KeyValue, revision: int) -> Standing:
    """A leader by its key as an answer or event shows it."""
    return Standing(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease, revision)
