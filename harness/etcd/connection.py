"""Connections to real members: ``GrpcRpc``, the RPC seam on grpc.aio, and its options.

A node has a small pool of channels, shared by all the processes that talk to it
and used in turn; each is one TCP connection of its own
(``grpc.use_local_subchannel_pool``).  Reconnection is eager, so that a healed
node is found again within a fraction of a second.  gRPC's retries are off, the
transparent ones included: a retried call may see its own earlier success.
Proxy variables of the environment are ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd.calls import CLOSED, GrpcStream, awaited, core_has_heard
from splitvote.harness.etcd.methods import AUTHENTICATE, Method
from splitvote.harness.etcd.outcomes import classify
from splitvote.harness.etcd.stubs.rpc_pb2 import AuthenticateRequest

if TYPE_CHECKING:
    import grpc.aio
    from google.protobuf.message import Message

Q = TypeVar("Q", bound="Message")
A = TypeVar("A", bound="Message")
Metadata = tuple[tuple[str, str], ...]

AUTHENTICATE_TIMEOUT_S: Final = 5.0
"""The bound on fetching a token for a stream; a unary call's own deadline includes it."""

_REQUIRE_LEADER: Final = (("hasleader", "true"),)
_STALE_TOKEN: Final = ("invalid-auth-token", "auth-revision-old")
_TOKEN_WANTED: Final = "user-empty"
_NOT_ENABLED: Final = "auth-not-enabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """PEM files: the authority that signs the servers, and our own certificate and key where servers ask for them.

    ``server_name`` is what the servers' certificates say where that is not the address dialled.
    """

    ca: Path
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """How to connect to members.

    A user is told to the server ``always``, or ``when_asked``: once a call was
    refused for want of one, as it may be when auth is switched on meanwhile.
    ``channels`` is the number of TCP connections a node.  ``connect_timeout_ms``
    bounds one attempt to connect, TLS handshake included: raise it for far or
    slow nodes.  Raises ConfigError for a user without a password and for TLS
    files that cannot be read.
    """

    tls: Tls | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    authenticate: Literal["always", "when_asked"] = "always"
    channels: int = 2
    connect_timeout_ms: int = 50

    def __post_init__(self) -> None:
        if (self.user is None) != (self.password is None):
            raise ConfigError("a user needs a password and a password a user: give both or neither")
        if self.channels < 1:
            raise ConfigError(f"channels={self.channels}: a node needs at least one connection")
        if self.tls is not None:
            if (self.tls.cert is None) != (self.tls.key is None):
                raise ConfigError("a TLS certificate needs its key and a key its certificate: give both or neither")
            for file in (self.tls.ca, self.tls.cert, self.tls.key):
                _read_pem(file)

    @property
    def channel_arguments(self) -> list[tuple[str, Any]]:
        """The gRPC channel arguments."""
        arguments: list[tuple[str, Any]] = [
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
            ("grpc.min_reconnect_backoff_ms", self.connect_timeout_ms),
            ("grpc.enable_http_proxy", 0),
            # Else windows grow to megabytes, and a reader of a watch that falls behind holds thousands of answers of
            # one event each, where the member would put them together: then it never catches up.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        if self.tls is not None and self.tls.server_name is not None:
            arguments.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return arguments


PLAIN: Final = ConnectionOptions()
"""No TLS, no user."""


def _read_pem(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as failure:
        raise ConfigError(f"cannot read {path}: {failure.strerror}; the TLS options name PEM files") from None


def _target(endpoint: str, options: ConnectionOptions) -> str:
    """Host and port of an endpoint, which may be a client URL; TLS or not must agree with its scheme."""
    scheme, separator, address = endpoint.rpartition("://")
    if separator and (scheme == "https") != (options.tls is not None):
        wanted = "needs the TLS options" if scheme == "https" else "is no TLS endpoint, but TLS options are given"
        raise ConfigError(f"{endpoint} {wanted}")
    return address


class GrpcRpc:
    """The seam (``splitvote.harness.etcd.rpc.Rpc``) to one member at ``endpoint`` ("127.0.0.1:2379" or a client URL).

    Channels are opened at the first call and belong to the event loop it runs on.
    """

    def __init__(self, endpoint: str, options: ConnectionOptions = PLAIN) -> None:
        self._target = _target(endpoint, options)
        self._options = options
        self._token = None if options.user is None else _Token(options)
        self._channels: list[grpc.aio.Channel] = []
        self._unary: dict[Method[Any, Any], list[Any]] = {}
        self._streams: list[GrpcStream[Any, Any]] = []
        self._turn = 0
        self._is_closed = False

    async def unary(self, method: Method[Q, A], request: Q, *, timeout_s: float) -> A:
        """See ``Rpc.unary``."""
        if self._token is None:
            return await self._call(method, request, timeout_s, None)
        return await self._call_as_user(self._token, method, request, timeout_s)

    async def _call(self, method: Method[Q, A], request: Q, timeout_s: float, metadata: Metadata | None) -> A:
        callables = self._unary.get(method) or self._prepare(method)
        self._turn = turn = (self._turn + 1) % len(callables)
        answer: A = await awaited(callables[turn](request, timeout=timeout_s, metadata=metadata))
        return answer

    def _prepare(self, method: Method[Any, Any]) -> list[Any]:
        callables = [channel.unary_unary(method.path, *_codecs(method)) for channel in self._open()]
        self._unary[method] = callables
        return callables

    def _open(self) -> list[grpc.aio.Channel]:
        if self._is_closed:
            raise TransportError("CANCELLED", CLOSED)
        if not self._channels:
            self._channels = [_open_channel(self._target, self._options) for _ in range(self._options.channels)]
        return self._channels

    async def _call_as_user(self, token: _Token, method: Method[Q, A], request: Q, timeout_s: float) -> A:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        metadata = await token.current(self, timeout_s)
        try:
            return await self._call(method, request, max(0.0, deadline - loop.time()), metadata)
        except TransportError as error:
            if not token.refused(metadata, error):
                raise
        # Refused for its token, before being proposed or at its apply: nothing happened, so once more is safe.
        metadata = await token.current(self, max(0.0, deadline - loop.time()))
        return await self._call(method, request, max(0.0, deadline - loop.time()), metadata)

    async def stream(
        self,
        method: Method[Q, A],
        request: Q | None = None,
        *,
        timeout_s: float | None = None,
        require_leader: bool = False,
    ) -> GrpcStream[Q, A]:
        """See ``Rpc.stream``."""
        token = self._token
        metadata = () if token is None else await token.current(self, timeout_s or AUTHENTICATE_TIMEOUT_S)
        channels = self._open()
        self._turn = turn = (self._turn + 1) % len(channels)
        channel: Any = channels[turn]
        everything = metadata + (_REQUIRE_LEADER if require_leader else ())
        if request is None:
            call = channel.stream_stream(method.path, *_codecs(method))(timeout=timeout_s, metadata=everything)
        else:
            server_stream = channel.unary_stream(method.path, *_codecs(method))
            call = server_stream(request, timeout=timeout_s, metadata=everything)
        stream: GrpcStream[Q, A]
        stream = GrpcStream(call) if token is None else GrpcStream(call, partial(token.refused, metadata))
        self._streams = [other for other in self._streams if other.is_open] + [stream]
        return stream

    async def close(self) -> None:
        """See ``Rpc.close``."""
        self._is_closed = True
        self._unary.clear()
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.cancel()
        channels, self._channels = self._channels, []
        for channel in channels:
            await channel.close(None)
        await asyncio.sleep(0)  # lets the calls that were cut short hear of it
        await core_has_heard()


def _codecs(method: Method[Any, Any]) -> tuple[Any, Any]:
    return method.request.SerializeToString, method.answer.FromString


def _open_channel(target: str, options: ConnectionOptions) -> grpc.aio.Channel:
    import grpc
    import grpc.aio

    arguments = options.channel_arguments
    if options.tls is None:
        return grpc.aio.insecure_channel(target, options=arguments)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read_pem(options.tls.ca),
        private_key=_read_pem(options.tls.key),
        certificate_chain=_read_pem(options.tls.cert),
    )
    return grpc.aio.secure_channel(target, credentials, options=arguments)


class _Token:
    """One member's auth token: fetched when first needed and after it was dropped, by one task at a time.

    Needed from the start, or once a call without one was refused.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        self._credentials = AuthenticateRequest(name=options.user or "", password=options.password or "")
        self._lock = asyncio.Lock()
        self._is_always = options.authenticate == "always"
        self._refusals = _STALE_TOKEN if self._is_always else (*_STALE_TOKEN, _TOKEN_WANTED)
        self._metadata: Metadata | None = None if self._is_always else ()

    async def current(self, rpc: GrpcRpc, timeout_s: float) -> Metadata:
        """The token as metadata; TransportError when there is none to be had in time."""
        try:
            async with asyncio.timeout(timeout_s), self._lock:
                if self._metadata is None:
                    self._metadata = await self._fetch(rpc, timeout_s)
                return self._metadata
        except TimeoutError:  # spent waiting for another task's Authenticate
            raise TransportError("DEADLINE_EXCEEDED", f"no auth token within {timeout_s:g} s") from None

    async def _fetch(self, rpc: GrpcRpc, timeout_s: float) -> Metadata:
        try:
            answer = await rpc._call(AUTHENTICATE, self._credentials, timeout_s, None)
        except TransportError as error:
            if self._is_always or classify(error, "write").name != _NOT_ENABLED:
                raise
            return ()  # it was switched off since the call was refused
        return (("token", answer.token),)

    def refused(self, metadata: Metadata, error: TransportError) -> bool:
        """Whether the call failed for its token, which is forgotten then (unless a newer one has come)."""
        is_stale = classify(error, "write").name in self._refusals
        if is_stale and self._metadata == metadata:
            self._metadata = None
        return is_stale


class Connections(Mapping[str, GrpcRpc]):
    """One ``GrpcRpc`` a node, made from the nodes' endpoints; whoever makes it closes it."""

    def __init__(self, endpoints: Mapping[str, str], options: ConnectionOptions = PLAIN) -> None:
        self._rpcs = {node: GrpcRpc(endpoint, options) for node, endpoint in endpoints.items()}

    def __getitem__(self, node: str) -> GrpcRpc:
        return self._rpcs[node]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rpcs)

    def __len__(self) -> int:
        return len(self._rpcs)

    async def close(self) -> None:
        """Close every connection; idempotent."""
        for rpc in self._rpcs.values():
            await rpc.close()
