"""The agent of a node, this machine being the node: what it does to processes, and that it does not stay behind."""

from __future__ import annotations

import asyncio
import base64
import http.server
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.clocks.vdso import TRUE, Course, is_patched, reason_against
from splitvote.harness.clusters.failpoints import GofailPoints, through
from splitvote.harness.clusters.procfs import started
from splitvote.harness.clusters.remote.agents import FOLDER, NodeAgents, probe_script, program
from splitvote.harness.clusters.remote.clock import RemotePatcher
from splitvote.harness.clusters.remote.daemon import Daemon
from splitvote.harness.clusters.remote.node_agent import read_pidfile
from splitvote.harness.clusters.remote.node_facts import read_facts
from splitvote.harness.control import Remote
from splitvote.harness.control.local import LocalTransport
from splitvote.harness.errors import NemesisError
from tests.harness.clusters.teller import Teller

S = 1_000_000_000
BOUND_S = 20.0

pytestmark = [
    pytest.mark.skipif((why := reason_against()) is not None, reason=str(why)),
    pytest.mark.skipif(os.geteuid() != 0, reason="an agent runs as root, by `sudo -n` where need be"),
]


@dataclass(frozen=True, slots=True)
class Member:
    """A member whose node is this machine."""

    daemon: Daemon


@pytest.fixture
def teller() -> Iterator[Teller]:
    each = Teller()
    each.ahead_ns()
    yield each
    each.end()


@asynccontextmanager
async def node(folder: Path) -> AsyncIterator[tuple[dict[str, Member], NodeAgents]]:
    """One node, whose member is in this folder."""
    remote = Remote("n1", LocalTransport())
    members = {"n1": Member(Daemon(remote, str(folder), "test"))}
    agents = NodeAgents(members)
    try:
        yield members, agents
    finally:
        await agents.close()
        await remote.close()


def seat(teller: Teller, folder: Path) -> None:
    """Have the folder's process be the teller."""
    ticks, _, boot = started(teller.pid).partition(" ticks after boot ")
    (folder / "pid").write_text(f"{teller.pid} {ticks} {boot}\n")


def test_a_nodes_process_is_patched_steered_and_released_by_its_agent(teller: Teller, tmp_path: Path) -> None:
    """Courses arrive by their age; what the process shows is what a local patch would have it show."""
    seat(teller, tmp_path)

    async def run() -> None:
        async with node(tmp_path) as (members, agents):
            patcher = RemotePatcher(members, agents, None)
            pid = await patcher.pid_of("n1")
            assert pid == teller.pid
            assert await patcher.state("n1") is ProcessState.RUNNING
            assert await patcher.courses("n1", pid) is None
            goes = await patcher.steer("n1", pid, wall=Course(-3600 * S), monotonic=Course(5 * S))
            assert goes == Course(5 * S)
            assert teller.is_ahead(-3600 * S, 5 * S)
            assert await patcher.courses("n1", pid) == (Course(-3600 * S), Course(5 * S))

            before_ns = time.time_ns()
            await patcher.steer("n1", pid, wall=Course(0, 0.5, before_ns - 10 * S), monotonic=Course(5 * S))
            told_ns, _ = teller.ahead_ns()
            assert abs(told_ns - 5 * S) <= time.time_ns() - before_ns, "it gains half of what passes, from 5 s on"

            slowed = await patcher.steer("n1", pid, wall=TRUE, monotonic=TRUE)
            assert slowed is not None
            assert (slowed.base_ns, slowed.end_ns) == (5 * S, 0), "back at once it cannot go"
            assert slowed.rate < 0
            await patcher.release("n1", pid)
            await patcher.release("n1", pid)
            assert teller.is_ahead(0, 0)
            assert not is_patched(pid)

    asyncio.run(run())


def test_a_process_that_is_gone_is_told_and_what_cannot_be_is_an_error(teller: Teller, tmp_path: Path) -> None:
    seat(teller, tmp_path)

    async def run() -> None:
        async with node(tmp_path) as (members, agents):
            patcher = RemotePatcher(members, agents, None)
            await patcher.steer("n1", teller.pid, wall=Course(S), monotonic=TRUE)
            teller.end()
            assert await patcher.pid_of("n1") is None
            assert await patcher.state("n1") is ProcessState.STOPPED
            assert await patcher.steer("n1", teller.pid, wall=TRUE, monotonic=TRUE) is None
            with pytest.raises(NemesisError, match="n1: 'dance'"):
                await agents.ask("n1", "dance")

    asyncio.run(run())


