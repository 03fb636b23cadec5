"""Children that end with their parent, and processes that are told apart from strangers with their pid."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.processes import (
    CAN_TETHER,
    Children,
    ProcessRecord,
    state_of,
    wait_gone,
    wait_state,
)
from splitvote.harness.clusters.procfs import started, thread_states

BOUND_S = 180.0
SLEEPER = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
PARENT = """
import asyncio, os, sys, time
from splitvote.harness.clusters.processes import Children
children = Children(tethered=sys.argv[1] == "tethered")
with open(os.devnull, "wb") as output:
    command = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
    child = asyncio.run(children.spawn(command, env={}, output=output))
print(child.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def a_child(children: Children) -> Iterator[subprocess.Popen[bytes]]:
    with open(os.devnull, "wb") as output:
        child = asyncio.run(children.spawn(SLEEPER, env={}, output=output))
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        children.forget(child)
        children.close()


@contextmanager
def a_parent(how: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process with a child of its own, whose pid it tells."""
    with subprocess.Popen([sys.executable, "-c", PARENT, how], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            yield parent, int(parent.stdout.readline())
        finally:
            parent.kill()


def gone(pid: int) -> bool:
    return asyncio.run(wait_state(pid, ProcessState.STOPPED, timeout_s=BOUND_S))


@pytest.mark.parametrize("how", ["tethered", "watched"])
@pytest.mark.parametrize("is_suspended", [False, True], ids=["running", "suspended"])
def test_a_child_ends_with_its_killed_parent(how: str, is_suspended: bool) -> None:
    if how == "tethered" and not CAN_TETHER:
        pytest.skip("only Linux ends children with their parent")
    with a_parent(how) as (parent, pid):
        assert state_of(pid) is ProcessState.RUNNING
        if is_suspended:
            os.kill(pid, signal.SIGSTOP)
            assert asyncio.run(wait_state(pid, ProcessState.PAUSED, timeout_s=BOUND_S))
        parent.kill()
        assert gone(pid)


@pytest.mark.skipif(not CAN_TETHER, reason="only Linux ends children with their parent")
def test_a_child_whose_parent_died_before_it_could_ask_does_not_start(tmp_path: Path) -> None:
    """As if it had been adopted meanwhile: the parent it was told of is not the one it has."""
    from splitvote.harness.clusters import tether

    command = [sys.executable, "-I", "-S", tether.__file__, "1", "0", "", sys.executable, "-c", "print('started')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "gone already" in done.stderr
    assert "started" not in done.stdout


@pytest.mark.skipif(not CAN_TETHER, reason="only Linux ends children with their parent")
def test_a_command_that_cannot_be_run_says_so(tmp_path: Path) -> None:
    children = Children()
    with (tmp_path / "log").open("wb") as output:
        child = asyncio.run(children.spawn(["/nonexistent/etcd"], env={}, output=output))
    assert asyncio.run(wait_gone(child, timeout_s=BOUND_S))
    assert child.returncode == 1
    assert "cannot run /nonexistent/etcd: No such file or directory" in (tmp_path / "log").read_text()
    children.close()


def test_a_child_does_not_hear_the_terminal() -> None:
    """Ctrl-C goes to the foreground's process group; the harness heals and ends its children itself."""
    children = Children()
    with a_child(children) as child:
        assert os.getpgid(child.pid) != os.getpgid(os.getpid())


def test_states_are_the_operating_systems() -> None:
    async def scene(child: subprocess.Popen[bytes]) -> None:
        assert state_of(child.pid) is ProcessState.RUNNING
        child.send_signal(signal.SIGSTOP)
        assert await wait_state(child.pid, ProcessState.PAUSED, timeout_s=BOUND_S)
        assert thread_states(child.pid) == {"T"}
        child.send_signal(signal.SIGCONT)
        assert await wait_state(child.pid, ProcessState.RUNNING, timeout_s=BOUND_S)
        assert not await wait_gone(child, timeout_s=0.05)
        child.kill()
        assert await wait_gone(child, timeout_s=BOUND_S)
        assert await wait_gone(child, timeout_s=BOUND_S)
        assert state_of(child.pid) is ProcessState.STOPPED

    with a_child(Children()) as child:
        asyncio.run(scene(child))


def test_a_zombie_does_not_run() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        assert gone(child.pid), "it has ended, though nobody has waited for it"


def test_a_record_knows_its_process_and_no_other() -> None:
    with a_child(Children()) as child:
        record = ProcessRecord(child.pid, started(child.pid), "time.sleep(600)")
        assert record.is_alive()
        assert not ProcessRecord(child.pid, "another time", record.mark).is_alive()
        assert not ProcessRecord(child.pid, record.started, "etcd").is_alive()
        assert not ProcessRecord(os.getpid(), record.started, "").is_alive()
        child.kill()
        child.wait()
        assert not record.is_alive()
        assert started(child.pid) == ""
