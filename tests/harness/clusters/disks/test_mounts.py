"""A disk as it is mounted: what a process sees that writes to it, and what is left of it; skipped where FUSE cannot be.

As root and as an ordinary user would have it, where this machine allows either.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from splitvote.harness.clusters.disks.fuse import FuseDisks, problem
from splitvote.harness.clusters.disks.mounts import AS_ROOT, AS_USER, TYPE
from splitvote.harness.clusters.processes import Children, wait_gone
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import DiskShape

BOUND_S = 60.0

TRYING = """
import os, sys, time
def write(name, content, sync):
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT)
    os.write(descriptor, content)
    if sync:
        os.fsync(descriptor)
    os.close(descriptor)
"""


InARoom = Callable[[Callable[["Room"], Awaitable[None]]], None]
"""Runs a scene on a disk."""


class Room:
    """A mounted disk, and what runs on it."""

    def __init__(self, place: Path, kind: str | None) -> None:
        self.data = place / "data"
        self.data.mkdir()
        self.log = place / "disk-n1.log"
        self.children = Children()
        self.killed: list[str] = []
        self.disks = FuseDisks(
            ("n1",),
            self.children,
            data=self.data,
            is_asked=True,
            within=lambda node: (),
            kill=self._kill,
            kind=kind,
        )

    async def _kill(self, node: str) -> None:
        self.killed.append(node)

    async def run(self, script: str, *, timeout_s: float = 20.0) -> str:
        """What a script prints that runs on the disk, in the data folder."""
        output = self.data.parent / "output"
        with output.open("wb") as file:
            child = await self.children.spawn(
                [sys.executable, "-I", "-S", "-c", f"{TRYING}\nos.chdir({str(self.data)!r})\n{script}"],
                env=dict(os.environ),
                output=file,
                namespaces=self.disks.namespaces("n1"),
            )
        if not await wait_gone(child, timeout_s=timeout_s):
            await self.children.end(child, timeout_s=5.0)
            return "did not end"
        self.children.forget(child)
        return output.read_text().strip()


def mounts() -> str:
    """What this process sees mounted."""
    return Path("/proc/self/mounts").read_text()


def run_in_a_room(place: Path, kind: str | None, scene: Callable[[Room], Awaitable[None]]) -> None:
    """Run a scene on a disk, after which nothing is left but the data."""
    if kind == AS_ROOT and os.geteuid() != 0:
        pytest.skip("only root mounts as root")
    if (missing := problem(kind)) is not None:
        pytest.skip(missing)

    async def run() -> None:
        room = Room(place, kind)
        async with asyncio.timeout(BOUND_S):
            try:
                await room.disks.open(place)
                await scene(room)
            finally:
                await room.disks.close()
                room.children.close()
        assert not room.disks.records

    asyncio.run(run())
    assert not list(place.glob("disks-*"))
    assert TYPE not in mounts()


@pytest.fixture(params=[AS_ROOT, AS_USER])
def in_each_room(request: pytest.FixtureRequest, tmp_path: Path) -> InARoom:
    kind: str = request.param
    return lambda scene: run_in_a_room(tmp_path, kind, scene)


@pytest.fixture
def in_a_room(tmp_path: Path) -> InARoom:
    return lambda scene: run_in_a_room(tmp_path, None, scene)


def test_whoever_enters_sees_the_mount_and_nobody_else(in_each_room: InARoom) -> None:
    """What is written in there is in the folder; what is changed in the folder is seen in there at once."""

    async def scene(room: Room) -> None:
        told = await room.run(
            "write('a', b'1', False); os.mkdir('d'); os.rename('a', 'd/b'); os.truncate('d/b', 5)\n"
            "print(sorted(os.listdir('.')), os.listdir('d'), open('d/b', 'rb').read(), os.stat('d/b').st_size,"
            " open('/proc/self/mounts').read().count('fuse.splitvote'))"
        )
        assert told == "['d'] ['b'] b'1\\x00\\x00\\x00\\x00' 5 1"
        assert TYPE not in mounts()
        (room.data / "d" / "b").write_bytes(b"changed outside")
        (room.data / "new").mkdir()
        assert await room.run("print(open('d/b').read(), sorted(os.listdir('.')))") == "changed outside ['d', 'new']"

    in_each_room(scene)


def test_a_loss_of_power_takes_what_was_not_synced(in_each_room: InARoom) -> None:
    """By a process's own fsync through the kernel; afterwards the files serve as before."""

    async def scene(room: Room) -> None:
        await room.run(
            "write('kept', b'synced', True); write('kept', b'SYN', False); write('lost', b'x' * 9000, False)"
        )
        lost = await room.disks.steering.lose_power("n1")
        assert room.killed == ["n1"]
        assert "3 unsynced bytes of kept" in lost
        assert "9000 unsynced bytes of lost" in lost
        assert await room.run("print(os.listdir('.'), open('kept').read())") == "['kept'] synced"
        assert await room.disks.steering.lose_power("n1") == "nothing: all was synced"

    in_each_room(scene)


