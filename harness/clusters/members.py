"""Members as children of this process: the capabilities Process, Logs and Data of the local cluster."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.data_copies import keep_copies
from splitvote.harness.clusters.joining import Content, Joining, whom_to_join
from splitvote.harness.clusters.leftovers import MadeDirectory, MemberDescription
from splitvote.harness.clusters.network.place import Network
from splitvote.harness.clusters.processes import (
    Children,
    ProcessRecord,
    state_of,
    wait_gone,
    wait_state,
)
from splitvote.harness.clusters.procfs import started, thread_states
from splitvote.harness.errors import NemesisError
from splitvote.harness.etcd.daemon import Etcd, Seat, ServerOptions, clean_environment, flags

STOP_TIMEOUT_S: Final = 20.0
"""How long SIGTERM may take: a leader hands over first, within its request timeout of 5 s + 2 elections."""

KILL_TIMEOUT_S: Final = 10.0
SUSPEND_TIMEOUT_S: Final = 5.0


class Member:
    """One member's files and binary, and its process while it has one."""

    def __init__(self, name: str, directory: Path, etcd: Etcd) -> None:
        self.name = name
        self.etcd = etcd
        self.data = directory / "data" / name
        self.log = directory / "logs" / f"{name}.log"
        self.made: MadeDirectory | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.log_offset = 0
        self.starting = asyncio.Lock()
        self._record: ProcessRecord | None = None

    @property
    def is_up(self) -> bool:
        """Whether it has a process that has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def has_data(self) -> bool:
        """Whether there is anything at its data directory's path."""
        return os.path.lexists(self.data)

    @property
    def content(self) -> Content:
        """What there is of its data."""
        if any(self.data.glob("member/wal/*.wal")):
            return "log"
        return "blank" if not self.has_data or (self.data.is_dir() and not any(self.data.iterdir())) else "other"

    def note_process(self) -> None:
        """Write down who the process is, right after it was started."""
        assert self.process is not None
        self._record = ProcessRecord(self.process.pid, started(self.process.pid), str(self.data))

    def describe(self, ports: Mapping[str, int]) -> MemberDescription:
        """For cluster.json, with the ports that are held for it."""
        return MemberDescription(ports=dict(ports), process=self._record if self.is_up else None, data=self.made)


async def _founding(node: str) -> None:
    return None


async def _nothing(*_: object) -> None:
    return None


