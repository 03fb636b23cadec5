"""The capability Disk over whatever asks the processes behind the disks (``server``), wherever they run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from splitvote.harness.errors import NemesisError, unknown
from splitvote.harness.machine import DISK_FAULTS, DiskReading, DiskShape

POWER_LOSS: Final = "power_loss"
DYING_S: Final = 0.3
_DYING: Final = DiskShape("slow_fsync", 60_000.0)
"""How a disk is whose power is about to go, and for how long: a leader's heartbeats come through, and a few writes."""

UNASKED: Final = "the cluster was brought up without disks that can be broken, which cost speed: ask for them before"


class DiskSteering:
    """See ``Disk``.

    ``ask`` has a node's process do something and raises NemesisError where it
    does not, ``kill`` ends a node's member at once, ``problem`` tells what
    keeps disks from being broken here.
    """

    def __init__(
        self,
        ask: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]],
        kill: Callable[[str], Awaitable[None]],
        problem: Callable[[], str | None],
    ) -> None:
        self._ask = ask
        self._kill = kill
        self._problem = problem
        self._shapes: dict[str, DiskShape] = {}
        """What is wrong with disks, by node."""

    @property
    def supports(self) -> frozenset[str]:
        """See ``Disk.supports``."""
        return frozenset() if self._problem() else frozenset({*DISK_FAULTS, POWER_LOSS})

    def wanting(self, what: str) -> str:
        """See ``Explaining.wanting``."""
        return self._problem() or unknown("fault of a disk", what, (*DISK_FAULTS, POWER_LOSS))

    def forget(self) -> None:
        """The processes are gone, and with them what was wrong."""
        self._shapes = {}

    async def impair(self, node: str, shape: DiskShape) -> None:
        """See ``Disk.impair``."""
        if shape.fault not in DISK_FAULTS:
            raise NemesisError(unknown("fault of a disk", shape.fault, DISK_FAULTS))
        await self._break(node, shape)
        self._shapes[node] = shape

    async def restore(self, node: str) -> None:
        """See ``Disk.restore``."""
        await self._break(node, None)
        self._shapes.pop(node, None)

    async def _break(self, node: str, shape: DiskShape | None) -> None:
        fault, delay_ms = (None, 0.0) if shape is None else (shape.fault, shape.delay_ms)
        await self._ask(node, {"do": "break", "fault": fault, "delay_ms": delay_ms})

    async def lose_power(self, node: str) -> str:
        """See ``Disk.lose_power``.

        Syncs that begin in its last moments never end, so that there is
        something to lose; whoever did not wait for theirs has promised too much.
        """
        shape = self._shapes.get(node)
        if shape is None:
            await self._break(node, _DYING)
            await asyncio.sleep(DYING_S)
        try:
            await self._kill(node)
            lost = await self._ask(node, {"do": "lose"})
        finally:
            await self._break(node, shape)
        return _in_words(lost["names"], {Path(path).name: size for path, size in lost["bytes"].items()})

    async def probe(self, node: str, *, timeout_s: float = 2.0) -> DiskReading:
        """See ``Disk.probe``."""
        answer = await self._ask(node, {"do": "probe", "timeout_s": timeout_s})
        return msgspec.convert(answer["found"], DiskReading)


def _in_words(names: int, bytes_by_file: Mapping[str, int]) -> str:
    """What a loss of power took; a file of which nothing was written has lost its new size."""
    told = [f"{size} unsynced bytes of {file}" for file, size in bytes_by_file.items() if size]
    told += [f"the new size of {file}" for file, size in bytes_by_file.items() if not size]
    told += [f"{names} change(s) of names"] if names else []
    return ", ".join(told) or "nothing: all was synced"
