"""What a harness that was killed leaves behind: nothing, and what it did leave all the same is undone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.leftovers import (
    DESCRIPTION,
    FILE_NAME,
    ClusterDescription,
    MadeDirectory,
    MemberDescription,
    heal_leftovers,
)
from splitvote.harness.clusters.processes import CAN_TETHER, ProcessRecord, state_of, wait_state
from splitvote.harness.clusters.procfs import started
from splitvote.harness.errors import NemesisError

BOUND_S = 180.0
HARNESS = """
import asyncio, sys
from pathlib import Path
from splitvote.harness.cluster import Links, Process
from splitvote.harness.clusters.local import LocalCluster
from splitvote.harness.clusters.processes import Children

async def main():
    cluster = LocalCluster(directory=Path(sys.argv[1]), nodes=3, etcd=sys.argv[2])
    if sys.argv[3] == "untethered":
        cluster._children = cluster._process._children = Children(tethered=False)
        cluster._network._links._proxy._children = cluster._children
    await cluster.up()
    await cluster.capability(Process).pause("n2")
    await cluster.capability(Links).cut([("n1", "n3")])
    watchdog = cluster._children._watchdog
    print(watchdog.pid if watchdog else 0, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@contextmanager
def a_killed_harness(directory: Path, etcd: Path, how: str) -> Iterator[ClusterDescription]:
    """A harness that paused a member and cut a link, and then got SIGKILL; gives what it had written down."""
    command = [sys.executable, "-c", HARNESS, str(directory), str(etcd), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as harness:
        try:
            assert harness.stdout is not None
            watchdog = int(harness.stdout.readline())
            description = DESCRIPTION.read(directory)
            assert description is not None
            assert len(asyncio.run(heal_leftovers(directory))) == 1, "a harness that runs is left alone"
            if watchdog:
                os.kill(watchdog, 9)
        finally:
            harness.kill()
    yield description


@pytest.mark.etcd
@pytest.mark.skipif(not CAN_TETHER, reason="only Linux ends children with their parent")
def test_nothing_is_left_of_a_killed_harness(tmp_path: Path, etcd_binary: Callable[[str], Path]) -> None:
    with a_killed_harness(tmp_path, etcd_binary("3.5.16"), "tethered") as description:
        processes = description.processes()
        assert list(processes) == ["n1", "n2", "n3", "link proxy"]
        for process in processes.values():
            assert asyncio.run(wait_state(process.pid, ProcessState.STOPPED, timeout_s=BOUND_S))
        assert asyncio.run(heal_leftovers(tmp_path)) == []


@pytest.mark.etcd
def test_what_is_left_all_the_same_is_ended_and_told(tmp_path: Path, etcd_binary: Callable[[str], Path]) -> None:
    """The kernel does not help here, and the watchdog was killed before the harness."""
    with a_killed_harness(tmp_path, etcd_binary("3.5.16"), "untethered") as description:
        processes = description.processes()
        del processes["link proxy"]  # ends by itself, with its control socket
        assert {name for name, process in processes.items() if process.is_alive()} == {"n1", "n2", "n3"}
        done = asyncio.run(heal_leftovers(tmp_path))
        told = [line.removeprefix("ended ") for line in done if "link proxy" not in line]
        assert told == [
            f"n1 (pid {processes['n1'].pid}), which was running",
            f"n2 (pid {processes['n2'].pid}), which was paused",
            f"n3 (pid {processes['n3'].pid}), which was running",
        ]
        assert [state_of(process.pid) for process in processes.values()] == [ProcessState.STOPPED] * 3
        assert asyncio.run(heal_leftovers(tmp_path)) == []


def test_a_stranger_with_an_old_pid_is_left_alone(tmp_path: Path) -> None:
    stranger = MemberDescription(process=ProcessRecord(os.getpid(), "another time", "etcd"))
    ended = ProcessRecord(os.getpid(), "yet another time", "")
    DESCRIPTION.write(tmp_path, ClusterDescription(harness=ended, members={"n1": stranger}))
    assert asyncio.run(heal_leftovers(tmp_path)) == []


def test_where_there_was_no_cluster_nothing_is_done(tmp_path: Path) -> None:
    assert asyncio.run(heal_leftovers(tmp_path)) == []
    assert asyncio.run(heal_leftovers(tmp_path / "nowhere")) == []


def test_a_description_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"harness": 1}')
    with pytest.raises(NemesisError, match="end the processes it names by hand"):
        asyncio.run(heal_leftovers(tmp_path))


def test_a_description_comes_back_as_it_was(tmp_path: Path) -> None:
    us = ProcessRecord(os.getpid(), started(os.getpid()), "")
    member = MemberDescription(ports={"client": 1, "peer": 2}, process=us, data=MadeDirectory.of(tmp_path))
    description = ClusterDescription(harness=us, members={"n1": member}, network={"link proxy": us})
    DESCRIPTION.write(tmp_path, description)
    assert DESCRIPTION.read(tmp_path) == description
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_made_directory_is_known_by_more_than_its_path(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.mkdir()
    made = MadeDirectory.of(path)
    assert made.is_still_there()
    path.rename(tmp_path / "elsewhere")
    assert not made.is_still_there()
    path.symlink_to(tmp_path / "elsewhere")
    assert not made.is_still_there(), "a link to it is not it"
