"""What is particular to ssh: who is talked to, and what a connection that is lost means for what runs over it."""

from __future__ import annotations

import asyncio
import getpass
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.control import CommandFailed, Remote, Unreachable
from splitvote.harness.control.ssh import SshAddress, SshTransport
from splitvote.harness.errors import ConfigError

AWAIT_S = 20.0


@contextmanager
def reached(address: SshAddress) -> Iterator[Remote]:
    remote = Remote("n1", SshTransport(address))
    try:
        yield remote
    finally:
        asyncio.run(remote.close())


def other_key(folder: Path) -> tuple[Path, str]:
    file = folder / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(file)], check=True)
    return file, file.with_suffix(".pub").read_text()


def await_content(file: Path) -> None:
    """Wait until somebody has written to a file."""
    deadline_s = time.monotonic() + AWAIT_S
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_connection_that_was_lost_meanwhile_is_made_again(sshd: Any) -> None:
    with reached(sshd.address()) as remote:
        assert asyncio.run(remote.run(["echo", "1"])).text == "1\n"
        sshd.tell_sessions(signal.SIGKILL)
        assert asyncio.run(remote.run(["echo", "2"])).text == "2\n"


def test_a_command_whose_connection_is_lost_is_never_run_twice(sshd: Any, tmp_path: Path) -> None:
    """It may have been carried out; what became of it nobody knows."""
    trace = tmp_path / "trace"

    async def scene(remote: Remote) -> None:
        running = asyncio.create_task(remote.sh('echo run >>"$1"; exec sleep 4', str(trace), timeout_s=6))
        await asyncio.to_thread(await_content, trace)
        sshd.tell_sessions(signal.SIGKILL)
        with pytest.raises(CommandFailed, match=r"nobody knows what became of .*was lost") as failed:
            await running
        assert failed.value.status is None
        assert (await remote.run(["cat", str(trace)])).text == "run\n"

    with reached(sshd.address()) as remote:
        asyncio.run(scene(remote))


def test_a_server_that_hangs_holds_nobody_up(sshd: Any) -> None:
    """The bound holds even where nothing answers at all any more."""
    with reached(sshd.address()) as remote:
        asyncio.run(remote.run(["true"]))
        sshd.tell_sessions(signal.SIGSTOP)
        try:
            with pytest.raises((CommandFailed, Unreachable), match=r"may run still|opens no session|in time"):
                asyncio.run(remote.run(["true"], timeout_s=1))
        finally:
            sshd.tell_sessions(signal.SIGCONT)
        assert asyncio.run(remote.run(["echo", "back"])).text == "back\n"


def test_a_remote_that_was_closed_connects_anew(sshd: Any) -> None:
    transport = SshTransport(sshd.address())
    for _ in range(2):
        remote = Remote("n1", transport)
        assert asyncio.run(remote.run(["echo", "here"])).text == "here\n"
        asyncio.run(remote.close())
        asyncio.run(remote.close())


def test_a_host_with_another_key_is_not_talked_to(sshd: Any, tmp_path: Path) -> None:
    """Both keys are told by their fingerprints, and nothing was run there."""
    with (
        reached(sshd.address(host_key=other_key(tmp_path)[1])) as remote,
        pytest.raises(Unreachable, match=r"is not who it should be: its host key is SHA256:\S+, and SHA256:\S+ by"),
    ):
        asyncio.run(remote.run(["touch", str(tmp_path / "trace")]))
    assert not (tmp_path / "trace").exists()


def test_a_host_that_is_not_known_is_not_talked_to(sshd: Any, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    with (
        reached(sshd.address(host_key=None, known_hosts=known)) as remote,
        pytest.raises(Unreachable, match=rf"127.0.0.1\]:{sshd.port} is not known .*have its host key in {known}"),
    ):
        asyncio.run(remote.run(["true"]))


def test_a_host_is_known_by_a_known_hosts_file(sshd: Any, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n")
    with reached(sshd.address(host_key=None, known_hosts=known)) as remote:
        assert asyncio.run(remote.run(["true"])).status == 0
    known.write_text(f"[127.0.0.1]:{sshd.port} {other_key(tmp_path)[1]}\n")
    with (
        reached(sshd.address(host_key=None, known_hosts=known)) as remote,
        pytest.raises(Unreachable, match="is not who it should be"),
    ):
        asyncio.run(remote.run(["true"]))


def test_strangers_are_talked_to_where_that_was_asked_for(sshd: Any) -> None:
    with reached(sshd.address(host_key=None, strangers="accept")) as remote:
        assert asyncio.run(remote.run(["true"])).status == 0


def test_a_key_that_is_refused_is_told_at_once(sshd: Any, tmp_path: Path) -> None:
    with (
        reached(sshd.address(key=other_key(tmp_path)[0])) as remote,
        pytest.raises(Unreachable, match=rf"no ssh to {getpass.getuser()}@\[127.0.0.1\]:{sshd.port}: Authentication"),
    ):
        asyncio.run(remote.run(["true"]))


def test_a_port_on_which_nobody_listens_is_named() -> None:
    with socket.socket() as held:  # bound, and not listening
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with (
            reached(SshAddress(host="127.0.0.1", port=port, key=Path("/dev/null"))) as remote,
            pytest.raises(Unreachable, match=rf"no ssh to root@\[127.0.0.1\]:{port}: "),
        ):
            asyncio.run(remote.run(["true"]))


def test_a_server_that_does_not_speak_ssh_is_out_of_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        port = silent.getsockname()[1]
        with (
            reached(SshAddress(host="127.0.0.1", port=port)) as remote,
            pytest.raises(Unreachable, match=rf"{port}"),
        ):
            asyncio.run(remote.run(["true"], timeout_s=1))


def test_a_host_key_that_is_none_is_refused_before_anything_is_done() -> None:
    for words in ("", "ssh-ed25519", "ssh-ed25519 ???", "no key at all"):
        with pytest.raises(ConfigError, match=r"is no public key: it is to be as `ssh-ed25519"):
            SshTransport(SshAddress(host="127.0.0.1", host_key=words))
