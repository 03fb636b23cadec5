"""Disks and files of members on nodes, this machine being the node: broken, damaged, and nothing of ours left."""

# ruff: noqa: ASYNC240  # a few small files, and nothing else goes on in the loop
from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.disks.fuse import problem
from splitvote.harness.clusters.disks.mounts import AS_ROOT, TYPE
from splitvote.harness.clusters.remote.agents import FOLDER, NodeAgents
from splitvote.harness.clusters.remote.daemon import Daemon
from splitvote.harness.clusters.remote.damage import RemoteDamage
from splitvote.harness.clusters.remote.disks import RemoteDisks, disk_of
from splitvote.harness.clusters.remote.node_agent import read_pidfile
from splitvote.harness.control import Remote
from splitvote.harness.control.local import LocalTransport
from splitvote.harness.errors import EnvironmentFailure, NemesisError
from splitvote.harness.machine import DISK_FAULTS, DiskShape

BOUND_S = 60.0
PATH = {"PATH": os.environ["PATH"]}
WRITER = """
import os, sys, time
synced, lost = (os.open(name, os.O_WRONLY | os.O_CREAT) for name in sys.argv[1:])
os.write(synced, b"kept")
os.fsync(synced)
os.write(lost, b"unsynced")
print("written", flush=True)
time.sleep(600)
"""
"""A member that has synced one file, its name with it, and not the other."""

on_fuse = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts as root"),
    pytest.mark.skipif((why := problem(AS_ROOT)) is not None, reason=str(why)),
    pytest.mark.skipif(shutil.which("nsenter") is None, reason="no nsenter (util-linux)"),
]


class AsItIs(LocalTransport):
    """Who runs the tests may do to its own processes what the harness does as root."""

    is_root = True


@dataclass(frozen=True, slots=True)
class Member:
    """A member whose node is this machine."""

    daemon: Daemon


@dataclass(slots=True)
class Room:
    """One node, and what there is of disks and agents on it."""

    folder: Path
    daemon: Daemon
    members: dict[str, Member]
    agents: NodeAgents
    killed: list[str] = field(default_factory=list)

    def disks(self, *, is_asked: bool = True, refusal: str | None = None) -> RemoteDisks:
        return RemoteDisks(self.members, self.agents, is_asked=is_asked, refusal=refusal, kill=self.kill)

    async def kill(self, node: str) -> None:
        self.killed.append(node)
        await self.daemon.end("KILL", timeout_s=BOUND_S)

    async def write(self, disks: RemoteDisks) -> None:
        """Start the writer on the disk, and wait until it has written."""
        files = [f"{self.daemon.data}/{name}" for name in ("synced", "lost")]
        await self.daemon.start([*await disks.entrance("n1"), sys.executable, "-c", WRITER, *files], PATH)
        await until(lambda: Path(self.daemon.log).read_text() == "written\n")

    def damage(self, settle: Callable[[Sequence[str]], Awaitable[None]]) -> RemoteDamage:
        return RemoteDamage(self.members, self.agents, no_agent=None, settle=settle, snapshot_count=None)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not holds():  # noqa: ASYNC110  # files of other processes: nobody tells of them
            await asyncio.sleep(0.01)


def play(place: Path, scene: Callable[[Room], Awaitable[None]]) -> None:
    """On a node with the folder of a run, whose processes are ended in any case."""

    async def run() -> None:
        remote = Remote("n1", AsItIs())
        daemon = Daemon(remote, str(place / "run-1"), "test")
        room = Room(place / "run-1", daemon, members := {"n1": Member(daemon)}, NodeAgents(members))
        (room.folder / "data").mkdir(parents=True)
        try:
            await scene(room)
        finally:
            await daemon.signal("KILL")
            await disk_of(daemon).signal("KILL")
            await room.agents.close()
            await remote.close()

    asyncio.run(run())


