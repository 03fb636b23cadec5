"""Processes on nodes, by a shell alone: started, known again, ended; and folders that are ours, or somebody else's."""

# ruff: noqa: ASYNC240  # a few small files, and nothing else goes on in the loop
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.remote.daemon import Daemon
from splitvote.harness.control import ControlError, Remote
from splitvote.harness.control.local import LocalTransport
from splitvote.harness.errors import NemesisError

SLEEP = ["sleep", "600"]
PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
Scene = Callable[[Daemon], Awaitable[None]]


class AsItIs(LocalTransport):
    """Who runs the tests may do to its own processes what the harness does as root."""

    is_root = True


def play(scene: Scene, folder: Path, owner: str = "here:run") -> None:
    """With a claimed folder, whose process is ended in any case."""

    async def run() -> None:
        remote = Remote("n1", AsItIs())
        daemon = Daemon(remote, str(folder), owner)
        try:
            await daemon.claim()
            await scene(daemon)
        finally:
            await daemon.signal("KILL")
            await remote.close()

    asyncio.run(run())


def test_a_process_outlives_the_command_that_started_it_and_is_known_again(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        assert (await daemon.look()).state is ProcessState.STOPPED
        await daemon.start(["sh", "-c", "echo hello; exec sleep 600"], PATH)
        found = await Daemon(daemon.remote, daemon.folder, "anybody").look()
        assert found.state is ProcessState.RUNNING
        environment = Path(f"/proc/{found.pid}/environ").read_text().split("\0")
        assert f"PATH={PATH['PATH']}" in environment
        assert not any(each.startswith("HOME=") for each in environment), "it is started with no other"
        assert (await daemon.remote.run(["cat", daemon.log])).text == "hello\n"

    play(scene, tmp_path / "run-1")


@pytest.mark.parametrize("signs", [("KILL",), ("TERM", "CONT")])
def test_a_suspended_process_is_ended_and_gone_when_that_returns(tmp_path: Path, signs: tuple[str, ...]) -> None:
    async def scene(daemon: Daemon) -> None:
        await daemon.start(SLEEP, PATH)
        await daemon.signal("STOP")
        assert (await daemon.until(ProcessState.PAUSED, timeout_s=10)).state is ProcessState.PAUSED
        await daemon.end(*signs, timeout_s=10)
        assert (await daemon.look()).state is ProcessState.STOPPED
        await daemon.end(*signs, timeout_s=10)

    play(scene, tmp_path / "run-1")


def test_a_process_that_does_not_end_is_told(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        await daemon.start(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], PATH)
        with pytest.raises(NemesisError, match=r"n1 \(pid \d+ there\) is not gone 0.5 s after SIGWINCH"):
            await daemon.end("WINCH", timeout_s=0.5)

    play(scene, tmp_path / "run-1")


def test_a_pid_that_is_anothers_by_now_is_left_alone(tmp_path: Path) -> None:
    """The same pid, and another start: the pidfile is an old one."""

    async def scene(daemon: Daemon) -> None:
        await daemon.start(SLEEP, PATH)
        pid, begun, boot = Path(daemon.folder, "pid").read_text().split()
        for old in (f"{pid} {int(begun) - 1} {boot}", f"{pid} {begun} another-boot", "", "garbage"):
            Path(daemon.folder, "pid").write_text(f"{old}\n")
            assert (await daemon.look()).state is ProcessState.STOPPED
            await daemon.end("KILL", timeout_s=1)
        Path(daemon.folder, "pid").write_text(f"{pid} {begun} {boot}\n")
        assert (await daemon.look()).state is ProcessState.RUNNING

    play(scene, tmp_path / "run-1")


def test_a_folder_of_somebody_elses_is_neither_used_nor_removed(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        other = Daemon(daemon.remote, daemon.folder, "there:run")
        with pytest.raises(ControlError, match="is not of our making, but of: here:run"):
            await other.claim()
        assert not await other.is_ours()
        await other.remove()
        assert await daemon.is_ours()
        await daemon.claim()
        await daemon.remove()
        assert not Path(daemon.folder).exists()

    play(scene, tmp_path / "run-1")


def test_a_folder_without_an_owner_is_nobodys(tmp_path: Path) -> None:
    async def scene(daemon: Daemon) -> None:
        Path(daemon.folder, "owner").unlink()
        with pytest.raises(ControlError, match="but of: somebody"):
            await daemon.claim()
        await daemon.remove()
        assert Path(daemon.folder).exists()

    play(scene, tmp_path / "run-1")


def test_a_node_on_which_another_run_goes_on_is_not_claimed(tmp_path: Path) -> None:
    """Both would count and drop the same packets; one that has ended is in nobody's way."""

    async def scene(daemon: Daemon) -> None:
        await daemon.start(SLEEP, PATH)
        second = Daemon(daemon.remote, str(tmp_path / "run-2"), "there:run")
        with pytest.raises(ControlError, match="another run is on it, of here:run: wait for its end, or heal it"):
            await second.claim()
        assert not (tmp_path / "run-2").exists()
        await daemon.end("KILL", timeout_s=10)
        await second.claim()

    play(scene, tmp_path / "run-1")


def test_data_are_wiped_and_their_folder_stays(tmp_path: Path) -> None:
    """A disk may be mounted there, and a file of its own that begins with a dot is no data."""

    async def scene(daemon: Daemon) -> None:
        data = Path(daemon.data)
        assert await daemon.content() == "blank"
        await daemon.wipe()
        (data / "member" / "wal").mkdir(parents=True)
        (data / ".disk").write_text("tried")
        assert await daemon.content() == "other"
        (data / "member" / "wal" / "0.wal").write_text("")
        assert await daemon.content() == "log"
        (data / "..more").write_text("")
        await daemon.wipe()
        assert list(data.iterdir()) == []
        (data / ".disk").write_text("tried")
        assert await daemon.content() == "blank"

    play(scene, tmp_path / "run-1")
