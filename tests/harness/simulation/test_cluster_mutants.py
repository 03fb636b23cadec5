"""What only whole clusters show: mutants of the server, duplicates, members that panic, leaders that slept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from splitvote.harness import clock
from splitvote.harness.cluster import LinkShape, Process, Roles
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.cluster import SimulatedCluster
from splitvote.harness.simulation.mutants import Mutants
from splitvote.harness.simulation.process import PanicError

T = TypeVar("T")
TIMEOUT_S = 5.0


def on_cluster(tmp_path: Path, body: Callable[[SimulatedCluster], Awaitable[T]], *mutants: str) -> tuple[T, int]:
    """Run a body on a cluster of three that is up; its result, and how often the mutants fired."""

    async def go() -> tuple[T, int]:
        cluster = SimulatedCluster(directory=tmp_path, nodes=3, seed=3, mutants=Mutants(mutants))
        await cluster.up()
        try:
            return await body(cluster), sum(cluster.mutants.fired.values())
        finally:
            await cluster.down()

    return clock.run(go())


async def leader_of(cluster: SimulatedCluster, *, but: str | None = None) -> str:
    """Who leads; waits until somebody does that is not ``but``."""
    roles = cluster.capability(Roles)
    assert roles is not None
    for _ in range(400):
        leader = await roles.leader()
        if leader is not None and leader != but:
            return leader
        await asyncio.sleep(0.05)
    raise AssertionError("nobody was elected within 20 s")


async def versions_under_duplication(cluster: SimulatedCluster) -> int:
    """How often a key counts itself put, beyond how often it was put, through a member that forwards."""
    leader = await leader_of(cluster)
    follower = next(node for node in cluster.nodes if node != leader)
    for target in cluster.nodes:
        if target != follower:
            await cluster.network.shape([(follower, target)], LinkShape(duplicate=0.5))
    connections = cluster.connections()
    for _ in range(40):
        await connections[follower].unary(m.PUT, pb.PutRequest(key=b"a"), timeout_s=TIMEOUT_S)
    await asyncio.sleep(1.0)
    found = await connections[leader].unary(m.RANGE, pb.RangeRequest(key=b"a"), timeout_s=TIMEOUT_S)
    await connections.close()
    return int(found.kvs[0].version) - 40


def test_a_proposal_that_the_network_delivers_twice_takes_effect_once(tmp_path: Path) -> None:
    assert on_cluster(tmp_path, versions_under_duplication) == (0, 0)


def test_the_mutant_that_does_not_tell_duplicates_applies_them(tmp_path: Path) -> None:
    more, fired = on_cluster(tmp_path, versions_under_duplication, "duplicated-message-applied-twice")
    assert more == fired > 0


async def lease_after_a_sleep(cluster: SimulatedCluster) -> bool:
    """Whether a lease is still there that was renewed all along, also while the leader of its grant slept."""
    old, process = await leader_of(cluster), cluster.capability(Process)
    assert process is not None
    others = [node for node in cluster.nodes if node != old]
    connections = cluster.connections()
    lease = (await connections[old].unary(m.LEASE_GRANT, pb.LeaseGrantRequest(TTL=4), timeout_s=TIMEOUT_S)).ID
    await process.pause(old)
    await leader_of(cluster, but=old)
    for _ in range(6):
        stream = await connections[others[0]].stream(m.LEASE_KEEP_ALIVE)
        await stream.send(pb.LeaseKeepAliveRequest(ID=lease))
        await stream.receive()
        stream.cancel()
        await asyncio.sleep(1.0)
    await process.resume(old)
    await asyncio.sleep(1.0)
    asked = pb.LeaseTimeToLiveRequest(ID=lease)
    left = await connections[others[0]].unary(m.LEASE_TIME_TO_LIVE, asked, timeout_s=TIMEOUT_S)
    await connections.close()
    return int(left.TTL) > 0


def test_a_leader_that_slept_revokes_nothing_when_it_wakes(tmp_path: Path) -> None:
    """Another leads meanwhile, and has renewed what would be over by the sleeper's time (issue 15247)."""
    assert on_cluster(tmp_path, lease_after_a_sleep) == (True, 0)


def test_the_mutant_that_trusts_its_own_time_revokes(tmp_path: Path) -> None:
    is_there, fired = on_cluster(tmp_path, lease_after_a_sleep, "stale-leader-revokes-lease")
    assert not is_there
    assert fired > 0


@pytest.mark.parametrize("how", ["message", "timer", "task"])
def test_a_member_that_finds_the_impossible_panics_and_is_gone(tmp_path: Path, how: str) -> None:
    """Whatever of it was at work; the log says so, and the others go on."""

    def impossible(_: Any = None) -> None:
        raise PanicError("entry 7 conflicts with committed entry")

    async def impossible_task() -> None:
        impossible()

    async def body(cluster: SimulatedCluster) -> None:
        process = cluster.node("n1").process
        assert process is not None
        if how == "message":
            process.deliver(impossible, None)
        elif how == "timer":
            process.call_later(0.1, impossible)
        else:
            process.spawn(impossible_task(), "impossible")
        await asyncio.sleep(0.2)
        assert cluster.node("n1").process is None
        assert '"level":"panic"' in cluster.log_path("n1").read_text()
        connections = cluster.connections()
        await asyncio.sleep(4.0)
        await connections["n2"].unary(m.PUT, pb.PutRequest(key=b"a"), timeout_s=TIMEOUT_S)
        await connections.close()

    on_cluster(tmp_path, body)