class TestDisks:
    """What is mounted under a member's data."""

    pytestmark = on_fuse

    def test_a_loss_of_power_takes_what_was_not_synced_and_the_end_leaves_nothing(self, tmp_path: Path) -> None:
        async def scene(room: Room) -> None:
            disks = room.disks()
            await disks.open()
            await room.write(disks)
            assert Path(room.daemon.data, "lost").read_bytes() == b"unsynced", "what is written is there at once"
            told = await disks.steering.lose_power("n1")
            assert "8 unsynced bytes of lost" in told
            assert room.killed == ["n1"]
            lost = Path(room.daemon.data, "lost")
            assert not lost.exists() or lost.read_bytes() == b""
            assert Path(room.daemon.data, "synced").read_bytes() == b"kept"
            assert await disks.trouble() is None
            assert TYPE not in Path("/proc/self/mounts").read_text(), "only the member sees it"
            await disks.close()
            await disks.close()
            await until(lambda: read_pidfile(room.folder / "disk") is None)

        play(tmp_path, scene)

    @pytest.mark.parametrize("fault", ["full", "freeze"])
    def test_a_broken_disk_shows_and_is_restored(self, tmp_path: Path, fault: str) -> None:
        async def scene(room: Room) -> None:
            disks = room.disks()
            await disks.open()
            await disks.steering.impair("n1", DiskShape(fault))
            assert (await disks.steering.probe("n1", timeout_s=0.3)).error is not None
            await disks.steering.restore("n1")
            assert (await disks.steering.probe("n1", timeout_s=BOUND_S / 10)).error is None
            await disks.close()

        play(tmp_path, scene)

    def test_a_disk_that_is_gone_is_our_own_failure_each_time(self, tmp_path: Path) -> None:
        """A fault that cannot be done, a member that cannot be started without its disk, and the cluster's end."""

        async def scene(room: Room) -> None:
            disks = room.disks()
            await disks.open()
            await disk_of(room.daemon).end("KILL", timeout_s=BOUND_S)
            steering = disks.steering
            for change in (steering.impair("n1", DiskShape("eio")), steering.lose_power("n1"), disks.settle()):
                with pytest.raises(NemesisError, match="the disk of n1 is out of hand"):
                    await change
            with pytest.raises(NemesisError, match="the disk of n1 is gone"):
                await disks.entrance("n1")
            assert "the disk of n1 is out of hand" in (await disks.trouble() or "")
            await disks.close()
            assert await disks.trouble() is None

        play(tmp_path, scene)

    def test_a_disk_that_was_left_is_ended_by_its_pidfile(self, tmp_path: Path) -> None:
        """As `splitvote heal` does, after the member; both at once may be frozen."""

        async def scene(room: Room) -> None:
            disks = room.disks()
            await disks.open()
            await room.write(disks)
            await disks.steering.impair("n1", DiskShape("freeze"))
            await room.daemon.end("KILL", timeout_s=BOUND_S)
            await disk_of(room.daemon).end("KILL", timeout_s=BOUND_S)
            assert (await disk_of(room.daemon).look()).state is ProcessState.STOPPED
            await disks.close()

        play(tmp_path, scene)


def test_disks_that_nobody_asked_for_are_not_mounted(tmp_path: Path) -> None:
    async def scene(room: Room) -> None:
        disks = room.disks(is_asked=False)
        await disks.open()
        await disks.settle()
        assert list(room.folder.iterdir()) == [room.folder / "data"]
        assert await disks.entrance("n1") == []
        assert {*DISK_FAULTS, "power_loss"} == disks.steering.supports
        with pytest.raises(NemesisError, match="ask for them before"):
            await disks.steering.lose_power("n1")
        assert not room.killed

    play(tmp_path, scene)


def test_what_nodes_have_against_disks_is_the_refusal(tmp_path: Path) -> None:
    async def scene(room: Room) -> None:
        disks = room.disks(refusal="/dev/fuse: no such file; it takes --with disk")
        assert disks.steering.supports == frozenset()
        assert "--with disk" in disks.steering.wanting("full")
        with pytest.raises(EnvironmentFailure, match="--with disk"):
            await disks.open()

    play(tmp_path, scene)


def test_files_are_damaged_once_their_disk_has_settled_and_while_nobody_runs(tmp_path: Path) -> None:
    async def scene(room: Room) -> None:
        settled: list[str] = []

        async def settle(nodes: Sequence[str]) -> None:
            settled.extend(nodes)

        damage = room.damage(settle)
        assert await damage.damageable("n1") == frozenset()
        wal = room.folder / "data" / "member" / "wal"
        wal.mkdir(parents=True)
        (wal / "0.wal").write_bytes(b"records")
        assert await damage.damageable("n1") == {"wal_bit_flip", "wal_truncate", "wal_loss"}
        await room.daemon.start(["sleep", "600"], PATH)
        with pytest.raises(NemesisError, match="n1 runs"):
            await damage.damage("n1", "wal_loss", 3)
        assert not settled
        await room.daemon.end("KILL", timeout_s=BOUND_S)
        assert await damage.damage("n1", "wal_loss", 3) == {"file": "0.wal", "size_bytes": 7}
        assert settled == ["n1"]
        with pytest.raises(NemesisError, match="wal_loss: there is no file"):
            await damage.damage("n1", "wal_loss", 3)

    play(tmp_path, scene)


def test_damage_of_which_nobody_knows_is_not_done_again(tmp_path: Path) -> None:
    """A bit that is flipped twice is as it was."""

    async def scene(room: Room) -> None:
        async def lose_the_agent(nodes: Sequence[str]) -> None:
            await room.daemon.inner(FOLDER).end("KILL", timeout_s=BOUND_S)

        snapshot = room.folder / "data" / "member" / "snap" / "1.snap"
        snapshot.parent.mkdir(parents=True)
        snapshot.write_bytes(b"state")
        with pytest.raises(NemesisError, match="the command that was asked is gone"):
            await room.damage(lose_the_agent).damage("n1", "snapshot_bit_flip", 3)
        assert snapshot.read_bytes() == b"state"

    play(tmp_path, scene)


def test_nodes_without_an_agent_refuse_every_damage(tmp_path: Path) -> None:
    async def settle(nodes: Sequence[str]) -> None:
        raise AssertionError(f"{nodes} settled")

    members: dict[str, Member] = {}
    damage = RemoteDamage(members, NodeAgents(members), no_agent="no python3", settle=settle, snapshot_count=100)
    assert damage.refusal("wal_loss") == "no python3"
    capable = RemoteDamage(members, NodeAgents(members), no_agent=None, settle=settle, snapshot_count=None)
    assert capable.refusal("wal_loss") is None
    assert "--snapshot-count" in (capable.refusal("snapshot_loss") or "")
