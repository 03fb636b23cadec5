"""Faults of disks, on the simulation: each is seen, undone, and undone twice; a cluster without disks refuses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitvote.harness import clock
from splitvote.harness.cluster import Process, ProcessState
from splitvote.harness.errors import ConfigError
from splitvote.harness.simulation.cluster import SimulatedCluster
from splitvote.nemesis.disk import DISKS
from splitvote.nemesis.families import parse_faults
from splitvote.nemesis.fault import Fault, Request, Site
from tests.nemesis.fake_cluster import FakeCluster


@pytest.mark.parametrize("fault", DISKS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("select", ["primaries", "minority"])
def test_each_is_proven_and_its_end_too(tmp_path: Path, fault: Fault, select: str) -> None:
    """The leader's, or a minority's: the cluster goes on, and every target is back in the end, also a second time."""

    async def scene() -> None:
        cluster = SimulatedCluster(directory=tmp_path, nodes=5, seed=7)
        await cluster.up()
        site = Site(cluster)
        plan = await fault.plan(Request(fault.name, 123_456, select), site)
        assert plan.targets
        proof = await fault.prove_start(plan, site, await fault.start(plan, site))
        assert proof.holds, proof.words
        for _ in range(2):
            ended = await fault.prove_stop(plan, site, await fault.stop(plan, site))
            assert ended.holds, ended.words
        await cluster.down()

    clock.run(scene())


def test_all_may_lose_their_power_at_once(tmp_path: Path) -> None:
    """What was synced is there again; a fault whose targets another holds down leaves those to it."""
    (power_loss,) = [fault for fault in DISKS if fault.name == "power_loss"]

    async def scene() -> None:
        cluster = SimulatedCluster(directory=tmp_path, nodes=3, seed=8)
        await cluster.up()
        site, process = Site(cluster), cluster.capability(Process)
        assert process is not None
        plan = await power_loss.plan(Request("power_loss", 1, "all"), site)
        assert plan.targets == cluster.nodes
        proof = await power_loss.prove_start(plan, site, await power_loss.start(plan, site))
        assert proof.holds, proof.words
        beside = site.beside([power_loss.effect(plan)])
        await power_loss.stop(plan, beside)
        assert [await process.state(node) for node in cluster.nodes] == [ProcessState.STOPPED] * 3
        ended = await power_loss.prove_stop(plan, site, await power_loss.stop(plan, site))
        assert ended.holds, ended.words
        await cluster.down()

    clock.run(scene())


def test_a_cluster_without_disks_refuses_them_in_words() -> None:
    """Before anything runs, naming who can."""
    with pytest.raises(ConfigError, match=r"cannot break single nodes' disks.*sim"):
        parse_faults("disk", FakeCluster())
    assert "disk" in parse_faults("all", FakeCluster()).omitted
