"""What can be done to a simulated cluster's disks, clocks, files and members, and what its members make of it."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

import pytest

from splitvote.harness.cluster import (
    CLIENT,
    Admin,
    Health,
    Links,
    LinkShape,
    MemberRole,
    Members,
    Process,
    ProcessState,
    Roles,
)
from splitvote.harness.errors import NemesisError, TransportError
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.machine import Clock, ClockReading, ClockShape, Damage, Disk, DiskShape
from splitvote.harness.simulation.cluster import SimulatedCluster
from tests.harness.simulation import scenes
from tests.harness.simulation.scenes import SNAPSHOTS_OFTEN, eventually, ready, the

TIMEOUT_S = 5.0

on_cluster = functools.partial(scenes.on_cluster, seed=5)


async def put(cluster: SimulatedCluster, node: str, value: str, *, timeout_s: float = TIMEOUT_S) -> None:
    await cluster.connections()[node].unary(m.PUT, pb.PutRequest(key=b"k", value=value.encode()), timeout_s=timeout_s)


async def get(cluster: SimulatedCluster, node: str) -> str:
    answer = await cluster.connections()[node].unary(
        m.RANGE, pb.RangeRequest(key=b"k", serializable=True), timeout_s=TIMEOUT_S
    )
    return answer.kvs[0].value.decode() if answer.kvs else ""


async def gone(cluster: SimulatedCluster, node: str) -> None:
    """Wait until a node's process has ended."""

    async def look() -> bool:
        return await the(cluster, Process).state(node) is ProcessState.STOPPED

    await eventually(look)


async def follower_of(cluster: SimulatedCluster) -> tuple[str, str]:
    """The leader, and a node that follows it."""
    leader = await the(cluster, Roles).leader()
    assert leader is not None
    return leader, next(node for node in cluster.nodes if node != leader)


def log(cluster: SimulatedCluster, node: str) -> str:
    return cluster.log_path(node).read_text()


# Disks


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("full", "no space left on device"),
        ("eio", "input/output error"),
        ("read_only", "read-only file system"),
    ],
)
def test_a_disk_that_takes_no_writes_is_fatal_until_it_is_restored(tmp_path: Path, fault: str, words: str) -> None:
    """The member panics on its log as etcd does, the others go on, and it comes back with all of it afterwards."""

    async def body(cluster: SimulatedCluster) -> None:
        disk, process = the(cluster, Disk), the(cluster, Process)
        leader, victim = await follower_of(cluster)
        assert (await disk.probe(victim)).error is None
        await disk.impair(victim, DiskShape(fault))
        assert (await disk.probe(victim)).error == words
        await put(cluster, leader, "meanwhile")
        await gone(cluster, victim)
        assert '"level":"fatal"' in log(cluster, victim)
        assert words in log(cluster, victim)
        await process.start(victim)
        await gone(cluster, victim)
        await disk.restore(victim)
        await disk.restore(victim)
        await process.start(victim)
        await ready(cluster)
        assert await get(cluster, victim) == "meanwhile"

    on_cluster(tmp_path, body)


def test_a_frozen_disk_holds_everything_up_and_loses_nothing(tmp_path: Path) -> None:
    """A leader whose log hangs sends no heartbeats: another takes over; when it thaws it goes on."""

    async def body(cluster: SimulatedCluster) -> None:
        disk = the(cluster, Disk)
        leader, other = await follower_of(cluster)
        await disk.impair(leader, DiskShape("freeze"))
        started_s = asyncio.get_running_loop().time()
        assert "no answer" in ((await disk.probe(leader, timeout_s=0.5)).error or "")
        assert asyncio.get_running_loop().time() - started_s == pytest.approx(0.5)
        with pytest.raises(TransportError):
            await put(cluster, leader, "hangs", timeout_s=1.0)
        await ready(cluster, *(node for node in cluster.nodes if node != leader))
        await put(cluster, other, "meanwhile")
        assert await the(cluster, Process).state(leader) is ProcessState.RUNNING
        assert await the(cluster, Health).unready([leader])
        await disk.restore(leader)
        await ready(cluster)
        assert await get(cluster, leader) == "meanwhile"

    on_cluster(tmp_path, body)


