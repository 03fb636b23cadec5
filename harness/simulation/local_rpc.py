"""Calls of a member to itself: the seam on its own services.

etcd's Lock and Election services hold a client of the member's own; this is it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Generic, Protocol, TypeVar

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import Method
from splitvote.harness.etcd.rpc import Stream
from splitvote.harness.simulation.interface import ServerCore, ServerStream

Q = TypeVar("Q", bound=Any)
A = TypeVar("A", bound=Any)

ENDED = "the call was ended by this side"


class Serving(Protocol):
    """The member's services."""

    async def unary(self, method: Method[Any, Any], request: Any) -> Any:
        """See ``interface.Services``."""
        ...

    async def stream(self, method: Method[Any, Any], stream: ServerStream) -> None:
        """See ``interface.Services``."""
        ...


class LocalRpc:
    """An ``Rpc`` (``splitvote.harness.etcd.rpc``) to the member itself; calls have no deadline but their caller's."""

    def __init__(self, core: ServerCore, services: Serving) -> None:
        self._core = core
        self._services = services

    async def unary(self, method: Method[Q, A], request: Q, *, timeout_s: float) -> A:
        """See ``Rpc.unary``."""
        # The recipes wait by the loop's clock, which goes on while the process is paused.
        await self._core.clock.sleep(0)
        answer: A = await self._services.unary(method, request)
        return answer

    async def stream(
        self,
        method: Method[Q, A],
        request: Q | None = None,
        *,
        timeout_s: float | None = None,
        require_leader: bool = False,
    ) -> Stream[Q, A]:
        """See ``Rpc.stream``."""
        return _LocalStream(self._core, self._services, method, request)

    async def close(self) -> None:
        """See ``Rpc.close``: there is nothing to close."""


class _LocalStream(Generic[Q, A]):
    """Both ends of a stream within a member."""

    def __init__(self, core: ServerCore, services: Serving, method: Method[Q, A], request: Q | None) -> None:
        self._requests: deque[Q] = deque()
        self._answers: deque[A] = deque()
        self._has_request = asyncio.Event()
        self._has_answer = asyncio.Event()
        self._end: TransportError | None = None
        self._is_over = False
        self._server = core.spawn(self._serve(services, method, request), f"local {method}")

    async def _serve(self, services: Serving, method: Method[Q, A], request: Q | None) -> None:
        try:
            await services.stream(method, _ServerEnd(self, request))
        except TransportError as error:
            self._end = error
        self._is_over = True
        self._has_answer.set()

    async def send(self, request: Q) -> None:
        """See ``Stream.send``."""
        if self._is_over:
            raise self._end or TransportError("UNAVAILABLE", "the stream has ended")
        self._requests.append(request)
        self._has_request.set()

    async def receive(self) -> A | None:
        """See ``Stream.receive``."""
        while not self._answers:
            if self._end is not None:
                raise self._end
            if self._is_over:
                return None
            self._has_answer.clear()
            await self._has_answer.wait()
        return self._answers.popleft()

    def cancel(self) -> None:
        """See ``Stream.cancel``."""
        if not self._is_over:
            self._is_over = True
            self._end = TransportError("CANCELLED", ENDED)
            self._answers.clear()
            self._has_answer.set()
            self._server.cancel()

    async def next_request(self) -> Q:
        """What the serving end receives."""
        while not self._requests:
            self._has_request.clear()
            await self._has_request.wait()
        return self._requests.popleft()

    def answer(self, answer: A) -> None:
        """What the serving end sends."""
        self._answers.append(answer)
        self._has_answer.set()


class _ServerEnd:
    """The serving end (see ``ServerStream``): the caller is in the same process, and takes what comes."""

    def __init__(self, stream: _LocalStream[Any, Any], request: Any) -> None:
        self._stream = stream
        self.request = request

    async def receive(self) -> Any:
        """See ``ServerStream.receive``."""
        return await self._stream.next_request()

    async def send(self, answer: Any) -> None:
        """See ``ServerStream.send``."""
        self._stream.answer(answer)
