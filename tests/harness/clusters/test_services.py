"""Services that are there already: started, ended and suspended by their own commands, on a real process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.remote.inventory import Service
from splitvote.harness.clusters.remote.services import ServiceProcess
from splitvote.harness.control import CommandFailed, Remote
from splitvote.harness.control.local import LocalTransport
from splitvote.harness.errors import NemesisError

START = "setsid sleep 600 & echo $! >{folder}/pid"
"""Without a redirection, as people write it: what reads its output must not wait for its end."""


class AsItIs(LocalTransport):
    """Who runs the tests may do to its own processes what the harness does as root."""

    is_root = True


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    ended = f"[ ! -e {tmp_path}/pid ] || kill -KILL $(cat {tmp_path}/pid) 2>/dev/null; true"
    done(Remote("n1", AsItIs()), lambda remote: remote.sh(ended))


def done(remote: Remote, what: Callable[[Remote], Awaitable[object]]) -> None:
    async def scene() -> None:
        try:
            await what(remote)
        finally:
            await remote.close()

    asyncio.run(scene())


def service(folder: Path, **others: str) -> Service:
    given = {
        "start": START.format(folder=folder),
        "stop": f"kill $(cat {folder}/pid)",
        "kill": f"kill -KILL $(cat {folder}/pid)",
        "pid": f"cat {folder}/pid",
    }
    return Service(**(given | others))


def with_service(folder: Path, scene: Callable[[ServiceProcess], Awaitable[None]], **others: str) -> None:
    async def run(remote: Remote) -> None:
        await scene(ServiceProcess({"n1": service(folder, **others)}, {"n1": remote}, {"n1": "sleep"}))

    done(Remote("n1", AsItIs()), run)


def test_its_life_by_its_own_commands(folder: Path) -> None:
    async def scene(process: ServiceProcess) -> None:
        assert await process.state("n1") is ProcessState.STOPPED
        for end in (process.stop, process.kill):
            await process.start("n1")
            found, name = await process.look("n1")
            assert (found.state, name) == (ProcessState.RUNNING, "sleep")
            await process.start("n1")
            assert (await process.look("n1"))[0].pid == found.pid, "it runs: starting it does nothing"
            await end("n1")
            assert await process.state("n1") is ProcessState.STOPPED
            await end("n1")

    with_service(folder, scene)


def test_it_is_suspended_and_resumed_and_ended_in_between(folder: Path) -> None:
    """SIGTERM alone would not reach a process that is stopped."""

    async def scene(process: ServiceProcess) -> None:
        await process.start("n1")
        await process.pause("n1")
        assert await process.state("n1") is ProcessState.PAUSED
        await process.resume("n1")
        assert await process.state("n1") is ProcessState.RUNNING
        await process.pause("n1")
        await process.stop("n1")
        assert await process.state("n1") is ProcessState.STOPPED
        with pytest.raises(NemesisError, match="n1 cannot be paused: it does not run"):
            await process.pause("n1")
        await process.resume("n1")

    with_service(folder, scene)


def test_an_old_pidfile_is_not_taken_for_the_service(folder: Path) -> None:
    """The pid may be anybody's by now: here it is our own."""

    async def scene(process: ServiceProcess) -> None:
        (folder / "pid").write_text(f"{os.getpid()}\n")
        assert await process.state("n1") is ProcessState.STOPPED
        (folder / "pid").write_text("garbage\n")
        assert await process.state("n1") is ProcessState.STOPPED
        (folder / "pid").unlink()
        assert await process.state("n1") is ProcessState.STOPPED

    with_service(folder, scene)


def test_a_service_that_is_started_again_by_something_was_not_ended(folder: Path) -> None:
    """It would else be taken for a kill that took effect, or waited for in vain."""

    async def scene(process: ServiceProcess) -> None:
        await process.start("n1")
        with pytest.raises(NemesisError, match=r"n1 is back \(pid \d+\) as soon as it was ended"):
            await process.kill("n1")

    with_service(folder, scene, kill=f"kill -KILL $(cat {folder}/pid); {START.format(folder=folder)}")


def test_a_command_that_fails_is_told_with_its_words(folder: Path) -> None:
    async def scene(process: ServiceProcess) -> None:
        with pytest.raises(CommandFailed, match="no such unit"):
            await process.start("n1")

    with_service(folder, scene, start="echo no such unit >&2; exit 5")


def test_its_data_are_not_removed(folder: Path) -> None:
    async def scene(process: ServiceProcess) -> None:
        with pytest.raises(NemesisError, match="the data of n1 is not the harness's"):
            await process.wipe("n1")

    with_service(folder, scene)
