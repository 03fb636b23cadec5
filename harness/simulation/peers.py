"""What members send each other beside raft's messages: snapshots, and calls to the leader's own service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, Protocol

import msgspec

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import Method
from splitvote.harness.simulation.context import fail
from splitvote.harness.simulation.interface import Clock, MemberInfo
from splitvote.harness.simulation.messages import FRAME_BYTES, Message
from splitvote.harness.simulation.refusals import STOPPED, TIMEOUT, error


class Transport(Protocol):
    """The peer network as one member sees it."""

    def send(self, member: int, what: Any, size_bytes: int) -> Literal["sent", "nobody there"]:
        """Send something to a member; whether there was a process to connect to."""
        ...

    def learn(self, member: MemberInfo) -> None:
        """Where a member is reached."""
        ...

    def is_connected(self, member: int) -> bool:
        """Whether a member runs, and can be reached both ways."""
        ...


class SnapshotTransfer:
    """A MsgSnap on its way (etcd sends it by a call of its own); its sender looks later whether it was delivered."""

    __slots__ = ("is_delivered", "message")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.is_delivered = False


class PeerCall(msgspec.Struct, frozen=True):
    """A request to another member's service."""

    id: int
    source: int
    method: Method[Any, Any]
    request: Any


class PeerAnswer(msgspec.Struct, frozen=True):
    """What it answered."""

    id: int
    answer: Any
    refusal: tuple[str, str] | None


class PeerCalls:
    """One member's calls to others, and its answers to theirs; ``serve`` answers."""

    def __init__(
        self,
        clock: Clock,
        transport: Transport,
        serve: Callable[[Method[Any, Any], Any], Awaitable[Any]],
        spawn: Callable[[Coroutine[Any, Any, None], str], Any],
    ) -> None:
        self._clock = clock
        self._transport = transport
        self._serve = serve
        self._spawn = spawn
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._count = 0

    async def ask(self, own_id: int, target: int, method: Method[Any, Any], request: Any, timeout_s: float) -> Any:
        """Ask another member; raises its TransportError, or request timed out."""
        self._count += 1
        call = PeerCall(self._count, own_id, method, request)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open[call.id] = answer
        timer = self._clock.call_later(timeout_s, lambda: fail(answer, error(TIMEOUT)))
        try:
            self._transport.send(target, call, FRAME_BYTES)
            return await answer
        finally:
            timer.cancel()
            del self._open[call.id]

    def receive(self, what: PeerCall | PeerAnswer) -> None:
        """Serve a call, or take an answer."""
        if isinstance(what, PeerCall):
            self._spawn(self._answer(what), "serving a peer")
            return
        waiting = self._open.get(what.id)
        if waiting is not None and not waiting.done():
            if what.refusal is not None:
                waiting.set_exception(TransportError(*what.refusal))
            else:
                waiting.set_result(what.answer)

    async def _answer(self, call: PeerCall) -> None:
        try:
            told = PeerAnswer(call.id, await self._serve(call.method, call.request), None)
        except TransportError as refusal:
            told = PeerAnswer(call.id, None, (refusal.code, refusal.message))
        self._transport.send(call.source, told, FRAME_BYTES)

    def stop(self) -> None:
        """Nobody is answered any more."""
        for waiting in self._open.values():
            fail(waiting, error(STOPPED))
