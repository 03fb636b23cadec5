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
from splitvote.harness.clusters.data_copies import unpack
from splitvote.harness.clusters.network.packetfilter import Filter
from splitvote.harness.clusters.network.queueing import HANDLE
from splitvote.harness.clusters.remote.agents import FOLDER as AGENT_FOLDER
from splitvote.harness.clusters.remote.daemon import Daemon
from splitvote.harness.clusters.remote.disks import disk_of
from splitvote.harness.clusters.remote.hosts import Node
from splitvote.harness.control import CommandFailed, ControlError, on_all
from splitvote.harness.errors import NemesisError

ROOT: Final = "/var/lib/splitvote"
"""Where everything of ours is, on a node."""

END_TIMEOUT_S: Final = 10.0
FETCH_TIMEOUT_S: Final = 120.0
FOLLOW_EVERY_S: Final = 1.0

_UNQUEUE: Final = f"""
if tc qdisc show dev "$1" | grep -q "htb {HANDLE} root"; then tc qdisc del dev "$1" root || exit 1; fi
"""
_UNBUNDLE: Final = (
    _UNQUEUE
    + """
[ -s "$2/segments" ] || ip -d -o link show dev "$1" | sed -n 's/.*gso_max_segs \\([0-9]*\\).*/\\1/p' >"$2/segments"
ip link set dev "$1" gso_max_segs 1
"""
)
"""Segments, not bundles of them as the kernel makes where it can: a packet lost is to be one packet."""

_BUNDLE: Final = (
    _UNQUEUE
    + """
segments=$(cat "$2/segments" 2>/dev/null) || exit 0
case $segments in ''|1) segments=65535;; esac  # 1: left by a run of ours, which was never healed
ip link set dev "$1" gso_max_segs "$segments"
"""
)


class Occupation:
    """What the run whose ``token`` names its folders has on these nodes; ``owner`` is the line in each folder.

    Logs and data are fetched into ``directory`` (None: it starts no members, and has none).
    """

    def __init__(
        self, nodes: Mapping[str, Node], *, token: str, owner: str, packets: Filter, directory: Path | None
    ) -> None:
        self._nodes = nodes
        self._packets = packets
        self._directory = directory
        self._following: list[asyncio.Task[None]] = []
        self.daemons = {name: Daemon(node.remote, f"{ROOT}/{token}", owner) for name, node in nodes.items()}
        self._agents = {
            name: Daemon(node.remote, f"{ROOT}/{token}/{AGENT_FOLDER}", owner) for name, node in nodes.items()
        }

    async def claim(self) -> None:
        """Make the folders; raises ControlError for one that is another's."""
        await on_all(self.daemons, lambda name, daemon: daemon.claim())

    async def send_single_packets(self) -> None:
        """Have the nodes bundle nothing, so that what is counted and lost are packets."""

        async def do(name: str, node: Node) -> None:
            await node.remote.sh(_UNBUNDLE, node.interface, self.daemons[name].folder, account="root")

        await on_all(self._nodes, do)

    def follow_logs(self) -> None:
        """Keep our copies of the logs current, but for a second, until ``clear``."""
        self._following = [
            asyncio.create_task(_follow(daemon, self._log(name)), name=f"splitvote log of {name}")
            for name, daemon in self.daemons.items()
        ]

    def _log(self, name: str) -> Path:
        assert self._directory is not None
        return self._directory / "logs" / f"{name}.log"

    async def _unfollow(self) -> None:
        following, self._following = self._following, []
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)

    async def clear(self) -> list[str]:
        """End every process, lift every rule, fetch logs and data, and remove the folders; what was done, a line each.

        Everything is tried, on all nodes, before the first failure is raised
        (NemesisError); a folder whose content could not be fetched is
        left.  A node on which no folder is ours has nothing else of ours.
        """
        await self._unfollow()
        lines = await on_all(self._nodes, self._clear_node)
        return [line for done in lines.values() for line in done]

    async def _clear_node(self, name: str, node: Node) -> list[str]:
        daemon = self.daemons[name]
        if not await daemon.is_ours():
            return []
        done: list[str] = []
        failures: list[NemesisError] = []
        for step in (_kill, _end_disk, self._unhurt, self._fetch):
            try:
                done += await step(name, daemon)
            except NemesisError as failure:
                failures.append(failure)
        if failures:
            raise failures[0]
        await daemon.remove()
        return done

    async def _unhurt(self, name: str, daemon: Daemon) -> list[str]:
        """Have a node's links healthy, whatever was done to them."""
        command, text = self._packets.end()
        await daemon.remote.run(command, stdin=text.encode(), account="root")
        await daemon.remote.sh(_BUNDLE, self._nodes[name].interface, daemon.folder, account="root")
        return []

    async def _fetch(self, name: str, daemon: Daemon) -> list[str]:
        if self._directory is not None:
            await self._fetch_into(self._directory, name, daemon)
        return []

    async def _fetch_into(self, directory: Path, name: str, daemon: Daemon) -> None:
        try:
            await fetch_log(daemon, self._log(name))
            await fetch_data(daemon, directory / "data" / name)
        except OSError as failure:
            why = failure.strerror or failure
            raise NemesisError(f"what {name} has cannot be kept in {directory}: {why}; make room for it") from None


async def _kill(name: str, daemon: Daemon) -> list[str]:
    found = await daemon.look()
    if found.state is ProcessState.STOPPED:
        return []
    await daemon.end("KILL", timeout_s=END_TIMEOUT_S)
    return [f"ended {name} (pid {found.pid} there), which was {found.state}"]


async def _end_disk(name: str, daemon: Daemon) -> list[str]:
    """After the member, which does not end on its disk's account then."""
    return await _kill(f"the disk of {name}", disk_of(daemon))


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
    """Replace our copy of the data of a process that has ended by what the node has.

    Raises ControlError or OSError.
    """
    if await daemon.content() == "blank":
        return
    data.parent.mkdir(parents=True, exist_ok=True)
    archive = data.with_suffix(".tar.gz")
    try:
        command = ["tar", "-C", daemon.folder, "-cSzf", "-", "data"]
        await daemon.remote.save(command, archive, timeout_s=FETCH_TIMEOUT_S, account="root")
        await asyncio.to_thread(unpack, archive, "data", data)
    except tarfile.TarError as failure:
        raise ControlError(f"{daemon.remote.name}: its data cannot be unpacked: {failure}") from None
    finally:
        archive.unlink(missing_ok=True)
