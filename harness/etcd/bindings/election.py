"""etcd's elections: the ``election`` workload by the client recipe and by the server-side service.

Election ``k`` is the prefix ``election/k``, so that a session's key is
``election/k/<lease>``; leaders write to ``election/guarded/k``.  A process has one
session at a time, which it keeps from campaign to campaign while it lives; the
session of a process that ends (``info``) is left to expire, as a crash would.

What is recorded.  ``revision`` marks the operation's own place (SOUNDNESS 7): of a
campaign by the client the revision at which no older key was left, of one by the
server that of putting its key.  ``extra`` tells of the reign that the operation
belongs to: ``api``, ``lease``, ``candidate_key`` (the session's key) and, once it
is known, ``create_revision``; ``lost_s`` is how long ago the session was lost by
the client's own clock.

A refused proclamation or write is a ``fail`` of class "deposed": at ``revision``
(where the answer tells it) the key was not there; ``deleted`` tells the same of a
resignation by the client.  A campaign whose key may be left behind is ``info``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from splitvote.checkers.election import DEPOSED, GUARDED, NOT_LEADING, PREFIX
from splitvote.harness.client import Emit
from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd.bindings.services import UNREACHABLE_PAUSE_S, Services
from splitvote.harness.etcd.methods import TXN
from splitvote.harness.etcd.outcomes import Outcome, classify
from splitvote.harness.etcd.recipes import (
    Election,
    Guarded,
    Observer,
    ServedElection,
    ServedObserver,
    Session,
    SessionExpired,
    Standing,
    key_below,
    leader_of,
    outcome_of,
    served_leader_of,
)
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.etcd.text import bytes_of, text_of
from splitvote.harness.op import Op

KEY_GONE: Final = f"{DEPOSED}: the candidate's key is gone"
NOTHING_WON: Final = f"{NOT_LEADING}: this client has won no election"
NOTHING_SEEN: Final = "nothing-seen: no leader was observed"

_SERVER: Final = "server"


def binding(services: Services) -> ElectionBinding:
    """See ``ElectionBinding``."""
    return ElectionBinding(services)


class ElectionBinding:
    """Opens clients over the run's connections."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def open(self, process: int, node: str) -> ElectionClient:
        """A client for this process; does not wait for the node."""
        return ElectionClient(self._services, node)

    async def close(self) -> None:
        """Nothing to let go of: the nodes' connections are not ours."""


@dataclass(frozen=True, slots=True)
class _Reign:
    """A candidacy, from its campaign on, with what the records say of it."""

    session: Session
    candidacy: Election | ServedElection
    about: dict[str, Any]

    def extra(self) -> dict[str, Any]:
        """The candidacy as it stands now, for an operation's ``extra``."""
        created = {} if self.candidacy.create_revision is None else {"create_revision": self.candidacy.create_revision}
        session = self.session
        lost_s = asyncio.get_running_loop().time() - session.expires_s
        return self.about | created | ({} if session.is_alive else {"lost_s": round(max(0.0, lost_s), 3)})

    def judge(self, error: TransportError) -> Outcome:
        """The outcome of a proclamation or resignation that failed: one write, or one call of the service."""
        return classify(error, "composite" if isinstance(self.candidacy, ServedElection) else "write")

    def judge_campaign(self, error: TransportError) -> Outcome:
        """The outcome of a campaign that failed."""
        if isinstance(self.candidacy, ServedElection):
            return classify(error, "composite")
        return outcome_of(error, create_revision=self.candidacy.create_revision)


