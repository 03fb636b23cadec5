"""A mutex: whoever's key has the smallest create revision below the name holds it, as long as its session lives.

Advisory: a holder whose lease has ended does not know at once.  What must not be
done by a deposed holder is guarded with ``Mutex.owner_compare``.  Source: etcd's
client/v3/concurrency/mutex.go.
"""

from __future__ import annotations

import asyncio

from splitvote.harness.etcd.methods import DELETE_RANGE, RANGE, TXN
from splitvote.harness.etcd.recipes.session import LeaseHolder
from splitvote.harness.etcd.recipes.waiting import (
    SessionExpired,
    has_created,
    key_below,
    oldest_key,
    wait_for_turn,
)
from splitvote.harness.etcd.stubs import rpc_pb2 as pb


class Mutex:
    """A session's claim to the lock ``name``.

    ``key`` is the session's own key; ``create_revision`` is its create revision
    while the recipe knows of one (held, or waiting for when ``lock`` failed).
    """

    def __init__(self, session: LeaseHolder, name: bytes) -> None:
        self.session = session
        self._prefix = name + b"/"
        self.key = key_below(self._prefix, session.lease)
        self.create_revision: int | None = None

    async def lock(self, *, timeout_s: float) -> int:
        """Take the lock; returns the revision at which it was seen to be held.

        Raises TransportError when it was not taken in time (``outcome_of`` tells
        whether its key is left behind; ``unlock`` removes it), SessionExpired
        when the session's key was gone by the time its turn had come.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        answer = await self.session.rpc.unary(TXN, self._claim(), timeout_s=timeout_s)
        if answer.succeeded:
            self.create_revision = answer.header.revision
        else:
            self.create_revision = answer.responses[0].response_range.kvs[0].create_revision
        owners = answer.responses[1].response_range.kvs
        if not owners or owners[0].create_revision == self.create_revision:
            return answer.header.revision
        await wait_for_turn(self.session.rpc, self._prefix, self.create_revision, deadline_s=deadline_s)
        return await self._recheck(max(0.0, deadline_s - loop.time()))

    def _claim(self) -> pb.TxnRequest:
        """Put our key unless it is there already; either way, read whose turn it is."""
        put = pb.PutRequest(key=self.key, lease=self.session.lease)
        owner = pb.RequestOp(request_range=oldest_key(self._prefix))
        return pb.TxnRequest(
            compare=[has_created(self.key, 0)],
            success=[pb.RequestOp(request_put=put), owner],
            failure=[pb.RequestOp(request_range=pb.RangeRequest(key=self.key)), owner],
        )

    async def _recheck(self, timeout_s: float) -> int:
        """The revision at which our key was still there, after all older ones had gone."""
        answer = await self.session.rpc.unary(RANGE, pb.RangeRequest(key=self.key), timeout_s=timeout_s)
        if not answer.kvs or answer.kvs[0].create_revision != self.create_revision:
            self.create_revision = None
            raise SessionExpired(f"its key was gone at revision {answer.header.revision}")
        return answer.header.revision

    async def unlock(self, *, timeout_s: float) -> tuple[int, bool]:
        """Delete our key: the revision, and whether it was still there.

        As in etcd the deletion is not guarded, and one of nothing is no error.
        Raises TransportError when it was not acknowledged in time.
        """
        self.create_revision = None
        answer = await self.session.rpc.unary(DELETE_RANGE, pb.DeleteRangeRequest(key=self.key), timeout_s=timeout_s)
        return answer.header.revision, answer.deleted > 0

    def owner_compare(self) -> pb.Compare:
        """The condition that guards a write of the holder: that its key is the one it took the lock with."""
        if self.create_revision is None:
            raise ValueError("the mutex has no key in the store to compare with: lock() it first")
        return has_created(self.key, self.create_revision)
