"""Commands in a container, through the docker engine's API (``docker exec``): nothing but the container is needed.

A command waits for a line on its stdin before it begins, so that nothing it
prints can come before we listen: the library reads ahead with the headers of
the engine's answer, and what it has read by then is lost.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from splitvote.harness.control.remote import Unreachable, left_s
from splitvote.harness.errors import ConfigError

if TYPE_CHECKING:
    import docker

API_TIMEOUT_S: Final = 20.0
HOW_TO_GET: Final = "pip install 'splitvote[docker]'"
_PIECE_BYTES: Final = 1 << 16
_HEADER: Final = struct.Struct(">BxxxL")
_STDERR: Final = 2
_POLL_S: Final = 0.005
_BEGIN: Final = ("sh", "-c", 'read -r _ && exec "$@"', "sh")


class DockerTransport:
    """See ``Transport``: commands run as root in a container, named by name or id.

    The engine is that of DOCKER_HOST.  Raises ConfigError when the library is
    not installed.
    """

    is_root: Final = True

    def __init__(self, container: str) -> None:
        try:
            import docker  # noqa: F401  # found missing now, not in the middle of a run
        except ImportError:
            raise ConfigError(
                f"containers are reached through docker's Python library, which is missing: {HOW_TO_GET}"
            ) from None
        self._container = container
        self._client: docker.DockerClient | None = None

    def _api(self) -> Any:
        import docker

        if self._client is None:
            try:
                self._client = docker.from_env(timeout=int(API_TIMEOUT_S))
            except docker.errors.DockerException as failure:
                raise Unreachable(f"no docker engine answers: {failure}") from None
        return self._client.api

    def execute(
        self, command: Sequence[str], *, stdin: BinaryIO, stdout: BinaryIO, timeout_s: float
    ) -> tuple[int, bytes]:
        """See ``Transport``."""
        deadline_s = time.monotonic() + timeout_s
        number, attached = self._begun(command)
        stream = _stream(attached)
        with contextlib.ExitStack() as undo:
            undo.callback(_let_go, attached)
            with _giving(stream, stdin):
                errors = _read(stream, stdout, deadline_s)
        return self._status(number, deadline_s), errors

    def converse(self, command: Sequence[str], *, timeout_s: float) -> _Talk:
        """See ``Transport``."""
        _, attached = self._begun(command)
        talk = _Talk(attached)
        try:
            talk.send(b"\n", timeout_s)
        except OSError:
            talk.close()
            raise
        return talk

    def _begun(self, command: Sequence[str]) -> tuple[str, Any]:
        """Start a command, which waits for a line; its id, and what is attached to its streams."""
        import docker
        import requests

        api = self._api()
        try:
            made = api.exec_create(self._container, [*_BEGIN, *command], stdin=True, user="0")
        except (docker.errors.APIError, requests.RequestException) as failure:
            raise Unreachable(f"no command can be run in {self._container}: {failure}") from None
        try:
            return made["Id"], api.exec_start(made["Id"], socket=True)
        except (docker.errors.APIError, requests.RequestException) as failure:
            raise OSError(f"a command may not have been started: {failure}") from None

    def _status(self, command: str, deadline_s: float) -> int:
        """Its exit status, which the engine may take a moment to know after its output has ended."""
        import docker
        import requests

        while True:
            try:
                found = self._api().exec_inspect(command)
            except (docker.errors.APIError, requests.RequestException) as failure:
                raise OSError(f"its status is not known: {failure}") from None
            if not found["Running"] and found["ExitCode"] is not None:
                return int(found["ExitCode"])
            left_s(deadline_s)
            time.sleep(_POLL_S)

    def close(self) -> None:
        """See ``Transport``."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _stream(attached: Any) -> socket.socket:
    """The socket in what the library gives, which is one or has one."""
    stream: socket.socket = getattr(attached, "_sock", attached)
    return stream


def _let_go(attached: Any) -> None:
    """Close all there is of it: what the library gives holds a socket, and hangs on the engine's answer."""
    for each in (getattr(attached, "_response", None), _stream(attached), attached):
        if each is not None:
            with contextlib.suppress(OSError):
                each.close()


class _Talk:
    """See ``Dialogue``: a command that stays attached."""

    def __init__(self, attached: Any) -> None:
        self._attached = attached
        self._stream = _stream(attached)

    def send(self, content: bytes, timeout_s: float) -> None:
        """See ``Dialogue``."""
        self._stream.settimeout(timeout_s)
        self._stream.sendall(content)

    def receive(self, timeout_s: float) -> bytes:
        """See ``Dialogue``; what comes over stderr is passed over."""
        deadline_s = time.monotonic() + timeout_s
        while header := _exactly(self._stream, _HEADER.size, deadline_s, may_end=True):
            source, size = _HEADER.unpack(header)
            content = _exactly(self._stream, size, deadline_s)
            if source != _STDERR:
                return content
        return b""

    def close(self) -> None:
        """See ``Dialogue``."""
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        _let_go(self._attached)


@contextlib.contextmanager
def _giving(stream: socket.socket, stdin: BinaryIO) -> Iterator[None]:
    """Have the command begin and give it its input, while its output is read; it may end without reading all.

    The stream is shut down in the end, so that nobody waits for a command that does not read.
    """

    def give() -> None:
        with contextlib.suppress(OSError):
            stream.sendall(b"\n")
            while piece := stdin.read(_PIECE_BYTES):
                stream.sendall(piece)
            stream.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=give, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)
        thread.join()


def _read(stream: socket.socket, stdout: BinaryIO, deadline_s: float) -> bytes:
    """Take the engine's frames apart; returns what came from stderr."""
    errors = []
    while header := _exactly(stream, _HEADER.size, deadline_s, may_end=True):
        source, size = _HEADER.unpack(header)
        content = _exactly(stream, size, deadline_s)
        if source == _STDERR:
            errors.append(content)
        else:
            stdout.write(content)
    return b"".join(errors)


def _exactly(stream: socket.socket, size: int, deadline_s: float, *, may_end: bool = False) -> bytes:
    pieces, missing = [], size
    while missing:
        stream.settimeout(left_s(deadline_s))
        piece = stream.recv(min(missing, _PIECE_BYTES))
        if not piece:
            if may_end and missing == size:
                return b""
            raise OSError("the engine's answer ended in the midst of a frame")
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)
