"""etcd's lock-guarded sets: read, think and write under a Mutex, the set in etcd or in memory of the test.

Set ``k`` is a JSON list at ``lock-set/set/k``, or in a dictionary that the run's
clients share; its lock is the name ``lock-set/lock/k``.  A *fenced* write is a Txn
on the condition that the lock's key still has the create revision that it was
acquired with; one that is refused is ``fail`` with the class "fenced".  An
unfenced write just puts: a client that has lost its session does not look.  A
write is waited for as long as a lock: it reaches a member that was paused when it
goes on, with the lease over, while one that had been given up would be dropped.

An add's outcome is that of its write.  Failing to take the lock is ``fail``
whatever became of the lock: the set was not touched.  Failing to let it go does
not matter: the session is left to expire then.  ``revision`` of adds and reads in
etcd is their own place in the store's history.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal

import msgspec

from splitvote.checkers.lock.overwrites import LOCKS, SETS
from splitvote.checkers.lock.sets import FENCED
from splitvote.harness.client import Emit
from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd.bindings.lock import NO_SESSION, SESSION_EXPIRED, ProcessSession, given_up
from splitvote.harness.etcd.bindings.services import UNREACHABLE_PAUSE_S, Services
from splitvote.harness.etcd.methods import PUT, RANGE, TXN
from splitvote.harness.etcd.outcomes import classify
from splitvote.harness.etcd.recipes import Mutex, SessionExpired
from splitvote.harness.etcd.rpc import Rpc
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op

Place = Literal["fenced", "unfenced", "memory"]
"""Where a set is written and how: in etcd on the lock's condition, in etcd without, in memory."""

_NO_LOCK: Final = "(the lock was not acquired)"
_REFUSED: Final = f"{FENCED}: the lock's key is not the one that was acquired, so the write was refused"

Memory = dict[Any, tuple[Any, ...]]
"""The sets that are kept in memory, by key."""


def binding(services: Services) -> LockSetBinding:
    """See ``LockSetBinding``; the options ``where`` and ``fenced`` say where sets are and if writes are guarded."""
    if services.options.get("where") == "memory":
        return LockSetBinding(services, "memory")
    return LockSetBinding(services, "unfenced" if services.options.get("fenced") == "no" else "fenced")


class LockSetBinding:
    """Opens clients over the run's connections; sets in memory are one for all of them."""

    def __init__(self, services: Services, place: Place) -> None:
        self._services = services
        self._place: Place = place
        self._memory: Memory = {}

    async def open(self, process: int, node: str) -> LockSetClient:
        """A client for this process; does not wait for the node."""
        rpc = self._services.nodes[node]
        return LockSetClient(rpc, node, self._place, self._memory, timeout_s=self._services.timeout_s)

    async def close(self) -> None:
        """Nothing to let go of: the nodes' connections are not ours."""


