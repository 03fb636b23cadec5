"""A node, as something that runs commands: ``run``, ``upload`` and ``download``, alike over every transport.

Transports block, so that each node has a few threads of its own in which they
do.  Making a connection is tried again; a command never is, since it may have
been carried out although nobody heard of it.  A command that is late is ended,
by ``timeout`` on the node, so that it ends even where we are not heard any more.
"""

from __future__ import annotations

import asyncio
import io
import math
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal, Protocol, TypeVar

from splitvote.harness.control.conversation import Conversation, Dialogue
from splitvote.harness.errors import NemesisError

T = TypeVar("T")
V = TypeVar("V")

RUN_TIMEOUT_S: Final = 10.0
TRANSFER_TIMEOUT_S: Final = 120.0
GRACE_S: Final = 3.0
"""How much longer we listen than a command may take, to hear that it was ended."""

_AT_ONCE: Final = 4
"""Commands on one node at a time; sshd allows ten on a connection by default."""

SIGNALLED: Final = 128
"""The least status that says a signal ended the command."""

_WORDS: Final = 300
"""How much of what a command complained of is repeated in a message."""

Account = Literal["login", "root"]
"""As whom a command runs: as who is logged in, or as root (by ``sudo -n`` where that is somebody else)."""


class ControlError(NemesisError):
    """A node could not be reached or did not do as it was told; hence some fault could not be started or ended."""


class Unreachable(ControlError):
    """There is no way to the node; nothing was done there."""


class CommandFailed(ControlError):
    """A command ended with another status than it should have, was late, or nobody knows (``status`` None)."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command that ended came to."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Its output as text, whatever bytes there are in it."""
        return self.stdout.decode(errors="replace")


class Transport(Protocol):
    """A way to run commands on one node, called from several threads at once."""

    @property
    def is_root(self) -> bool:
        """Whether commands run as root."""
        ...

    def execute(
        self, command: Sequence[str], *, stdin: BinaryIO, stdout: BinaryIO, timeout_s: float
    ) -> tuple[int, bytes]:
        """Run a command to its end; its status and what it wrote to stderr.

        A command ended by a signal has the status 128 + signal (128 where the
        signal is not told).  Raises Unreachable when it was certainly not
        started, TimeoutError when it has not ended in time, OSError when the
        connection was lost meanwhile.
        """
        ...

    def converse(self, command: Sequence[str], *, timeout_s: float) -> Dialogue:
        """Start a command that goes on until its input ends; raises as ``execute`` does."""
        ...

    def close(self) -> None:
        """Let go of the connection; the next command makes a new one.  Idempotent."""
        ...


