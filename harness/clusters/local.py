"""Real etcd members as children on 127.0.0.1, every directed link through a proxy: no root, no docker.

What carries their traffic is a ``Network``: the link proxy's (``loopback``), or
network namespaces (``netns``).  All else is here, and the same for both.

Members and network end with the harness, whatever ends it (``tether``); what is
running, and what was made, is in the directory's ``cluster.json``
(``leftovers``)::

    DIRECTORY/cluster.json   DIRECTORY/data/<node>/   DIRECTORY/logs/<node>.log
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from splitvote.harness.cluster import (
    Admin,
    Archivist,
    Auth,
    Data,
    Health,
    Links,
    Logs,
    Members,
    Process,
    Roles,
    Upkeep,
    Versions,
)
from splitvote.harness.clusters.clocks.patched import ProcessClocks
from splitvote.harness.clusters.clocks.patchers import LocalPatcher
from splitvote.harness.clusters.connections import MemberConnections, operators, plain
from splitvote.harness.clusters.disks.fuse import FuseDisks
from splitvote.harness.clusters.failpoints import GofailPoints, HeldEndpoints, has_failpoints
from splitvote.harness.clusters.filedamage import LocalDamage, snapshot_count
from splitvote.harness.clusters.iogroups import find_io_groups
from splitvote.harness.clusters.lastwords import last_words
from splitvote.harness.clusters.leftovers import (
    DESCRIPTION,
    ClusterDescription,
    heal_leftovers,
)
from splitvote.harness.clusters.limits import LocalResources
from splitvote.harness.clusters.members import LocalMembers, Member
from splitvote.harness.clusters.network.loopback import LoopbackNetwork
from splitvote.harness.clusters.network.place import Network
from splitvote.harness.clusters.processes import Children, ProcessRecord
from splitvote.harness.clusters.procfs import started
from splitvote.harness.clusters.readiness import READY_TIMEOUT_S, await_ready
from splitvote.harness.clusters.versions import BinaryVersions, check_versions
from splitvote.harness.errors import ConfigError, EnvironmentFailure, NemesisError
from splitvote.harness.etcd.daemon import Etcd, ServerOptions, find_etcd
from splitvote.harness.machine import Clock, Damage, Disk, Failpoints, Resources

if TYPE_CHECKING:
    from splitvote.harness.etcd.connection import ConnectionOptions

__all__ = ["LocalCluster", "heal_leftovers"]

C = TypeVar("C")

MOST_NODES: Final = 9
PORT_ATTEMPTS: Final = 5
_DISK_OF_OURS: Final = "the data is on file systems that the harness serves itself, for faults of disks"
_PORT_TAKEN: Final = "address already in use"


class _PortTakenError(Exception):
    """Somebody bound a port between our finding it and a member's binding it."""


