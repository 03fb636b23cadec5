"""The RPC seam: what splitvote asks of an etcd, real or simulated.

Above the seam everything is one code for both: the error table, deadlines,
bindings, recipes, capabilities.  Below it, ``GrpcRpc`` (module ``connection``)
speaks to a real member, and the simulation answers in virtual time.

An RPC that does not succeed raises TransportError(code, message) with the gRPC
status name and the server's or the transport's words; whether it took effect
is for ``splitvote.harness.etcd.outcomes`` to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import Method

if TYPE_CHECKING:
    from google.protobuf.message import Message

Q = TypeVar("Q", bound="Message")
A = TypeVar("A", bound="Message")
T = TypeVar("T")
Q_contra = TypeVar("Q_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)


class Stream(Protocol[Q_contra, A_co]):
    """An open streaming call; one task sends and one receives at a time."""

    async def send(self, request: Q_contra) -> None:
        """Send one request; TransportError when the stream has ended.  Cancelling a ``send`` ends the stream."""
        ...

    async def receive(self) -> A_co | None:
        """The next answer; None when the server ended the stream in order, TransportError when it broke.

        A cancelled ``receive`` loses nothing: call it again.
        """
        ...

    def cancel(self) -> None:
        """End the stream now; a pending or later ``receive`` raises TransportError CANCELLED."""
        ...


class Rpc(Protocol):
    """Calls to one member."""

    async def unary(self, method: Method[Q, A], request: Q, *, timeout_s: float) -> A:
        """One request, one answer, under one deadline of ``timeout_s`` seconds; TransportError otherwise.

        Never retried, except that a call refused for its auth token (which
        happens before it is proposed) is made again with a fresh one, under
        the same deadline.
        """
        ...

    async def stream(
        self,
        method: Method[Q, A],
        request: Q | None = None,
        *,
        timeout_s: float | None = None,
        require_leader: bool = False,
    ) -> Stream[Q, A]:
        """Open a stream.

        A server stream (Snapshot, Observe) takes its one request here and
        nothing by ``send``.  ``timeout_s`` bounds the whole stream, None does
        not.  With ``require_leader`` the server breaks it when its member loses
        sight of a leader.  Failures to connect surface here or at the first
        ``send`` or ``receive``, as TransportError.
        """
        ...

    async def close(self) -> None:
        """End every call and let go of the connections; idempotent."""
        ...


async def ask_all(rpcs: Mapping[str, Rpc], ask: Callable[[str, Rpc], Awaitable[T]]) -> dict[str, T | TransportError]:
    """Ask every member at once: each one's answer, or the error it failed with, in the order of ``rpcs``."""

    async def caught(node: str, rpc: Rpc) -> T | TransportError:
        try:
            return await ask(node, rpc)
        except TransportError as error:
            return error

    answers = await asyncio.gather(*(caught(node, rpc) for node, rpc in rpcs.items()))
    return dict(zip(rpcs, answers, strict=True))
