"""The nodes of docker-compose.yml by hand and in trouble, on a real docker (tests/acceptance/compose.sh runs these).

Needs the image splitvote-node.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from splitvote.harness.cluster import Health, Process
from splitvote.harness.clusters.remote.compose import compose_cluster
from splitvote.harness.clusters.remote.composition import SERVICES, Composition, Container, default_directory
from splitvote.harness.errors import EnvironmentFailure, NemesisError

pytestmark = pytest.mark.skipif(
    not os.environ.get("SPLITVOTE_TEST_DOCKER"),
    reason="SPLITVOTE_TEST_DOCKER is not set: no docker is to be used for tests (see tests/acceptance/own_docker.sh)",
)

BOUND_S = 90.0


@pytest.fixture
def composition(monkeypatch: pytest.MonkeyPatch) -> Iterator[Composition]:
    """A project of the test's own, which is gone in the end even where the test left it."""
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", f"svtest-{os.getpid()}-nodes")
    project = Composition(default_directory())
    yield project
    if project.containers():
        project.down()


COMMAND = (sys.executable, "-m", "splitvote.harness.cli")


def splitvote(*arguments: str) -> tuple[int, str]:
    """Run the command; its status, and all it said."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=BOUND_S)
    return done.returncode, done.stdout + done.stderr


def docker(*arguments: str) -> str:
    """Somebody else's command to the engine."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=BOUND_S).stdout


