"""The clusters a run can have: what the command line calls them, how they are made, and whose time they live in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from splitvote.harness.collection import collecting_seldom
from splitvote.harness.errors import ConfigError
from splitvote.harness.etcd.rpc import Rpc
from splitvote.harness.run import RunnableCluster

if TYPE_CHECKING:
    from splitvote.harness.clusters.attached.cluster import AttachedCluster
    from splitvote.harness.clusters.attached.foreign import Foreign
    from splitvote.harness.clusters.local import LocalCluster
    from splitvote.harness.clusters.network.place import Network
    from splitvote.harness.clusters.processes import Children
    from splitvote.harness.clusters.remote.cluster import RemoteCluster
    from splitvote.harness.clusters.remote.inventory import Inventory
    from splitvote.harness.etcd.daemon import Etcd
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
    def nodes_file(self) -> Path | None:
        """The inventory of --cluster ssh."""
        ...

    @property
    def foreign(self) -> Foreign:
        """The cluster that is somebody else's, if it is."""
        ...

    @property
    def workload(self) -> str:
        """The workloads, joined by plus signs."""
        ...

    @property
    def avoid(self) -> tuple[str, ...]:
        """Known issues that they do not trigger."""
        ...

    @property
    def mutants(self) -> tuple[str, ...]:
        """Bugs planted into the simulated cluster."""
        ...


def backend_of(
    wanted: Wanted,
    directory: Path,
    seed: int,
    probe: Backend | None = None,
    *,
    demands: Collection[type[Any]] = (),
) -> Backend:
    """The cluster that is asked for, touching nothing yet; ``probe`` was made of the same options before.

    ``demands`` are the capabilities that it must be brought up for, since they
    cost something even where they are not used.
    Raises ConfigError for what cannot be.
    """
    is_foreign = wanted.foreign.is_meant_by(wanted.cluster)
    if wanted.cluster == "sim":
        return _simulated(wanted, directory, seed)
    if wanted.mutants:
        raise ConfigError(f"--mutant {wanted.mutants[0]}: bugs are planted into the simulation; use --cluster sim")
    if wanted.cluster == "ssh":
        return _ssh(wanted, directory, probe, demands)
    if wanted.nodes_file is not None:
        raise ConfigError(
            f"--nodes-file {wanted.nodes_file}: --cluster {wanted.cluster} has its own; use --cluster ssh"
        )
    if is_foreign:
        return _attached(wanted, directory, probe)
    if wanted.cluster == "compose":
        return _compose(wanted, directory, probe, demands)
    return _local(wanted, directory, probe, demands)


def _network(cluster: str) -> Callable[[Sequence[str], Children], Network]:
    """What makes the network of a cluster on this machine."""
    if cluster == "netns":
        from splitvote.harness.clusters.network.netns import NamespaceNetwork

        return NamespaceNetwork
    from splitvote.harness.clusters.network.loopback import LoopbackNetwork

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


def _local(wanted: Wanted, directory: Path, probe: Backend | None, demands: Collection[type[Any]]) -> LocalCluster:
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
            demands=demands,
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
        demands=demands,
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


def _brought(wanted: Wanted, nodes: Sequence[str]) -> tuple[dict[str, Etcd], tuple[Etcd, ...]]:
    """The binaries of this machine that are brought to remote nodes: each node's own, and --upgrade's."""
    from splitvote.harness.etcd.daemon import find_etcd

    for_all, by_node = _binaries_asked_for(wanted)
    paths = (dict.fromkeys(nodes, for_all) if for_all else {}) | by_node
    found = {path: find_etcd(path) for path in dict.fromkeys(paths.values())}
    return {node: found[path] for node, path in paths.items()}, tuple(find_etcd(path) for path in wanted.upgrade)


def _ssh(
    wanted: Wanted, directory: Path, probe: Backend | None, demands: Collection[type[Any]]
) -> RemoteCluster | AttachedCluster:
    from splitvote.harness.clusters.remote.cluster import RemoteCluster
    from splitvote.harness.clusters.remote.inventory import read_inventory
    from splitvote.harness.clusters.remote.ssh_hosts import ssh_cluster

    if wanted.nodes_file is None:
        raise ConfigError("--cluster ssh: give --nodes-file FILE, which tells the hosts (docs/ssh.md)")
    if wanted.control != "ssh":
        raise ConfigError(f"--control {wanted.control}: the hosts of --cluster ssh are controlled over ssh")
    inventory = read_inventory(wanted.nodes_file)
    if inventory.are_services:
        return _services(wanted, inventory, directory, probe)
    if wanted.foreign.allow:
        raise ConfigError(f"--allow {wanted.foreign.allow[0]}: the store is the run's own; nothing needs to be allowed")
    if isinstance(probe, RemoteCluster):
        given, others = dict(probe.given), probe.other_binaries
    else:
        probe = None
        given, others = _brought(wanted, list(inventory.nodes))
    return ssh_cluster(
        directory=directory,
        inventory=inventory,
        etcd=given,
        etcd_others=others,
        etcd_args=wanted.etcd_args,
        probe=probe,
        demands=demands,
    )


