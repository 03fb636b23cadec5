"""What the operating system says of a process: by /proc on Linux, elsewhere by ``ps``.

Needs Python's own library only: nodes run it as well (``node_agent``).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

HAS_PROC: Final = sys.platform == "linux"
STOPPED_STATES: Final = frozenset("T")
DEAD_STATES: Final = frozenset("ZXx")


def thread_states(pid: int) -> set[str]:
    """The state letters of a process's living threads; empty when there is no such process."""
    if not HAS_PROC:
        return {state[0] for state in _ps(pid, "state=").split()[:1]} - DEAD_STATES
    states = set()
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                states.add(stat_fields(f"/proc/{pid}/task/{thread}/stat")[0])
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return states - DEAD_STATES


def started(pid: int) -> str:
    """When a process was started, as text that is equal for the same process; empty when there is none."""
    if not HAS_PROC:
        return _ps(pid, "lstart=").strip()
    try:
        ticks = stat_fields(f"/proc/{pid}/stat")[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return f"{ticks} ticks after boot {boot}"


def command_line(pid: int) -> list[str]:
    """A process's command and arguments; empty when there is none."""
    if not HAS_PROC:
        return _ps(pid, "command=").split()
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def stat_fields(path: str) -> list[str]:
    """The fields of a stat file from the state on; the name before it may hold anything, parentheses too."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


class ProcessUsage(NamedTuple):
    """What a process has used of processors and disks, and how many descriptors it has and may have."""

    cpu_s: float
    written_bytes: int
    fds: int
    most_fds: int


def usage_of(pid: int) -> ProcessUsage:
    """What the kernel says that a process uses (Linux); raises ProcessLookupError when there is none."""
    import resource

    try:
        ticks = stat_fields(f"/proc/{pid}/stat")[11:13]
        counted = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        return ProcessUsage(
            cpu_s=sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
            written_bytes=int(counted["write_bytes"]),
            fds=len(os.listdir(f"/proc/{pid}/fd")),
            most_fds=resource.prlimit(pid, resource.RLIMIT_NOFILE)[0],
        )
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(pid) from None


def _ps(pid: int, what: str) -> str:
    return subprocess.run(["ps", "-o", what, "-p", str(pid)], capture_output=True, text=True, check=False).stdout
