"""Control groups that limit what a process writes to a disk: Linux's cgroup v1 (``blkio``) and v2 (``io``).

What is limited is what reaches the disk: on v1 that is what the process itself
has to wait for, an fsync or a direct write (the kernel writes the rest back in
its own name); on v2 all of it.  etcd syncs whatever it writes.

https://docs.kernel.org/admin-guide/cgroup-v1/blkio-controller.html
https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from splitvote.harness.clusters.cpugroups import PREFIX, remove_group

_V1: Final = "blkio.throttle.write_bps_device"
_V2: Final = "io.max"


@dataclass(frozen=True, slots=True)
class IoGroups:
    """Where groups can be made: below ``parent``; ``device`` ("MAJOR:MINOR") is the disk that the data is on."""

    parent: Path
    version: Literal[1, 2]
    device: str

    def group(self, name: str) -> Path:
        """The directory of the group of this name, whether there is one or not."""
        return self.parent / f"{PREFIX}{name}-io"

    def limit(self, name: str, pid: int, bytes_s: float) -> None:
        """Put a process into the group of this name, which may write so much; raises OSError."""
        group, rate = self.group(name), max(1, round(bytes_s))
        group.mkdir(exist_ok=True)
        if self.version == 1:
            (group / _V1).write_text(f"{self.device} {rate}")
        else:
            (group / _V2).write_text(f"{self.device} wbps={rate}")
        (group / "cgroup.procs").write_text(str(pid))

    def lift(self, name: str, pid: int | None) -> None:
        """Let what waits in a group through, take a process back out, and remove it; raises OSError.

        Does nothing where there is none.
        """
        group = self.group(name)
        if not group.is_dir():
            return
        open_up(group)
        if pid is not None:
            (self.parent / "cgroup.procs").write_text(str(pid))
        remove_group(group)

    def limit_of(self, name: str) -> float | None:
        """How much the kernel says that the group may write a second; None for any amount, or where there is none."""
        return next((rate for device, rate in _limits(self.group(name)) if device == self.device), None)


def _limits(group: Path) -> list[tuple[str, float]]:
    """The devices that a group is limited on, and the bytes a second."""
    found = []
    with contextlib.suppress(OSError):
        for line in (group / _V1).read_text().splitlines():
            device, rate = line.split()
            found.append((device, float(rate)))
    with contextlib.suppress(OSError):
        for line in (group / _V2).read_text().splitlines():
            device, *pairs = line.split()
            rate = dict(pair.split("=") for pair in pairs)["wbps"]
            if rate != "max":
                found.append((device, float(rate)))
    return found


def open_up(group: Path) -> None:
    """Lift a group's limits, so that its processes can end: one that waits for a disk cannot.  Raises OSError."""
    for device, _ in _limits(group):
        if (group / _V1).exists():
            (group / _V1).write_text(f"{device} 0")
        else:
            (group / _V2).write_text(f"{device} wbps=max")


def find_io_groups(
    data: Path,
    *,
    root: Path = Path("/sys/fs/cgroup"),
    own: Path = Path("/proc/self/cgroup"),
    devices: Path = Path("/sys/dev/block"),
) -> IoGroups | str:
    """Where this process may make groups that limit writing to the disk below ``data``, or why it may not."""
    device = _disk_of(data, devices)
    if device is None:
        return f"{data} is on no disk that the kernel could limit (a tmpfs, an overlay, a file system of many disks)"
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError as failure:
        return f"there are no control groups here ({failure.strerror})"
    for _, controllers, path in lines:
        if "blkio" in controllers.split(","):
            parent = root / controllers / path.lstrip("/")
            parent = parent if parent.is_dir() else root / "blkio" / path.lstrip("/")
            return _usable(IoGroups(parent, 1, device), parent / _V1)
    for _, controllers, path in lines:
        if not controllers and (root / "cgroup.controllers").exists():
            parent = root / path.lstrip("/")
            return _usable(IoGroups(parent, 2, device), parent / "cgroup.subtree_control")
    return "no control group of this machine limits writing"


def _disk_of(data: Path, devices: Path) -> str | None:
    """The whole disk that a directory, which need not be there yet, is on a partition of."""
    place = next(folder for folder in (data, *data.parents) if folder.exists())
    number = os.stat(place).st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    if os.major(number) == 0 or not (devices / device).exists():
        return None
    if (devices / device / "partition").exists():
        return (devices / device).resolve().parent.joinpath("dev").read_text().strip()
    return device


def _usable(groups: IoGroups, needed: Path) -> IoGroups | str:
    parent = groups.parent
    if not needed.exists() or not os.access(parent, os.W_OK):
        return f"control groups cannot be made below {parent}: root, or a delegated group (systemd-run -p Delegate=yes)"
    if groups.version == 2 and "io" not in needed.read_text().split():
        return f"{parent} hands on no io controller: write +io to its cgroup.subtree_control"
    return groups
