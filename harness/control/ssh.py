"""Commands over ssh, by paramiko: one connection a node, kept; the host's key verified.

TCP_NODELAY makes the difference between 46 ms and 3 ms a command: a session is
opened by several small packets, which else wait for each other's
acknowledgements.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from splitvote.harness.control.remote import Unreachable, left_s
from splitvote.harness.errors import ConfigError

if TYPE_CHECKING:
    import paramiko

CONNECT_TIMEOUT_S: Final = 10.0
CONNECT_ATTEMPTS: Final = 3
ALIVE_EVERY_S: Final = 5
_PAUSE_S: Final = 0.2
_PIECE_BYTES: Final = 1 << 16
_SIGNALLED: Final = 128
HOW_TO_GET: Final = "pip install 'splitvote[ssh]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class SshAddress:
    """Where a node's sshd is, as whom to log in with which key, and which key of the host to accept.

    ``host_key`` is a public key as in a ``.pub`` file; without one the host must
    be in ``known_hosts`` (None: the user's own).  Nobody else is talked to.
    """

    host: str
    port: int = 22
    user: str = "root"
    key: Path | None = None
    host_key: str | None = None
    known_hosts: Path | None = None

    @property
    def entry(self) -> str:
        """The host as known_hosts files name it."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"


class SshTransport:
    """See ``Transport``; connects at the first command, and again when the connection was lost.

    Raises ConfigError when paramiko is not installed.
    """

    def __init__(self, address: SshAddress) -> None:
        try:
            import paramiko  # noqa: F401  # found missing now, not in the middle of a run
        except ImportError:
            raise ConfigError(f"nodes are reached over ssh by paramiko, which is missing: {HOW_TO_GET}") from None
        self._address = address
        self._client: paramiko.SSHClient | None = None
        self._connecting = threading.Lock()

    @property
    def is_root(self) -> bool:
        """See ``Transport``."""
        return self._address.user == "root"

    def execute(
        self, command: Sequence[str], *, stdin: BinaryIO, stdout: BinaryIO, timeout_s: float
    ) -> tuple[int, bytes]:
        """See ``Transport``; the words are quoted for the node's shell."""
        import shlex

        import paramiko

        deadline_s = time.monotonic() + timeout_s
        try:
            with self._session(deadline_s) as channel:
                channel.exec_command(shlex.join(command))
                while piece := stdin.read(_PIECE_BYTES):
                    channel.settimeout(left_s(deadline_s))
                    channel.sendall(piece)
                channel.shutdown_write()
                return _ending(channel, stdout, deadline_s)
        except paramiko.SSHException as failure:
            raise OSError(f"the connection to {self._address.entry} was lost: {failure}") from None

    @contextlib.contextmanager
    def _session(self, deadline_s: float) -> Iterator[paramiko.Channel]:
        """A channel for one command; a connection that turns out to be dead is replaced, once."""
        import paramiko

        client = self._connected()
        try:
            channel = _opened(client, deadline_s)
        except (paramiko.SSHException, EOFError, OSError):
            self._forget(client)
            try:
                channel = _opened(self._connected(), deadline_s)
            except (paramiko.SSHException, EOFError, OSError) as failure:
                raise Unreachable(f"{self._address.entry} opens no session: {failure}") from None
        try:
            yield channel
        finally:
            channel.close()

    def _connected(self) -> paramiko.SSHClient:
        with self._connecting:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> paramiko.SSHClient:
        """Connect, in a few attempts; raises Unreachable, at once for a key that is refused or not known."""
        import paramiko

        for attempt in range(CONNECT_ATTEMPTS):
            try:
                return self._connect_once()
            except paramiko.BadHostKeyException as refused:
                raise Unreachable(f"{self._address.entry} is not who it was: {refused}") from None
            except (paramiko.AuthenticationException, paramiko.SSHException, OSError, EOFError) as failure:
                is_final = isinstance(failure, paramiko.AuthenticationException) or "known_hosts" in str(failure)
                if is_final or attempt == CONNECT_ATTEMPTS - 1:
                    raise Unreachable(
                        f"no ssh to {self._address.user}@{self._address.entry}: {failure or type(failure).__name__}"
                    ) from None
                time.sleep(_PAUSE_S)
        raise AssertionError("unreachable")

    def _connect_once(self) -> paramiko.SSHClient:
        import paramiko

        address, client = self._address, paramiko.SSHClient()
        try:
            client.set_missing_host_key_policy(paramiko.RejectPolicy())
            if address.host_key is not None:
                kind, _, rest = address.host_key.partition(" ")
                line = f"{address.entry} {kind} {rest.split()[0]}"
                entry = paramiko.hostkeys.HostKeyEntry.from_line(line)
                if entry is None or entry.key is None:
                    raise Unreachable(f"the host key of {address.entry} cannot be read: {address.host_key[:60]!r}")
                client.get_host_keys().add(address.entry, kind, entry.key)
            else:
                client.load_system_host_keys(None if address.known_hosts is None else str(address.known_hosts))
            client.connect(
                address.host,
                port=address.port,
                username=address.user,
                key_filename=None if address.key is None else str(address.key),
                timeout=CONNECT_TIMEOUT_S,
                banner_timeout=CONNECT_TIMEOUT_S,
                auth_timeout=CONNECT_TIMEOUT_S,
                allow_agent=address.key is None,
                look_for_keys=address.key is None,
            )
            transport = client.get_transport()
            assert transport is not None
            assert isinstance(transport.sock, socket.socket)
            transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport.set_keepalive(ALIVE_EVERY_S)
        except BaseException:
            client.close()
            raise
        return client

    def _forget(self, client: paramiko.SSHClient) -> None:
        with self._connecting:
            if self._client is client:
                self._client = None
        client.close()

    def close(self) -> None:
        """See ``Transport``."""
        with self._connecting:
            client, self._client = self._client, None
        if client is not None:
            client.close()


def _opened(client: paramiko.SSHClient, deadline_s: float) -> paramiko.Channel:
    transport = client.get_transport()
    if transport is None or not transport.is_active():
        raise EOFError("the connection is gone")
    return transport.open_session(timeout=min(CONNECT_TIMEOUT_S, left_s(deadline_s)))


def _ending(channel: paramiko.Channel, stdout: BinaryIO, deadline_s: float) -> tuple[int, bytes]:
    """Read to the end; the status, and what came over stderr."""
    import paramiko

    channel.settimeout(left_s(deadline_s))
    while piece := channel.recv(_PIECE_BYTES):
        stdout.write(piece)
        channel.settimeout(left_s(deadline_s))
    errors = []
    while piece := channel.recv_stderr(_PIECE_BYTES):
        errors.append(piece)
        channel.settimeout(left_s(deadline_s))
    if not channel.status_event.wait(left_s(deadline_s)):
        raise TimeoutError
    status = channel.recv_exit_status()
    if status < 0:  # no status came: a signal ended it, or the connection did
        transport = channel.get_transport()
        if transport is None or not transport.is_active():
            raise paramiko.SSHException("it ended before the command did")
        status = _SIGNALLED + 9
    return status, b"".join(errors)