def test_an_agent_that_is_gone_is_replaced_and_the_patch_taken_over(teller: Teller, tmp_path: Path) -> None:
    """All there is to know is in the patched process; the pidfile is always the newest agent's."""
    seat(teller, tmp_path)

    async def run() -> None:
        async with node(tmp_path) as (members, agents):
            patcher = RemotePatcher(members, agents, None)
            await patcher.steer("n1", teller.pid, wall=Course(7 * S), monotonic=TRUE)
            first = read_pidfile(tmp_path / FOLDER)
            assert first is not None
            os.kill(first, 9)
            assert await patcher.courses("n1", teller.pid) == (Course(7 * S), TRUE)
            second = read_pidfile(tmp_path / FOLDER)
            assert second not in (None, first)
            os.kill(second or 0, 9)
            await patcher.release("n1", teller.pid)  # the third has patched nothing
            assert teller.is_ahead(0, 0)
            second = read_pidfile(tmp_path / FOLDER)

            other = NodeAgents(members)  # of a harness that took the folder over: there is one agent a folder
            await other.ask("n1", "look", folder=str(tmp_path))
            assert read_pidfile(tmp_path / FOLDER) not in (None, first, second)
            await other.close()

    asyncio.run(run())


def test_an_agent_ends_with_its_input_and_is_ended_by_its_pidfile(tmp_path: Path) -> None:
    async def run() -> None:
        async with node(tmp_path) as (members, agents):
            agent = Daemon(members["n1"].daemon.remote, f"{tmp_path}/{FOLDER}", "test")
            await agents.ask("n1", "look", folder=str(tmp_path))
            assert (await agent.look()).state is ProcessState.RUNNING
            await agents.close()
            found = await agent.until(ProcessState.STOPPED, timeout_s=BOUND_S)
            assert found.state is ProcessState.STOPPED

            await agents.ask("n1", "look", folder=str(tmp_path))
            await agent.end("KILL", timeout_s=BOUND_S)

    asyncio.run(run())


def test_descriptors_are_limited_and_usage_is_told_by_the_agent(teller: Teller, tmp_path: Path) -> None:
    before = resource.prlimit(teller.pid, resource.RLIMIT_NOFILE)

    async def run() -> None:
        async with node(tmp_path) as (_, agents):
            assert (await agents.ask("n1", "limit_fds", pid=teller.pid, most=7)) == {"before": before[0]}
            used = await agents.ask("n1", "usage", pid=teller.pid)
            assert used["most_fds"] == 7
            assert used["fds"] >= 3
            await agents.ask("n1", "limit_fds", pid=teller.pid, most=before[0])
            assert await agents.ask("n1", "usage", pid=2**22 + 1) == {"gone": True}

    asyncio.run(run())
    assert resource.prlimit(teller.pid, resource.RLIMIT_NOFILE) == before


class GofailEndpoint(http.server.BaseHTTPRequestHandler):
    """What gofail documents, for one point."""

    terms = ""

    def log_message(self, *about: object) -> None:
        pass

    def _answer(self, status: int, text: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self) -> None:
        self._answer(200, f"beforeCommit={GofailEndpoint.terms}\n")

    def do_PUT(self) -> None:
        terms = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path != "/beforeCommit":
            return self._answer(400, "no such point")
        GofailEndpoint.terms = terms
        return self._answer(204)

    def do_DELETE(self) -> None:
        GofailEndpoint.terms = ""
        self._answer(204)


def test_failpoints_are_switched_by_the_agent_whose_node_alone_reaches_them(tmp_path: Path) -> None:
    """Refusals come with their words; an endpoint that does not answer is an error, too."""

    async def run(address: str) -> None:
        async with node(tmp_path) as (_, agents):
            points = GofailPoints(through(agents, address))
            assert await points.known("n1") == {"beforeCommit": ""}
            await points.enable("n1", "beforeCommit", "sleep(10)")
            assert await points.known("n1") == {"beforeCommit": "sleep(10)"}
            for _ in range(2):
                await points.disable("n1", "beforeCommit")
            assert await points.known("n1") == {"beforeCommit": ""}
            with pytest.raises(NemesisError, match="n1 would not PUT nowhere panic: 400 no such point"):
                await points.enable("n1", "nowhere", "panic")
            with pytest.raises(NemesisError, match=r"n1: .*refused"):
                await GofailPoints(through(agents, "127.0.0.1:1")).known("n1")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), GofailEndpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            asyncio.run(run(f"127.0.0.1:{server.server_port}"))
        finally:
            server.shutdown()


def test_the_agent_needs_nothing_but_pythons_own_library(tmp_path: Path) -> None:
    """It runs without site packages, from the one file; the file is the same whenever it is made."""
    assert set(zipfile.ZipFile(BytesIO(program())).namelist()) >= {"__main__.py"}
    agent = tmp_path / "agent"
    agent.write_bytes(program())
    done = subprocess.run([sys.executable, "-I", "-S", str(agent), "--probe"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "clock=works" in done.stdout.splitlines()
    shipped = base64.b64encode(program()[:30]).decode()
    assert shipped in probe_script()


def test_the_probe_says_what_works_and_leaves_no_file(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    done = subprocess.run(["sh", "-s"], input=probe_script(), capture_output=True, text=True, env=environment)
    facts = read_facts(done.stdout)
    assert facts.clock is None
    assert list(tmp_path.iterdir()) == []


def test_nodes_without_python_say_that_it_is_missing(tmp_path: Path) -> None:
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run([shell, "-s"], input=probe_script(), capture_output=True, text=True, env={"PATH": ""})
    facts = read_facts(done.stdout)
    assert "python3" in (facts.clock or "")
    assert "python3" in (facts.agent or "")
