"""A simulated cluster as the harness sees one: nodes and capabilities; ``--cluster sim`` is the only difference.

Everything is a function of the seed and of what is done to the cluster: which
member is elected, how long each message and each fsync takes, what a loss of
power leaves behind.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast

from splitvote.harness.clock import VirtualLoop
from splitvote.harness.cluster import Health, Links, Logs, Process, ProcessState
from splitvote.harness.errors import ConfigError, EnvironmentFailure, NemesisError
from splitvote.harness.etcd.capabilities import of_members
from splitvote.harness.etcd.membership import EtcdMembers
from splitvote.harness.generator.randomness import op_entropy
from splitvote.harness.machine import Clock, Damage, Disk
from splitvote.harness.simulation.calls import SimulatedRpc
from splitvote.harness.simulation.capabilities import (
    SimulatedClocks,
    SimulatedDisks,
    SimulatedLinks,
    SimulatedProcesses,
)
from splitvote.harness.simulation.clocks import TRUE
from splitvote.harness.simulation.interface import MemberInfo
from splitvote.harness.simulation.member import SimulatedNode
from splitvote.harness.simulation.mutants import Mutants
from splitvote.harness.simulation.network import Link, Network
from splitvote.harness.simulation.options import ServerOptions
from splitvote.harness.simulation.services import VERSION

C = TypeVar("C")

MOST_NODES: Final = 9
READY_BOUND_S: Final = 30.0
_POLL_S: Final = 0.02
_ID_BITS: Final = 63


class SimulatedCluster:
    """``nodes`` members n1, n2 ...; ``up`` must be awaited on a ``VirtualLoop``.  Logs go to ``directory``/logs."""

    name: Final = "sim"

    def __init__(
        self,
        *,
        directory: Path,
        nodes: int = 5,
        seed: int = 0,
        options: ServerOptions | None = None,
        mutants: Mutants | None = None,
    ) -> None:
        if not 1 <= nodes <= MOST_NODES:
            raise ConfigError(f"{nodes} nodes: the simulated cluster has 1 to {MOST_NODES}")
        self.nodes: tuple[str, ...] = tuple(f"n{number}" for number in range(1, nodes + 1))
        self.mutants = mutants or Mutants()
        self._directory = Path(directory)
        self._seed = seed
        self._options = options or ServerOptions()
        self._site: Site | None = None
        self._connections = SimulatedConnections(self)
        peer_urls = {name: _peer_url(name) for name in self.nodes}
        processes = SimulatedProcesses(self, EtcdMembers(self._connections, peer_urls).cluster_to_join)
        disks = SimulatedDisks(self, snapshot_count=self._options.snapshot_count)
        self._capabilities: dict[type[Any], object] = {
            Process: processes,
            Logs: processes,
            Clock: SimulatedClocks(self),
            Disk: disks,
            Damage: disks,
            **of_members(self._connections, peer_urls),
        }
        if nodes > 1:
            self._capabilities[Links] = SimulatedLinks(self)

    @property
    def versions(self) -> dict[str, str]:
        """Every node's etcd version."""
        return dict.fromkeys(self.nodes, f"{VERSION} (simulated)")

    @property
    def site(self) -> Site:
        """The nodes and their network; raises EnvironmentFailure before ``up``."""
        if self._site is None:
            raise EnvironmentFailure("the simulated cluster is not up")
        return self._site

    @property
    def network(self) -> Network:
        """The network between the nodes."""
        return self.site.network

    def newest_member(self, node: str) -> int:
        """The id of the member that was last added for a node."""
        return self.site.newest_member(node)

    def node(self, name: str) -> SimulatedNode:
        """One node; raises NemesisError for a name that there is not."""
        try:
            return self.site.nodes[name]
        except KeyError:
            raise NemesisError(f"there is no node {name!r}; nodes are {', '.join(self.nodes)}") from None

    def log_path(self, node: str) -> Path:
        """See ``Logs.log_path``."""
        return self._directory / "logs" / f"{node}.log"

    def connections(self) -> SimulatedConnections:
        """Fresh connections to every node, for whoever closes them (a binding); may be made before ``up``."""
        return SimulatedConnections(self)

    def capability(self, kind: type[C]) -> C | None:
        """See ``Cluster.capability``."""
        return cast("C | None", self._capabilities.get(kind))

    async def up(self) -> None:
        """Start every node, and wait until each serves a linearizable read."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise EnvironmentFailure(
                "the simulated cluster lives in virtual time: run it by splitvote.harness.clock.run"
            )
        if self._site is None:
            self._site = Site(loop, self, seed=self._seed, options=self._options)
        for node in self.site.nodes.values():
            node.start()
        health = self.capability(Health)
        assert health is not None
        deadline_s = loop.time() + READY_BOUND_S
        while unready := await health.unready(self.nodes):
            if loop.time() > deadline_s:
                raise EnvironmentFailure(f"the simulated cluster did not come up: {unready}")
            await asyncio.sleep(_POLL_S)

    async def down(self) -> None:
        """End every node; disks stay.  Idempotent."""
        await self._connections.close()
        if self._site is not None:
            for node in self._site.nodes.values():
                node.clocks.set(TRUE)
                node.kill()
                node.log.close()


class Site:
    """What ``up`` makes: the nodes, the network between them, and who is where."""

    def __init__(self, loop: VirtualLoop, cluster: SimulatedCluster, *, seed: int, options: ServerOptions) -> None:
        founders = [_founder(seed, name) for name in cluster.nodes]
        cluster_id = op_entropy(seed, zlib.crc32(b"cluster")) >> (64 - _ID_BITS)
        self._places = {_peer_url(name): name for name in cluster.nodes}
        self._node_of = {founder.id: founder.name for founder in founders}
        self.nodes = {
            name: SimulatedNode(
                loop=loop,
                seed=seed,
                number=number,
                cluster_id=cluster_id,
                founders=founders,
                transport=_Transport(self, name),
                options=options,
                log_path=cluster.log_path(name),
                mutants=cluster.mutants,
            )
            for number, name in enumerate(cluster.nodes, 1)
        }
        self.network = Network(
            loop,
            seed,
            {name: node.receive for name, node in self.nodes.items()},
            {name: node.door.path for name, node in self.nodes.items()},
        )

    def learn(self, member: MemberInfo) -> None:
        """A member is where its URL says."""
        for url in member.peer_urls:
            if url in self._places:
                self._node_of.setdefault(member.id, self._places[url])

    def newest_member(self, node: str) -> int:
        """The id of the member that was last added for a node: ids are learned in the order they are given."""
        return next(member for member in reversed(self._node_of) if self._node_of[member] == node)

    def node_of(self, member_id: int) -> SimulatedNode | None:
        """The node that a member is at, as long as it is that member's."""
        name = self._node_of.get(member_id)
        node = None if name is None else self.nodes[name]
        return node if node is not None and node.member_id == member_id else None


