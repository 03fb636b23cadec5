"""Members on nodes that are reached by commands: the capabilities Process, Logs and Data."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.data_copies import keep_copies
from splitvote.harness.clusters.joining import Joining, whom_to_join
from splitvote.harness.clusters.remote.daemon import Daemon
from splitvote.harness.clusters.remote.hosts import Node
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
    _peer: str = ""
    _client: str = ""

    def place(self, daemon: Daemon, node: Node) -> None:
        """Say where it is, and how it is found."""
        self._daemon = daemon
        self._peer = node.peer or f"{node.address}:{PEER_PORT}"
        self._client = node.listens_to_clients or f"{node.address}:{CLIENT_PORT}"

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
        return f"http://{self._client}"

    @property
    def peer_url(self) -> str:
        """What it advertises to its peers, and where it listens to them."""
        return f"http://{self._peer}"


class RemoteMembers:
    """Start, end, suspend and wipe the members; ``peer_urls`` are what they advertise to each other.

    ``on_start`` is awaited after each start of a node, whose process gets PATH and
    ``environment``, and no more; ``entrance`` is what its command begins with,
    and ``settle`` is awaited before data is wiped.
    """

    def __init__(
        self,
        members: Mapping[str, RemoteMember],
        *,
        token: str,
        options: ServerOptions,
        arguments: Sequence[str],
        peer_urls: Mapping[str, str],
        joining: Joining,
        on_start: Callable[[str], Awaitable[None]],
        environment: Mapping[str, str],
        entrance: Callable[[str], Awaitable[Sequence[str]]],
        settle: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        self._members = members
        self._token = token
        self._options = options
        self._arguments = tuple(arguments)
        self._joining = joining
        self._on_start = on_start
        self._environment = {"PATH": _PATH, **environment}
        self._peer_urls = peer_urls
        self._entrance = entrance
        self._settle = settle

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
            joins = await whom_to_join(node, await member.daemon.content(), self._joining)
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
            await member.daemon.start([*await self._entrance(node), *command], self._environment)
        await self._on_start(node)

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
        await self._settle([node])
        await member.daemon.wipe()

    def log_path(self, node: str) -> Path:
        """See ``Logs.log_path``; what is there was fetched."""
        return self._member(node).log

    async def keep_data(self, destination: Path) -> None:
        """See ``Data.keep_data``: copies of our copies, which are there once the cluster is down."""
        await keep_copies({name: member.data for name, member in self._members.items()}, destination)
