"""What tests of whole simulated clusters have in common: a cluster that is up, and waiting for what comes about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from splitvote.harness import clock
from splitvote.harness.cluster import Health
from splitvote.harness.simulation.cluster import SimulatedCluster
from splitvote.harness.simulation.options import ServerOptions

C = TypeVar("C")

Body = Callable[[SimulatedCluster], Awaitable[None]]

SNAPSHOTS_OFTEN = ServerOptions(snapshot_count=20, catch_up_entries=5)


def on_cluster(
    directory: Path, body: Body, *, nodes: int = 3, seed: int = 1, options: ServerOptions | None = None
) -> SimulatedCluster:
    """Run a test's body on a cluster that is up."""
    cluster = SimulatedCluster(directory=directory, nodes=nodes, seed=seed, options=options)

    async def main() -> None:
        await cluster.up()
        try:
            await body(cluster)
        finally:
            await cluster.down()

    clock.run(main())
    return cluster


def the(cluster: SimulatedCluster, kind: type[C]) -> C:
    """A capability that there must be."""
    capability = cluster.capability(kind)
    assert capability is not None
    return capability


async def eventually(look: Callable[[], Awaitable[bool]], bound_s: float = 30.0) -> None:
    """Wait until it has come about."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + bound_s
    while not await look():
        assert loop.time() < deadline_s, "it did not come about"
        await asyncio.sleep(0.05)


async def ready(cluster: SimulatedCluster, *nodes: str) -> None:
    """Wait until these nodes (none: all) serve linearizable reads."""

    async def look() -> bool:
        return not await the(cluster, Health).unready(nodes or cluster.nodes)

    await eventually(look)
