"""Commands on this very machine, as children of this process: the transport of a node that needs no other."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from typing import BinaryIO, Final

from splitvote.harness.control.remote import SIGNALLED, Unreachable

_REAP_TIMEOUT_S: Final = 1.0
_PIECE_BYTES: Final = 1 << 16


class LocalTransport:
    """See ``Transport``; a command that is late is killed, with all that it has started."""

    @property
    def is_root(self) -> bool:
        """See ``Transport``."""
        return os.geteuid() == 0

    def execute(
        self, command: Sequence[str], *, stdin: BinaryIO, stdout: BinaryIO, timeout_s: float
    ) -> tuple[int, bytes]:
        """See ``Transport``; the output is in memory at first."""
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us: we heal first
            )
        except OSError as failure:
            raise Unreachable(f"{command[0]} cannot be run here: {failure.strerror}") from None
        with child:
            try:
                output, error = child.communicate(stdin.read(), timeout=timeout_s)
            except subprocess.TimeoutExpired:
                _end(child)
                raise TimeoutError from None
        stdout.write(output)
        return child.returncode if child.returncode >= 0 else SIGNALLED - child.returncode, error

    def converse(self, command: Sequence[str], *, timeout_s: float) -> _Child:
        """See ``Transport``."""
        try:
            return _Child(command)
        except OSError as failure:
            raise Unreachable(f"{command[0]} cannot be run here: {failure.strerror}") from None

    def close(self) -> None:
        """See ``Transport``; there is nothing to close."""


class _Child:
    """See ``Dialogue``; a child that does not end when its input does is killed."""

    def __init__(self, command: Sequence[str]) -> None:
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        self._child = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=nothing, bufsize=0, start_new_session=True
        )

    def send(self, content: bytes, timeout_s: float) -> None:
        """See ``Dialogue``; a line fits into the pipe of a child that reads."""
        assert self._child.stdin is not None
        self._child.stdin.write(content)

    def receive(self, timeout_s: float) -> bytes:
        """See ``Dialogue``."""
        assert self._child.stdout is not None
        readable, _, _ = select.select([self._child.stdout], [], [], timeout_s)
        if not readable:
            raise TimeoutError
        return os.read(self._child.stdout.fileno(), _PIECE_BYTES)

    def close(self) -> None:
        """See ``Dialogue``."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        try:
            self._child.wait(_REAP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _end(self._child)
        self._child.stdout.close()


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill a session; what left it and holds the pipes is not waited for."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.communicate(timeout=_REAP_TIMEOUT_S)