def _peer_url(name: str) -> str:
    return f"http://{name}:2380"


def _founder(seed: int, name: str) -> MemberInfo:
    member_id = op_entropy(seed, zlib.crc32(name.encode())) >> (64 - _ID_BITS)
    return MemberInfo(member_id, name, (_peer_url(name),))


class _Transport:
    """The peer network as one node's member sees it."""

    def __init__(self, site: Site, node: str) -> None:
        self._site = site
        self._node = node
        self._ways: dict[int, tuple[SimulatedNode, Link]] = {}

    def send(self, member: int, what: Any, size_bytes: int) -> Literal["sent", "nobody there"]:
        """See ``peers.Transport``."""
        way = self._ways.get(member)
        if way is None or way[0].member_id != member:
            target = self._site.node_of(member)
            if target is None or target.name == self._node:
                return "nobody there"
            way = self._ways[member] = (target, self._site.network.link(self._node, target.name))
        way[1].send((member, what), size_bytes)
        return "sent" if way[0].is_listening else "nobody there"

    def learn(self, member: MemberInfo) -> None:
        """See ``peers.Transport``."""
        self._site.learn(member)

    def is_connected(self, member: int) -> bool:
        """See ``peers.Transport``."""
        target = self._site.node_of(member)
        return (
            target is not None
            and target.is_listening
            and target.state is ProcessState.RUNNING
            and self._site.network.is_open(self._node, target.name)
        )


class SimulatedConnections(Mapping[str, SimulatedRpc]):
    """The RPC seam to every node by name, made at the first use."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._rpcs: dict[str, SimulatedRpc] = {}

    def __getitem__(self, node: str) -> SimulatedRpc:
        rpc = self._rpcs.get(node)
        if rpc is None:
            rpc = self._rpcs[node] = SimulatedRpc(self._cluster.node(node).door)
        return rpc

    def __iter__(self) -> Iterator[str]:
        return iter(self._cluster.nodes)

    def __len__(self) -> int:
        return len(self._cluster.nodes)

    async def close(self) -> None:
        """Close every connection; the next use makes new ones."""
        rpcs, self._rpcs = self._rpcs, {}
        for rpc in rpcs.values():
            await rpc.close()