def test_a_slow_disk_is_measured_and_felt(tmp_path: Path) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        disk, loop = the(cluster, Disk), asyncio.get_running_loop()
        for node in cluster.nodes:
            await disk.impair(node, DiskShape("slow_fsync", delay_ms=80.0))
        reading = await disk.probe("n1")
        assert reading.error is None
        assert reading.fsync_ms is not None
        assert 80.0 <= reading.fsync_ms < 100.0
        started_s = loop.time()
        await put(cluster, "n1", "slow")
        assert loop.time() - started_s >= 0.08
        for node in cluster.nodes:
            await disk.restore(node)
        assert ((await disk.probe("n1")).fsync_ms or 80.0) < 20.0

    on_cluster(tmp_path, body)


def test_a_loss_of_power_tells_what_it_took(tmp_path: Path) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        disk, process = the(cluster, Disk), the(cluster, Process)
        _, victim = await follower_of(cluster)
        await process.kill(victim)
        assert "nothing" in await disk.lose_power(victim)
        await process.start(victim)
        await ready(cluster)
        for number in range(40):
            writing = asyncio.create_task(put(cluster, victim, str(number)))
            await asyncio.sleep(0.0006)  # between a message and an fsync
            told = await disk.lose_power(victim)
            assert await process.state(victim) is ProcessState.STOPPED
            await asyncio.gather(writing, return_exceptions=True)
            await process.start(victim)
            await ready(cluster)
            if "unsynced record" in told:
                return
        raise AssertionError("nothing was ever lost")

    on_cluster(tmp_path, body)


# Files


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("wal_bit_flip", "crc mismatch"),
        ("wal_loss", "file not found"),
        ("snapshot_bit_flip", "crc mismatch"),
        ("snapshot_loss", "no available snapshot"),
    ],
)
def test_a_member_does_not_start_on_damaged_files(tmp_path: Path, kind: str, words: str) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        process, damage = the(cluster, Process), the(cluster, Damage)
        leader, victim = await follower_of(cluster)
        for number in range(40):
            await put(cluster, leader, str(number))
        with pytest.raises(NemesisError, match="runs"):
            await damage.damage(victim, kind, 7)
        await process.kill(victim)
        told = await damage.damage(victim, kind, 7)
        assert told["file"] in ("wal", "snap")
        await process.start(victim)
        await gone(cluster, victim)
        assert words in log(cluster, victim)

    on_cluster(tmp_path, body, options=SNAPSHOTS_OFTEN)


def test_a_truncated_log_lacks_its_last_records(tmp_path: Path) -> None:
    """It starts, as on a torn log; it is told that more was committed than it has, and panics as etcd does."""

    async def body(cluster: SimulatedCluster) -> None:
        process, damage = the(cluster, Process), the(cluster, Damage)
        leader, victim = await follower_of(cluster)
        for number in range(5):
            await put(cluster, leader, str(number))
        await process.kill(victim)
        before = len(cluster.node(victim).disk.wal.entries)
        told = await damage.damage(victim, "wal_truncate", 2)
        assert told["records"] == 3
        assert len(cluster.node(victim).disk.wal.entries) == before - 3
        await process.start(victim)
        await gone(cluster, victim)
        assert "Was the raft log corrupted, truncated, or lost?" in log(cluster, victim)

    on_cluster(tmp_path, body)


def test_what_is_not_there_cannot_be_damaged(tmp_path: Path) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        process, damage = the(cluster, Process), the(cluster, Damage)
        await process.kill("n1")
        with pytest.raises(NemesisError, match="no snapshot"):
            await damage.damage("n1", "snapshot_loss", 0)
        with pytest.raises(NemesisError, match="damage"):
            await damage.damage("n1", "wal_bitflip", 0)
        await process.wipe("n1")
        with pytest.raises(NemesisError, match="wiped"):
            await damage.damage("n1", "wal_loss", 0)

    on_cluster(tmp_path, body)


# Clients


def test_clients_that_are_cut_off_hang_and_what_was_held_back_comes_in_the_end(tmp_path: Path) -> None:
    """Members hear each other meanwhile: others are served, and nobody loses the lead; a late call may take effect."""

    async def body(cluster: SimulatedCluster) -> None:
        links = the(cluster, Links)
        assert "client" in links.supports
        leader, other = await follower_of(cluster)
        ways = [(CLIENT, leader), (leader, CLIENT)]
        await links.cut(ways)
        before = await links.counters()
        with pytest.raises(TransportError, match="Deadline"):
            await put(cluster, leader, "late", timeout_s=1.0)
        await put(cluster, other, "meanwhile")
        assert cluster.node(leader).server is not None
        assert cluster.node(leader).server.is_leader  # type: ignore[union-attr]
        held = await links.counters()
        assert held[CLIENT, leader].offered_bytes > before[CLIENT, leader].offered_bytes
        assert held[CLIENT, leader].delivered_bytes == before[CLIENT, leader].delivered_bytes
        await links.heal(ways)
        await ready(cluster)
        after = await links.counters()
        assert after[CLIENT, leader].delivered_bytes == after[CLIENT, leader].offered_bytes
        assert await get(cluster, leader) in ("meanwhile", "late")

    on_cluster(tmp_path, body)


