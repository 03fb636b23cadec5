"""Control groups that limit a process's share of the processors: Linux's cgroup v1 (``cpu``) and v2.

A group of ours is a directory ``splitvote-...`` below the group that the
harness is in.  Its name is all it takes to remove it, once its processes have
ended (``remove_group``).

https://docs.kernel.org/scheduler/sched-bwc.html (v1)
https://docs.kernel.org/admin-guide/cgroup-v2.html (v2)
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

PERIOD_US: Final = 100_000
LEAST_QUOTA_US: Final = 1_000
PREFIX: Final = "splitvote-"


@dataclass(frozen=True, slots=True)
class CpuGroups:
    """Where groups can be made: below ``parent``, by the files of this version of cgroup."""

    parent: Path
    version: Literal[1, 2]

    def group(self, name: str) -> Path:
        """The directory of the group of this name, whether there is one or not."""
        return self.parent / f"{PREFIX}{name}"

    def limit(self, name: str, pid: int, cpus: float) -> Path:
        """Put a process into the group of this name, which may use so many processors; raises OSError."""
        group = self.group(name)
        group.mkdir(exist_ok=True)
        quota_us = max(LEAST_QUOTA_US, round(cpus * PERIOD_US))
        if self.version == 1:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        (group / "cgroup.procs").write_text(str(pid))
        return group

    def lift(self, name: str, pid: int | None) -> None:
        """Take a process back out, and remove the group; does nothing where there is none.  Raises OSError."""
        group = self.group(name)
        if not group.is_dir():
            return
        if pid is not None:
            (self.parent / "cgroup.procs").write_text(str(pid))
        remove_group(group)

    def limit_of(self, name: str) -> float | None:
        """How many processors the kernel says that the group may use; None for a group that there is not."""
        return limit_in(self.group(name), self.version)

    def throttled_s(self, name: str) -> float:
        """For how long the group's processes were kept from running, all in all."""
        return throttled_s_in(self.group(name), self.version)


def limit_in(group: Path, version: Literal[1, 2]) -> float | None:
    """How many processors the kernel lets a group use; None for any number, or where there is no such group."""
    try:
        if version == 1:
            quota = int((group / "cpu.cfs_quota_us").read_text())
            return None if quota < 0 else quota / int((group / "cpu.cfs_period_us").read_text())
        quota_us, period_us = (group / "cpu.max").read_text().split()
    except OSError:
        return None
    return None if quota_us == "max" else int(quota_us) / int(period_us)


def throttled_s_in(group: Path, version: Literal[1, 2]) -> float:
    """For how long a group's processes were kept from running, all in all."""
    unit, per_s = ("throttled_time", 1e9) if version == 1 else ("throttled_usec", 1e6)
    try:
        lines = (group / "cpu.stat").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / per_s for line in lines if line.split()[0] == unit), 0.0)


def container_group(root: Path = Path("/sys/fs/cgroup")) -> tuple[Path, Literal[1, 2]] | None:
    """The group that this container is, as it sees it from within: the root; None where there are none."""
    if (root / "cpu.max").exists():
        return root, 2
    for name in ("cpu", "cpu,cpuacct"):
        if (root / name / "cpu.cfs_quota_us").exists():
            return root / name, 1
    return None


def remove_group(group: Path) -> None:
    """Remove a group of ours that has no process any more; raises OSError, except where there is none."""
    if not group.name.startswith(PREFIX):
        raise OSError(f"{group} is no group of ours")
    with contextlib.suppress(FileNotFoundError):
        group.rmdir()


def find_cpu_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> CpuGroups | str:
    """Where this process may make groups that limit the processors, or why it may not."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError as failure:
        return f"there are no control groups here ({failure.strerror})"
    for _, controllers, path in lines:
        if "cpu" in controllers.split(","):
            parent = root / controllers / path.lstrip("/")
            parent = parent if parent.is_dir() else root / "cpu" / path.lstrip("/")
            return _usable(CpuGroups(parent, 1), parent / "cpu.cfs_quota_us")
    for _, controllers, path in lines:
        if not controllers and (root / "cgroup.controllers").exists():
            parent = root / path.lstrip("/")
            return _usable(CpuGroups(parent, 2), parent / "cgroup.subtree_control")
    return "no control group of this machine limits processors"


def _usable(groups: CpuGroups, needed: Path) -> CpuGroups | str:
    parent = groups.parent
    if not needed.exists() or not os.access(parent, os.W_OK):
        return f"control groups cannot be made below {parent}: root, or a delegated group (systemd-run -p Delegate=yes)"
    if groups.version == 2 and "cpu" not in needed.read_text().split():
        return f"{parent} hands on no cpu controller: write +cpu to its cgroup.subtree_control"
    return groups
