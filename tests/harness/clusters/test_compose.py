"""What compose nodes are told and what they say, without any docker: readers, files, and the programs called."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.data_copies import copy_sparsely, keep_copies, unpack
from splitvote.harness.clusters.joining import Content, whom_to_join
from splitvote.harness.clusters.processes import ProcessRecord
from splitvote.harness.clusters.remote import cluster as remote_cluster
from splitvote.harness.clusters.remote import compose_commands, composition
from splitvote.harness.clusters.remote.compose import ComposeHosts, services_of
from splitvote.harness.clusters.remote.composition import Composition, read_container
from splitvote.harness.clusters.remote.daemon import read_found
from splitvote.harness.clusters.remote.hosts import Node
from splitvote.harness.clusters.remote.node_facts import NO_AGENT, NodeFacts, common_facts, read_facts
from splitvote.harness.clusters.remote.node_keys import node_keys
from splitvote.harness.clusters.remote.nodes_file import NODES, NodesDescription
from splitvote.harness.errors import ConfigError, EnvironmentFailure, NemesisError

GONE = ProcessRecord(2**22 + 1, "1", "")
"""A harness that has ended: there is no such pid."""


def inspected(service: str, directory: Path, state: str = "running", **network: Any) -> dict[str, Any]:
    """What ``docker inspect`` says of a container, as far as it is read."""
    labels = {"com.docker.compose.service": service, "com.docker.compose.project.working_dir": str(directory)}
    settings = {"Networks": {"default": {"IPAddress": "198.19.0.2"}}, "Ports": {}} | network
    return {
        "Id": f"id-{service}",
        "State": {"Status": state},
        "Config": {"Labels": labels},
        "NetworkSettings": settings,
    }


def test_a_container_has_the_ports_that_are_published(tmp_path: Path) -> None:
    """Exposed ones that are not published have no place, be it told as null or as no places."""
    ports = {"22/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32801"}], "2380/tcp": None, "2379/tcp": []}
    found = read_container(inspected("n1", tmp_path, Ports=ports))
    assert (found.id, found.address, found.is_running) == ("id-n1", "198.19.0.2", True)
    assert found.published == {22: "127.0.0.1:32801"}


@pytest.mark.parametrize("ports", [None, {}])
def test_a_container_that_does_not_run_is_nowhere(tmp_path: Path, ports: dict[str, Any] | None) -> None:
    """It has no network, and no port."""
    found = read_container(inspected("n1", tmp_path, "exited", Networks={}, Ports=ports))
    assert (found.state, found.address, dict(found.published), found.is_running) == ("exited", "", {}, False)


def test_facts_are_read_line_by_line() -> None:
    """Several of a kind keep their order; lines that are no facts say nothing."""
    said = "etcd=/usr/bin/etcd\nversion=etcd Version: 3.4.23\nfilter=nft\nfilter=iptables\nnoise\nqdisc=htb\n"
    found = read_facts(said + "tool=python3\nagent=works\nclock=no ptrace here\n")
    assert found == NodeFacts(
        ("/usr/bin/etcd", "etcd Version: 3.4.23"), ("nft", "iptables"), ("htb",), ("python3",), "no ptrace here", None
    )
    assert found.binary("n1").version == "3.4.23"


@pytest.mark.parametrize("said", ["", "etcd=/usr/bin/etcd\n", "version=etcd Version: 3.5.1\n"])
def test_half_an_etcd_is_none(said: str) -> None:
    """A path without a version, or a version without a path: neither is used, and why no agent runs is told."""
    found = read_facts(said)
    assert (found.etcd, found.clock, found.agent) == (None, NO_AGENT, NO_AGENT)
    with pytest.raises(EnvironmentFailure, match="there is no etcd on n1"):
        found.binary("n1")


def test_nodes_have_in_common_what_each_has() -> None:
    """The better filter first; another etcd on one of them is no common one."""
    one = NodeFacts(("/e", "etcd Version: 3.5.1"), ("nft", "iptables"), ("htb", "netem"), clock=None, agent=None)
    two = NodeFacts(("/e", "etcd Version: 3.4.23"), ("iptables",), ("htb",), clock="why not", agent=None)
    assert common_facts([one, two]) == NodeFacts(None, ("iptables",), ("htb",), (), "why not", None)


def stat(state: str, name: str = "etcd") -> str:
    return f"77 ({name}) {state} 1 77 77 0 -1"


@pytest.mark.parametrize(
    ("threads", "state"),
    [
        ((), ProcessState.STOPPED),
        (("S", "R"), ProcessState.RUNNING),
        (("T", "T"), ProcessState.PAUSED),
        (("T", "S"), ProcessState.RUNNING),
        (("T", "Z"), ProcessState.PAUSED),
        (("Z",), ProcessState.STOPPED),
        (("X", "Z"), ProcessState.STOPPED),
    ],
)
def test_a_process_is_what_its_threads_are(threads: tuple[str, ...], state: ProcessState) -> None:
    """Suspended when every living thread is; gone when none lives, be its number still there."""
    assert read_found("\n".join(["77", *(stat(each) for each in threads)])).state is state


def test_a_process_without_a_number_is_gone() -> None:
    """The script prints nothing for it; a name with parentheses and blanks hides no state."""
    assert read_found("").pid is None
    assert read_found(f"77\n{stat('T', 'a ) S (b')}").state is ProcessState.PAUSED


def description(**changes: Any) -> NodesDescription:
    described = {"kind": "compose", "directory": "/d", "extras": [], "services": ["n1"], "control": "ssh", "found": {}}
    settings: dict[str, Any] = {"harness": GONE, "hosts": described, "token": "run-1", "owner": "me", "packets": "nft"}
    return NodesDescription(**{**settings, "is_open": True, "limits": {"n1": {"container": "x"}}, **changes})


def test_what_is_on_nodes_is_written_down_and_read_again(tmp_path: Path) -> None:
    """The same comes back; once closed, nothing is left to be undone."""
    NODES.write(tmp_path, description())
    assert NODES.read(tmp_path) == description()
    assert description().closed() == description(is_open=False, limits={})
    assert [file.name for file in tmp_path.iterdir()] == ["nodes.json"]


def test_a_description_that_cannot_be_read_is_no_empty_one(tmp_path: Path) -> None:
    """None where there is no file; a torn one is an error, since something may be on the nodes."""
    assert NODES.read(tmp_path) is None
    (tmp_path / "nodes.json").write_text('{"harness": {"pid"')
    with pytest.raises(NemesisError, match=r"cannot read .*nodes\.json"):
        NODES.read(tmp_path)


def test_keys_are_made_once_and_ours_stays_here(tmp_path: Path) -> None:
    """The folder that nodes see has no private key of ours; nobody but us can read either private key."""
    keys = node_keys(tmp_path / "keys")
    assert node_keys(tmp_path / "keys") == keys
    seen = {file.name for file in (tmp_path / "keys" / "node").iterdir()}
    assert seen == {"authorized_keys", "host_ed25519", "host_ed25519.pub"}
    assert [oct(file.stat().st_mode & 0o777) for file in (keys.private, tmp_path / "keys")] == ["0o600", "0o700"]
    assert keys.known_hosts.read_text().split(" ", 1) == ["splitvote-node", keys.host_key + "\n"]


def archive_of(folder: Path, file: Path) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        archive.add(folder, "data")
    return file


def test_data_comes_out_of_an_archive_as_it_was_without_its_zeros(tmp_path: Path) -> None:
    """Content, lengths and empty folders are the same; 64 MB of zeros take no room; what was there before is gone."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    (original / "member" / "snap").mkdir(parents=True)
    log = original / "member" / "0.wal"
    log.write_bytes(b"a" * 5000)
    os.truncate(log, 64_000_000)
    copy.mkdir()
    (copy / "stale").touch()
    unpack(archive_of(original, tmp_path / "copy.tar.gz"), "data", copy)
    assert sorted(str(each.relative_to(copy)) for each in copy.rglob("*")) == ["member", "member/0.wal", "member/snap"]
    taken = (copy / "member" / "0.wal").stat()
    assert taken.st_size == 64_000_000
    assert taken.st_blocks * 512 < 3_000_000
    assert (copy / "member" / "0.wal").read_bytes() == log.read_bytes()
    asyncio.run(keep_copies({"n1": copy, "n2": tmp_path / "none"}, tmp_path / "kept"))
    assert (tmp_path / "kept" / "n1" / "member" / "0.wal").read_bytes() == log.read_bytes()
    assert not (tmp_path / "kept" / "n2").exists()


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_sparse_copy_is_the_same(tmp_path: Path, size: int) -> None:
    """Zeros at the end and in whole blocks count as content, too."""
    content = (b"\x00" * (1 << 20) + b"\x01" + b"\x00" * (2 << 20))[:size]
    (tmp_path / "from").write_bytes(content)
    copy_sparsely(str(tmp_path / "from"), str(tmp_path / "to"))
    assert (tmp_path / "to").read_bytes() == content


