"""Commands over ssh, by paramiko: one connection a node, kept; the host's key verified.

TCP_NODELAY makes the difference between 46 ms and 3 ms a command: a session is
opened by several small packets, which else wait for each other's
acknowledgements.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, cast

from splitvote.harness.control.remote import SIGNALLED, Unreachable, left_s
from splitvote.harness.errors import ConfigError

if TYPE_CHECKING:
    import paramiko

CONNECT_TIMEOUT_S: Final = 10.0
CONNECT_ATTEMPTS: Final = 3
ALIVE_EVERY_S: Final = 5
LOST_AFTER_S: Final = 15
"""How long what we sent may stay unacknowledged before the connection counts as lost."""

HOW_TO_GET: Final = "pip install 'splitvote[ssh]'"
_PAUSE_S: Final = 0.2
_END_SEEN_S: Final = 0.05
_PIECE_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SshAddress:
    """Where a node's sshd is, as whom to log in with which key, and which key of the host to accept.

    ``host_key`` is a public key as in a ``.pub`` file; without one the host must
    be in ``known_hosts`` (None: the user's own).  Nobody else is talked to, but
    where ``strangers`` are to be accepted.
    """

    host: str
    port: int = 22
    user: str = "root"
    key: Path | None = None
    host_key: str | None = None
    known_hosts: Path | None = None
    strangers: Literal["refuse", "accept"] = "refuse"

    @property
    def entry(self) -> str:
        """The host as known_hosts files name it."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"


class _StrangerError(Exception):
    """A host that shows a key which is not known."""


class SshTransport:
    """See ``Transport``; connects at the first command, and again when the connection was lost.

    Raises ConfigError when paramiko is not installed, and for a host key that is none.
    """

    def __init__(self, address: SshAddress) -> None:
        try:
            import paramiko  # noqa: F401  # found missing now, not in the middle of a run
        except ImportError:
            raise ConfigError(f"nodes are reached over ssh by paramiko, which is missing: {HOW_TO_GET}") from None
        logger = logging.getLogger("paramiko")
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())  # its complaints come as exceptions, too
        self._address = address
        self._host_key = None if address.host_key is None else read_public_key(address.host_key)
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
        with contextlib.closing(self._session(deadline_s)) as channel, _closing_at(deadline_s, channel):
            try:
                channel.exec_command(shlex.join(command))
                status, errors = _exchange(channel, stdin, stdout)
            except (paramiko.SSHException, EOFError) as failure:
                left_s(deadline_s)
                raise OSError(f"the connection to {self._address.entry} was lost: {failure}") from None
            if status < 0:
                left_s(deadline_s)
        return status if status >= 0 else SIGNALLED, errors

    def converse(self, command: Sequence[str], *, timeout_s: float) -> _Talk:
        """See ``Transport``."""
        import shlex

        import paramiko

        deadline_s = time.monotonic() + timeout_s
        channel = self._session(deadline_s)
        try:
            with _closing_at(deadline_s, channel):
                channel.exec_command(shlex.join(command))
        except (paramiko.SSHException, EOFError) as failure:
            channel.close()
            raise OSError(f"the connection to {self._address.entry} was lost: {failure}") from None
        return _Talk(channel)

    def _session(self, deadline_s: float) -> paramiko.Channel:
        """A channel for one command; a connection that turns out to be dead is replaced, once."""
        import paramiko

        client = self._connected(deadline_s)
        try:
            return _opened(client, deadline_s)
        except (paramiko.ChannelException, TimeoutError) as refusal:  # of this channel; others go on
            raise Unreachable(f"{self._address.entry} opens no session: {refusal or 'it is late'}") from None
        except (paramiko.SSHException, EOFError, OSError):
            self._forget(client)
        try:
            return _opened(self._connected(deadline_s), deadline_s)
        except (paramiko.SSHException, EOFError, OSError) as failure:
            raise Unreachable(f"{self._address.entry} opens no session: {failure or 'it is late'}") from None

    def _connected(self, deadline_s: float) -> paramiko.SSHClient:
        try:
            is_ours = self._connecting.acquire(timeout=left_s(deadline_s))
        except TimeoutError:
            is_ours = False
        if not is_ours:
            raise Unreachable(f"no ssh to {self._address.user}@{self._address.entry} in time")
        try:
            if self._client is None:
                self._client = self._connect(deadline_s)
            return self._client
        finally:
            self._connecting.release()

    def _connect(self, deadline_s: float) -> paramiko.SSHClient:
        """Connect, in a few attempts; raises Unreachable, at once for a key that is refused or not known."""
        import paramiko

        for attempt in range(1, CONNECT_ATTEMPTS + 1):
            try:
                return self._connect_once(min(CONNECT_TIMEOUT_S, left_s(deadline_s)))
            except (paramiko.BadHostKeyException, _StrangerError) as refused:
                raise Unreachable(self._doubt(refused)) from None
            except (paramiko.SSHException, OSError, EOFError) as failure:
                is_final = isinstance(failure, paramiko.AuthenticationException | FileNotFoundError)
                if is_final or attempt == CONNECT_ATTEMPTS or time.monotonic() + _PAUSE_S > deadline_s:
                    raise Unreachable(
                        f"no ssh to {self._address.user}@{self._address.entry}: {failure or type(failure).__name__}"
                    ) from None
                time.sleep(_PAUSE_S)
        raise AssertionError("unreachable")

    def _doubt(self, refused: Exception) -> str:
        """What to say of a host that may be somebody else."""
        import paramiko

        address = self._address
        where = "host_key" if address.host_key is not None else str(address.known_hosts or "~/.ssh/known_hosts")
        if isinstance(refused, paramiko.BadHostKeyException):
            shown, known = refused.key.fingerprint, refused.expected_key.fingerprint
            return f"{address.entry} is not who it should be: its host key is {shown}, and {known} by {where}"
        return (
            f"{address.entry} is not known ({refused}): have its host key in {where}, once you have made sure that it "
            f"is its own (ssh-keyscan -p {address.port} {address.host})"
        )

    def _connect_once(self, timeout_s: float) -> paramiko.SSHClient:
        import paramiko

        address, client = self._address, paramiko.SSHClient()
        try:
            self._choose_hosts(client)
            client.connect(
                address.host,
                port=address.port,
                username=address.user,
                key_filename=None if address.key is None else str(address.key),
                timeout=timeout_s,
                banner_timeout=timeout_s,
                auth_timeout=timeout_s,
                channel_timeout=timeout_s,
                allow_agent=address.key is None,
                look_for_keys=address.key is None,
            )
            transport = client.get_transport()
            assert transport is not None
            assert isinstance(transport.sock, socket.socket)
            transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if sys.platform == "linux":
                transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_AFTER_S * 1000)
            transport.set_keepalive(ALIVE_EVERY_S)
        except BaseException:
            client.close()
            raise
        return client

    def _choose_hosts(self, client: paramiko.SSHClient) -> None:
        """Have the client accept whom it should."""
        import paramiko

        address = self._address
        if address.strangers == "accept":
            client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
            return
        client.set_missing_host_key_policy(cast("paramiko.MissingHostKeyPolicy", _Refusing()))
        if self._host_key is not None:
            client.get_host_keys().add(address.entry, self._host_key.get_name(), self._host_key)
        else:
            client.load_system_host_keys(None if address.known_hosts is None else str(address.known_hosts))

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


