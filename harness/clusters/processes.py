"""Children of this machine: spawned so that none outlives us, told apart from strangers, waited for, looked at.

A process is known by its pid *and* the time it was started: a pid alone is soon
another's.  On Linux /proc says all; elsewhere ``ps`` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters import tether
from splitvote.harness.clusters.procfs import HAS_PROC, STOPPED_STATES, command_line, started, thread_states

CAN_TETHER: Final = HAS_PROC
TETHER_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.005
_STILL_STATES: Final = STOPPED_STATES | {"D"}


class ProcessRecord(msgspec.Struct, frozen=True):
    """What it takes to know a process again: pid, start (in the system's own words), and a word of its command line."""

    pid: int
    started: str
    mark: str

    def is_alive(self) -> bool:
        """Whether this very process still runs (or is suspended)."""
        return (
            bool(thread_states(self.pid))
            and started(self.pid) == self.started
            and any(self.mark in word for word in command_line(self.pid))
        )


class Children:
    """Spawns children that end with us; ``close`` lets go of those that have been ended."""

    def __init__(self, *, tethered: bool = CAN_TETHER) -> None:
        self._tethered = tethered
        self._watchdog: subprocess.Popen[bytes] | None = None

    async def spawn(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        output: IO[bytes],
        stdin: Any = subprocess.DEVNULL,
        namespaces: Sequence[int] = (),
        inherited: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a command (its first word a path); raises OSError.  Returns once it is certain to end with us.

        It runs in ``namespaces`` (descriptors; Linux only) and gets the
        descriptors ``inherited`` under their own numbers.  Before that moment a
        child that was suspended would be left over.
        """
        if not self._tethered:
            if namespaces:
                raise OSError("only a tethered child can enter namespaces")
            child = _popen(command, env, output, stdin, inherited)
            self._tell_watchdog(f"+{child.pid}")
            return child
        reading, writing = os.pipe()
        try:
            try:
                launcher = [*tether_script(), str(os.getpid()), str(writing), ",".join(map(str, namespaces))]
                passed = (writing, *namespaces, *inherited)
                child = _popen([*launcher, *command], env, output, stdin, passed)
            finally:
                os.close(writing)
            try:
                await _closed(reading)
            except BaseException:
                child.kill()
                child.wait()
                raise
        finally:
            os.close(reading)
        return child

    def forget(self, child: subprocess.Popen[bytes]) -> None:
        """Note that a child has ended and was waited for: its pid may be another's from now on."""
        self._tell_watchdog(f"-{child.pid}")

    async def end(self, child: subprocess.Popen[bytes], *, timeout_s: float) -> None:
        """Kill a child and wait for its end; one that does not end within the bound is not forgotten."""
        child.kill()
        if await wait_gone(child, timeout_s=timeout_s):
            self.forget(child)

    def _tell_watchdog(self, line: str) -> None:
        if self._tethered:
            return
        if self._watchdog is None:
            self._watchdog = subprocess.Popen(
                [*tether_script(), "--watch"], stdin=subprocess.PIPE, start_new_session=True
            )
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.write(line.encode() + b"\n")
        self._watchdog.stdin.flush()

    def close(self) -> None:
        """End the watchdog, if there is one, and with it whatever was not forgotten."""
        if self._watchdog is not None:
            assert self._watchdog.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._watchdog.stdin.close()
            self._watchdog.wait()
            self._watchdog = None


def _popen(
    command: Sequence[str], env: Mapping[str, str], output: IO[bytes], stdin: Any, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, which keeps the terminal's Ctrl-C away: we heal first."""
    return subprocess.Popen(
        command,
        env=dict(env),
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=pass_fds,
    )


async def _closed(descriptor: int) -> None:
    """Wait until the other end of a pipe is closed; TimeoutError when it is not within the bound."""
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, closed.set)
    try:
        async with asyncio.timeout(TETHER_TIMEOUT_S):
            await closed.wait()
    except TimeoutError:
        raise TimeoutError(f"a child was not started within {TETHER_TIMEOUT_S:g} s") from None
    finally:
        loop.remove_reader(descriptor)


def tether_script() -> list[str]:
    """The command that runs ``tether``; its arguments follow."""
    return [sys.executable, "-I", "-S", str(Path(tether.__file__).resolve())]


async def wait_gone(child: subprocess.Popen[bytes], *, timeout_s: float) -> bool:
    """Wait until a child of ours has ended, and reap it; False when it has not within the bound."""
    if child.poll() is not None:
        return True
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    pidfd = _open_pidfd(child.pid)
    if pidfd is not None:
        loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(timeout_s):
            while child.poll() is None:
                await (ended.wait() if pidfd is not None else asyncio.sleep(_POLL_S))
    except TimeoutError:
        return child.poll() is not None
    finally:
        if pidfd is not None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
    return True


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


async def wait_state(pid: int, wanted: ProcessState, *, timeout_s: float) -> bool:
    """Wait until the operating system says so of a process; there is no event to wait for, so it is asked often."""
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    while (state := state_of(pid)) is not wanted:
        if state is ProcessState.STOPPED or asyncio.get_running_loop().time() > deadline_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def state_of(pid: int) -> ProcessState:
    """Running, or paused (every thread is stopped), or stopped (gone, or a zombie).

    A thread that waits for a disk that hangs cannot stop in there; it will not
    come out of the kernel once the others have.
    """
    states = thread_states(pid)
    if not states:
        return ProcessState.STOPPED
    return ProcessState.PAUSED if states & STOPPED_STATES and states <= _STILL_STATES else ProcessState.RUNNING