class LockSetClient:
    """One process's session at one node."""

    def __init__(self, rpc: Rpc, node: str, place: Place, memory: Memory, *, timeout_s: float) -> None:
        self._rpc = rpc
        self._node = node
        self._place: Place = place
        self._memory = memory
        self._timeout_s = timeout_s
        self._session = ProcessSession(rpc, timeout_s=timeout_s)

    async def setup(self) -> None:
        """Nothing to prepare: a set that was never written is empty."""

    async def teardown(self) -> None:
        """Nothing to undo: the store belongs to the run."""

    async def close(self) -> None:
        """Leave the session as a process that crashes does: its lease expires."""
        await self._session.leave()

    async def invoke(self, op: Op, emit: Emit) -> Op:
        """Add or read; raises ConfigError for any other operation."""
        if op.f == "read":
            return await self._read(op)
        if op.f != "add":
            raise ConfigError(f"etcd's lock-set has no operation {op.f!r}; it has add, read")
        mutex = await self._locked(op, emit)
        if isinstance(mutex, Op):
            return mutex
        done = await self._add(op, mutex)
        if done.type != "info":  # else the process ends, and leaves its session
            await self._unlock(mutex)
        return done

    async def _read(self, op: Op) -> Op:
        if self._place == "memory":
            return op.completed("ok", value=list(self._memory.get(op.key, ())), node=self._node)
        try:
            elements, revision = await self._elements(op.key)
        except TransportError as error:
            return await self._failed(op, error)
        return op.completed("ok", value=elements, node=self._node, revision=revision)

    async def _locked(self, op: Op, emit: Emit) -> Mutex | Op:
        """The set's lock, or the completion of an add that did not get it."""
        assert op.extra is not None
        try:
            session = await self._session.current(ttl_s=op.extra["ttl_s"])
        except TransportError as error:
            return await self._failed(op, error, why=NO_SESSION)
        emit(op.completed("event", value={"lease": session.lease}, node=self._node, extra=None))
        mutex = Mutex(session, f"{LOCKS}{op.key}".encode())
        try:
            await mutex.lock(timeout_s=op.extra["patience_s"])
        except SessionExpired as expired:
            await self._session.leave()
            return op.completed("fail", error=f"{SESSION_EXPIRED}: {expired}", node=self._node, extra=None)
        except TransportError as error:
            judged = await given_up(mutex, error, timeout_s=self._timeout_s)
            if judged.type == "info":  # its key may be there
                await self._session.leave()
            return op.completed("fail", error=f"{judged.text} {_NO_LOCK}", node=self._node, extra=None)
        return mutex

    async def _add(self, op: Op, mutex: Mutex) -> Op:
        if self._place == "memory":
            before = self._memory.get(op.key, ())
            await self._think(op)
            self._memory[op.key] = (*before, op.value)
            return op.completed("ok", node=self._node, extra=None)
        assert op.extra is not None
        try:
            elements, _ = await self._elements(op.key)
        except TransportError as error:  # nothing was written yet
            return await self._failed(op, error)
        await self._think(op)
        put = pb.PutRequest(key=f"{SETS}{op.key}".encode(), value=msgspec.json.encode([*elements, op.value]))
        try:
            return await self._write(op, put, mutex, timeout_s=op.extra["patience_s"])
        except TransportError as error:
            judged = classify(error, "write")
            return op.completed(judged.type, error=judged.text, node=self._node, extra=None)

    async def _think(self, op: Op) -> None:
        assert op.extra is not None
        if op.extra["stalls"]:
            await self._session.stall()
        await asyncio.sleep(op.extra["think_s"])

    async def _write(self, op: Op, put: pb.PutRequest, mutex: Mutex, *, timeout_s: float) -> Op:
        if self._place == "unfenced":
            answer = await self._rpc.unary(PUT, put, timeout_s=timeout_s)
            return op.completed("ok", node=self._node, revision=answer.header.revision, extra=None)
        request = pb.TxnRequest(compare=[mutex.owner_compare()], success=[pb.RequestOp(request_put=put)])
        done = await self._rpc.unary(TXN, request, timeout_s=timeout_s)
        if not done.succeeded:
            return op.completed("fail", error=_REFUSED, node=self._node, revision=done.header.revision, extra=None)
        return op.completed("ok", node=self._node, revision=done.header.revision, extra=None)

    async def _unlock(self, mutex: Mutex) -> None:
        try:
            await mutex.unlock(timeout_s=self._timeout_s)
        except TransportError:
            await self._session.leave()

    async def _elements(self, key: Any) -> tuple[list[Any], int]:
        """The set in etcd, and the revision that it was read at."""
        answer = await self._rpc.unary(RANGE, pb.RangeRequest(key=f"{SETS}{key}".encode()), timeout_s=self._timeout_s)
        elements: list[Any] = msgspec.json.decode(answer.kvs[0].value) if answer.kvs else []
        return elements, answer.header.revision

    async def _failed(self, op: Op, error: TransportError, *, why: str = "") -> Op:
        """The completion of an operation that changed nothing in the set."""
        judged = classify(error, "read")
        if judged.name == "not-connected":
            await asyncio.sleep(UNREACHABLE_PAUSE_S)
        return op.completed("fail", error=f"{judged.text} {why}".rstrip(), node=self._node, extra=None)