def until(holds: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + BOUND_S
    while not holds():
        assert time.monotonic() < deadline_s, f"{what} within {BOUND_S:g} s"
        time.sleep(0.05)


def ids(containers: dict[str, Container]) -> dict[str, str]:
    return {name: container.id for name, container in containers.items()}


def test_compose_reads_the_file() -> None:
    """One capability, and ports that nobody but this machine sees."""
    said = Composition(default_directory())._compose("config", timeout_s=BOUND_S)
    for name in SERVICES:
        (block,) = re.findall(rf"^  {name}:\n((?:    .*\n)+)", said, re.MULTILINE)
        capabilities = block[block.index("cap_add:") : block.index("hostname:")]
        assert re.findall(r"^ +- (\w+)$", capabilities, re.MULTILINE) == ["NET_ADMIN"]
        assert re.findall(r"(?:host_ip: |- )(\d+\.\d+\.\d+\.\d+)", block) == ["127.0.0.1", "127.0.0.1"]


def test_nodes_by_hand(composition: Composition) -> None:
    """Up twice is up; a node that does not run is told of, and comes back; down twice is down."""
    for _ in range(2):
        status, said = splitvote("up", "n1", "n2")
        assert status == 0, said
        nodes = composition.containers()
        assert [(name, node.is_running) for name, node in nodes.items()] == [("n1", True), ("n2", True)]
        assert [line.split()[0:2] for line in said.splitlines()[-5:-3]] == [["n1", "running"], ["n2", "running"]]
    assert splitvote("ssh", "n1", "hostname") == (0, "n1\n")
    assert splitvote("ssh", "n1", "exit 7")[0] == 7
    assert "Server listening" in splitvote("logs", "n2")[1]

    docker("kill", nodes["n2"].id)
    status, said = splitvote("ps")
    assert (status, re.findall(r"^(n2 .*?)\s+-", said, re.MULTILINE)) == (0, ["n2    exited"])
    for command in ("ssh", "logs"):
        assert splitvote(command, "n2") == (3, "splitvote: n2 is not up: `splitvote up` brings it up\n")
    assert splitvote("up", "n2")[0] == 0
    assert ids(composition.containers()) == ids(nodes)

    assert splitvote("down") == (0, "removed n1, n2\n")
    assert splitvote("down") == (0, "no nodes were up\n")
    assert composition.containers() == {}


def test_nodes_that_are_in_use_are_refused(tmp_path: Path, composition: Composition) -> None:
    """The second run is told whose they are, and neither hurts the first one nor removes its nodes."""

    async def run() -> None:
        async with compose_cluster(directory=tmp_path / "one", nodes=3, composition=composition) as first:
            before = ids(composition.containers())
            second = compose_cluster(directory=tmp_path / "two", nodes=3, control="docker", composition=composition)
            with pytest.raises(EnvironmentFailure, match=rf"another run is on it, of .*{tmp_path}/one"):
                await second.up()
            assert ids(composition.containers()) == before
            health = first.capability(Health)
            assert health is not None
            assert await health.unready(first.nodes, timeout_s=BOUND_S) == {}
        assert composition.containers() == {}

    asyncio.run(run())


@pytest.mark.parametrize("control", ["ssh", "docker"])
def test_a_container_that_somebody_kills_is_no_fault_of_the_clusters(
    control: str, tmp_path: Path, composition: Composition
) -> None:
    """What is asked of it fails as our own failure, in the end too; the logs of the others have been fetched."""

    async def run() -> None:
        composition.up(["n1", "n2", "n3"])
        cluster = compose_cluster(directory=tmp_path, nodes=3, control=control, composition=composition)
        await cluster.up()
        docker("kill", composition.containers()["n3"].id)
        process = cluster.capability(Process)
        assert process is not None
        with pytest.raises(NemesisError, match="n3"):
            await process.kill("n3")
        await process.kill("n1")
        await process.start("n1")
        with pytest.raises(EnvironmentFailure, match=r"the nodes are not as they were: n3.*`splitvote heal`"):
            await cluster.down()
        assert all((tmp_path / "logs" / f"{name}.log").stat().st_size for name in ("n1", "n2"))
        assert all((tmp_path / "data" / name / "member").is_dir() for name in ("n1", "n2"))
        assert not (tmp_path / "data" / "n3").exists()

    asyncio.run(run())


class Harness:
    """A run in a process of its own, to be killed."""

    def __init__(self, store: Path, *arguments: str) -> None:
        command = ["run", "register", "--cluster", "compose", "--nodes", "3", "--time", "600", "--store", str(store)]
        self.run = store / "latest"
        self.output = store.with_suffix(".txt")
        with self.output.open("wb") as output:
            self._process = subprocess.Popen([*COMMAND, *command, *arguments], stdout=output, stderr=output)

    def await_in(self, file: str, text: str) -> None:
        path = self.run / file
        until(lambda: self._check() or (path.exists() and text in path.read_text()), f"no {text!r} in {file}")

    def _check(self) -> None:
        assert self._process.poll() is None, self.output.read_text()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def test_a_harness_that_is_killed_while_nodes_come_up_leaves_what_heal_takes_away(
    tmp_path: Path, composition: Composition
) -> None:
    """Whatever of the nodes is there is removed, and nothing comes up any more."""
    harness = Harness(tmp_path / "store")
    try:
        harness.await_in("nodes.json", '"is_open": true')
        until(composition.containers, "no container was made")
    finally:
        harness.kill()
    status, said = splitvote("heal", f"{harness.run}/")
    assert status == 0, said
    assert composition.containers() == {}
    assert splitvote("heal", f"{harness.run}/") == (0, "nothing to heal\n")
    assert splitvote("down") == (0, "no nodes were up\n")


def test_heal_waits_for_a_node_that_does_not_run(tmp_path: Path, composition: Composition) -> None:
    """What is of ours in a node that was there before is not given up because the node died after its harness did."""
    composition.up(["n1", "n2", "n3"])
    harness = Harness(tmp_path / "store", "--faults", "kill", "--interval", "1")
    try:
        harness.await_in("faults.jsonl", '"active"')
        victim = composition.containers()["n3"].id
    finally:
        harness.kill()
    docker("kill", victim)
    status, said = splitvote("heal", f"{harness.run}/")
    assert status == 3
    assert "n3 is exited" in said
    assert splitvote("up", "n1", "n2", "n3")[0] == 0
    status, said = splitvote("heal", f"{harness.run}/")
    assert (status, "the nodes (compose) are as they were found" in said) == (0, True), said
    for container in composition.containers().values():
        assert docker("exec", container.id, "sh", "-c", "ls /var/lib/splitvote; nft list tables") == "table ip nat\n"
    assert json.loads((harness.run / "nodes.json").read_text())["is_open"] is False
