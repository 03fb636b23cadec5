"""Disks of this machine's members: their data under FUSE file systems of their own, where that was asked for.

What is mounted covers the folder of all data, in a mount namespace that the
node's disk process has made and its member enters; everybody else, the harness
among them, sees that folder as it is, with all that was written, synced or not.
So nothing has to be unmounted, whatever ends the harness: the namespace goes
with its last process.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from splitvote.harness.clusters.disks import server
from splitvote.harness.clusters.disks.mounts import AS_USER
from splitvote.harness.clusters.disks.steering import UNASKED, DiskSteering
from splitvote.harness.clusters.leftovers import MadeDirectory
from splitvote.harness.clusters.network.controlled import ControlledProcess, environment, program
from splitvote.harness.clusters.processes import CAN_TETHER, Children, ProcessRecord
from splitvote.harness.errors import EnvironmentFailure, NemesisError

TRY_TIMEOUT_S: Final = 20.0


@functools.cache
def problem(kind: str | None = None) -> str | None:
    """What keeps FUSE from being mounted here, as it was tried out once; None where nothing does.

    ``kind`` "user" does without root's privileges even where there are some.
    """
    if not CAN_TETHER:
        return "FUSE is mounted on Linux only"
    command = [*program(server.__name__), "--try", *filter(None, [kind])]
    try:
        done = subprocess.run(
            command,
            env=environment(),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=TRY_TIMEOUT_S,
            check=False,
        )
        found: dict[str, str] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return f"to try out a mount took more than {TRY_TIMEOUT_S:g} s"
    except ValueError:
        said = " ".join(done.stderr.decode(errors="replace").split())[-200:]
        return f"to try out a mount failed: {said or f'exit status {done.returncode}'}"
    return found.get("problem")


class FuseDisks:
    """``open`` mounts, if ``is_asked``, before any member starts; ``close`` comes after their end.

    ``steering`` is the capability Disk.

    ``data`` is the folder of all data, beside which one is made for what was
    removed and may come back (``made``); ``within`` are the namespaces (descriptors)
    that a node is in already; ``kill`` ends a node's process at once.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        children: Children,
        *,
        data: Path,
        is_asked: bool,
        within: Callable[[str], Sequence[int]],
        kill: Callable[[str], Awaitable[None]],
        kind: str | None = None,
    ) -> None:
        self._is_asked = is_asked
        self._data = data
        self.made: MadeDirectory | None = None
        self._within = within
        self.steering = DiskSteering(self._ask, kill, lambda: problem(kind))
        self._kind = kind
        self._processes = {
            node: ControlledProcess(f"disk of {node}", server.__name__, children) for node in nodes if is_asked
        }
        self._namespaces: dict[str, tuple[int, ...]] = {}

    # Its life.

    async def open(self, logs: Path) -> None:
        """Mount; raises OSError, NemesisError, or EnvironmentFailure where that cannot be."""
        if not self._is_asked:
            return
        if (missing := problem(self._kind)) is not None:
            raise EnvironmentFailure(f"members' disks cannot be broken here: {missing}")
        self.made = MadeDirectory.of(Path(tempfile.mkdtemp(prefix="disks-", dir=self._data.parent)))
        for node in self._processes:
            (Path(self.made.path) / node).mkdir()
        await asyncio.gather(*(self._open(node, logs) for node in self._processes))

    async def _open(self, node: str, logs: Path) -> None:
        process = self._processes[node]
        assert self.made is not None
        arguments = [str(self._data), str(Path(self.made.path) / node), f".disk-of-{node}", *filter(None, [self._kind])]
        await process.open(logs / f"disk-{node}.log", arguments, namespaces=self._within(node))
        made = await process.ask({"do": "begin"})
        assert process.record is not None
        entered = ("user", "mnt") if made["as"] == AS_USER else ("mnt",)
        place = f"/proc/{process.record.pid}/ns"
        self._namespaces[node] = tuple(os.open(f"{place}/{name}", os.O_RDONLY) for name in entered)

    def namespaces(self, node: str) -> tuple[int, ...]:
        """What the node's process enters beside those it is in (descriptors of ours)."""
        return self._namespaces.get(node, ())

    @property
    def records(self) -> Mapping[str, ProcessRecord]:
        """The processes by node."""
        found = {node: process.record for node, process in self._processes.items()}
        return {node: record for node, record in found.items() if record is not None}

    @property
    def trouble(self) -> str | None:
        """Which of the processes has ended though nobody ended it, if any."""
        died = [node for node, process in self._processes.items() if process.has_died]
        return f"the disk of {died[0]}" if died else None

    async def close(self) -> None:
        """End the processes, and with them the mounts; idempotent."""
        try:
            for process in self._processes.values():
                await process.close()
        finally:
            for descriptors in self._namespaces.values():
                for descriptor in descriptors:
                    os.close(descriptor)
            self._namespaces = {}
            self.steering.forget()
            if self.made is not None:
                shutil.rmtree(self.made.path, ignore_errors=True)
                self.made = None

    # What is done to them.

    async def _ask(self, node: str, request: dict[str, Any]) -> dict[str, Any]:
        process = self._processes.get(node)
        if process is None:
            raise NemesisError(f"the disk of {node} is as it is: {UNASKED}")
        return await process.ask(request)

    async def settle(self, nodes: Sequence[str] | None = None) -> None:
        """Have all that these nodes (None: all) have written on their disks for good, where they have such disks."""
        for node in self._namespaces if nodes is None else nodes:
            if node in self._namespaces:
                await self._ask(node, {"do": "settle"})
