"""Clients' calls to simulated members: ``SimulatedRpc`` is the RPC seam, ``Door`` is where a member takes calls.

A call goes to its member and its answer back over a connection with a latency.

================================  ====================================================================
nobody listens                    UNAVAILABLE, failed to connect (never sent)
the process is paused             nothing, until the call's deadline or it is resumed
the process dies meanwhile        UNAVAILABLE, Socket closed (it may have happened)
the deadline passes               DEADLINE_EXCEEDED; the handler is cancelled
clients are cut off from it       nothing, until the deadline; what was held back comes when they are not any more
================================  ====================================================================
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from splitvote.harness.clock import VirtualLoop
from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import Method
from splitvote.harness.simulation.chance import Chance
from splitvote.harness.simulation.interface import Services
from splitvote.harness.simulation.process import Process

if TYPE_CHECKING:
    from google.protobuf.message import Message

A = TypeVar("A", bound="Message")

LATENCY_NS: Final = 60_000
"""The fastest way between a client and a member."""

PIECE_BYTES: Final = 200
"""About what a call or an answer takes on the wire."""

MOST_UNTAKEN: Final = 64
"""Answers of a stream that the server may be ahead of its client (flow control)."""

_REFUSED: Final = (
    "UNAVAILABLE",
    "failed to connect to all addresses; last error: UNKNOWN: Failed to connect to remote host: Connection refused",
)
_BROKEN: Final = ("UNAVAILABLE", "Socket closed")
_LATE: Final = ("DEADLINE_EXCEEDED", "Deadline Exceeded")
_CLOSED: Final = ("CANCELLED", "the call was ended by this side")


class Way:
    """One direction between all clients and one member: in order; held back while it is cut, as a connection holds it.

    What passes is counted by calls and answers, each taken for ``PIECE_BYTES``.
    """

    __slots__ = ("_held", "_last_ns", "_latencies_ns", "_loop", "delivered_bytes", "is_cut", "offered_bytes")

    def __init__(self, loop: VirtualLoop, latencies_ns: Iterator[int]) -> None:
        self._loop = loop
        self._latencies_ns = latencies_ns
        self._last_ns = 0
        self._held: deque[tuple[Callable[[Any], object], Any]] = deque()
        self.is_cut = False
        self.offered_bytes = 0
        self.delivered_bytes = 0

    def send(self, arrive: Callable[[Any], object], argument: Any) -> None:
        """Have it happen at the other end."""
        self.offered_bytes += PIECE_BYTES
        if self.is_cut:
            self._held.append((arrive, argument))
        else:
            self._pass_on(arrive, argument)

    def _pass_on(self, arrive: Callable[[Any], object], argument: Any) -> None:
        loop = self._loop
        self.delivered_bytes += PIECE_BYTES
        self._last_ns = when_ns = max(loop.now_ns + next(self._latencies_ns), self._last_ns)
        loop.post_at(when_ns, arrive, argument)

    def cut(self) -> None:
        """Deliver nothing from now on."""
        self.is_cut = True

    def mend(self) -> None:
        """Deliver again, what was held back first."""
        self.is_cut = False
        while self._held:
            self._pass_on(*self._held.popleft())


class Path:
    """The way between all clients and one member, there and back."""

    def __init__(self, loop: VirtualLoop, chance: Chance) -> None:
        latencies_ns = chance.latencies_ns(LATENCY_NS, spread=1.0, slowest=8.0)
        self.way_there = Way(loop, latencies_ns)
        self.way_back = Way(loop, latencies_ns)
        self.there = self.way_there.send
        self.back = self.way_back.send
        self._loop = loop

    def after(self, delay_s: float, do: Callable[[Any], object], argument: Any) -> None:
        """Have something done at the client after so much time."""
        self._loop.post_at(self._loop.now_ns + round(delay_s * 1e9), do, argument)


class _Call(Protocol):
    """One call as the door sees it."""

    require_leader: bool

    def break_off(self, refusal: tuple[str, str]) -> None:
        """Tell the client that its call failed, and end the handler."""
        ...


class Door:
    """Where one node takes calls: whichever process runs there, while it serves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process: Process | None = None
        self._services: Services | None = None
        self._calls: dict[_Call, None] = {}

    def open(self, process: Process, services: Services) -> None:
        """Take calls for this process."""
        self._process, self._services = process, services

    def close(self) -> None:
        """The process is gone: break what is open, refuse what comes."""
        self._process = self._services = None
        calls, self._calls = self._calls, {}
        for call in calls:
            call.break_off(_BROKEN)

    def break_those_that_require_a_leader(self, refusal: tuple[str, str]) -> None:
        """The member has seen no leader for too long."""
        for call in [call for call in self._calls if call.require_leader]:
            call.break_off(refusal)

    def enter(self, call: UnaryCall | SimulatedStream) -> None:
        """A call has arrived."""
        process, services = self._process, self._services
        if process is None or services is None:
            call.break_off(_REFUSED)
            return
        self._calls[call] = None
        process.deliver(call.serve, (process, services))

    def left(self, call: _Call) -> None:
        """A call is over."""
        self._calls.pop(call, None)