def test_a_sync_that_a_loss_of_power_interrupts_keeps_nothing(in_a_room: InARoom) -> None:
    """The process that waited for it ends, and what it had written is lost; it was never told otherwise."""

    async def scene(room: Room) -> None:
        await room.disks.steering.impair("n1", DiskShape("slow_fsync", 60_000.0))
        assert await room.run("write('file', b'x', True)\nprint('promised')", timeout_s=2.0) == "did not end"
        lost = await room.disks.steering.lose_power("n1")
        assert "1 unsynced bytes of file" in lost
        assert not (room.data / "file").exists()
        await room.disks.steering.restore("n1")
        assert await room.run("write('file', b'x', True)\nprint('promised')") == "promised"

    in_a_room(scene)


@pytest.mark.parametrize(
    ("fault", "words"),
    [("full", "no space left on device"), ("eio", "input/output error"), ("read_only", "read-only file system")],
)
def test_a_broken_disk_fails_and_works_again(in_a_room: InARoom, fault: str, words: str) -> None:
    """Told by the probe and by what another process is told; a new trouble takes an old one's place."""

    async def scene(room: Room) -> None:
        await room.disks.steering.impair("n1", DiskShape("freeze"))
        await room.disks.steering.impair("n1", DiskShape(fault))
        assert (await room.disks.steering.probe("n1")).error == words
        told = await room.run("try: write('a', b'1', True)\nexcept OSError as failure: print(failure.strerror.lower())")
        assert told == words
        await room.disks.steering.restore("n1")
        reading = await room.disks.steering.probe("n1")
        assert reading.error is None
        assert reading.fsync_ms is not None

    in_a_room(scene)


def test_a_frozen_disk_holds_writes_and_lets_reads_through(in_a_room: InARoom) -> None:
    """A process that hangs on it can be killed, another one goes on once it is thawed."""

    async def scene(room: Room) -> None:
        await room.run("write('a', b'old', True)")
        await room.disks.steering.impair("n1", DiskShape("freeze"))
        assert (await room.disks.steering.probe("n1", timeout_s=0.3)).error == "no answer within 0.3 s"
        assert await room.run("print(open('a').read())") == "old"
        assert await room.run("write('a', b'new', True)", timeout_s=1.0) == "did not end"
        going_on = asyncio.create_task(room.run("write('b', b'new', True); print('written')"))
        await asyncio.sleep(0)
        await room.disks.steering.restore("n1")
        assert await going_on == "written"
        assert await room.run("print(open('a').read())") == "old", "what was never written, for its writer was killed"

    in_a_room(scene)


def test_a_slow_sync_keeps_nobody_else_waiting(in_a_room: InARoom) -> None:
    async def scene(room: Room) -> None:
        await room.disks.steering.impair("n1", DiskShape("slow_fsync", 400.0))
        syncing = asyncio.create_task(room.disks.steering.probe("n1", timeout_s=5.0))
        assert await room.run("write('a', b'1', False); print(open('a').read())") == "1"
        reading = await syncing
        assert reading.fsync_ms is not None
        assert reading.fsync_ms >= 400.0

    in_a_room(scene)


def test_disks_that_nobody_asked_for_cannot_be_broken(tmp_path: Path) -> None:
    """There is no process and no mount then, and the refusal says what to do."""

    async def kill(node: str) -> None:
        raise AssertionError(f"{node} was killed")

    async def scene() -> None:
        disks = FuseDisks(
            ("n1",),
            Children(),
            data=tmp_path,
            is_asked=False,
            within=lambda node: (),
            kill=kill,
        )
        await disks.open(tmp_path)
        await disks.settle()
        assert not disks.records
        steer = disks.steering
        for change in (steer.impair("n1", DiskShape("full")), steer.lose_power("n1"), steer.restore("n1")):
            with pytest.raises(NemesisError, match="ask for them before"):
                await change
        await disks.close()

    asyncio.run(scene())
