"""etcd's locks: the client recipe, and the server-side Lock service; each process has one session at a time.

Lock ``k`` is the name ``lock/k``, so that a session's key is ``lock/k/<lease>``.
``acquire`` and ``release`` emit an event with the lease before they send
anything, so that the key is known even when the outcome is not.

What is recorded.  ``revision`` marks the operation's own place (SOUNDNESS 7): of
an acquire the revision at which no older key lived (the recipe's last read, or
the header that the server's Lock answers with), of an unlock that of its delete.
``extra`` has ``create_revision`` where the client itself has read it, ``deleted``
where an unlock tells it, ``revoked_by`` (a bound) where a session was closed.

An acquire that was given up deletes its key, as etcd's own recipe does, and is
``fail`` when that was acknowledged; else it is ``info``, for the key may be left
behind.  A timed-out server-side Lock is always ``info``: the server tidies up
after it, at some time.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from splitvote.checkers.lock.claims import NOT_IN_TIME
from splitvote.harness.client import Emit
from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd.bindings.services import UNREACHABLE_PAUSE_S, Services
from splitvote.harness.etcd.methods import LOCK, UNLOCK
from splitvote.harness.etcd.outcomes import Outcome, classify
from splitvote.harness.etcd.recipes import Mutex, Session, SessionExpired, outcome_of
from splitvote.harness.etcd.rpc import Rpc
from splitvote.harness.etcd.stubs import lock_pb2 as pb
from splitvote.harness.etcd.text import text_of
from splitvote.harness.op import Op

PREFIX: Final = "lock/"
SESSION_EXPIRED: Final = "session-expired"
NO_SESSION: Final = "(no session was granted)"
_SERVERS_EXPIRIES: Final = ("mutex: session is expired", "requested lease not found")
"""What the server's Lock says, as an error of no particular code, when the session's lease is gone: nothing is held."""


def binding(services: Services) -> LockBinding:
    """See ``LockBinding``."""
    return LockBinding(services)


class LockBinding:
    """Opens clients over the run's connections."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def open(self, process: int, node: str) -> LockClient:
        """A client for this process; does not wait for the node."""
        return LockClient(self._services.nodes[node], node, timeout_s=self._services.timeout_s)

    async def close(self) -> None:
        """Nothing to let go of: the nodes' connections are not ours."""


class ProcessSession:
    """A process's session: opened when it is first needed, and anew when the one before is lost or was left."""

    def __init__(self, rpc: Rpc, *, timeout_s: float) -> None:
        self._rpc = rpc
        self._timeout_s = timeout_s
        self._is_renewing = False
        self.latest: Session | None = None
        """The session that was opened last and not left; it may be lost."""

    async def current(self, *, ttl_s: int) -> Session:
        """A session whose lease lives, as far as we may believe; raises TransportError when none is granted."""
        if self.latest is not None and self.latest.is_alive and self._is_renewing:
            return self.latest
        await self.leave()
        self.latest = session = await Session.open(self._rpc, ttl_s=ttl_s, timeout_s=self._timeout_s)
        self._is_renewing = True
        return session

    async def stall(self) -> None:
        """Renew the lease no more, though the session goes on being used, as in a process that hangs."""
        if self.latest is not None:
            await self.latest.orphan()
        self._is_renewing = False

    async def leave(self) -> None:
        """Renew no more and forget it: the lease expires."""
        session, self.latest = self.latest, None
        if session is not None:
            await session.orphan()


async def given_up(mutex: Mutex, error: TransportError, *, timeout_s: float) -> Outcome:
    """What became of a ``lock`` that failed, once its key is deleted, if it has one."""
    judged = outcome_of(error, create_revision=mutex.create_revision)
    if mutex.create_revision is None:
        return judged
    try:
        await mutex.unlock(timeout_s=timeout_s)
    except TransportError:
        return judged
    return Outcome("fail", NOT_IN_TIME, f"{NOT_IN_TIME}: {error.message}")


class _Held(NamedTuple):
    """A lock that this process was granted, and by which way."""

    mutex: Mutex
    api: str


