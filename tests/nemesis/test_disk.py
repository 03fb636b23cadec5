"""Faults of disks, on the simulation: each is seen, undone, and undone twice; a cluster without disks refuses them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from splitvote.harness import clock
from splitvote.harness.cluster import Process, ProcessState
from splitvote.harness.errors import ConfigError
from splitvote.harness.machine import Disk, DiskReading, DiskShape
from splitvote.harness.simulation.cluster import SimulatedCluster
from splitvote.nemesis.disk import DISKS
from splitvote.nemesis.families import parse_faults
from splitvote.nemesis.fault import Fault, Request, Site
from splitvote.nemesis.quorum import Effect
from splitvote.nemesis.schedule import turns
from tests.nemesis.fake_cluster import FakeCluster, run_without_waiting


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


class _Dying(FakeCluster):
    """With disks; a node whose disk was broken ends when it goes on, at the earliest after ``looks`` looks at it."""

    def __init__(self, looks: int) -> None:
        super().__init__(3)
        self._capabilities[Disk] = self
        self.supports |= {"eio"}
        self.looks = looks
        self.broken: set[str] = set()
        self.doomed: set[str] = set()

    async def impair(self, node: str, shape: DiskShape) -> None:
        self.broken.add(node)
        self.doomed.add(node)

    async def restore(self, node: str) -> None:
        self.broken.discard(node)

    async def probe(self, node: str, *, timeout_s: float = 2.0) -> DiskReading:
        return DiskReading(error="input/output error") if node in self.broken else DiskReading(fsync_ms=0.1)

    async def state(self, node: str) -> ProcessState:
        if node in self.doomed and self.states[node] is ProcessState.RUNNING:
            self.looks -= 1
            if self.looks < 0:
                self.doomed.discard(node)
                self.states[node] = ProcessState.STOPPED
        return await super().state(node)


EIO = next(fault for fault in DISKS if fault.name == "eio")


@pytest.mark.parametrize("looks", [0, 1, 3])
def test_a_member_that_ends_after_its_disk_is_well_is_started_again(looks: int) -> None:
    """It was told of the error before, and took its time: that is no cluster that does not recover."""
    cluster = _Dying(looks)

    async def scene() -> None:
        site = Site(cluster)
        plan = await EIO.plan(Request("eio", 1, targets=("n2",)), site)
        assert (await EIO.prove_start(plan, site, await EIO.start(plan, site))).holds
        seen = await EIO.stop(plan, site)
        for _ in range(2):  # the second time for one that has ended only now
            ended = await EIO.prove_stop(plan, site, seen)
        assert ended.holds, ended.words
        assert cluster.states["n2"] is ProcessState.RUNNING

    run_without_waiting(scene)


def test_an_end_is_not_proven_while_a_target_is_suspended() -> None:
    """Which may end by the error once it goes on: the disk's fault is undone once more then, and brings it back."""
    cluster = _Dying(0)

    async def scene() -> None:
        site = Site(cluster)
        plan = await EIO.plan(Request("eio", 1, targets=("n2",)), site)
        await EIO.start(plan, site)
        await cluster.pause("n2")
        beside = site.beside([Effect(down=("n2",))])
        ended = await EIO.prove_stop(plan, beside, await EIO.stop(plan, beside))
        assert not ended.holds
        await cluster.resume("n2")
        assert await cluster.state("n2") is ProcessState.STOPPED
        again = await EIO.prove_stop(plan, site, await EIO.stop(plan, site))
        assert again.holds, again.words

    run_without_waiting(scene)


def test_a_disk_that_cannot_be_broken_says_why() -> None:
    """In the words of the capability, which knows what is missing."""

    class Explained(_Dying):
        def wanting(self, what: str) -> str:
            return "/dev/fuse: No such file or directory; load the module fuse"

    with pytest.raises(ConfigError, match="load the module fuse"):
        parse_faults("disk:full", Explained(0))


def test_a_cluster_is_told_before_that_its_disks_will_be_broken() -> None:
    """Which costs it something; by no other family."""
    cluster = _Dying(0)
    assert parse_faults("disk,kill", cluster).demands == {Disk}
    assert parse_faults("kill,member", cluster).demands == frozenset()


def test_power_is_lost_more_often_than_a_disk_fills(tmp_path: Path) -> None:
    """Three times in a deck of all kinds; narrowed to it, the ways to aim it are dealt as ever."""
    cluster = SimulatedCluster(directory=tmp_path, nodes=5, seed=1)
    choices = list(parse_faults("disk", cluster).faults.values())
    dealt = [turn.request.kind for turn in islice(turns(choices, seed=3), len(DISKS) + 2)]
    assert {kind: dealt.count(kind) for kind in dealt} == {fault.name: 1 for fault in DISKS} | {"power_loss": 3}
    (choice,) = parse_faults("disk:power_loss", cluster).faults.values()
    aims = {turn.request.select for turn in islice(turns([choice], seed=3), 5)}
    assert aims == set(choice.faults[0].selections)
