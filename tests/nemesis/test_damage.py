"""Damage to what members have on their disks: proven, undone by a new member, and never with the old one's vote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from splitvote.harness import clock
from splitvote.harness.cluster import Members, Process, ProcessState
from splitvote.harness.errors import ConfigError, NemesisError
from splitvote.harness.etcd.methods import PUT
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.machine import Damage
from splitvote.harness.simulation.cluster import SimulatedCluster
from splitvote.harness.simulation.options import options_of
from splitvote.nemesis.damage import DAMAGE
from splitvote.nemesis.families import parse_faults
from splitvote.nemesis.fault import Fault, Request, Site
from splitvote.nemesis.quorum import Effect
from tests.nemesis.fake_cluster import FakeCluster, run_without_waiting


async def _brought_up(directory: Path, nodes: int = 5) -> SimulatedCluster:
    """A cluster in which every member has a log and a snapshot."""
    cluster = SimulatedCluster(directory=directory, nodes=nodes, seed=7, options=options_of(["--snapshot-count=5"]))
    await cluster.up()
    connections = cluster.connections()
    for number in range(40):
        request = pb.PutRequest(key=b"key", value=b"%d" % number)
        await connections[cluster.nodes[number % nodes]].unary(PUT, request, timeout_s=5.0)
    await connections.close()
    return cluster


@pytest.mark.parametrize("fault", DAMAGE, ids=lambda fault: fault.name)
@pytest.mark.parametrize("select", ["primaries", "minority"])
def test_each_is_proven_and_its_end_too(tmp_path: Path, fault: Fault, select: str) -> None:
    """The leader's, or a minority's: every target is back in the end, also a second time."""

    async def scene() -> None:
        cluster = await _brought_up(tmp_path)
        site = Site(cluster)
        plan = await fault.plan(Request(fault.name, 123_456, select), site)
        assert plan.targets, plan.skipped
        proof = await fault.prove_start(plan, site, await fault.start(plan, site))
        assert proof.holds, proof.words
        assert set(proof.observed["damage"]) == set(plan.targets)
        for _ in range(2):
            ended = await fault.prove_stop(plan, site, await fault.stop(plan, site))
            assert ended.holds, ended.words
        await cluster.down()

    clock.run(scene())


class DamageableCluster(FakeCluster):
    """With files that can be damaged, on the nodes in ``having``."""

    def __init__(self, nodes: int = 5) -> None:
        super().__init__(nodes)
        self._capabilities[Damage] = self
        self.having = set(self.nodes)
        self.makes_no_snapshots = False

    def refusal(self, kind: str) -> str | None:
        return "it makes no snapshots" if self.makes_no_snapshots and kind.startswith("snapshot") else None

    async def damageable(self, node: str) -> frozenset[str]:
        return frozenset(fault.name for fault in DAMAGE) if node in self.having else frozenset()

    async def damage(self, node: str, kind: str, pick: int) -> Mapping[str, str | int]:
        if self.does("damage", node, kind, self.roles[node]):
            assert self.states[node] is ProcessState.STOPPED
        return {"file": "0.wal", "size_bytes": 1}


LOGS = [fault for fault in DAMAGE if fault.name.startswith("wal")]


@pytest.mark.parametrize("fault", LOGS, ids=lambda fault: fault.name)
def test_a_log_is_damaged_only_once_its_member_has_no_vote(fault: Fault) -> None:
    """Killed, removed by the others, then damaged, and wiped before it is added again."""
    cluster = DamageableCluster()

    async def scene() -> None:
        site = Site(cluster)
        plan = await fault.plan(Request(fault.name, 3, "minority"), site)
        assert len(plan.targets) == 2
        await fault.start(plan, site)
        await fault.stop(plan, site)
        for node in plan.targets:
            done = [call for call in cluster.calls if node in call.split()]
            assert done[:5] == [
                f"kill {node}",
                f"remove {node}",
                f"damage {node} {fault.name} absent",
                f"start {node}",
                f"kill {node}",
            ]
            assert done[5:8] == [f"wipe {node}", f"add {node} voter", f"start {node}"]

    run_without_waiting(scene)


@pytest.mark.parametrize("fault", LOGS, ids=lambda fault: fault.name)
def test_a_member_that_the_others_do_not_remove_keeps_its_log(fault: Fault) -> None:
    """It is started again as it was; that nothing was done is told."""
    cluster = DamageableCluster()
    cluster.fails.add("remove")

    async def scene() -> None:
        site = Site(cluster)
        plan = await fault.plan(Request(fault.name, 3, "one"), site)
        proof = await fault.prove_start(plan, site, await fault.start(plan, site))
        assert not proof.holds
        assert "removed" in proof.words
        assert not any(call.startswith("damage") for call in cluster.calls)
        ended = await fault.prove_stop(plan, site, await fault.stop(plan, site))
        assert ended.holds, ended.words
        assert not any(call.startswith("wipe") for call in cluster.calls)

    run_without_waiting(scene)


def test_a_member_that_does_not_start_without_its_snapshot_is_replaced() -> None:
    """However often it is started; one that does is left as it is."""
    (fault,) = [fault for fault in DAMAGE if fault.name == "snapshot_loss"]

    class Refusing(DamageableCluster):
        async def start(self, node: str) -> None:
            if self.data[node] == "of a member" and "wipe n2" not in self.calls and node == "n2":
                self.does("start", node)
            else:
                await super().start(node)

    cluster = Refusing()

    async def scene() -> None:
        site = Site(cluster)
        plan = await fault.plan(Request(fault.name, 3, targets=("n1", "n2")), site)
        proof = await fault.prove_start(plan, site, await fault.start(plan, site))
        assert proof.holds, proof.words
        assert proof.observed["ended"] == ["n2"]
        ended = await fault.prove_stop(plan, site, await fault.stop(plan, site))
        assert ended.holds, ended.words
        assert [call for call in cluster.calls if call.startswith(("remove", "wipe", "add"))] == [
            "remove n2",
            "wipe n2",
            "add n2 voter",
        ]

    run_without_waiting(scene)


def test_nobody_is_hit_who_has_nothing_to_be_damaged_or_without_whom_no_majority_stands() -> None:
    cluster = DamageableCluster()
    fault = DAMAGE[0]

    async def scene() -> None:
        cluster.having = {"n4"}
        request = Request(fault.name, 3, targets=("n3", "n4"))
        assert (await fault.plan(request, Site(cluster))).targets == ("n4",)
        plan = await fault.plan(Request(fault.name, 3, targets=("n3",)), Site(cluster))
        assert (plan.targets, plan.skipped) == ((), "there is nothing on n3 to do it to")
        cluster.having = set(cluster.nodes)
        hindered = Site(cluster, Effect(down=("n1", "n2")))
        assert (await fault.plan(request, hindered)).targets == ()

    run_without_waiting(scene)


def test_clusters_that_cannot_refuse_in_words() -> None:
    """Without files of ours, or with too few members to do without one."""
    with pytest.raises(ConfigError, match=r"it has no Damage.*local"):
        parse_faults("damage", FakeCluster())
    with pytest.raises(ConfigError, match="2 nodes where 3 are needed"):
        parse_faults("damage:wal_loss", DamageableCluster(nodes=2))
    cluster = DamageableCluster()
    cluster.makes_no_snapshots = True
    with pytest.raises(ConfigError, match="it makes no snapshots"):
        parse_faults("damage:snapshot_loss", cluster)
    assert set(parse_faults("damage", cluster).omitted) == {"damage:snapshot_bit_flip", "damage:snapshot_loss"}


def test_a_simulated_node_that_runs_is_not_damaged(tmp_path: Path) -> None:
    async def scene() -> None:
        cluster = await _brought_up(tmp_path, nodes=3)
        damage, members, process = (cluster.capability(kind) for kind in (Damage, Members, Process))
        assert damage is not None
        assert members is not None
        assert process is not None
        assert await damage.damageable("n1") == {fault.name for fault in DAMAGE}
        with pytest.raises(NemesisError, match="runs"):
            await damage.damage("n1", "wal_loss", 0)
        await cluster.down()

    clock.run(scene())
