"""Calls on grpc.aio: their outcomes as answers or TransportErrors, and streams as the seam wants them.

grpc.aio answers a call that is cancelled on this side (its channel closed under
it) with CancelledError, which asyncio would take for a cancellation of the
*task*; here it becomes TransportError CANCELLED unless the task itself is being
cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from weakref import WeakSet

from splitvote.harness.errors import TransportError

if TYPE_CHECKING:
    from google.protobuf.message import Message

Q = TypeVar("Q", bound="Message")
A = TypeVar("A", bound="Message")

CLOSED: Final = "the call was ended by this side"
"""The message of a call that was cancelled here, or never made because its connection was closed."""

HEARD_BOUND_S: Final = 5.0
"""The longest that closing waits for gRPC's core; it takes a millisecond, unless the machine is busy."""

_STATUS_TASK: Final = "_handle_status_once_received"


async def awaited(call: Any) -> Any:
    """The outcome of a grpc.aio awaitable, its failure as a TransportError."""
    from grpc import RpcError

    try:
        return await call
    except RpcError as error:
        raise TransportError(error.code().name, error.details() or "") from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise TransportError("CANCELLED", CLOSED) from None


class GrpcStream(Generic[Q, A]):
    """A stream of the seam (``splitvote.harness.etcd.rpc.Stream``) on a grpc.aio call.

    ``on_failure`` hears of the error that ended it.  A cancelled read of
    grpc.aio would end the whole call, so reads are tasks of their own, which a
    cancelled ``receive`` leaves running.
    """

    def __init__(self, call: Any, on_failure: Callable[[TransportError], object] = lambda error: None) -> None:
        self._call = call
        self._on_failure = on_failure
        self._reading: asyncio.Task[Any] | None = None
        _streams.add(self)

    @property
    def is_open(self) -> bool:
        """Whether the call goes on."""
        return not self._call.done()

    async def send(self, request: Q) -> None:
        """See ``Stream.send``."""
        try:
            await awaited(self._write(request))
        except TransportError as error:
            self._on_failure(error)
            raise

    async def _write(self, request: Q) -> None:
        try:
            await self._call.write(request)
        except asyncio.InvalidStateError:  # ended already: say with what
            code, details = await self._call.code(), await self._call.details()
            raise TransportError(code.name, details or "the stream has ended") from None

    async def receive(self) -> A | None:
        """See ``Stream.receive``."""
        import grpc.aio

        if self._reading is None:
            self._reading = asyncio.ensure_future(awaited(self._call.read()))
            self._reading.add_done_callback(_retrieve)
        reading = self._reading
        await asyncio.wait((reading,))
        self._reading = None
        try:
            answer = reading.result()
        except TransportError as error:
            self._on_failure(error)
            raise
        return None if answer is grpc.aio.EOF else answer  # type: ignore[attr-defined]

    def cancel(self) -> None:
        """See ``Stream.cancel``."""
        self._call.cancel()


def _retrieve(reading: asyncio.Task[Any]) -> None:
    """Look at a read's failure, which asyncio would else complain of when nobody asks for it any more."""
    if not reading.cancelled():
        reading.exception()


_streams: WeakSet[GrpcStream[Any, Any]] = WeakSet()


async def core_has_heard() -> None:
    """Wait until gRPC's core has let go of the streams that were cancelled, HEARD_BOUND_S at most.

    A cancelled call counts as done at once, while a task of grpc.aio still
    waits for the core's own word; a loop that is closed before makes noise.
    grpc.aio has no name for that moment, hence by the name of its task: there
    is one for each stream that is open.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + HEARD_BOUND_S
    while loop.time() < deadline_s:
        waiting = sum(_STATUS_TASK in getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
        if waiting <= sum(stream.is_open for stream in _streams):
            return
        await asyncio.sleep(0.001)