class Remote:
    """One node over one transport; ``name`` is for messages.  Whoever makes it closes it."""

    def __init__(self, name: str, transport: Transport) -> None:
        self.name = name
        self._transport = transport
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix=f"splitvote {name}")

    async def run(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_s: float = RUN_TIMEOUT_S,
        account: Account = "login",
        expected: Collection[int] | None = (0,),
    ) -> Finished:
        """Run a command (words, which no shell expands) and wait for its end.

        Raises CommandFailed for a status that is not ``expected`` (None: any
        will do) and for a command that is late, which is ended then (bounds are
        of whole seconds); Unreachable for no connection.
        """
        output = io.BytesIO()
        status, error = await self._execute(command, io.BytesIO(stdin), output, timeout_s, account)
        finished = Finished(status, output.getvalue(), error)
        if expected is not None and status not in expected:
            raise self._failed(command, finished)
        return finished

    async def sh(
        self,
        script: str,
        *arguments: str,
        stdin: bytes = b"",
        timeout_s: float = RUN_TIMEOUT_S,
        account: Account = "login",
        expected: Collection[int] | None = (0,),
    ) -> Finished:
        """Run a script by the node's ``sh``; it finds the arguments as $1, $2 ..."""
        command = ["sh", "-c", script, "sh", *arguments]
        return await self.run(command, stdin=stdin, timeout_s=timeout_s, account=account, expected=expected)

    async def upload(
        self,
        content: bytes | Path,
        destination: str,
        *,
        mode: int = 0o644,
        timeout_s: float = TRANSFER_TIMEOUT_S,
        account: Account = "login",
    ) -> None:
        """Put bytes or a file of ours on the node, whole or not at all; raises OSError when ours cannot be read."""
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
            size_bytes = source.seek(0, os.SEEK_END)
            source.seek(0)
            command = ["sh", "-c", _RECEIVE, "sh", destination, f"{mode:o}", str(size_bytes)]
            status, error = await self._execute(command, source, io.BytesIO(), timeout_s, account)
        if status != 0:
            raise self._failed(["upload", destination], Finished(status, b"", error))

    async def download(
        self, source: str, destination: Path, *, timeout_s: float = TRANSFER_TIMEOUT_S, account: Account = "login"
    ) -> None:
        """Fetch one of the node's files, whole or not at all; raises OSError when there is no room for it here."""
        await self.save(["cat", "--", source], destination, timeout_s=timeout_s, account=account)

    async def save(
        self,
        command: Sequence[str],
        destination: Path,
        *,
        timeout_s: float = TRANSFER_TIMEOUT_S,
        account: Account = "login",
    ) -> None:
        """Write what a command prints to a file of ours, which is there only once the command has succeeded."""
        partial = destination.with_name(f"{destination.name}.part")
        try:
            with partial.open("wb") as output:
                status, error = await self._execute(command, io.BytesIO(), output, timeout_s, account)
            if status != 0:
                raise self._failed(command, Finished(status, b"", error))
            os.replace(partial, destination)
        finally:
            partial.unlink(missing_ok=True)

    async def converse(
        self, command: Sequence[str], *, timeout_s: float = RUN_TIMEOUT_S, account: Account = "login"
    ) -> Conversation:
        """Start a command that is asked things, and ends when its input does; whoever gets the conversation closes it.

        Raises ControlError.
        """
        words = self._words(command, account)

        def work() -> Dialogue:
            return self._transport.converse(words, timeout_s=timeout_s)

        try:
            dialogue = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except Unreachable as failure:
            raise Unreachable(f"{self.name}: {failure}") from None
        except OSError as failure:  # TimeoutError among them
            raise ControlError(f"{self.name}: `{_shown(command)}` was not started: {failure or 'too late'}") from None
        return Conversation(self.name, dialogue)

    def _words(self, command: Sequence[str], account: Account) -> list[str]:
        """The command as it is run for an account."""
        return ["sudo", "-n", "--", *command] if account == "root" and not self._transport.is_root else [*command]

    async def _execute(
        self, command: Sequence[str], stdin: BinaryIO, stdout: BinaryIO, timeout_s: float, account: Account
    ) -> tuple[int, bytes]:
        bound_s = math.ceil(timeout_s)
        words = self._words(["timeout", "-s", "KILL", str(bound_s), *command], account)

        def work() -> tuple[int, bytes, bool]:
            started_s = time.monotonic()
            status, error = self._transport.execute(words, stdin=stdin, stdout=stdout, timeout_s=bound_s + GRACE_S)
            return status, error, status >= SIGNALLED and time.monotonic() - started_s >= bound_s

        late = f"{self.name}: `{_shown(command)}` was not done within {bound_s} s"
        try:
            status, error, is_ended = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except Unreachable as failure:
            raise Unreachable(f"{self.name}: {failure}") from None
        except TimeoutError:
            raise CommandFailed(f"{late}, and may run still", None) from None
        except OSError as failure:
            raise CommandFailed(
                f"{self.name}: nobody knows what became of `{_shown(command)}`: {failure}", None
            ) from None
        if is_ended:
            raise CommandFailed(f"{late}, and was ended", None)
        return status, error

    def _failed(self, command: Sequence[str], finished: Finished) -> CommandFailed:
        said = " ".join((finished.stderr or finished.stdout).decode(errors="replace").split())[-_WORDS:]
        what = said or f"exit status {finished.status}"
        return CommandFailed(f"{self.name}: `{_shown(command)}` failed: {what}", finished.status)

    async def close(self) -> None:
        """Close the connection, and wait for the threads to end."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._transport.close()
        self._threads.shutdown(wait=True, cancel_futures=True)


_RECEIVE: Final = """
umask 077
if cat >"$1.part" && [ "$(wc -c <"$1.part")" -eq "$3" ] && chmod "$2" "$1.part" && mv -f "$1.part" "$1"; then exit; fi
rm -f "$1.part"; exit 1
"""
"""The size tells a file from what came of it before the connection was lost, which ends the input as well."""


def _shown(command: Sequence[str]) -> str:
    """A command as a message shows it: its first words, one line."""
    words = " ".join(" ".join(command).split())
    return words if len(words) <= 100 else f"{words[:97]}..."


async def on_all(things: Mapping[str, V], do: Callable[[str, V], Awaitable[T]]) -> dict[str, T]:
    """Do it to all (remotes, or what stands for them, by name) at once.

    Every one is waited for before the first failure is raised.
    """
    outcomes = await asyncio.gather(*(do(name, thing) for name, thing in things.items()), return_exceptions=True)
    done: dict[str, T] = {}
    for name, outcome in zip(things, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            raise outcome
        done[name] = outcome
    return done


def left_s(deadline_s: float) -> float:
    """How long until a moment of ``time.monotonic``; raises TimeoutError when it has passed."""
    left = deadline_s - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
