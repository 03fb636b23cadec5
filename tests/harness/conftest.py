"""What tests of remote nodes share: an sshd of their own on 127.0.0.1."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from splitvote.harness.control.ssh import SshAddress

SSHD = Path("/usr/sbin/sshd")
START_TIMEOUT_S = 20.0
PRIVILEGE_FOLDER = Path("/run/sshd")
"""Where an sshd of root's wants an empty folder."""


def make_key(file: Path) -> str:
    """A key pair; its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(file)], check=True)
    return file.with_suffix(".pub").read_text().strip()


@dataclass(frozen=True, slots=True)
class Sshd:
    """A server that lets ``key`` in, as whoever runs the tests."""

    process: subprocess.Popen[bytes]
    port: int
    key: Path
    host_key: str

    def address(self, **others: object) -> SshAddress:
        """How to log in; the host's key is known."""
        given = {"port": self.port, "user": getpass.getuser(), "key": self.key, "host_key": self.host_key} | others
        return SshAddress(host="127.0.0.1", **given)  # type: ignore[arg-type]

    def sessions(self) -> list[int]:
        """The processes that serve connections, one each."""
        return children(self.process.pid)

    def tell_sessions(self, sign: signal.Signals) -> None:
        """Send a signal to all that serve connections: SIGKILL loses them."""
        for pid in self.sessions():
            for child in children(pid):
                if Path(f"/proc/{child}/comm").read_text().startswith("sshd"):  # the unprivileged half of a session
                    os.kill(child, sign)
            os.kill(pid, sign)


def children(pid: int) -> list[int]:
    """The children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd, an ordinary child of the tests."""
    if not SSHD.exists() or shutil.which("ssh-keygen") is None:
        pytest.skip(f"no {SSHD} or no ssh-keygen: install openssh-server and openssh-client to test control over ssh")
    folder = tmp_path_factory.mktemp("sshd")
    make_key(folder / "user")
    host_key = make_key(folder / "host")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        "StrictModes no\nUsePAM no\nUseDNS no\nPidFile none\nPasswordAuthentication no\nMaxStartups 100\n"
        "PermitRootLogin prohibit-password\n"
    )
    is_made = os.geteuid() == 0 and not PRIVILEGE_FOLDER.exists()
    if is_made:
        PRIVILEGE_FOLDER.mkdir(mode=0o755)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stdin=subprocess.DEVNULL, stderr=log)
    server = Sshd(process, port, folder / "user", host_key)
    try:
        await_listening(process, folder / "log")
        yield server
    finally:
        server.tell_sessions(signal.SIGKILL)
        process.kill()
        process.wait()
        if is_made:
            PRIVILEGE_FOLDER.rmdir()


def await_listening(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server says that it listens."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while "Server listening" not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline_s:
            pytest.fail(f"the sshd did not start: {log.read_text()}")
        time.sleep(0.02)
