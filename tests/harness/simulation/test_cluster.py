"""Whole simulated clusters: they serve, lose nothing, come back; and the server's run loop in its three phases."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from pathlib import Path

import pytest

from splitvote.harness import clock
from splitvote.harness.cluster import Admin, Health, Links, Process, ProcessState, Roles
from splitvote.harness.errors import EnvironmentFailure, TransportError
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.outcomes import classify
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.machine import DiskShape
from splitvote.harness.simulation.cluster import SimulatedCluster
from splitvote.harness.simulation.context import CanceledError, Context, DeadlineExceededError, StoppedError
from splitvote.harness.simulation.messages import Message
from splitvote.harness.simulation.mutants import Mutants
from splitvote.harness.simulation.server import DATA_DIR_WORDS
from tests.harness.simulation.scenes import SNAPSHOTS_OFTEN, eventually, on_cluster, ready


async def put(cluster: SimulatedCluster, node: str, value: bytes, *, timeout_s: float = 2.0) -> int:
    answer = await cluster.connections()[node].unary(m.PUT, pb.PutRequest(key=b"k", value=value), timeout_s=timeout_s)
    return answer.header.revision


async def get(cluster: SimulatedCluster, node: str, *, serializable: bool = False, timeout_s: float = 2.0) -> bytes:
    request = pb.RangeRequest(key=b"k", serializable=serializable)
    answer = await cluster.connections()[node].unary(m.RANGE, request, timeout_s=timeout_s)
    return answer.kvs[0].value if answer.kvs else b""


async def leader_of(cluster: SimulatedCluster) -> str:
    roles = cluster.capability(Roles)
    assert roles is not None
    leader = await roles.leader()
    assert leader is not None
    return leader


def others(cluster: SimulatedCluster, *nodes: str) -> list[str]:
    return [node for node in cluster.nodes if node not in nodes]


async def isolate(cluster: SimulatedCluster, node: str) -> None:
    links = cluster.capability(Links)
    assert links is not None
    await links.cut([pair for other in others(cluster, node) for pair in ((node, other), (other, node))])


async def error_of(call: Awaitable[object]) -> TransportError:
    with pytest.raises(TransportError) as raised:
        await call
    return raised.value


def log(cluster: SimulatedCluster, node: str) -> str:
    return cluster.log_path(node).read_text()


# Serving


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_what_one_member_wrote_all_read(tmp_path: Path, nodes: int) -> None:
    """Through every member, leader or not; and they agree afterwards."""

    async def body(cluster: SimulatedCluster) -> None:
        for node in cluster.nodes:
            await put(cluster, node, node.encode())
            assert [await get(cluster, other) for other in cluster.nodes] == [node.encode()] * nodes
        health = cluster.capability(Health)
        assert health is not None
        readings = await health.readings(())
        assert len({(reading.revision, reading.hash) for reading in readings.values()}) == 1

    on_cluster(tmp_path, body, nodes=nodes)


def test_a_simulated_cluster_needs_virtual_time(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="virtual time"):
        asyncio.run(SimulatedCluster(directory=tmp_path).up())


# Deaths


def test_a_killed_leader_is_replaced_and_comes_back_with_all_it_had(tmp_path: Path) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        process = cluster.capability(Process)
        assert process is not None
        await put(cluster, "n1", b"before")
        leader = await leader_of(cluster)
        other = others(cluster, leader)[0]
        await process.kill(leader)
        assert await process.state(leader) is ProcessState.STOPPED
        refused = await error_of(get(cluster, leader))
        assert classify(refused, "write").name == "not-connected"
        await ready(cluster, *others(cluster, leader))
        await put(cluster, other, b"meanwhile")
        await process.start(leader)
        await ready(cluster)
        assert await get(cluster, leader) == b"meanwhile"
        assert await leader_of(cluster) != leader

    on_cluster(tmp_path, body)


@pytest.mark.parametrize("seed", range(8))
def test_a_loss_of_power_everywhere_loses_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    """Whatever was not synced yet goes, in part or as a whole; what a client was told stays."""

    async def body(cluster: SimulatedCluster) -> None:
        acknowledged = b""

        async def write() -> None:
            nonlocal acknowledged
            for number in range(1000):
                value = b"%d" % number
                await put(cluster, "n1", value)
                acknowledged = value

        writing = asyncio.create_task(write())
        await asyncio.sleep(0.5 + seed / 1000)
        for node in cluster.nodes:
            cluster.node(node).kill("power loss")
        await asyncio.gather(writing, return_exceptions=True)
        assert isinstance(writing.exception(), TransportError)
        for node in cluster.nodes:
            cluster.node(node).start()
        await ready(cluster)
        assert int(await get(cluster, "n2")) >= int(acknowledged) > 10

    on_cluster(tmp_path, body, seed=seed)


def test_losing_power_takes_what_was_not_synced(tmp_path: Path) -> None:
    """The log says so; else the test above would prove nothing."""
    lost = 0
    for seed in range(8):

        async def body(cluster: SimulatedCluster, seed: int = seed) -> None:
            writes = [asyncio.create_task(put(cluster, "n1", b"%d" % number)) for number in range(50)]
            await asyncio.sleep(0.001 + seed * 1e-4)
            for node in cluster.nodes:
                cluster.node(node).kill("power loss")
            await asyncio.gather(*writes, return_exceptions=True)

        cluster = on_cluster(tmp_path / str(seed), body, seed=seed)
        lost += sum("unsynced record" in log(cluster, node) for node in cluster.nodes)
    assert lost


def test_a_paused_member_hangs_and_catches_up(tmp_path: Path) -> None:
    """Its clients' calls run into their deadlines; what it was sent meanwhile it does when it is resumed."""

    async def body(cluster: SimulatedCluster) -> None:
        process = cluster.capability(Process)
        assert process is not None
        leader = await leader_of(cluster)
        other = others(cluster, leader)[0]
        await process.pause(leader)
        late = await error_of(put(cluster, leader, b"late", timeout_s=1.0))
        assert late.code == "DEADLINE_EXCEEDED"
        await ready(cluster, *others(cluster, leader))
        await put(cluster, other, b"meanwhile")
        await process.resume(leader)
        await ready(cluster)
        assert await get(cluster, leader) == b"meanwhile"

    on_cluster(tmp_path, body)


