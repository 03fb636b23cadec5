"""The clusters a run can have: what the command line calls them, how they are made, and whose time they live in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from splitvote.harness.collection import collecting_seldom
from splitvote.harness.errors import ConfigError
from splitvote.harness.etcd.rpc import Rpc
from splitvote.harness.run import RunnableCluster

if TYPE_CHECKING:
    from splitvote.harness.clusters.local import LocalCluster
    from splitvote.harness.clusters.network import Network
    from splitvote.harness.clusters.processes import Children
    from splitvote.harness.clusters.remote_cluster import RemoteCluster
    from splitvote.harness.simulation.cluster import SimulatedCluster

T = TypeVar("T")


class Connections(Protocol):
    """The RPC seam to every node by name; whoever asked for it closes it."""

    def __getitem__(self, node: str) -> Rpc:
        """The seam to this node."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Backend(RunnableCluster, Protocol):
    """A cluster of etcd members that the harness makes."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Every node's etcd version."""
        ...

    def connections(self) -> Connections:
        """Fresh connections to every node."""
        ...


class Wanted(Protocol):
    """What the command line says of the cluster."""

    @property
    def cluster(self) -> str:
        """One of CLUSTERS."""
        ...

    @property
    def nodes(self) -> int:
        """How many members."""
        ...

    @property
    def etcd(self) -> tuple[str, ...]:
        """PATH or NODE=PATH of binaries."""
        ...

    @property
    def upgrade(self) -> tuple[str, ...]:
        """PATHs of binaries that nodes can be moved to and back."""
        ...

    @property
    def etcd_args(self) -> tuple[str, ...]:
        """Flags for every member."""
        ...

    @property
    def control(self) -> str:
        """How remote nodes are given commands: ssh, docker."""
        ...

    @property
    def mutants(self) -> tuple[str, ...]:
        """Bugs planted into the simulated cluster."""
        ...


def backend_of(wanted: Wanted, directory: Path, seed: int, probe: Backend | None = None) -> Backend:
    """The cluster that is asked for, touching nothing yet; ``probe`` was made of the same options before.

    Raises ConfigError for what cannot be.
    """
    if wanted.cluster == "sim":
        return _simulated(wanted, directory, seed)
    if wanted.mutants:
        raise ConfigError(f"--mutant {wanted.mutants[0]}: bugs are planted into the simulation; use --cluster sim")
    if wanted.cluster == "compose":
        return _compose(wanted, directory, probe)
    return _local(wanted, directory, probe)


def _network(cluster: str) -> Callable[[Sequence[str], Children], Network]:
    """What makes the network of a cluster on this machine."""
    if cluster == "netns":
        from splitvote.harness.clusters.netns import NamespaceNetwork

        return NamespaceNetwork
    from splitvote.harness.clusters.loopback import LoopbackNetwork

    return LoopbackNetwork


def _simulated(wanted: Wanted, directory: Path, seed: int) -> SimulatedCluster:
    from splitvote.harness.simulation.cluster import SimulatedCluster
    from splitvote.harness.simulation.mutants import Mutants
    from splitvote.harness.simulation.options import options_of

    if wanted.etcd or wanted.upgrade:
        given = f"--etcd {wanted.etcd[0]}" if wanted.etcd else f"--upgrade {wanted.upgrade[0]}"
        raise ConfigError(f"{given}: the simulated cluster runs no binary; --cluster local does")
    return SimulatedCluster(
        directory=directory,
        nodes=wanted.nodes,
        seed=seed,
        options=options_of(wanted.etcd_args),
        mutants=Mutants(wanted.mutants),
    )


def _local(wanted: Wanted, directory: Path, probe: Backend | None) -> LocalCluster:
    from splitvote.harness.clusters.local import LocalCluster

    network = _network(wanted.cluster)
    if isinstance(probe, LocalCluster):
        return LocalCluster(
            directory=directory,
            nodes=wanted.nodes,
            etcd_by_node=probe.binaries,
            etcd_others=probe.other_binaries,
            etcd_args=wanted.etcd_args,
            network=network,
        )
    for_all, by_node = _binaries_asked_for(wanted)
    return LocalCluster(
        directory=directory,
        nodes=wanted.nodes,
        etcd=for_all,
        etcd_by_node=by_node,
        etcd_others=wanted.upgrade,
        etcd_args=wanted.etcd_args,
        network=network,
    )


