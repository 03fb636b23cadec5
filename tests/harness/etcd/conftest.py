"""Real etcd members for the client's tests: children on free ports of 127.0.0.1, ended when their fixture ends."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from splitvote.harness.clusters.ports import HeldPort
from splitvote.harness.clusters.procfs import thread_states
from splitvote.harness.etcd.capabilities import EtcdHealth
from splitvote.harness.etcd.connection import ConnectionOptions, Connections

T = TypeVar("T")

VERSION = "3.5.30"
READY_BOUND_S = 120.0
STOPPING_BOUND_S = 60.0
ENDING_BOUND_S = 120.0
"""How long tasks that were told to end may take: those of a cancelled call end once gRPC's core has told them."""

PATIENT = ConnectionOptions(connect_timeout_ms=20_000)
"""A member that is up is connected to however slow the machine: the default gives up an attempt after 50 ms."""

STEADY = ("--heartbeat-interval=100", "--election-timeout=3000")
"""So that a leader that gets no processor for a second leads on; what is given after these flags wins.

For several members only: one leads in any case, and the least TTL of a lease follows from these.
"""


@dataclass
class Member:
    """One etcd process; ``endpoint`` is its client address, ``peer`` its peer URL."""

    name: str
    command: list[str]
    endpoint: str
    peer: str
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP, and wait until every thread has stopped."""
        self.signal(signal.SIGSTOP)
        assert self.process is not None
        deadline_s = time.monotonic() + STOPPING_BOUND_S
        while thread_states(self.process.pid) != {"T"}:
            assert time.monotonic() < deadline_s, f"{self.name} does not stop"
            time.sleep(0.005)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class Members:
    """A cluster of members by name, with a way to wait for it."""

    by_name: dict[str, Member]
    options: ConnectionOptions = PATIENT

    @property
    def endpoints(self) -> dict[str, str]:
        return {name: member.endpoint for name, member in self.by_name.items()}

    def __getitem__(self, name: str) -> Member:
        return self.by_name[name]

    async def until(self, holds: Callable[[], Awaitable[bool]], *, what: str) -> None:
        """Ask until it holds."""
        deadline_s = time.monotonic() + READY_BOUND_S
        while not await holds():
            assert time.monotonic() < deadline_s, f"not within {READY_BOUND_S} s: {what}"
            await asyncio.sleep(0.05)

    async def ready(self, names: Sequence[str] | None = None) -> None:
        """Wait until these members (default: all) answer a linearizable read."""
        connections = Connections(self.endpoints, self.options)
        health = EtcdHealth(connections)

        async def all_answer() -> bool:
            return not await health.unready(names or list(self.by_name))

        try:
            await self.until(all_answer, what=f"{names or 'every member'} answers a linearizable read")
        finally:
            await connections.close()


def _members(
    binary: Path, folder: Path, ports: Sequence[int], flags: Sequence[str], scheme: str, joining: Sequence[str] = ()
) -> dict[str, Member]:
    """Members that begin a cluster together, but for the last ones, which are ``joining`` it one after another.

    ``ports`` are two for each.
    """
    count = len(ports) // 2
    names = [f"n{number}" for number in range(1, count + 1)]
    peers = {name: f"http://127.0.0.1:{port}" for name, port in zip(names, ports[count:], strict=True)}
    members = {}
    for name, port in zip(names, ports, strict=False):
        known = names[: names.index(name) + 1] if name in joining else [n for n in names if n not in joining]
        command = [
            str(binary),
            f"--name={name}",
            f"--data-dir={folder / name}",
            f"--listen-client-urls={scheme}://127.0.0.1:{port}",
            f"--advertise-client-urls={scheme}://127.0.0.1:{port}",
            f"--listen-peer-urls={peers[name]}",
            f"--initial-advertise-peer-urls={peers[name]}",
            "--initial-cluster=" + ",".join(f"{other}={peers[other]}" for other in known),
            f"--initial-cluster-state={'existing' if name in joining else 'new'}",
            "--unsafe-no-fsync",
            "--logger=zap",
            *flags,
        ]
        members[name] = Member(name, command, f"127.0.0.1:{port}", peers[name], folder / f"{name}.log")
    return members


def _held_port(undo: ExitStack) -> int:
    """A port that is nobody else's, while its member is down neither, until all is undone."""
    port = HeldPort()
    undo.callback(port.release)
    port.make_room()
    return port.number


@pytest.fixture(scope="session")
def run_etcd(etcd_binary: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Run so many members for the length of a ``with`` block."""

    @contextmanager
    def run(
        count: int = 1,
        *,
        version: str = VERSION,
        flags: Sequence[str] = (),
        options: ConnectionOptions = PATIENT,
        joining: Sequence[str] = (),
    ) -> Iterator[Members]:
        binary = etcd_binary(version)
        folder = tmp_path_factory.mktemp("etcd")
        scheme = "http" if options.tls is None else "https"
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            ports = [_held_port(undo) for _ in range(2 * count)]
            all_flags = (*STEADY, *flags) if count > 1 else flags
            members = Members(_members(binary, folder, ports, all_flags, scheme, joining), options)
            for member in members.by_name.values():
                undo.callback(member.kill)
            beginning = [name for name in members.by_name if name not in joining]
            for name in beginning:
                members[name].start()
            asyncio.run(members.ready(beginning))
            yield members

    return run


@pytest.fixture(scope="session")
def one(run_etcd: Callable[..., Any]) -> Iterator[Members]:
    """One member, shared by the tests that leave it as they found it."""
    with run_etcd(1) as members:
        yield members


@pytest.fixture(scope="session")
def three(run_etcd: Callable[..., Any]) -> Iterator[Members]:
    """Three members, shared by the tests that heal what they do to them.

    Without the strict check, members may be added before they have been connected for five seconds.
    """
    with run_etcd(3, flags=["--strict-reconfig-check=false"]) as members:
        yield members


@pytest.fixture
def connected() -> Callable[..., Any]:
    """Runs a coroutine function with connections to members, closes them and sees that every task ends."""

    def run(
        members: Members, body: Callable[[Connections], Awaitable[T]], *, options: ConnectionOptions = PATIENT
    ) -> T:
        async def go() -> T:
            connections = Connections(members.endpoints, options)
            try:
                result = await body(connections)
            finally:
                await connections.close()
            async with asyncio.timeout(ENDING_BOUND_S):
                while len(left := asyncio.all_tasks()) > 1:
                    await asyncio.wait(left - {asyncio.current_task()})
            return result

        return asyncio.run(go())

    return run
