"""Members on nodes that are reached by commands: the capabilities Process, Logs and Data."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.members import Joining, copy_sparsely
from splitvote.harness.clusters.remote_daemon import Daemon
from splitvote.harness.errors import NemesisError
from splitvote.harness.etcd.daemon import Etcd, Seat, ServerOptions, flags

STOP_TIMEOUT_S: Final = 20.0
"""How long SIGTERM may take: a leader hands over first, within its request timeout of 5 s + 2 elections."""

KILL_TIMEOUT_S: Final = 10.0
SUSPEND_TIMEOUT_S: Final = 5.0
CLIENT_PORT: Final = 2379
PEER_PORT: Final = 2380
_PATH: Final = "/opt/etcd:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(slots=True)
class RemoteMember:
    """One member: its binary, what of it is kept on this machine, and where it is, once that is known (``place``)."""

    name: str
    etcd: Etcd
    directory: Path
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _daemon: Daemon | None = None
    _address: str = ""

    def place(self, daemon: Daemon, address: str) -> None:
        """Say where it is, and how its peers find it."""
        self._daemon, self._address = daemon, address

    @property
    def daemon(self) -> Daemon:
        """Its process on the node; raises NemesisError as long as the node was not reached."""
        if self._daemon is None:
            raise NemesisError(f"{self.name} is not reached yet: bring the cluster up first")
        return self._daemon

    @property
    def log(self) -> Path:
        """Our copy of its log."""
        return self.directory / "logs" / f"{self.name}.log"

    @property
    def data(self) -> Path:
        """Our copy of its data, once the cluster is down."""
        return self.directory / "data" / self.name

    @property
    def client_url(self) -> str:
        """Where it serves clients."""
        return f"http://{self._address}:{CLIENT_PORT}"

    @property
    def peer_url(self) -> str:
        """What it advertises to its peers, and where it listens to them."""
        return f"http://{self._address}:{PEER_PORT}"


class RemoteMembers:
    """Start, end, suspend and wipe the members; ``peer_urls`` are what they advertise to each other."""

    def __init__(
        self,
        members: Mapping[str, RemoteMember],
        *,
        token: str,
        options: ServerOptions,
        arguments: Sequence[str],
        peer_urls: Mapping[str, str],
        joining: Joining,
    ) -> None:
        self._members = members
        self._token = token
        self._options = options
        self._arguments = tuple(arguments)
        self._joining = joining
        self._peer_urls = peer_urls

    def _member(self, node: str) -> RemoteMember:
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
            if (await member.daemon.look()).state is not ProcessState.STOPPED:
                return
            joins = await self._whom_to_join(member)
            seat = Seat(
                name=node,
                data=Path(member.daemon.data),
                listen_peer_url=member.peer_url,
                client_url=member.client_url,
                token=self._token,
                peer_urls=self._peer_urls if joins is None else joins,
                cluster_state="new" if joins is None else "existing",
            )
            command = flags(member.etcd, seat, self._options, self._arguments)
            await member.daemon.start(command, {"PATH": _PATH})

    async def _whom_to_join(self, member: RemoteMember) -> Mapping[str, str] | None:
        """None for a member that goes on with its data, be it damaged: what to make of that is for etcd to say."""
        content = await member.daemon.content()
        if content == "log":
            return None
        try:
            return await self._joining(member.name)
        except NemesisError:
            if content == "blank":
                raise
            return None

    async def stop(self, node: str) -> None:
        """See ``Process.stop``; a suspended member is resumed, since it could not hear the signal."""
        await self._member(node).daemon.end("TERM", "CONT", timeout_s=STOP_TIMEOUT_S)

    async def kill(self, node: str) -> None:
        """See ``Process.kill``; works on a suspended member, too."""
        await self._member(node).daemon.end("KILL", timeout_s=KILL_TIMEOUT_S)

    async def pause(self, node: str) -> None:
        """See ``Process.pause``; returns when every thread is stopped."""
        if not await self._told(self._member(node), "STOP", ProcessState.PAUSED):
            raise NemesisError(f"{node} cannot be paused: it does not run")

    async def resume(self, node: str) -> None:
        """See ``Process.resume``; does nothing when it does not run."""
        await self._told(self._member(node), "CONT", ProcessState.RUNNING)

    async def _told(self, member: RemoteMember, sign: str, wanted: ProcessState) -> bool:
        """Send a signal and see its effect; False when there is no process, or none any more."""
        await member.daemon.signal(sign)
        found = await member.daemon.until(wanted, timeout_s=SUSPEND_TIMEOUT_S)
        if found.state not in (wanted, ProcessState.STOPPED):
            late = f"{SUSPEND_TIMEOUT_S:g} s after SIG{sign}"
            raise NemesisError(f"{member.name} is not {wanted} {late}: its threads are in {sorted(found.states)}")
        return found.state is wanted

    async def state(self, node: str) -> ProcessState:
        """See ``Process.state``."""
        return (await self._member(node).daemon.look()).state

    async def wipe(self, node: str) -> None:
        """See ``Process.wipe``: the data is in a folder of our own making, or there is none."""
        member = self._member(node)
        if (await member.daemon.look()).state is not ProcessState.STOPPED:
            raise NemesisError(f"{node} runs: stop it before its data is wiped")
        await member.daemon.wipe()

    def log_path(self, node: str) -> Path:
        """See ``Logs.log_path``; what is there was fetched."""
        return self._member(node).log

    async def keep_data(self, destination: Path) -> None:
        """See ``Data.keep_data``: copies of our copies, which are there once the cluster is down."""
        for member in self._members.values():
            kept = Path(destination) / member.name
            if member.data.is_dir():
                await asyncio.to_thread(
                    shutil.copytree, member.data, kept, copy_function=copy_sparsely, dirs_exist_ok=True
                )