def test_a_damaged_archive_leaves_the_copy_that_there_is(tmp_path: Path) -> None:
    """Cut off in the middle, or with a link in it: TarError, and nothing half done."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    (original / "log").write_bytes(os.urandom(200_000))
    copy.mkdir()
    (copy / "earlier").touch()
    whole = archive_of(original, tmp_path / "a.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    (original / "link").symlink_to("log")
    for bad in (tmp_path / "cut.tar.gz", archive_of(original, tmp_path / "link.tar.gz")):
        with pytest.raises(tarfile.TarError):
            unpack(bad, "data", copy)
        assert [each.name for each in copy.iterdir()] == ["earlier"]
    assert not (tmp_path / "copy.fresh").exists()


@pytest.mark.parametrize(
    ("content", "is_told", "joins"),
    [
        ("log", True, None),
        ("blank", True, {"n1": "there"}),
        ("other", True, {"n1": "there"}),
        ("other", False, None),
    ],
)
def test_members_with_a_log_go_on_and_others_join(
    content: Content, is_told: bool, joins: Mapping[str, str] | None
) -> None:
    """Whom to join is asked for without a log only; who has something else goes on with it when nobody can tell."""

    async def joining(node: str) -> Mapping[str, str]:
        if not is_told:
            raise NemesisError("no member answers")
        return {node: "there"}

    assert asyncio.run(whom_to_join("n1", content, joining)) == joins


def test_a_blank_member_that_nobody_tells_whom_to_join_is_not_started() -> None:
    """It would found a cluster of its own."""

    async def joining(node: str) -> None:
        raise NemesisError("no member answers")

    with pytest.raises(NemesisError, match="no member answers"):
        asyncio.run(whom_to_join("n1", "blank", joining))


class Tools:
    """A docker and a docker-compose of our own on PATH: they note what they are told, and say what they should."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = folder / "checkout"
        self.directory.mkdir(parents=True)
        self.docker("exit 1 # no Compose v2; `docker compose`")
        self.compose("exit 0")
        self.containers()

    def _make(self, name: str, body: str) -> None:
        file = self.folder / name
        file.write_text(f'#!/bin/sh\nfolder={self.folder}\necho "{name} $*" >>"$folder/told"\n{body}\n')
        file.chmod(0o755)

    def docker(self, on_compose: str, *, on_ps: str = 'cat "$folder/ids"') -> None:
        cases = (f"compose) {on_compose}", f"ps) {on_ps}", 'inspect) cat "$folder/inspected"')
        self._make("docker", 'case "$1" in\n' + "".join(f"{case}\n;;\n" for case in cases) + "esac")

    def compose(self, body: str) -> None:
        self._make("docker-compose", body)

    def containers(self, *found: dict[str, Any]) -> None:
        (self.folder / "ids").write_text("".join(f"{each['Id']}\n" for each in found))
        (self.folder / "inspected").write_text(json.dumps(found))

    @property
    def told(self) -> list[str]:
        return (self.folder / "told").read_text().splitlines()


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    made = Tools(tmp_path / "tools")
    monkeypatch.setenv("PATH", f"{made.folder}:/usr/bin:/bin")
    monkeypatch.delenv("COMPOSE_PROJECT_NAME", raising=False)
    return made