def test_a_full_disk_is_fatal_and_tells_what_to_do(tmp_path: Path) -> None:
    """Main loop: an error is logged together with the word that the data directory must be removed; then it ends."""

    async def body(cluster: SimulatedCluster) -> None:
        victim = others(cluster, await leader_of(cluster))[0]
        cluster.node(victim).disk.impair(DiskShape("full"))
        await put(cluster, "n1" if victim != "n1" else "n2", b"v")

        async def is_gone() -> bool:
            return cluster.node(victim).process is None

        await eventually(is_gone)
        assert "no space left on device" in log(cluster, victim)
        assert DATA_DIR_WORDS in log(cluster, victim)

    on_cluster(tmp_path, body)


# Partitions and snapshots


def test_an_isolated_leader_serves_no_reads_and_steps_down(tmp_path: Path) -> None:
    """ReadIndex: without a quorum's heartbeats it cannot know whether it still leads."""

    async def body(cluster: SimulatedCluster) -> None:
        await put(cluster, "n1", b"old")
        leader = await leader_of(cluster)
        await isolate(cluster, leader)
        assert (await error_of(get(cluster, leader, timeout_s=1.0))).code == "DEADLINE_EXCEEDED"
        await ready(cluster, *others(cluster, leader))
        await put(cluster, others(cluster, leader)[0], b"new")
        assert await get(cluster, leader, serializable=True) == b"old"
        links = cluster.capability(Links)
        assert links is not None
        await links.heal()
        await ready(cluster)
        assert await get(cluster, leader) == b"new"

    on_cluster(tmp_path, body)


def test_a_follower_that_was_away_for_long_is_sent_a_snapshot(tmp_path: Path) -> None:
    """What it lacks was compacted away; with the snapshot it is as the others, also after a restart."""

    async def body(cluster: SimulatedCluster) -> None:
        leader = await leader_of(cluster)
        away = others(cluster, leader)[0]
        await isolate(cluster, away)
        for number in range(60):
            await put(cluster, leader, b"%d" % number)
        links, process, health = (cluster.capability(kind) for kind in (Links, Process, Health))
        assert links is not None
        assert process is not None
        assert health is not None
        await links.heal()
        await ready(cluster)
        assert "sending database snapshot" in "".join(log(cluster, node) for node in cluster.nodes)
        await process.kill(away)
        await process.start(away)
        await ready(cluster)
        assert await get(cluster, away, serializable=True) == b"59"
        assert len({reading.hash for reading in (await health.readings(())).values()}) == 1

    on_cluster(tmp_path, body, options=SNAPSHOTS_OFTEN)


# Members


def test_the_lead_goes_where_it_is_told_to(tmp_path: Path) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        admin = cluster.capability(Admin)
        assert admin is not None
        for target in ("n2", "n3", "n1"):
            await admin.move_leader(target)
            assert await leader_of(cluster) == target

    on_cluster(tmp_path, body)


def test_a_member_is_replaced_as_a_learner_and_promoted(tmp_path: Path) -> None:
    """Removed, it ends and says so; wiped and added anew, it gets everything, and in the end may lead."""

    async def body(cluster: SimulatedCluster) -> None:
        for number in range(40):
            await put(cluster, "n1", b"%d" % number)
        admin = cluster.capability(Admin)
        assert admin is not None
        await admin.move_leader("n1")
        rpc = cluster.connections()["n1"]
        old, node = cluster.node("n3").member_id, cluster.node("n3")
        await rpc.unary(m.MEMBER_REMOVE, pb.MemberRemoveRequest(ID=old), timeout_s=5)

        async def has_ended() -> bool:
            return node.process is None

        await eventually(has_ended)
        assert "permanently removed" in log(cluster, "n3")
        assert DATA_DIR_WORDS in log(cluster, "n3")
        add = pb.MemberAddRequest(peerURLs=["http://n3:2380"], isLearner=True)
        added = (await rpc.unary(m.MEMBER_ADD, add, timeout_s=5)).member
        node.wipe()
        node.join(added.ID)
        node.start()

        refusals: list[str] = []

        async def is_ready_to_vote() -> bool:
            try:
                await rpc.unary(m.MEMBER_PROMOTE, pb.MemberPromoteRequest(ID=added.ID), timeout_s=5)
            except TransportError as refusal:
                refusals.append(refusal.message)
                return False
            return True

        await eventually(is_ready_to_vote)
        assert all("in sync with leader" in refusal for refusal in refusals)
        assert refusals, "it cannot have had everything at once"
        await ready(cluster)
        assert await get(cluster, "n3") == b"39"
        await admin.move_leader("n3")
        assert await leader_of(cluster) == "n3"

    on_cluster(tmp_path, body, options=SNAPSHOTS_OFTEN)