class LocalCluster:
    """``nodes`` members n1, n2 ... in ``directory``; ``async with`` brings them up and takes them down.

    ``etcd`` is a path, or None for the newest of PATH and the extra;
    ``etcd_by_node`` overrides it for single nodes; ``etcd_args`` are further
    flags for every member ("--snapshot-count=100"); ``etcd_others`` are binaries
    that nodes can be moved to and back; ``network`` makes what
    carries their traffic; ``demands`` are capabilities that cost something as
    soon as the cluster is up (Disk), and are there only where they are asked
    for.  Raises ConfigError for what cannot be, such as a path
    that is no etcd; touches nothing before ``up``.
    """

    def __init__(
        self,
        *,
        directory: Path,
        nodes: int = 5,
        etcd: Etcd | str | Path | None = None,
        etcd_by_node: Mapping[str, Etcd | str | Path] | None = None,
        etcd_others: Sequence[Etcd | str | Path] = (),
        etcd_args: Sequence[str] = (),
        options: ServerOptions | None = None,
        ready_timeout_s: float = READY_TIMEOUT_S,
        network: Callable[[Sequence[str], Children], Network] = LoopbackNetwork,
        demands: Collection[type[Any]] = (),
    ) -> None:
        if not 1 <= nodes <= MOST_NODES:
            raise ConfigError(f"{nodes} nodes: the local cluster has 1 to {MOST_NODES}")
        self.directory = Path(directory).absolute()
        self.nodes: tuple[str, ...] = tuple(f"n{number}" for number in range(1, nodes + 1))
        binaries = _binaries(self.nodes, etcd, etcd_by_node or {})
        self.other_binaries = tuple(other if isinstance(other, Etcd) else find_etcd(other) for other in etcd_others)
        check_versions(list(binaries.values()), self.other_binaries)
        self._members = {name: Member(name, self.directory, binaries[name]) for name in self.nodes}
        self._ready_timeout_s = ready_timeout_s
        self._children = Children()
        self._network = network(self.nodes, self._children)
        mark = f"{zlib.crc32(os.fsencode(self.directory)):08x}"
        self._process = LocalMembers(
            self._members,
            self._children,
            self._network,
            token=f"splitvote-{mark}",
            options=options or ServerOptions(),
            arguments=tuple(etcd_args),
            on_change=self._note_change,
            joining=self._cluster_to_join,
            environment=self._environment,
            within=lambda node: self._disks.namespaces(node),
            settle=lambda nodes: self._disks.settle(nodes),
        )
        self._disks = FuseDisks(
            self.nodes,
            self._children,
            data=self.directory / "data",
            is_asked=Disk in demands,
            within=self._network.namespaces,
            kill=self._process.kill,
        )
        self._connections = MemberConnections(self.nodes, self._network.endpoint, operators)
        self._strangers = self.connections()
        self._capabilities: dict[type[Any], object] = {
            Process: self._process,
            Disk: self._disks.steering,
            Damage: LocalDamage(
                lambda node: self._members[node].data,
                lambda node: self._members[node].is_up,
                settle=self._disks.settle,
                snapshot_count=snapshot_count(etcd_args, None if options is None else options.snapshot_count),
            ),
            Logs: self._process,
            Data: self._process,
        }
        self._resources = LocalResources(
            self.nodes,
            self._pid_of,
            name=mark,
            note=self._describe,
            io_groups=_DISK_OF_OURS if Disk in demands else find_io_groups(self.directory),
        )
        self._capabilities[Resources] = self._resources
        self._clocks = ProcessClocks(self.nodes, LocalPatcher(self._pid_of), self._network.endpoint)
        self._capabilities[Clock] = self._clocks
        versions = BinaryVersions(self._members, self.other_binaries, self._connections)
        self._endpoints = HeldEndpoints()
        if self.name == "local" and all(has_failpoints(etcd.path) for etcd in set(binaries.values())):
            self._capabilities[Failpoints] = GofailPoints(self._endpoints.call)
        if versions.can_change:
            self._capabilities[Versions] = versions
        if self._network.links is not None:
            self._capabilities[Links] = self._network.links
        self._is_up = False
        self._is_described = False

    @property
    def name(self) -> str:
        """What its network makes of it: local, netns."""
        return self._network.name

    @property
    def endpoints(self) -> dict[str, str]:
        """Every node's client address, "127.0.0.1:port"; the ports are found, and held, at the first look."""
        return {name: self._network.endpoint(name) for name in self.nodes}

    @property
    def versions(self) -> dict[str, str]:
        """Every node's etcd version."""
        return {name: member.etcd.version for name, member in self._members.items()}

    @property
    def binaries(self) -> dict[str, Etcd]:
        """Every node's etcd binary."""
        return {name: member.etcd for name, member in self._members.items()}

    def connections(self, options: ConnectionOptions | None = None) -> MemberConnections:
        """Fresh connections to every node, for whoever closes them (a binding); may be made before ``up``."""
        return MemberConnections(self.nodes, self._network.endpoint, plain if options is None else lambda: options)

    def capability(self, kind: type[C]) -> C | None:
        """See ``Cluster.capability``; all there are, but that there are no links where the network has none."""
        if kind not in self._capabilities and kind in (Roles, Health, Admin, Members, Upkeep, Auth, Archivist):
            from splitvote.harness.etcd.capabilities import of_members
            from splitvote.harness.etcd.upkeep import EtcdAuth

            self._capabilities |= of_members(self._connections, self._process.peer_urls)
            self._capabilities[Auth] = EtcdAuth(self._connections, self._strangers)
        return cast("C | None", self._capabilities.get(kind))

    async def _cluster_to_join(self, node: str) -> Mapping[str, str] | None:
        """Whom a node without data finds: those who are members now, once the cluster is up."""
        if not self._is_up:
            return None
        from splitvote.harness.etcd.membership import EtcdMembers

        return await EtcdMembers(self._connections, self._process.peer_urls).cluster_to_join(node)

    async def __aenter__(self) -> LocalCluster:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.down()

    async def up(self) -> None:
        """Start proxy and members, and wait until a write is committed and every member answers.

        Goes on with the data of an earlier ``up`` in the same directory.  Raises
        EnvironmentFailure, with a member's own words, when it does not come up;
        nothing is left running then.
        """
        if self._is_up:
            return
        try:
            await self._come_up()
        except BaseException:
            await self.down()
            raise
        self._is_up = True

    async def _come_up(self) -> None:
        await self._prepare()
        words = ""
        for _ in range(PORT_ATTEMPTS):
            try:
                await self._start_all()
                await self._await_ready()
                # Channels dialled members that did not listen yet: those still backing off would fail healthy calls.
                await self._connections.close()
                await self._disks.settle()  # a cluster that was found to serve is there for good
            except _PortTakenError as taken:
                words = str(taken)
                await self.down()
            else:
                return
        raise EnvironmentFailure(
            f"a port that a member listens on was taken {PORT_ATTEMPTS} times over; free it if an --etcd-arg names it, "
            f"else try again; {words}"
        )

    async def _prepare(self) -> None:
        """Make the directory ours: foreign data is refused, our own from before is taken over."""
        try:
            await heal_leftovers(self.directory)
            earlier = DESCRIPTION.read(self.directory)
            if earlier is not None and earlier.is_running():
                who = "this very process" if earlier.harness.pid == os.getpid() else f"pid {earlier.harness.pid}"
                raise EnvironmentFailure(f"{self.directory} is in use by {who}: take another directory")
            for name, member in self._members.items():
                described = None if earlier is None else earlier.members.get(name)
                if described is not None and described.data is not None and described.data.is_still_there():
                    member.made = described.data
                elif member.has_data:
                    raise EnvironmentFailure(f"{member.data} exists and is not of our making: take another directory")
            for folder in (self.directory / "logs", self.directory / "data"):
                folder.mkdir(parents=True, exist_ok=True)
        except (OSError, NemesisError) as failure:
            raise EnvironmentFailure(f"cannot use {self.directory} for a cluster: {failure}") from None

    async def _start_all(self) -> None:
        try:
            DESCRIPTION.write(self.directory, self._description())
            self._is_described = True
            await self._network.open(self.directory / "logs")
            await self._disks.open(self.directory / "logs")
            self._describe()
            for name in self.nodes:
                await self._process.start(name)
        except (OSError, NemesisError) as failure:
            raise EnvironmentFailure(f"the cluster cannot be started: {failure}") from None

    async def _await_ready(self) -> None:
        await await_ready(
            self.nodes,
            self._connections,
            roles=self._need(Roles),
            health=self._need(Health),
            check=self._check_members,
            words_of=self._words_of,
            timeout_s=self._ready_timeout_s,
        )

    async def _check_members(self) -> None:
        """Say why a member has ended, if one has."""
        for name, member in self._members.items():
            if not member.is_up:
                words = await self._words_of(name)
                if _PORT_TAKEN in words:
                    raise _PortTakenError(words)
                raise EnvironmentFailure(f"{name} ended as soon as it was started; {words}")

    async def _words_of(self, node: str) -> str:
        member = self._members[node]
        return f"{node} (log: {member.log}) said: {last_words(member.log, member.log_offset)}"

    def _need(self, kind: type[C]) -> C:
        capability = self.capability(kind)
        assert capability is not None
        return capability

    async def down(self) -> None:
        """End every member and the network; data and logs stay.  Idempotent.

        Raises EnvironmentFailure when a part of the network was gone before:
        what clients saw of the cluster since then says nothing of it.
        """
        was_up, self._is_up = self._is_up, False
        trouble = self._network.trouble or self._disks.trouble
        await self._clocks.close()
        with contextlib.suppress(OSError):  # it ends by and by, as what it waits for is done
            self._resources.unblock()
        try:
            await self._process.kill_all()
        finally:
            await self._disks.close()
            await self._network.close()
            await self._connections.close()
            await self._strangers.close()
            self._endpoints.close()
            with contextlib.suppress(OSError):  # `splitvote heal` tries again, and says why it cannot
                self._resources.close()
            self._children.close()
        self._describe()
        if was_up and trouble is not None:
            raise EnvironmentFailure(f"{trouble} ended while the cluster was up: look at {self.directory / 'logs'}")

    def _environment(self, node: str) -> Mapping[str, str]:
        return self._endpoints.environment(node) if Failpoints in self._capabilities else {}

    def _pid_of(self, node: str) -> int | None:
        member = self._members[node]
        return member.process.pid if member.process is not None and member.is_up else None

    async def _note_change(self) -> None:
        """A member's process has ended or begun: it is written down, and has its node's limits and clocks."""
        self._describe()
        self._resources.apply()
        await self._clocks.note_change()

    def _describe(self) -> None:
        """Keep cluster.json current, as far as a full disk allows: our children end with us in any case."""
        if self._is_described:
            with contextlib.suppress(OSError):
                DESCRIPTION.write(self.directory, self._description())

    def _description(self) -> ClusterDescription:
        return ClusterDescription(
            harness=ProcessRecord(os.getpid(), started(os.getpid()), ""),
            members={name: member.describe(self._network.ports(name)) for name, member in self._members.items()},
            network=dict(self._network.processes),
            disks=dict(self._disks.records),
            aside=self._disks.made,
            groups=self._resources.made,
        )


def _binaries(
    nodes: Sequence[str], etcd: Etcd | str | Path | None, by_node: Mapping[str, Etcd | str | Path]
) -> dict[str, Etcd]:
    if strange := [name for name in by_node if name not in nodes]:
        raise ConfigError(f"there is no node {strange[0]!r} to give an etcd of its own; nodes are {', '.join(nodes)}")
    found: dict[Etcd | str | Path | None, Etcd] = {}
    binaries = {}
    for name in nodes:
        wanted = by_node.get(name, etcd)
        if isinstance(wanted, Etcd):
            binaries[name] = wanted
        else:
            binaries[name] = found.get(wanted) or found.setdefault(wanted, find_etcd(wanted))
    return binaries