def test_answers_alone_can_be_held_back(tmp_path: Path) -> None:
    """Then what a client does not hear of has happened all the same."""

    async def body(cluster: SimulatedCluster) -> None:
        links = the(cluster, Links)
        await links.cut([("n1", CLIENT)])
        with pytest.raises(TransportError, match="Deadline"):
            await put(cluster, "n1", "unheard", timeout_s=1.0)
        assert await get(cluster, "n2") == "unheard"
        with pytest.raises(NemesisError, match="only be cut"):
            await links.shape([("n1", CLIENT)], LinkShape(loss=0.5))
        await links.heal()
        await ready(cluster)

    on_cluster(tmp_path, body)


# Clocks


def test_clocks_show_what_they_are_set_to_also_after_a_restart(tmp_path: Path) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        clocks, process = the(cluster, Clock), the(cluster, Process)
        await clocks.set("n1", ClockShape(wall_ms=-3_600_000.0, monotonic_ms=2_000.0, monotonic_drift=0.1))
        await process.kill("n1")
        await process.kill("n2")
        await process.start("n1")
        await asyncio.sleep(10)
        offsets = await clocks.offsets()
        assert offsets["n1"] == ClockReading(wall_ms=-3_600_000.0, monotonic_ms=pytest.approx(3_000.0, abs=50.0))
        assert offsets["n3"] == ClockReading(wall_ms=0.0, monotonic_ms=0.0)
        assert "n2" not in offsets
        assert "1999-12-31T23:00" in log(cluster, "n1").splitlines()[-1]
        await clocks.reset("n1")
        await clocks.reset("n1")
        assert (await clocks.offsets())["n1"] == ClockReading(wall_ms=0.0, monotonic_ms=0.0)
        await process.start("n2")
        await ready(cluster)
        with pytest.raises(NemesisError, match="forward"):
            await clocks.set("n1", ClockShape(monotonic_drift=-1.0))

    on_cluster(tmp_path, body)


def test_a_strobe_switches_between_two_times_until_it_is_reset(tmp_path: Path) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        clocks = the(cluster, Clock)
        await clocks.strobe("n2", ClockShape(wall_ms=500.0), 200.0)
        seen = []
        for _ in range(6):
            await asyncio.sleep(0.1)
            seen.append((await clocks.offsets())["n2"].wall_ms)
            await asyncio.sleep(0.1)
        assert seen == [500.0, 0.0] * 3
        await clocks.reset("n2")
        await asyncio.sleep(0.3)
        assert (await clocks.offsets())["n2"].wall_ms == 0.0
        with pytest.raises(NemesisError, match="0 ms"):
            await clocks.strobe("n2", ClockShape(wall_ms=500.0), 0.0)

    on_cluster(tmp_path, body)


def test_a_leader_whose_clock_runs_ahead_ends_leases_early(tmp_path: Path) -> None:
    """Expiry is the leader's affair, and goes by its own monotonic clock; the wall clock has no say in it."""

    async def body(cluster: SimulatedCluster) -> None:
        leader, _ = await follower_of(cluster)
        rpc = cluster.connections()[leader]

        async def is_there(lease: int) -> bool:
            asked = pb.LeaseTimeToLiveRequest(ID=lease)
            return bool((await rpc.unary(m.LEASE_TIME_TO_LIVE, asked, timeout_s=TIMEOUT_S)).TTL >= 0)

        lease = (await rpc.unary(m.LEASE_GRANT, pb.LeaseGrantRequest(TTL=60), timeout_s=TIMEOUT_S)).ID
        await the(cluster, Clock).set(leader, ClockShape(wall_ms=100_000.0))
        await asyncio.sleep(3)
        assert await is_there(lease)
        await the(cluster, Clock).set(leader, ClockShape(monotonic_ms=100_000.0))

        async def is_gone() -> bool:
            return not await is_there(lease)

        await eventually(is_gone, bound_s=10.0)

    on_cluster(tmp_path, body)