class LockClient:
    """One process's session at one node, and the locks that it holds."""

    def __init__(self, rpc: Rpc, node: str, *, timeout_s: float) -> None:
        self._rpc = rpc
        self._node = node
        self._timeout_s = timeout_s
        self._session = ProcessSession(rpc, timeout_s=timeout_s)
        self._held: dict[str, _Held] = {}
        self._operations = {"acquire": self._acquire, "release": self._release, "stall": self._stall}

    async def setup(self) -> None:
        """Nothing to prepare."""

    async def teardown(self) -> None:
        """Nothing to undo: the store belongs to the run."""

    async def close(self) -> None:
        """Leave the session as a process that crashes does: its lease expires."""
        await self._leave_session()

    async def invoke(self, op: Op, emit: Emit) -> Op:
        """Acquire, release or stall; raises ConfigError for any other operation."""
        operation = self._operations.get(op.f)
        if operation is None:
            raise ConfigError(f"etcd's lock has no operation {op.f!r}; it has {', '.join(self._operations)}")
        return await operation(op, emit)

    async def _acquire(self, op: Op, emit: Emit) -> Op:
        try:
            session = await self._session.current(ttl_s=op.value["ttl_s"])
        except TransportError as error:  # no lease, so the lock was not asked for
            judged = classify(error, "write")
            return await self._failed(op, Outcome("fail", judged.name, f"{judged.text} {NO_SESSION}"))
        emit(op.completed("event", value={"lease": session.lease}, node=self._node))
        self._held = {lock: held for lock, held in self._held.items() if held.mutex.session is session}
        mutex = Mutex(session, f"{PREFIX}{op.key}".encode())
        take = self._take_at_server if op.value["api"] == "server" else self._take
        return await take(op, mutex)

    async def _take(self, op: Op, mutex: Mutex) -> Op:
        try:
            revision = await mutex.lock(timeout_s=op.value["patience_s"])
        except SessionExpired as expired:
            await self._leave_session()
            return op.completed("fail", error=f"{SESSION_EXPIRED}: {expired}", node=self._node)
        except TransportError as error:
            return await self._failed(op, await given_up(mutex, error, timeout_s=self._timeout_s))
        self._held[op.key] = _Held(mutex, "client")
        extra = {"create_revision": mutex.create_revision}
        return op.completed("ok", value=text_of(mutex.key), node=self._node, revision=revision, extra=extra)

    async def _take_at_server(self, op: Op, mutex: Mutex) -> Op:
        request = pb.LockRequest(name=f"{PREFIX}{op.key}".encode(), lease=mutex.session.lease)
        try:
            answer = await self._rpc.unary(LOCK, request, timeout_s=op.value["patience_s"])
        except TransportError as error:
            if any(words in error.message for words in _SERVERS_EXPIRIES):
                await self._leave_session()
                return op.completed("fail", error=f"{SESSION_EXPIRED}: {error.message}", node=self._node)
            return await self._failed(op, classify(error, "composite"))
        self._held[op.key] = _Held(mutex, "server")
        return op.completed("ok", value=text_of(answer.key), node=self._node, revision=answer.header.revision)

    async def _release(self, op: Op, emit: Emit) -> Op:
        session = self._session.latest
        if session is None:
            return op.completed("ok", value=None, node=self._node)
        if op.value == "orphan":
            await self._leave_session()
            return op.completed("ok", node=self._node)
        emit(op.completed("event", value={"lease": session.lease}, node=self._node))
        if op.value == "close":
            return await self._close_session(op, session)
        held = self._held.get(op.key)
        if held is None:
            return op.completed("ok", value=None, node=self._node)
        try:
            done = await self._unlock(op, held)
        except TransportError as error:
            return await self._failed(op, classify(error, "write" if held.api == "client" else "composite"))
        del self._held[op.key]
        return done

    async def _unlock(self, op: Op, held: _Held) -> Op:
        if held.api == "client":
            revision, deleted = await held.mutex.unlock(timeout_s=self._timeout_s)
            return op.completed("ok", node=self._node, revision=revision, extra={"deleted": deleted})
        answer = await self._rpc.unary(UNLOCK, pb.UnlockRequest(key=held.mutex.key), timeout_s=self._timeout_s)
        return op.completed("ok", node=self._node, revision=answer.header.revision)

    async def _close_session(self, op: Op, session: Session) -> Op:
        await self._leave_session()
        try:
            revision = await session.close(timeout_s=self._timeout_s)
        except TransportError as error:
            judged = classify(error, "write")
            if judged.name == "lease-not-found":  # it had ended before
                return op.completed("ok", node=self._node)
            return await self._failed(op, judged)
        return op.completed("ok", node=self._node, extra={"revoked_by": revision})

    async def _stall(self, op: Op, emit: Emit) -> Op:
        await self._session.stall()
        await asyncio.sleep(op.value)
        return op.completed("ok", node=self._node)

    async def _leave_session(self) -> None:
        self._held.clear()
        await self._session.leave()

    async def _failed(self, op: Op, judged: Outcome) -> Op:
        if judged.name == "not-connected":
            await asyncio.sleep(UNREACHABLE_PAUSE_S)
        return op.completed(judged.type, error=judged.text, node=self._node)