def test_compose_v2_goes_before_1_29(tools: Tools) -> None:
    """The plugin where there is one, else docker-compose; with our files, and our project's name."""
    Composition(tools.directory, ["disk"]).up(["n1"])
    given = f"-f {tools.directory}/docker-compose.yml -f {tools.directory}/docker-compose.disk.yml -p checkout"
    assert tools.told == ["docker compose version", f"docker-compose {given} up -d --no-build n1"]
    tools.docker("exit 0")
    Composition(tools.directory).stop(["n2"])
    assert tools.told[-1] == f"docker compose -f {tools.directory}/docker-compose.yml -p checkout stop -t 1 n2"


def test_a_project_goes_by_its_directory_or_as_compose_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Compose has it: in small letters, without what it does not allow; COMPOSE_PROJECT_NAME goes first."""
    monkeypatch.delenv("COMPOSE_PROJECT_NAME", raising=False)
    assert Composition(tmp_path / "_My.Split vote-2").project == "mysplitvote-2"
    assert Composition(tmp_path / "--").project == "default"
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "night")
    assert Composition(tmp_path / "checkout").project == "night"


def test_another_directorys_project_is_left_alone(tools: Tools, tmp_path: Path) -> None:
    """Two checkouts of one name would remove each other's nodes."""
    tools.containers(inspected("n1", tmp_path / "elsewhere"))
    with pytest.raises(ConfigError, match=r"elsewhere: set COMPOSE_PROJECT_NAME"):
        Composition(tools.directory).containers()