class UnaryCall:
    """One request and its answer."""

    __slots__ = ("_answer", "_door", "_method", "_request", "_task", "is_over")

    require_leader = False

    def __init__(self, door: Door, method: Method[Any, Any], request: Any, answer: asyncio.Future[Any]) -> None:
        self._door = door
        self._method = method
        self._request = request
        self._answer = answer
        self._task: asyncio.Task[None] | None = None
        self.is_over = False

    # On the member

    def serve(self, where: tuple[Process, Services]) -> None:
        """Begin to serve it."""
        process, services = where
        if not self.is_over:
            self._task = process.spawn(self._serve(services), "serving")

    async def _serve(self, services: Services) -> None:
        try:
            answer = await services.unary(self._method, self._request)
        except TransportError as refusal:
            self._finish(self._refuse, refusal)
        else:
            self._finish(self._receive, answer)

    def _finish(self, arrive: Callable[[Any], object], what: Any) -> None:
        if not self.is_over:
            self._leave()
            self._door.path.back(arrive, what)

    def break_off(self, refusal: tuple[str, str]) -> None:
        """See ``_Call``."""
        self._finish(self._refuse, TransportError(*refusal))
        if self._task is not None:
            self._task.cancel()

    def _leave(self) -> None:
        self.is_over = True
        self._door.left(self)

    def abandoned(self, _: None) -> None:
        """The client has gone; its word has arrived here."""
        if not self.is_over:
            self._leave()
            if self._task is not None:
                self._task.cancel()

    # At the client

    def _receive(self, answer: Any) -> None:
        if not self._answer.done():
            self._answer.set_result(answer)

    def _refuse(self, refusal: TransportError) -> None:
        if not self._answer.done():
            self._answer.set_exception(refusal)

    def end(self, why: tuple[str, str]) -> None:
        """The client waits no longer."""
        self._refuse(TransportError(*why))