def _binaries_asked_for(wanted: Wanted) -> tuple[str | None, dict[str, str | Path]]:
    """What --etcd says: a path for all nodes, and paths for single ones."""
    for_all: str | None = None
    by_node: dict[str, str | Path] = {}
    for given in wanted.etcd:
        node, is_for_one, path = given.partition("=")
        if is_for_one:
            by_node[node] = path
        elif for_all is not None:
            raise ConfigError(f"--etcd {for_all} and --etcd {given}: give one for all nodes, others as NODE=PATH")
        else:
            for_all = given
    return for_all, by_node


def _compose(wanted: Wanted, directory: Path, probe: Backend | None) -> RemoteCluster:
    from splitvote.harness.clusters.compose import compose_cluster
    from splitvote.harness.clusters.remote_cluster import RemoteCluster
    from splitvote.harness.etcd.daemon import find_etcd

    if isinstance(probe, RemoteCluster):
        given, others = dict(probe.given), probe.other_binaries
    else:
        probe = None
        for_all, by_node = _binaries_asked_for(wanted)
        paths = ({f"n{number}": for_all for number in range(1, wanted.nodes + 1)} if for_all else {}) | by_node
        found = {path: find_etcd(path) for path in dict.fromkeys(paths.values())}
        given = {node: found[path] for node, path in paths.items()}
        others = tuple(find_etcd(path) for path in wanted.upgrade)
    return compose_cluster(
        directory=directory,
        nodes=wanted.nodes,
        control=wanted.control,
        etcd=given,
        etcd_others=others,
        etcd_args=wanted.etcd_args,
        probe=probe,
    )


def _started_by_us(cluster: Backend) -> LocalCluster | RemoteCluster | None:
    """The cluster, if its members are binaries that the harness starts."""
    from splitvote.harness.clusters.local import LocalCluster
    from splitvote.harness.clusters.remote_cluster import RemoteCluster

    return cluster if isinstance(cluster, LocalCluster | RemoteCluster) else None


def known_defects(backend: Backend) -> dict[str, Sequence[str]]:
    """What is known to be wrong with each node's etcd, for nodes of which something is."""
    cluster = _started_by_us(backend)
    if cluster is None:
        return {}
    binaries = cluster.binaries | {f"--upgrade {other.path}": other for other in cluster.other_binaries}
    return {node: binary.known_defects for node, binary in binaries.items() if binary.known_defects}


def description(cluster: Backend) -> Iterator[str]:
    """What runs, version by version, a line each; known defects below."""
    started = _started_by_us(cluster)
    nodes_of: dict[str, list[str]] = {}
    for node, version in cluster.versions.items():
        nodes_of.setdefault(version, []).append(node)
    defects = known_defects(cluster)
    for version, nodes in nodes_of.items():
        where = "every node" if len(nodes) == len(cluster.nodes) else ", ".join(nodes)
        path = "" if started is None else f" ({started.binaries[nodes[0]].path})"
        yield f"etcd {version} on {where}{path}"
        yield from (f"  known to lose data: {defect}" for defect in defects.get(nodes[0], ()))
    for name in fired_mutants(cluster).get("mutants", ()):
        yield f"planted: {name}"
    for other in () if started is None else started.other_binaries:
        yield f"etcd {other.version} to move nodes to ({other.path})"
        yield from (f"  known to lose data: {defect}" for defect in other.known_defects)


def fired_mutants(cluster: Backend) -> dict[str, dict[str, int]]:
    """For results.json: how often each planted bug made a difference; nothing where none is planted."""
    if cluster.name != "sim":
        return {}
    from splitvote.harness.simulation.cluster import SimulatedCluster

    assert isinstance(cluster, SimulatedCluster)
    return {"mutants": counts} if (counts := cluster.mutants.counts) else {}


def run_in_its_time(cluster: Backend, main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end: in virtual time for a simulated cluster."""
    if cluster.name == "sim":
        from splitvote.harness import clock

        return clock.run(main)
    with collecting_seldom():
        return asyncio.run(main)


def wall_clock(cluster: Backend) -> Callable[[], int]:
    """What tells the wall clock's time, in ns since 1970: a virtual one beside a simulated cluster."""
    if cluster.name == "sim":
        from splitvote.harness.simulation.logs import wall_ns

        return wall_ns
    return time.time_ns