def test_an_engine_that_does_not_answer_is_told_in_its_own_words(tools: Tools) -> None:
    """Our failure, not a cluster's; nor is a missing docker, or a missing Compose."""
    tools.docker("exit 0", on_ps='echo "Cannot connect to the Docker daemon at X. Is it running?" >&2; exit 1')
    with pytest.raises(EnvironmentFailure, match=r"`docker ps` failed: Cannot connect to the Docker daemon at X"):
        Composition(tools.directory).containers()


def test_missing_programs_are_named(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is in the message."""
    (tools.folder / "docker-compose").unlink()
    monkeypatch.setenv("PATH", str(tools.folder))
    with pytest.raises(EnvironmentFailure, match="neither `docker compose` nor docker-compose is there"):
        Composition(tools.directory).up([])
    (tools.folder / "docker").unlink()
    with pytest.raises(EnvironmentFailure, match="no docker on PATH"):
        Composition(tools.directory).containers()


def test_down_goes_on_until_all_is_gone(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine may still make what a Compose that was killed had asked it for; that it never ends is an error."""
    monkeypatch.setattr(composition, "_PAUSE_S", 0.0)
    tools.containers(inspected("n4", tools.directory, "created"))
    tools.compose('echo >>"$folder/downs"; [ "$(wc -l <"$folder/downs")" -lt 3 ] || : >"$folder/ids"')
    Composition(tools.directory).down()
    assert len([line for line in tools.told if " down -v" in line]) == 3
    tools.containers(inspected("n4", tools.directory, "created"))
    tools.compose("exit 0")
    with pytest.raises(EnvironmentFailure, match="n4 cannot be removed"):
        Composition(tools.directory).down()


@pytest.mark.skipif(sys.platform != "linux", reason="children end with their parent on Linux only")
def test_compose_ends_with_the_harness(tools: Tools) -> None:
    """One that outlives a killed harness would go on bringing nodes up while `splitvote heal` removes them."""
    tools.compose('echo $$ >"$folder/pid.part"; mv "$folder/pid.part" "$folder/pid"; exec sleep 600')
    program = (
        "import sys; from pathlib import Path; from splitvote.harness.clusters.remote.composition import Composition\n"
        "Composition(Path(sys.argv[1])).up(['n1'])"
    )
    harness = subprocess.Popen([sys.executable, "-c", program, str(tools.directory)])
    try:
        pid = int(awaited(tools.folder / "pid", harness))
    finally:
        harness.send_signal(signal.SIGKILL)
        harness.wait()
    deadline_s = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def awaited(file: Path, writer: subprocess.Popen[bytes]) -> str:
    deadline_s = time.monotonic() + 60
    while not file.exists():
        assert writer.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return file.read_text()


def is_alive(pid: int) -> bool:
    try:
        return "(sleep) Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_ps_tells_of_nodes_that_are_not_there_or_do_not_run(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line each, without asking what cannot answer."""
    monkeypatch.setattr(compose_commands, "default_directory", lambda: tools.directory)
    tools.containers(inspected("n2", tools.directory, "exited", Networks={}))
    lines: list[str] = []
    compose_commands.ps(lines.append)
    assert [line.split() for line in lines[1:]] == [
        ["n1", "none"],
        ["n2", "exited", "-", "-", "-", "-"],
        *([name, "none"] for name in ("n3", "n4", "n5")),
    ]


def test_a_node_that_does_not_run_is_not_logged_in_to(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """What brings it up is in the message; a name that there is not is a matter of usage."""
    monkeypatch.setattr(compose_commands, "default_directory", lambda: tools.directory)
    tools.containers(inspected("n2", tools.directory, "exited"))
    for node in ("n1", "n2"):
        with pytest.raises(EnvironmentFailure, match=f"{node} is not up: `splitvote up` brings it up"):
            compose_commands.ssh(node, ["true"])
        with pytest.raises(EnvironmentFailure, match=f"{node} is not up"):
            compose_commands.logs(node, print)
    with pytest.raises(ConfigError, match="there is no node 'n6'"):
        services_of(["n1", "n6"])


def test_a_node_that_was_found_running_and_runs_no_more_is_not_passed_over(tools: Tools) -> None:
    """What is in it cannot be seen; one that is gone altogether, or was never up before us, holds nothing up."""
    tools.containers(inspected("n2", tools.directory, "exited"))
    project = Composition(tools.directory)
    found = {"n1": "running", "n2": "running"}
    with pytest.raises(EnvironmentFailure, match=r"n2 is exited.*`splitvote up`"):
        asyncio.run(ComposeHosts(project, ["n1", "n2"], found=found).reach())
    assert asyncio.run(ComposeHosts(project, ["n1", "n2"], found={}).reach()) == {}
    tools.containers()
    assert asyncio.run(ComposeHosts(project, ["n1", "n2"], found=found).reach()) == {}


class BrokenHosts:
    """Hosts that cannot be reached; what became of them is noted."""

    name = "compose"
    throttle = None

    def __init__(self) -> None:
        self.done: list[str] = []

    async def reach(self) -> Mapping[str, Node]:
        raise EnvironmentFailure("n1 is exited")

    async def let_go(self) -> None:
        self.done.append("let go")

    async def close(self) -> None:
        self.done.append("closed")


def test_nodes_that_could_not_be_healed_are_left_for_another_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not taken down with what could not be fetched, and stay written down as not healed."""
    hosts = BrokenHosts()
    monkeypatch.setattr(remote_cluster, "hosts_of", lambda described: hosts)
    NODES.write(tmp_path, description())
    with pytest.raises(EnvironmentFailure, match="n1 is exited"):
        asyncio.run(remote_cluster.heal_nodes(tmp_path))
    assert hosts.done == ["let go"]
    assert NODES.read(tmp_path) == description()


def test_nodes_of_a_harness_that_runs_are_left_alone(tmp_path: Path) -> None:
    """So are those with nothing to be undone."""
    from splitvote.harness.clusters.procfs import started

    mine = description(harness=ProcessRecord(os.getpid(), started(os.getpid()), ""))
    NODES.write(tmp_path, mine)
    (line,) = asyncio.run(remote_cluster.heal_nodes(tmp_path))
    assert "left alone" in line
    assert NODES.read(tmp_path) == mine
    NODES.write(tmp_path, mine.closed())
    assert asyncio.run(remote_cluster.heal_nodes(tmp_path)) == []