class LocalMembers:
    """Start, end, suspend and wipe the members; ``on_change`` is awaited after each start and end.

    ``within`` are further namespaces that a node's process enters; ``settle``
    is awaited before data is wiped.
    """

    def __init__(
        self,
        members: Mapping[str, Member],
        children: Children,
        network: Network,
        *,
        token: str,
        options: ServerOptions,
        arguments: tuple[str, ...] = (),
        on_change: Callable[[], Awaitable[None]] = _nothing,
        joining: Joining = _founding,
        environment: Callable[[str], Mapping[str, str]] = lambda node: {},
        within: Callable[[str], tuple[int, ...]] = lambda node: (),
        settle: Callable[[Sequence[str]], Awaitable[None]] = _nothing,
    ) -> None:
        self._members = members
        self._children = children
        self._network = network
        self._token = token
        self._options = options
        self._arguments = arguments
        self._on_change = on_change
        self._joining = joining
        self._environment = environment
        self._within = within
        self._settle = settle

    @property
    def peer_urls(self) -> dict[str, str]:
        """What each node advertises to its peers."""
        return {name: self._network.peer_url(name) for name in self._members}

    def _member(self, node: str) -> Member:
        try:
            return self._members[node]
        except KeyError:
            raise NemesisError(f"there is no node {node!r}; nodes are {', '.join(self._members)}") from None

    async def start(self, node: str) -> None:
        """See ``Process.start``; what becomes of the process then is the cluster's affair, not an error.

        Without data it joins the cluster that there is (``joining``).
        """
        member = self._member(node)
        async with member.starting:
            if member.is_up:
                return
            try:
                joins = await whom_to_join(node, member.content, self._joining)
                self._make_data(member)
                await self._spawn(member, joins)
            except OSError as failure:
                raise NemesisError(f"cannot start {node}: {failure}") from None
        await self._on_change()

    def _make_data(self, member: Member) -> None:
        if member.made is not None and member.made.is_still_there():
            return
        member.data.mkdir(parents=True, mode=0o700)
        member.made = MadeDirectory.of(member.data)

    async def _spawn(self, member: Member, joins: Mapping[str, str] | None) -> None:
        place = self._network.place(member.name)
        seat = Seat(
            name=member.name,
            data=member.data,
            listen_peer_url=place.listen_peer_url,
            client_url=place.client_url,
            token=self._token,
            peer_urls=self.peer_urls if joins is None else joins,
            cluster_state="new" if joins is None else "existing",
        )
        member.log.parent.mkdir(parents=True, exist_ok=True)
        if member.process is not None:  # it ended by itself
            self._children.forget(member.process)
        with member.log.open("ab") as output:
            member.log_offset = output.tell()
            member.process = await self._children.spawn(
                flags(member.etcd, seat, self._options, self._arguments),
                env={**clean_environment(os.environ, proxy_url=place.proxy_url), **self._environment(member.name)},
                output=output,
                namespaces=(*place.namespaces, *self._within(member.name)),
            )
        member.note_process()

    async def stop(self, node: str) -> None:
        """See ``Process.stop``; a suspended member is resumed, since it could not hear the signal."""
        member = self._member(node)
        self._signal(member, signal.SIGTERM)
        self._signal(member, signal.SIGCONT)
        await self._ended(member, "SIGTERM", STOP_TIMEOUT_S)

    async def kill(self, node: str) -> None:
        """See ``Process.kill``; works on a suspended member, too."""
        member = self._member(node)
        self._signal(member, signal.SIGKILL)
        await self._ended(member, "SIGKILL", KILL_TIMEOUT_S)

    async def kill_all(self) -> None:
        """Kill every member at once."""
        for member in self._members.values():
            self._signal(member, signal.SIGKILL)
        for member in self._members.values():
            await self._ended(member, "SIGKILL", KILL_TIMEOUT_S)

    async def _ended(self, member: Member, how: str, timeout_s: float) -> None:
        process = member.process
        if process is None:
            return
        if not await wait_gone(process, timeout_s=timeout_s):
            raise NemesisError(f"{member.name} (pid {process.pid}) is not gone {timeout_s:g} s after {how}")
        self._children.forget(process)
        if member.process is process:  # nobody has ended it, or started it anew, while we waited
            member.process = None
            await self._on_change()

    async def pause(self, node: str) -> None:
        """See ``Process.pause``; returns when every thread is stopped."""
        if not await self._told(self._member(node), signal.SIGSTOP, ProcessState.PAUSED):
            raise NemesisError(f"{node} cannot be paused: it does not run")

    async def resume(self, node: str) -> None:
        """See ``Process.resume``; does nothing when it does not run."""
        await self._told(self._member(node), signal.SIGCONT, ProcessState.RUNNING)

    async def _told(self, member: Member, sign: signal.Signals, wanted: ProcessState) -> bool:
        """Send a signal and see its effect; False when there is no process, or none any more."""
        if member.process is None or not member.is_up:
            return False
        pid = member.process.pid
        self._signal(member, sign)
        if await wait_state(pid, wanted, timeout_s=SUSPEND_TIMEOUT_S):
            return True
        if not member.is_up:
            return False
        states = "".join(sorted(thread_states(pid)))
        late = f"{SUSPEND_TIMEOUT_S:g} s after {sign.name}"
        raise NemesisError(f"{member.name} (pid {pid}) is not {wanted} {late}: its threads are in {states}")

    async def state(self, node: str) -> ProcessState:
        """See ``Process.state``."""
        member = self._member(node)
        if member.process is None or not member.is_up:
            return ProcessState.STOPPED
        return state_of(member.process.pid)

    async def wipe(self, node: str) -> None:
        """See ``Process.wipe``; does nothing when there is no data."""
        member = self._member(node)
        if member.is_up:
            raise NemesisError(f"{node} runs: stop it before its data is wiped")
        if not member.has_data:
            return
        if member.made is None or not member.made.is_still_there():
            raise NemesisError(f"{member.data} was not made by this cluster: it is left as it is")
        await self._settle([node])
        try:
            await asyncio.to_thread(shutil.rmtree, member.data)
        except OSError as failure:
            raise NemesisError(f"cannot wipe {node}: {failure}") from None
        member.made = None
        await self._on_change()

    def log_path(self, node: str) -> Path:
        """See ``Logs.log_path``."""
        return self._member(node).log

    async def keep_data(self, destination: Path) -> None:
        """See ``Data.keep_data``; preallocated files stay small, since their zeros become holes."""
        await keep_copies({name: member.data for name, member in self._members.items()}, destination)

    def _signal(self, member: Member, sign: signal.Signals) -> None:
        if member.process is not None:
            member.process.send_signal(sign)  # does nothing to a child that has ended
