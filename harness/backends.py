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
    def etcd_args(self) -> tuple[str, ...]:
        """Flags for every member."""
        ...


def backend_of(wanted: Wanted, directory: Path, seed: int, probe: Backend | None = None) -> Backend:
    """The cluster that is asked for, touching nothing yet; ``probe`` was made of the same options before.

    Raises ConfigError for what cannot be.
    """
    if wanted.cluster == "sim":
        return _simulated(wanted, directory, seed)
    return _local(wanted, directory, probe)


def _simulated(wanted: Wanted, directory: Path, seed: int) -> SimulatedCluster:
    from splitvote.harness.simulation.cluster import SimulatedCluster
    from splitvote.harness.simulation.options import options_of

    if wanted.etcd:
        raise ConfigError(f"--etcd {wanted.etcd[0]}: the simulated cluster runs no binary; --cluster local does")
    return SimulatedCluster(directory=directory, nodes=wanted.nodes, seed=seed, options=options_of(wanted.etcd_args))


def _local(wanted: Wanted, directory: Path, probe: Backend | None) -> LocalCluster:
    from splitvote.harness.clusters.local import LocalCluster

    if isinstance(probe, LocalCluster):
        return LocalCluster(
            directory=directory, nodes=wanted.nodes, etcd_by_node=probe.binaries, etcd_args=wanted.etcd_args
        )
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
    return LocalCluster(
        directory=directory, nodes=wanted.nodes, etcd=for_all, etcd_by_node=by_node, etcd_args=wanted.etcd_args
    )


def known_defects(cluster: Backend) -> dict[str, Sequence[str]]:
    """What is known to be wrong with each node's etcd, for nodes of which something is."""
    from splitvote.harness.clusters.local import LocalCluster

    if not isinstance(cluster, LocalCluster):
        return {}
    return {node: binary.known_defects for node, binary in cluster.binaries.items() if binary.known_defects}


def description(cluster: Backend) -> Iterator[str]:
    """What runs, version by version, a line each; known defects below."""
    from splitvote.harness.clusters.local import LocalCluster

    nodes_of: dict[str, list[str]] = {}
    for node, version in cluster.versions.items():
        nodes_of.setdefault(version, []).append(node)
    defects = known_defects(cluster)
    for version, nodes in nodes_of.items():
        where = "every node" if len(nodes) == len(cluster.nodes) else ", ".join(nodes)
        path = f" ({cluster.binaries[nodes[0]].path})" if isinstance(cluster, LocalCluster) else ""
        yield f"etcd {version} on {where}{path}"
        yield from (f"  known to lose data: {defect}" for defect in defects.get(nodes[0], ()))


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