def _services(wanted: Wanted, inventory: Inventory, directory: Path, probe: Backend | None) -> AttachedCluster:
    from splitvote.harness.clusters.attached.cluster import AttachedCluster
    from splitvote.harness.clusters.remote.services import service_cluster

    _refuse_binaries(wanted)
    before = probe if isinstance(probe, AttachedCluster) else None
    return service_cluster(
        inventory,
        directory,
        wanted.workload.split("+"),
        allowed=wanted.foreign.allow,
        avoided=wanted.avoid,
        probe=before,
    )


def _compose(wanted: Wanted, directory: Path, probe: Backend | None, demands: Collection[type[Any]]) -> RemoteCluster:
    from splitvote.harness.clusters.remote.cluster import RemoteCluster
    from splitvote.harness.clusters.remote.compose import compose_cluster

    if isinstance(probe, RemoteCluster):
        given, others = dict(probe.given), probe.other_binaries
    else:
        probe = None
        given, others = _brought(wanted, [f"n{number}" for number in range(1, wanted.nodes + 1)])
    return compose_cluster(
        directory=directory,
        nodes=wanted.nodes,
        control=wanted.control,
        etcd=given,
        etcd_others=others,
        etcd_args=wanted.etcd_args,
        probe=probe,
        demands=demands,
    )


def _refuse_binaries(wanted: Wanted) -> None:
    for option, given in {"--etcd": wanted.etcd, "--upgrade": wanted.upgrade, "--etcd-arg": wanted.etcd_args}.items():
        if given:
            raise ConfigError(
                f"{option} {given[0]}: the members of a cluster that runs already are started as they are"
            )


def _attached(wanted: Wanted, directory: Path, probe: Backend | None) -> AttachedCluster:
    from splitvote.harness.clusters.attached.attaching import attached_cluster
    from splitvote.harness.clusters.attached.cluster import AttachedCluster

    _refuse_binaries(wanted)
    before = probe if isinstance(probe, AttachedCluster) else None
    workloads = wanted.workload.split("+")
    return attached_cluster(wanted.foreign, directory, workloads, avoided=wanted.avoid, probe=before)


def _attached_to(cluster: Backend) -> AttachedCluster | None:
    """The cluster, if it is somebody else's."""
    from splitvote.harness.clusters.attached.cluster import AttachedCluster

    return cluster if isinstance(cluster, AttachedCluster) else None


def left_behind(cluster: Backend) -> str | None:
    """What of ours is still in a cluster that is somebody else's, if anything."""
    attached = _attached_to(cluster)
    return None if attached is None else attached.left_behind


def _started_by_us(cluster: Backend) -> LocalCluster | RemoteCluster | None:
    """The cluster, if its members are binaries that the harness starts."""
    from splitvote.harness.clusters.local import LocalCluster
    from splitvote.harness.clusters.remote.cluster import RemoteCluster

    return cluster if isinstance(cluster, LocalCluster | RemoteCluster) else None


def known_defects(backend: Backend) -> dict[str, Sequence[str]]:
    """What is known to be wrong with each node's etcd, for nodes of which something is."""
    from splitvote.harness.etcd.daemon import defects_of

    if (attached := _attached_to(backend)) is not None:
        return {node: found for node, version in attached.versions.items() if (found := defects_of(version))}
    cluster = _started_by_us(backend)
    if cluster is None:
        return {}
    binaries = cluster.binaries | {f"--upgrade {other.path}": other for other in cluster.other_binaries}
    return {node: binary.known_defects for node, binary in binaries.items() if binary.known_defects}


def description(cluster: Backend) -> Iterator[str]:
    """What runs, version by version, a line each; known defects below."""
    started, attached = _started_by_us(cluster), _attached_to(cluster)
    if attached is not None:
        yield from attached.words
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