class ElectionClient:
    """One process's candidacies and observations at one node."""

    def __init__(self, services: Services, node: str) -> None:
        self._rpc = services.nodes[node]
        self._node = node
        self._timeout_s = services.timeout_s
        self._session: Session | None = None
        self._reign: _Reign | None = None
        self._in_reign: dict[str, Callable[[Op, _Reign], Awaitable[Op]]] = {
            "proclaim": self._proclaim,
            "write": self._write,
            "resign": self._resign,
            "abandon": self._abandon,
        }
        self._at_any_time: dict[str, Callable[[Op, Emit], Awaitable[Op]]] = {
            "campaign": self._campaign,
            "retire": self._retire,
            "leader": self._leader,
            "observe": self._observe,
        }

    async def setup(self) -> None:
        """Nothing to prepare."""

    async def teardown(self) -> None:
        """Nothing to undo: the store belongs to the run."""

    async def close(self) -> None:
        """Renew the session no more."""
        self._reign = None
        await self._leave_session()

    async def _leave_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.orphan()

    async def invoke(self, op: Op, emit: Emit) -> Op:
        """Do one operation; raises ConfigError for one that there is not."""
        if op.f in self._at_any_time:
            return await self._at_any_time[op.f](op, emit)
        if op.f not in self._in_reign:
            known = ", ".join((*self._at_any_time, *self._in_reign))
            raise ConfigError(f"etcd's election has no operation {op.f!r}; it has {known}")
        reign = self._reign
        if reign is None:
            return op.completed("fail", error=NOTHING_WON, node=self._node)
        return await self._in_reign[op.f](op, reign)

    async def _failed(self, op: Op, judged: Outcome, **extra: Any) -> Op:
        if judged.name == "not-connected":
            await asyncio.sleep(UNREACHABLE_PAUSE_S)
        return op.completed(judged.type, error=judged.text, node=self._node, extra=(op.extra or {}) | extra)

    def _told(self, op: Op, reign: _Reign, revision: int | None, *, error: str | None = None, **extra: Any) -> Op:
        """The completion of an operation that was answered: ``fail`` with an error, else ``ok``."""
        return op.completed(
            "ok" if error is None else "fail",
            error=error,
            node=self._node,
            revision=revision,
            extra=(op.extra or {}) | reign.extra() | extra,
        )

    # Candidates

    async def _campaign(self, op: Op, emit: Emit) -> Op:
        options = op.extra or {}
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + options["within_s"]
        self._reign = None
        try:
            session = await self._session_of(options["ttl_s"])
        except TransportError as error:  # the key was never put
            judged = classify(error, "write")
            return await self._failed(op, Outcome("fail", judged.name, judged.text))
        reign = _reign(session, op)
        try:
            revision = await reign.candidacy.campaign(bytes_of(op.value), timeout_s=max(0.0, deadline_s - loop.time()))
        except TransportError as error:
            return await self._failed(op, reign.judge_campaign(error), **reign.extra())
        except SessionExpired as expired:
            return self._told(op, reign, None, error=f"{KEY_GONE} ({expired})")
        self._reign = reign
        return self._told(op, reign, revision)

    async def _session_of(self, ttl_s: int) -> Session:
        if self._session is None or not self._session.is_alive:
            await self._leave_session()
            self._session = await Session.open(self._rpc, ttl_s=ttl_s, timeout_s=self._timeout_s)
        return self._session

    async def _proclaim(self, op: Op, reign: _Reign) -> Op:
        before = reign.extra()
        try:
            done = await reign.candidacy.proclaim(bytes_of(op.value), timeout_s=self._timeout_s)
        except TransportError as error:
            return await self._failed(op, reign.judge(error), **reign.extra())
        return self._told_guarded(op, reign, done, before)

    async def _write(self, op: Op, reign: _Reign) -> Op:
        put = pb.PutRequest(key=bytes_of(f"{PREFIX}{GUARDED}/{op.key}"), value=bytes_of(op.value))
        request = pb.TxnRequest(compare=[reign.candidacy.leader_compare()], success=[pb.RequestOp(request_put=put)])
        try:
            answer = await self._rpc.unary(TXN, request, timeout_s=self._timeout_s)
        except TransportError as error:
            return await self._failed(op, classify(error, "write"), **reign.extra())
        return self._told_guarded(op, reign, Guarded(answer.succeeded, answer.header.revision), reign.extra())

    def _told_guarded(self, op: Op, reign: _Reign, done: Guarded, before: dict[str, Any]) -> Op:
        """The completion of a guarded write; a refusal ends the reign, which the recipe then knows no more of."""
        if done.succeeded:
            return self._told(op, reign, done.revision)
        self._reign = None
        return self._told(op, reign, done.revision, error=KEY_GONE, **before)

    async def _resign(self, op: Op, reign: _Reign) -> Op:
        before = reign.extra()
        self._reign = None
        try:
            done = await reign.candidacy.resign(timeout_s=self._timeout_s)
        except TransportError as error:
            await self._leave_session()  # else the key would stand, with nobody behind it, while the session lives
            return await self._failed(op, reign.judge(error), **before)
        deleted: dict[str, Any] = {} if isinstance(reign.candidacy, ServedElection) else {"deleted": done.succeeded}
        return self._told(op, reign, done.revision, **before, **deleted)

    async def _abandon(self, op: Op, reign: _Reign) -> Op:
        """Let the session expire, and go on reigning; the next campaign needs a new session."""
        await self._leave_session()
        return self._told(op, reign, None)

    async def _retire(self, op: Op, emit: Emit) -> Op:
        """End the session with its keys; without one there is nothing to do."""
        session, reign = self._session, self._reign
        extra = {} if reign is None else reign.extra()
        self._session = self._reign = None
        if session is not None:
            extra |= {"lease": session.lease}
            try:
                await session.close(timeout_s=self._timeout_s)
            except TransportError as error:
                return await self._failed(op, classify(error, "write"), **extra)
        return op.completed("ok", node=self._node, extra=(op.extra or {}) | extra)

    # Observers

    async def _leader(self, op: Op, emit: Emit) -> Op:
        ask = served_leader_of if _is_served(op) else leader_of
        try:
            revision, leader = await ask(self._rpc, _prefix(op), timeout_s=self._timeout_s)
        except TransportError as error:
            return await self._failed(op, classify(error, "read"))
        return op.completed("ok", value=None if leader is None else _seen(leader), node=self._node, revision=revision)

    async def _observe(self, op: Op, emit: Emit) -> Op:
        observe = ServedObserver if _is_served(op) else Observer
        observer = observe(self._rpc, _prefix(op), timeout_s=self._timeout_s)
        seen = broken = 0
        last = NOTHING_SEEN
        try:
            async with asyncio.timeout(op.value):
                while True:
                    try:
                        async for leader in observer:
                            emit(op.completed("event", value=_seen(leader), revision=leader.revision, stream=broken))
                            seen += 1
                    except TransportError as error:  # observed anew, from who leads then
                        last = classify(error, "read").text
                        broken += 1
                        await asyncio.sleep(UNREACHABLE_PAUSE_S)
        except TimeoutError:
            pass
        finally:
            observer.close()
        extra = (op.extra or {}) | {"broken": broken}
        if not seen:
            return op.completed("fail", error=last, node=self._node, extra=extra)
        return op.completed("ok", value=seen, node=self._node, extra=extra)


def _reign(session: Session, op: Op) -> _Reign:
    prefix = _prefix(op)
    candidacy = ServedElection(session, prefix) if _is_served(op) else Election(session, prefix)
    about = {
        "api": (op.extra or {}).get("api"),
        "lease": session.lease,
        "candidate_key": text_of(key_below(prefix + b"/", session.lease)),
    }
    return _Reign(session, candidacy, about)


def _is_served(op: Op) -> bool:
    return (op.extra or {}).get("api") == _SERVER


def _prefix(op: Op) -> bytes:
    return bytes_of(f"{PREFIX}{op.key}")


def _seen(leader: Standing) -> list[Any]:
    return [text_of(leader.key), text_of(leader.value), leader.create_revision, leader.mod_revision]