# The run loop and the node's doors


def test_nothing_is_left_of_a_server_that_stopped(tmp_path: Path) -> None:
    """Clean-up: every task is awaited, every wait is answered "server stopped"."""

    async def body(cluster: SimulatedCluster) -> None:
        await isolate(cluster, "n1")
        rpc = cluster.connections()["n1"]
        watch = await rpc.stream(m.WATCH)
        await watch.send(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k")))
        assert (await watch.receive()) is not None
        waiting = [asyncio.create_task(put(cluster, "n1", b"v", timeout_s=60)) for _ in range(3)]
        await asyncio.sleep(1)
        node = cluster.node("n1")
        process, server = node.process, node.server
        assert process is not None
        assert server is not None
        assert process.open_tasks > 4
        await node.stop()
        assert process.open_tasks == 0
        left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("n1 ")]
        assert left == []
        errors = [await error_of(task) for task in waiting]
        assert {error.message for error in errors} == {"etcdserver: server stopped"}
        with pytest.raises(TransportError):
            await watch.receive()

    on_cluster(tmp_path, body)


def test_an_ordered_stop_hands_the_lead_over_first(tmp_path: Path) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        leader = await leader_of(cluster)
        await cluster.node(leader).stop()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await ready(cluster, *others(cluster, leader))
        assert loop.time() - began_s < 0.5, "nobody had to wait for an election timeout"

    on_cluster(tmp_path, body)


def test_a_proposal_without_a_leader_waits_for_its_context(tmp_path: Path) -> None:
    """The channel propc is closed then: deadline, cancellation or stop ends the wait; other messages go through."""

    async def body(cluster: SimulatedCluster) -> None:
        for node in ("n2", "n3"):
            cluster.node(node).kill()
        server = cluster.node("n1").server
        assert server is not None

        async def has_no_leader() -> bool:
            return server.leader_id == 0

        await eventually(has_no_leader)
        proposal = Message("MsgProp", source=server.member_id)
        for failure, kind in ((DeadlineExceededError(), DeadlineExceededError), (CanceledError(), CanceledError)):
            for wait in (True, False):
                context = Context()
                stepping = asyncio.create_task(server.node.step_with_wait_option(context, proposal, wait=wait))
                await asyncio.sleep(5)
                assert not stepping.done()
                context.end(failure)
                with pytest.raises(kind):
                    await stepping
        await server.node.step_with_wait_option(Context(), Message("MsgBeat"), wait=True)
        stepping = asyncio.create_task(server.node.step_with_wait_option(Context(), proposal, wait=True))
        await asyncio.sleep(1)
        cluster.node("n1").kill()
        with pytest.raises(StoppedError):
            await stepping
        with pytest.raises(StoppedError):
            await server.node.step_with_wait_option(Context(), Message("MsgBeat"), wait=False)

    on_cluster(tmp_path, body)


# Determinism and mutants


def test_a_mutant_that_loses_what_it_acknowledged_is_seen(tmp_path: Path) -> None:
    """A single member that answers before its disk has the entry, and counts every death that lost some."""
    lost = fired = 0
    for seed in range(6):
        mutants = Mutants({"ack-before-fsync"})
        cluster = SimulatedCluster(directory=tmp_path / str(seed), nodes=1, seed=seed, mutants=mutants)

        async def main(cluster: SimulatedCluster = cluster) -> bool:
            await cluster.up()
            acknowledged = await put(cluster, "n1", b"v")
            cluster.node("n1").kill("power loss")
            cluster.node("n1").start()
            await ready(cluster)
            request = pb.RangeRequest(key=b"k")
            now = await cluster.connections()["n1"].unary(m.RANGE, request, timeout_s=2)
            await cluster.down()
            return now.header.revision < acknowledged

        lost += clock.run(main())
        fired += mutants.fired["ack-before-fsync"]
    assert fired >= lost > 0


def test_log_lines_are_those_of_etcd(tmp_path: Path) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        await put(cluster, "n1", b"v")

    cluster = on_cluster(tmp_path, body)
    lines = log(cluster, "n1").splitlines()
    assert all(
        re.match(r'\{"level": ?"\w+", ?"ts": ?"2000-01-01T00:00:\d\d\.\d{6}Z", ?"msg": ?', line) for line in lines
    )
