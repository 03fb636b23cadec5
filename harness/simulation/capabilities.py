"""What can be done to simulated nodes, as the nemeses ask for it (``splitvote.harness.cluster``).

Thin: what happens is in the node, its disk, its clocks and the network.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

from splitvote.harness.cluster import LinkCounter, LinkShape, Pair, ProcessState
from splitvote.harness.clusters.filedamage import without_snapshots
from splitvote.harness.errors import NemesisError, unknown
from splitvote.harness.machine import DAMAGES, DISK_FAULTS, ClockReading, ClockShape, DiskReading, DiskShape
from splitvote.harness.simulation.clocks import TRUE
from splitvote.harness.simulation.member import SimulatedNode
from splitvote.harness.simulation.network import Network

POWER_LOSS: Final = "power_loss"

_LEAST_RATE: Final = 0.01
"""A monotonic clock must not stand still, or run backwards: nothing that waits by it would ever end."""


class Nodes(Protocol):
    """Where the nodes are: a simulated cluster, as its capabilities see it."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes' names."""
        ...

    def node(self, name: str) -> SimulatedNode:
        """One node; raises NemesisError for a name that there is not."""
        ...

    @property
    def network(self) -> Network:
        """The network between them."""
        ...

    def log_path(self, node: str) -> Path:
        """Where a node's log is."""
        ...

    def newest_member(self, node: str) -> int:
        """The id of the member that was last added for a node."""
        ...


class SimulatedProcesses:
    """Start, end, suspend and wipe nodes (capabilities Process and Logs).

    ``may_join`` raises NemesisError for a node that the cluster does not wait for.
    """

    def __init__(self, cluster: Nodes, may_join: Callable[[str], Awaitable[object]]) -> None:
        self._cluster = cluster
        self._may_join = may_join

    async def start(self, node: str) -> None:
        """See ``Process.start``; without data it joins as the member that was added for it."""
        target = self._cluster.node(node)
        if target.is_blank and target.state is ProcessState.STOPPED:
            await self._may_join(node)
            target.join(self._cluster.newest_member(node))
        target.start()

    async def stop(self, node: str) -> None:
        """See ``Process.stop``."""
        await self._cluster.node(node).stop()

    async def kill(self, node: str) -> None:
        """See ``Process.kill``."""
        self._cluster.node(node).kill()

    async def pause(self, node: str) -> None:
        """See ``Process.pause``."""
        self._cluster.node(node).pause()

    async def resume(self, node: str) -> None:
        """See ``Process.resume``."""
        self._cluster.node(node).resume()

    async def state(self, node: str) -> ProcessState:
        """See ``Process.state``."""
        return self._cluster.node(node).state

    async def wipe(self, node: str) -> None:
        """See ``Process.wipe``."""
        self._cluster.node(node).wipe()

    def log_path(self, node: str) -> Path:
        """See ``Logs.log_path``."""
        return self._cluster.log_path(node)


class SimulatedLinks:
    """The directed links between nodes (capability Links); there are none to look at before ``up``."""

    supports: Final = Network.supports

    def __init__(self, cluster: Nodes) -> None:
        self._cluster = cluster

    async def cut(self, pairs: Iterable[Pair]) -> None:
        """See ``Links.cut``."""
        await self._cluster.network.cut(pairs)

    async def shape(self, pairs: Iterable[Pair], shape: LinkShape) -> None:
        """See ``Links.shape``."""
        await self._cluster.network.shape(pairs, shape)

    async def heal(self, pairs: Iterable[Pair] | None = None) -> None:
        """See ``Links.heal``."""
        await self._cluster.network.heal(pairs)

    async def counters(self) -> Mapping[Pair, LinkCounter]:
        """See ``Links.counters``."""
        return await self._cluster.network.counters()


class SimulatedClocks:
    """The nodes' clocks (capability Clock)."""

    supports: Final = frozenset({"wall", "monotonic", "wall_drift", "monotonic_drift"})
    refusal: Final = None

    def __init__(self, cluster: Nodes) -> None:
        self._cluster = cluster

    async def set(self, node: str, shape: ClockShape) -> None:
        """See ``Clock.set``."""
        self._cluster.node(node).clocks.set(_possible(shape))

    async def strobe(self, node: str, shape: ClockShape, period_ms: float) -> None:
        """See ``Clock.strobe``."""
        if period_ms <= 0:
            raise NemesisError(f"a clock cannot be strobed every {period_ms:g} ms")
        self._cluster.node(node).clocks.strobe(_possible(shape), round(period_ms * 1e6))

    async def reset(self, node: str) -> None:
        """See ``Clock.reset``."""
        self._cluster.node(node).clocks.set(TRUE)

    async def offsets(self) -> Mapping[str, ClockReading]:
        """See ``Clock.offsets``."""
        nodes = [self._cluster.node(name) for name in self._cluster.nodes]
        return {node.name: node.clocks.reading() for node in nodes if node.state is not ProcessState.STOPPED}


def _possible(shape: ClockShape) -> ClockShape:
    if 1.0 + shape.monotonic_drift < _LEAST_RATE:
        raise NemesisError(f"a monotonic clock cannot gain {shape.monotonic_drift:g} s a second: it must go forward")
    return shape


class SimulatedDisks:
    """The nodes' disks, and harm to what is on them (capabilities Disk and Damage).

    Members make a snapshot after ``snapshot_count`` entries.
    """

    supports: Final = frozenset({*DISK_FAULTS, POWER_LOSS})

    def __init__(self, cluster: Nodes, *, snapshot_count: int) -> None:
        self._cluster = cluster
        self._snapshot_count = snapshot_count

    async def impair(self, node: str, shape: DiskShape) -> None:
        """See ``Disk.impair``."""
        if shape.fault not in DISK_FAULTS:
            raise NemesisError(unknown("fault of a disk", shape.fault, DISK_FAULTS))
        self._cluster.node(node).disk.impair(shape)

    async def restore(self, node: str) -> None:
        """See ``Disk.restore``."""
        self._cluster.node(node).disk.restore()

    async def lose_power(self, node: str) -> str:
        """See ``Disk.lose_power``."""
        lost = self._cluster.node(node).kill("power loss")
        return "nothing: all was synced" if lost is None else str(lost)

    async def probe(self, node: str, *, timeout_s: float = 2.0) -> DiskReading:
        """See ``Disk.probe``."""
        return await self._cluster.node(node).disk.probe(timeout_s)

    def refusal(self, kind: str) -> str | None:
        """See ``Damage.refusal``."""
        return without_snapshots(kind, self._snapshot_count)

    async def damageable(self, node: str) -> frozenset[str]:
        """See ``Damage.damageable``."""
        target = self._cluster.node(node)
        return frozenset(kind for kind in DAMAGES if not target.is_blank and target.disk.is_damageable(kind))

    async def damage(self, node: str, kind: str, pick: int) -> Mapping[str, str | int]:
        """See ``Damage.damage``."""
        if kind not in DAMAGES:
            raise NemesisError(unknown("damage", kind, DAMAGES))
        target = self._cluster.node(node)
        if target.state is not ProcessState.STOPPED:
            raise NemesisError(f"{node} runs: stop it before its files are damaged")
        if target.is_blank:
            raise NemesisError(f"{node} has no files to damage: its data was wiped")
        return target.disk.damage(kind, pick)
