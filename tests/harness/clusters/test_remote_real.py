"""Clocks and limits of members in containers of our compose project, over both ways of control (needs docker)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from splitvote.harness.cluster import Health, Process
from splitvote.harness.clusters.remote.agents import FOLDER
from splitvote.harness.clusters.remote.cluster import RemoteCluster
from splitvote.harness.clusters.remote.compose import compose_cluster
from splitvote.harness.clusters.remote.composition import Composition, default_directory
from splitvote.harness.clusters.remote.daemon import Daemon
from splitvote.harness.clusters.remote.nodes_file import NODES
from splitvote.harness.machine import Clock, ClockReading, ClockShape, Limits, Resources

pytestmark = pytest.mark.skipif(
    not os.environ.get("SPLITVOTE_TEST_DOCKER"),
    reason="no docker to be used for tests: set SPLITVOTE_TEST_DOCKER, and DOCKER_HOST where need be",
)

BOUND_S = 90.0
NEAR_MS = 400.0
C = TypeVar("C")

Readings = Mapping[str, ClockReading]


def near(offset_ms: float | None, wanted_ms: float = 0.0) -> bool:
    return offset_ms is not None and abs(offset_ms - wanted_ms) < NEAR_MS


async def awaited(clock: Clock, holds: Callable[[Readings], bool]) -> Readings:
    async with asyncio.timeout(BOUND_S):
        while not holds(readings := await clock.offsets()):
            pass
        return readings


def of(cluster: RemoteCluster, kind: type[C]) -> C:
    found = cluster.capability(kind)
    assert found is not None
    return found


@pytest.fixture
def composition(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Composition]:
    """A project of the test's own, which is gone in the end even where the test left it."""
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", f"svtest-{os.getpid()}-{len(request.node.name)}")
    project = Composition(default_directory())
    yield project
    if project.containers():
        project.down()


@pytest.mark.parametrize("control", ["ssh", "docker"])
def test_members_in_containers_have_their_clocks_set_and_their_resources_limited(
    control: str, tmp_path: Path, composition: Composition
) -> None:
    """Told, measured, kept through a restart, taken back twice; nothing is left of the project."""

    async def run() -> None:
        async with compose_cluster(directory=tmp_path, nodes=3, control=control, composition=composition) as cluster:
            await clocks(cluster)
            await processors(cluster)
            assert await of(cluster, Health).unready(cluster.nodes, timeout_s=10.0) == {}
        assert composition.containers() == {}

    async def clocks(cluster: RemoteCluster) -> None:
        clock, process = of(cluster, Clock), of(cluster, Process)
        assert clock.refusal is None
        await clock.set("n1", ClockShape(wall_ms=-20_000.0, monotonic_ms=1_500.0, monotonic_drift=0.2))
        readings = await awaited(clock, lambda all_: "n1" in all_ and (all_["n1"].monotonic_ms or 0.0) > 1_900.0)
        assert near(readings["n1"].wall_ms, -20_000.0)
        assert all(near(readings[other].wall_ms) for other in ("n2", "n3") if other in readings)
        await process.kill("n1")
        await process.start("n1")
        await awaited(clock, lambda all_: "n1" in all_ and near(all_["n1"].wall_ms, -20_000.0))
        for _ in range(2):
            await clock.reset("n1")
        await awaited(clock, lambda all_: "n1" in all_ and near(all_["n1"].wall_ms) and near(all_["n1"].monotonic_ms))

    async def processors(cluster: RemoteCluster) -> None:
        resources = of(cluster, Resources)
        assert resources.supports == {"cpus", "fds"}
        await resources.limit("n2", Limits(cpus=0.05))
        description = NODES.read(tmp_path)
        assert description is not None
        assert set(description.limits) == {"n2"}
        used = await resources.usage("n2")
        assert used.most_cpus == pytest.approx(0.05)
        await resources.limit("n2", Limits(fds=used.fds - 1))
        used = await resources.usage("n2")
        assert used.most_cpus is None
        assert used.most_fds < 1024
        for _ in range(2):
            await resources.limit("n2", Limits())
        after = await resources.usage("n2")
        assert after.most_fds > used.most_fds
        node = (await cluster.hosts.reach())["n2"]
        folder = cluster._members["n2"].daemon.folder
        agent = await Daemon(node.remote, f"{folder}/{FOLDER}", "").look()
        assert agent.pid is not None

    asyncio.run(run())