# Members


def test_a_removed_member_ends_and_ends_again_on_its_old_data(tmp_path: Path) -> None:
    """Whether it has heard of its removal before it was stopped, or hears of it only when it is started."""

    async def body(cluster: SimulatedCluster) -> None:
        members, process = the(cluster, Members), the(cluster, Process)
        _, victim = await follower_of(cluster)
        await members.remove(victim)
        await members.remove(victim)
        assert (await members.roster())[victim] is MemberRole.ABSENT
        await gone(cluster, victim)
        for _ in range(2):
            before = log(cluster, victim).count("permanently removed")
            await process.start(victim)
            await gone(cluster, victim)
            assert log(cluster, victim).count("permanently removed") > before

    on_cluster(tmp_path, body)


def test_a_member_that_was_away_when_it_was_removed_is_told_when_it_starts(tmp_path: Path) -> None:
    async def body(cluster: SimulatedCluster) -> None:
        members, process = the(cluster, Members), the(cluster, Process)
        leader, victim = await follower_of(cluster)
        await process.kill(victim)
        await members.remove(victim)
        for number in range(60):
            await put(cluster, leader, str(number))
        await process.start(victim)
        await gone(cluster, victim)
        assert "permanently removed" in log(cluster, victim)

    on_cluster(tmp_path, body, options=SNAPSHOTS_OFTEN)


def test_a_node_is_replaced_by_a_new_member_on_empty_data(tmp_path: Path) -> None:
    """Removed, wiped, added and started it joins the cluster that there is; as a learner it is promoted in the end."""

    async def body(cluster: SimulatedCluster) -> None:
        members, process = the(cluster, Members), the(cluster, Process)
        leader, victim = await follower_of(cluster)
        old = cluster.node(victim).member_id
        for number in range(60):
            await put(cluster, leader, str(number))
        for role in (MemberRole.VOTER, MemberRole.LEARNER):
            await members.remove(victim)
            await gone(cluster, victim)
            await process.wipe(victim)
            with pytest.raises(NemesisError, match="add it"):
                await process.start(victim)
            await members.add(victim, role)
            await members.add(victim, role)
            await process.start(victim)
            assert cluster.node(victim).member_id != old
            assert (await members.roster())[victim] is role
            if role is MemberRole.VOTER:
                await ready(cluster)

        refusals: list[str] = []

        async def is_promoted() -> bool:
            try:
                await members.promote(victim)
            except NemesisError as refusal:
                refusals.append(str(refusal))
                return False
            return True

        await eventually(is_promoted)
        assert all("sync with leader" in refusal for refusal in refusals)
        await members.promote(victim)
        assert (await members.roster())[victim] is MemberRole.VOTER
        await ready(cluster)
        assert await get(cluster, victim) == "59"
        await the(cluster, Admin).move_leader(victim)
        assert await the(cluster, Roles).leader() == victim

    on_cluster(tmp_path, body, options=SNAPSHOTS_OFTEN)


def test_a_member_that_lost_its_data_must_be_replaced(tmp_path: Path) -> None:
    """Started under its old id it could vote twice in a term, and lose what it had acknowledged."""

    async def body(cluster: SimulatedCluster) -> None:
        process = the(cluster, Process)
        await process.kill("n2")
        await process.wipe("n2")
        with pytest.raises(NemesisError, match="remove it, and add it anew"):
            await process.start("n2")

    on_cluster(tmp_path, body)


def test_a_voter_is_added_only_while_all_are_connected(tmp_path: Path) -> None:
    """strict-reconfig-check, in etcd's words."""

    async def body(cluster: SimulatedCluster) -> None:
        members, process = the(cluster, Members), the(cluster, Process)
        leader, victim = await follower_of(cluster)
        third = next(node for node in cluster.nodes if node not in (leader, victim))
        await members.remove(victim)
        await process.kill(third)
        await process.start(third)
        await ready(cluster, leader, third)
        await members.add(victim, MemberRole.VOTER)
        await members.remove(victim)
        await process.pause(third)
        with pytest.raises(NemesisError):
            await members.add(victim, MemberRole.VOTER)
        await process.resume(third)
        await ready(cluster, leader, third)

    on_cluster(tmp_path, body)
