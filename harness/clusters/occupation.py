"""What one run has on the nodes, and taking it away again: its processes, its rules for packets, its folders.

All that is to be taken away is known without the cluster that put it there, so
that another process can do it (``splitvote heal``).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.hosts import Node
from splitvote.harness.clusters.packetfilter import Filter
from splitvote.harness.clusters.remote_daemon import Daemon
from splitvote.harness.control import CommandFailed, ControlError, on_all
from splitvote.harness.errors import NemesisError

ROOT: Final = "/var/lib/splitvote"
"""Where everything of ours is, on a node."""

END_TIMEOUT_S: Final = 10.0
FETCH_TIMEOUT_S: Final = 120.0
FOLLOW_EVERY_S: Final = 1.0
_PLAIN: Final = "1"
_BUNDLED: Final = "65535"
"""Segments, or bundles of them as the kernel makes where it can: a packet lost is to be one packet."""

_UNQUEUE: Final = 'tc qdisc del dev "$1" root 2>/dev/null; ip link set dev "$1" gso_max_segs "$2"'


class Occupation:
    """What the run whose ``token`` names its folders has on these nodes; ``owner`` is the line in each folder."""

    def __init__(self, nodes: Mapping[str, Node], *, token: str, owner: str, packets: Filter, directory: Path) -> None:
        self._nodes = nodes
        self._packets = packets
        self._directory = directory
        self._following: list[asyncio.Task[None]] = []
        self.daemons = {name: Daemon(node.remote, f"{ROOT}/{token}", owner) for name, node in nodes.items()}

    async def claim(self) -> None:
        """Make the folders; raises ControlError for one that is another's."""
        await on_all(self.daemons, lambda name, daemon: daemon.claim())

    async def send_single_packets(self) -> None:
        """Have the nodes bundle nothing, so that what is counted and lost are packets."""

        async def do(name: str, node: Node) -> None:
            command = ["ip", "link", "set", "dev", node.interface, "gso_max_segs", _PLAIN]
            await node.remote.run(command, account="root")

        await on_all(self._nodes, do)

    def follow_logs(self) -> None:
        """Keep our copies of the logs current, but for a second, until ``clear``."""
        self._following = [
            asyncio.create_task(_follow(daemon, self._log(name)), name=f"splitvote log of {name}")
            for name, daemon in self.daemons.items()
        ]

    def _log(self, name: str) -> Path:
        return self._directory / "logs" / f"{name}.log"

    async def _unfollow(self) -> None:
        following, self._following = self._following, []
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)

    async def kill(self) -> list[str]:
        """End every process; a line for each."""
        lines = await on_all(self.daemons, _kill)
        return [line for line in lines.values() if line is not None]

    async def clear(self) -> list[str]:
        """End every process, lift every rule, fetch logs and data, and remove the folders; what was done, a line each.

        Everything is tried before the first failure is raised (NemesisError,
        OSError); a folder whose content could not be fetched is left.
        """
        await self._unfollow()
        done: list[str] = []
        failures: list[Exception] = []
        for step in (self.kill, self._unhurt, self._fetch):
            try:
                done += await step()
            except (NemesisError, OSError) as failure:
                failures.append(failure)
        if failures:
            raise failures[0]
        await on_all(self.daemons, lambda name, daemon: daemon.remove())
        return done

    async def _unhurt(self) -> list[str]:
        """Have the links healthy, whatever was done to them."""

        async def do(name: str, node: Node) -> None:
            command, text = self._packets.end()
            await node.remote.run(command, stdin=text.encode(), account="root")
            await node.remote.sh(_UNQUEUE, node.interface, _BUNDLED, account="root")

        await on_all(self._nodes, do)
        return []

    async def _fetch(self) -> list[str]:
        async def do(name: str, daemon: Daemon) -> None:
            if await daemon.is_there():
                await fetch_log(daemon, self._log(name))
                await fetch_data(daemon, self._directory / "data" / name)

        await on_all(self.daemons, do)
        return []


async def _kill(name: str, daemon: Daemon) -> str | None:
    found = await daemon.look()
    if found.state is ProcessState.STOPPED:
        return None
    await daemon.end("KILL", timeout_s=END_TIMEOUT_S)
    return f"ended {name} (pid {found.pid} there), which was {found.state}"


async def _follow(daemon: Daemon, log: Path) -> None:
    """Fetch what is new, again and again; a node that is out of reach, or a disk of ours that is full, is passed over.

    The last of it is fetched when the cluster is taken down, which tells what could not be.
    """
    while True:
        with contextlib.suppress(ControlError, OSError):
            await fetch_log(daemon, log)
        await asyncio.sleep(FOLLOW_EVERY_S)


async def fetch_log(daemon: Daemon, log: Path) -> None:
    """Append to our copy of a log what has come since; raises ControlError or OSError."""
    news = log.with_suffix(".news")
    try:
        command = ["tail", "-c", f"+{_size_bytes(log) + 1}", daemon.log]
        await daemon.remote.save(command, news, timeout_s=FETCH_TIMEOUT_S, account="root")
        with news.open("rb") as source, log.open("ab") as copy:
            shutil.copyfileobj(source, copy)
    except CommandFailed:
        if await daemon.has_log():
            raise
    finally:
        news.unlink(missing_ok=True)


def _size_bytes(log: Path) -> int:
    """How much of a log we have; makes room for it where that is nothing."""
    log.parent.mkdir(parents=True, exist_ok=True)
    return log.stat().st_size if log.exists() else 0


async def fetch_data(daemon: Daemon, data: Path) -> None:
    """Replace our copy of the data of a process that has ended by what the node has; holes stay holes.

    Raises ControlError or OSError.
    """
    if await daemon.content() == "blank":
        return
    data.parent.mkdir(parents=True, exist_ok=True)
    archive = data.with_suffix(".tar.gz")
    try:
        command = ["tar", "-C", daemon.folder, "-cSzf", "-", "data"]
        await daemon.remote.save(command, archive, timeout_s=FETCH_TIMEOUT_S, account="root")
        await asyncio.to_thread(_unpack, archive, data)
    except tarfile.TarError as failure:
        raise ControlError(f"{daemon.remote.name}: its data cannot be unpacked: {failure}") from None
    finally:
        archive.unlink(missing_ok=True)


def _unpack(archive: Path, destination: Path) -> None:
    """Take the folder ``data`` out of an archive, and make it ``destination``."""
    fresh = destination.with_suffix(".fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    with tarfile.open(archive) as files:
        files.extractall(fresh, filter="data")
    shutil.rmtree(destination, ignore_errors=True)
    (fresh / "data").rename(destination)
    fresh.rmdir()