class _Refusing:
    """Paramiko's policy for hosts that are not known, with an error of its own type."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise _StrangerError(f"it shows {key.get_name()} {key.fingerprint}")


def read_public_key(text: str) -> paramiko.PKey:
    """A public key as in a ``.pub`` file, or as known_hosts files have it behind the host; raises ConfigError."""
    import paramiko

    words = text.split()
    try:
        entry = paramiko.hostkeys.HostKeyEntry.from_line(" ".join(["host", *words[:2]]))
    except (paramiko.SSHException, paramiko.hostkeys.InvalidHostKey, ValueError):
        entry = None
    if entry is None or entry.key is None:
        raise ConfigError(f"host_key {text[:60]!r} is no public key: it is to be as `ssh-ed25519 AAAA...`")
    return entry.key


class _Talk:
    """See ``Dialogue``: a channel of the connection that stays open."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def send(self, content: bytes, timeout_s: float) -> None:
        """See ``Dialogue``."""
        self._channel.settimeout(timeout_s)
        self._channel.sendall(content)

    def receive(self, timeout_s: float) -> bytes:
        """See ``Dialogue``."""
        self._channel.settimeout(timeout_s)
        return self._channel.recv(_PIECE_BYTES)

    def close(self) -> None:
        """See ``Dialogue``."""
        self._channel.close()


def _opened(client: paramiko.SSHClient, deadline_s: float) -> paramiko.Channel:
    transport = client.get_transport()
    if transport is None or not transport.is_active():
        raise EOFError("the connection is gone")
    return transport.open_session(timeout=min(CONNECT_TIMEOUT_S, left_s(deadline_s)))


@contextlib.contextmanager
def _closing_at(deadline_s: float, channel: paramiko.Channel) -> Iterator[None]:
    """Close the channel at a time, which ends whatever waits for it: not every wait of paramiko's has a bound."""
    timer = threading.Timer(max(0.0, deadline_s - time.monotonic()), channel.close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _exchange(channel: paramiko.Channel, stdin: BinaryIO, stdout: BinaryIO) -> tuple[int, bytes]:
    """Give the input, and take both outputs meanwhile; the status, and what came over stderr.

    The status is negative for a command that was ended by a signal, which
    paramiko does not tell.  Raises SSHException when the connection was lost.
    """
    import paramiko

    with _giving(channel, stdin):
        errors = _outputs(channel, stdout)
    status = channel.recv_exit_status()
    if status < 0:  # no status came: a signal ended it, or the connection did
        transport = channel.get_transport()
        transport.join(_END_SEEN_S)
        if not transport.is_active():
            raise paramiko.SSHException("it ended before the command did")
    return status, errors


@contextlib.contextmanager
def _giving(channel: paramiko.Channel, stdin: BinaryIO) -> Iterator[None]:
    """Give the input: a short one now, a long one meanwhile, since the command may print before it has read all."""
    failures: list[OSError] = []

    def give(piece: bytes) -> None:
        try:
            while piece:
                with contextlib.suppress(OSError):  # it may end without reading all
                    channel.sendall(piece)
                piece = stdin.read(_PIECE_BYTES)
            channel.shutdown_write()
        except OSError as failure:
            failures.append(failure)
            channel.close()

    first = stdin.read(_PIECE_BYTES)
    if len(first) < _PIECE_BYTES:
        give(first)
        yield
    else:
        thread = threading.Thread(target=give, args=(first,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            thread.join()
    if failures:
        raise failures[0]


def _outputs(channel: paramiko.Channel, stdout: BinaryIO) -> bytes:
    """Take stdout and stderr to their ends, each as it comes: one that is not read would hold up the other."""
    errors = []
    waiting = select.poll()
    waiting.register(channel.fileno(), select.POLLIN)
    is_over = False
    while not is_over:
        waiting.poll()
        is_over = bool(channel.eof_received or channel.closed)  # asked before the last is taken
        while channel.recv_ready():
            stdout.write(channel.recv(_PIECE_BYTES))
        while channel.recv_stderr_ready():
            errors.append(channel.recv_stderr(_PIECE_BYTES))
    return b"".join(errors)