class SimulatedStream:
    """An open stream: the client's end (``rpc.Stream``), whose ``member_end`` the handler has."""

    def __init__(self, door: Door, method: Method[Any, Any], request: Any, *, require_leader: bool) -> None:
        self.require_leader = require_leader
        self.member_end = MemberEnd(self, request)
        self._door = door
        self._method = method
        self._task: asyncio.Task[None] | None = None
        self._answers: deque[Any] = deque()
        self._end: TransportError | None = None
        self._is_ended = False
        self._is_over_there = False
        self._receiver: asyncio.Future[None] | None = None

    # At the client

    @property
    def is_ended(self) -> bool:
        """Whether it has ended for the client."""
        return self._is_ended

    async def send(self, request: Any) -> None:
        """See ``Stream.send``."""
        if self._is_ended:
            raise self._failure()
        self._door.path.there(self._arrived, request)

    async def receive(self) -> Any:
        """See ``Stream.receive``."""
        while not self._answers:
            if self._is_ended:
                if self._end is None:
                    return None
                raise self._failure()
            self._receiver = asyncio.get_running_loop().create_future()
            await self._receiver
        answer = self._answers.popleft()
        self._door.path.there(self.member_end.taken, None)
        return answer

    def _failure(self) -> TransportError:
        end = self._end or TransportError(*_CLOSED)
        return TransportError(end.code, end.message)  # a fresh one: it may be raised several times

    def cancel(self) -> None:
        """See ``Stream.cancel``."""
        self._abandon(TransportError(*_CLOSED))

    def expire(self) -> None:
        """The whole stream's deadline has passed."""
        self._abandon(TransportError(*_LATE))

    def _abandon(self, failure: TransportError) -> None:
        if not self._is_ended:
            self._answers.clear()
            self._ended(failure)
            self._door.path.there(self._abandoned, None)

    def _ended(self, failure: TransportError | None) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._end = failure
            self._wake()

    def _answered(self, answer: Any) -> None:
        if not self._is_ended:
            self._answers.append(answer)
            self._wake()

    def _wake(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None and not receiver.done():
            receiver.set_result(None)

    # On the member

    def serve(self, where: tuple[Process, Services]) -> None:
        """Begin to serve it."""
        process, services = where
        if not self._is_over_there:
            self.member_end.process = process
            self._task = process.spawn(self._serve(services), "streaming")

    async def _serve(self, services: Services) -> None:
        failure: TransportError | None = None
        try:
            await services.stream(self._method, self.member_end)
        except TransportError as refusal:
            failure = refusal
        self._over(failure)

    def _over(self, failure: TransportError | None) -> None:
        if not self._is_over_there:
            self._is_over_there = True
            self._door.left(self)
            self._door.path.back(self._ended, failure)

    def break_off(self, refusal: tuple[str, str]) -> None:
        """See ``_Call``."""
        self._over(TransportError(*refusal))
        if self._task is not None:
            self._task.cancel()

    def _abandoned(self, _: None) -> None:
        if not self._is_over_there:
            self._is_over_there = True
            self._door.left(self)
            if self._task is not None:
                self._task.cancel()

    def _arrived(self, request: Any) -> None:
        self.member_end.arrived(request)

    def answer(self, answer: Any) -> None:
        """Send an answer to the client."""
        self._door.path.back(self._answered, answer)


class MemberEnd:
    """The member's end of a stream (``interface.ServerStream``)."""

    def __init__(self, stream: SimulatedStream, request: Any) -> None:
        self.request = request
        self.process: Process | None = None
        self._stream = stream
        self._requests: deque[Any] = deque()
        self._untaken = 0
        self._receiver: asyncio.Future[None] | None = None
        self._sender: asyncio.Future[None] | None = None

    async def receive(self) -> Any:
        """See ``ServerStream.receive``."""
        while not self._requests:
            self._receiver = asyncio.get_running_loop().create_future()
            await self._receiver
        return self._requests.popleft()

    async def send(self, answer: Any) -> None:
        """See ``ServerStream.send``."""
        while self._untaken >= MOST_UNTAKEN:
            self._sender = asyncio.get_running_loop().create_future()
            await self._sender
        self._untaken += 1
        self._stream.answer(answer)

    def arrived(self, request: Any) -> None:
        """A request has arrived, perhaps before the handler runs."""
        self._requests.append(request)
        self._deliver(self._wake_receiver)

    def taken(self, _: None) -> None:
        """The client has taken an answer."""
        self._untaken -= 1
        self._deliver(self._wake_sender)

    def _deliver(self, wake: Callable[[None], object]) -> None:
        if self.process is not None:
            self.process.deliver(wake, None)

    def _wake_receiver(self, _: None) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None and not receiver.done():
            receiver.set_result(None)

    def _wake_sender(self, _: None) -> None:
        sender, self._sender = self._sender, None
        if sender is not None and not sender.done():
            sender.set_result(None)


class SimulatedRpc:
    """Calls to one member (``splitvote.harness.etcd.rpc.Rpc``)."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._is_closed = False
        self._open: dict[UnaryCall, None] = {}
        self._streams: dict[SimulatedStream, None] = {}

    async def unary(self, method: Method[Any, A], request: Any, *, timeout_s: float) -> A:
        """See ``Rpc.unary``."""
        if self._is_closed:
            raise TransportError(*_CLOSED)
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        call = UnaryCall(self._door, method, request, answer)
        self._open[call] = None
        self._door.path.there(self._door.enter, call)
        self._door.path.after(timeout_s, call.end, _LATE)
        try:
            return await answer
        finally:
            del self._open[call]
            if not call.is_over:
                self._door.path.there(call.abandoned, None)

    async def stream(
        self,
        method: Method[Any, A],
        request: Any = None,
        *,
        timeout_s: float | None = None,
        require_leader: bool = False,
    ) -> SimulatedStream:
        """See ``Rpc.stream``."""
        if self._is_closed:
            raise TransportError(*_CLOSED)
        stream = SimulatedStream(self._door, method, request, require_leader=require_leader)
        self._streams = {open_: None for open_ in self._streams if not open_.is_ended}
        self._streams[stream] = None
        self._door.path.there(self._door.enter, stream)
        if timeout_s is not None:
            asyncio.get_running_loop().call_later(timeout_s, stream.expire)
        return stream

    async def close(self) -> None:
        """See ``Rpc.close``."""
        self._is_closed = True
        for call in self._open:
            call.end(_CLOSED)
        streams, self._streams = self._streams, {}
        for stream in streams:
            stream.cancel()
