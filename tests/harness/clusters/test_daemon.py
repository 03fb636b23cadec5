"""Finding an etcd, knowing its version and defects, and the command line that starts a member."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from splitvote.harness.errors import ConfigError
from splitvote.harness.etcd import daemon
from splitvote.harness.etcd.daemon import Etcd, Seat, ServerOptions, clean_environment, find_etcd, flags


def a_program(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nprintf '%s\\n' '{says}'\n")
    path.chmod(0o755)
    return path


def an_etcd(number: tuple[int, int, int]) -> Etcd:
    return Etcd(Path("/bin/etcd"), ".".join(map(str, number)), number)


@pytest.fixture
def no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "PACKAGE", "no_such_package")


@pytest.mark.etcd
@pytest.mark.parametrize("version", ["3.4.23", "3.5.1", "3.5.16", "3.5.30"])
def test_a_stock_etcd_tells_its_version(etcd_binary: Callable[[str], Path], version: str) -> None:
    etcd = find_etcd(str(etcd_binary(version)))
    assert etcd.version == version
    assert etcd.number == tuple(map(int, version.split(".")))
    assert bool(etcd.known_defects) == (version == "3.5.1")


def test_a_version_in_the_making_is_one(tmp_path: Path) -> None:
    etcd = find_etcd(a_program(tmp_path / "etcd", "etcd Version: 3.6.0-rc.1\nGit SHA: x"))
    assert (etcd.version, etcd.number) == ("3.6.0-rc.1", (3, 6, 0))


def test_what_is_no_etcd_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no etcd at .*/nowhere: there is no such file; install"):
        find_etcd(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="it is a directory"):
        find_etcd(tmp_path)
    (tmp_path / "text").write_text("etcd Version: 3.5.9")
    with pytest.raises(ConfigError, match="it is not executable"):
        find_etcd(tmp_path / "text")
    with pytest.raises(ConfigError, match=r"asked for its version it said 'GNU coreutils'"):
        find_etcd(a_program(tmp_path / "ls", "GNU  coreutils"))
    with pytest.raises(ConfigError, match="it said 'nothing'"):
        find_etcd(a_program(tmp_path / "silent", ""))
    (tmp_path / "garbage").write_bytes(b"\x7fELF garbage")
    (tmp_path / "garbage").chmod(0o755)
    with pytest.raises(ConfigError, match="cannot be run here"):
        find_etcd(tmp_path / "garbage")


def test_one_that_does_not_answer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "VERSION_TIMEOUT_S", 0.1)
    program = tmp_path / "hangs"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    with pytest.raises(ConfigError, match=r"did not tell its version within 0.1 s"):
        find_etcd(program)


def test_the_newest_of_path_and_extra_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = a_program(tmp_path / "bin" / "etcd", "etcd Version: 3.5.9").parent
    (tmp_path / "site" / "an_extra").mkdir(parents=True)
    (tmp_path / "site" / "an_extra" / "__init__.py").write_text("raise AssertionError('nothing is imported')")
    monkeypatch.setenv("PATH", f"{on_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(daemon, "PACKAGE", "an_extra")
    assert find_etcd().version == "3.5.9"
    extra = a_program(tmp_path / "site" / "an_extra" / "etcdbin" / "etcd", "etcd Version: 3.5.10")
    assert find_etcd().path == extra
    a_program(on_path / "etcd", "etcd Version: 3.6.1")
    assert find_etcd().path == on_path / "etcd"
    assert find_etcd("etcd").path == on_path / "etcd", "a bare name is looked up on PATH"


@pytest.mark.usefixtures("no_extra")
def test_none_anywhere_says_where_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no etcd found; install splitvote\[etcd\]"):
        find_etcd()
    broken = a_program(tmp_path / "etcd", "I am a teapot")
    with pytest.raises(ConfigError, match=f"no etcd found; no etcd at {broken}.*teapot"):
        find_etcd()


@pytest.mark.parametrize(
    ("number", "numbers"),
    [
        ((3, 4, 20), ["14370"]),
        ((3, 4, 23), []),
        ((3, 5, 1), ["13766", "14370", "14685", "17425"]),
        ((3, 5, 3), ["14370", "14685", "17425"]),
        ((3, 5, 5), ["14685", "17425"]),
        ((3, 5, 6), ["17425"]),
        ((3, 5, 16), []),
        ((3, 6, 0), []),
    ],
)
def test_known_defects_are_those_of_the_version(number: tuple[int, int, int], numbers: list[str]) -> None:
    lines = an_etcd(number).known_defects
    assert [line.split(":")[0].removeprefix("etcd #") for line in lines] == numbers


SEAT = Seat(
    name="n2",
    data=Path("/run/data/n2"),
    listen_peer_url="http://127.0.0.1:40001",
    client_url="http://127.0.0.1:40002",
    peer_urls={"n1": "http://[fe80::1]:2380", "n2": "http://[fe80::2]:2380"},
    token="this-run",
)


def test_a_members_command_line() -> None:
    command = flags(an_etcd((3, 4, 23)), SEAT, ServerOptions(), ["--snapshot-count=100"])
    assert command[0] == "/bin/etcd"
    assert command[-1] == "--snapshot-count=100", "the user's flags come last, and so win"
    assert "--initial-cluster=n1=http://[fe80::1]:2380,n2=http://[fe80::2]:2380" in command
    assert "--initial-advertise-peer-urls=http://[fe80::2]:2380" in command
    assert "--listen-peer-urls=http://127.0.0.1:40001" in command
    assert "--logger=zap" in command


@pytest.mark.parametrize(
    ("number", "catchup", "progress"),
    [
        (
            (3, 5, 16),
            "--experimental-snapshot-catchup-entries=5",
            "--experimental-watch-progress-notify-interval=500ms",
        ),
        ((3, 6, 0), "--snapshot-catchup-entries=5", "--watch-progress-notify-interval=500ms"),
    ],
)
def test_flags_have_other_names_in_other_versions(number: tuple[int, int, int], catchup: str, progress: str) -> None:
    options = ServerOptions(snapshot_count=10, catchup_entries=5, watch_progress_s=0.5)
    command = flags(an_etcd(number), SEAT, options)
    assert {catchup, progress, "--snapshot-count=10"} <= set(command)


def test_an_option_that_a_version_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"etcd 3\.5\.1 cannot set its catch-up entries"):
        flags(an_etcd((3, 5, 1)), SEAT, ServerOptions(catchup_entries=5))
    with pytest.raises(ConfigError, match="at least five times"):
        ServerOptions(heartbeat_ms=300, election_ms=1000)


def test_a_members_environment_is_ours_alone() -> None:
    """ETCD_* variables are flags, and somebody's proxy would be asked for our members."""
    environment = {"PATH": "/bin", "ETCD_NAME": "x", "https_proxy": "http://p", "NO_PROXY": "*", "HTTP_PROXY": "y"}
    assert clean_environment(environment) == {"PATH": "/bin"}
    assert clean_environment(environment, proxy_url="socks5://127.0.0.1:1")["HTTP_PROXY"] == "socks5://127.0.0.1:1"
