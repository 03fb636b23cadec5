"""A member's log file: lines of JSON as etcd's zap writes them, at the time that the node's wall clock shows."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

from splitvote.harness.simulation.process import NodeClock

EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""What the wall clocks of a simulated cluster show at virtual time 0."""

Level = Literal["debug", "info", "warn", "error", "panic", "fatal"]


class NodeLog:
    """Appends to one file; lines are with the kernel when they are written, so that a crash of ours loses none."""

    def __init__(self, path: Path, wall: NodeClock) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._wall = wall
        self._file: io.TextIOWrapper = path.open("a", buffering=1)

    def write(self, level: Level, message: str, **fields: Any) -> None:
        """Write one line."""
        time = EPOCH + timedelta(microseconds=self._wall.now_ns() // 1000)
        stamp = time.isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._file.write(
            json.dumps({"level": level, "ts": stamp, "msg": message, **fields}, separators=(",", ":")) + "\n"
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def wall_ns() -> int:
    """What an accurate wall clock shows now, in ns since 1970, by the running loop's time."""
    return int(EPOCH.timestamp()) * 1_000_000_000 + round(asyncio.get_running_loop().time() * 1e9)
