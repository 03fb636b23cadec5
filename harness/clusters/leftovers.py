"""What a cluster on this machine consists of, written down, so that whatever a killed harness left can be undone.

``cluster.json`` in the cluster's directory names every process (so that it can
be told from a stranger that got its pid), every port, and every data directory
that we made (so that nothing else is ever removed).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import Final

import msgspec

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.cpugroups import remove_group
from splitvote.harness.clusters.descriptions import DescriptionFile
from splitvote.harness.clusters.iogroups import open_up
from splitvote.harness.clusters.processes import ProcessRecord, state_of, wait_state
from splitvote.harness.errors import NemesisError

FILE_NAME: Final = "cluster.json"
END_TIMEOUT_S: Final = 10.0


class MadeDirectory(msgspec.Struct, frozen=True):
    """A directory of our making, by device and inode: a path alone may be anything's by now."""

    path: str
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> MadeDirectory:
        """Note a directory; raises OSError."""
        found = path.lstat()
        return cls(str(path), found.st_dev, found.st_ino)

    def is_still_there(self) -> bool:
        """Whether the path is still this very directory."""
        try:
            return MadeDirectory.of(Path(self.path)) == self
        except OSError:
            return False


class MemberDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """One member: its ports on 127.0.0.1, its process when it has one, its data when we made it."""

    ports: dict[str, int] = {}
    process: ProcessRecord | None = None
    data: MadeDirectory | None = None


class ClusterDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of one cluster.

    ``harness`` is who brought it up, ``network`` the processes that carry its
    traffic, ``disks`` those that its data is served by, ``aside`` the folder
    that these keep removed files in, ``groups`` the control groups that its
    processes may be in.
    """

    harness: ProcessRecord
    members: dict[str, MemberDescription]
    network: dict[str, ProcessRecord] = {}
    disks: dict[str, ProcessRecord] = {}
    aside: MadeDirectory | None = None
    groups: tuple[str, ...] = ()
    schema: int = 2

    def processes(self) -> dict[str, ProcessRecord]:
        """The processes by what they are, as far as there are any."""
        members = {name: member.process for name, member in self.members.items() if member.process is not None}
        return members | self.network | {f"disk of {name}": process for name, process in self.disks.items()}

    def is_running(self) -> bool:
        """Whether its harness is there and has it up."""
        return bool(self.processes()) and self.harness.is_alive()


DESCRIPTION: Final = DescriptionFile(FILE_NAME, ClusterDescription, "end the processes it names by hand")


async def heal_leftovers(directory: Path) -> list[str]:
    """End every process that a killed harness left of the cluster in ``directory``; what was done, a line each.

    A cluster whose harness still runs is left alone, and so is a process that
    merely has an old one's pid.  Idempotent; NemesisError when a process will
    not end.
    """
    description = DESCRIPTION.read(Path(directory))
    if description is None:
        return []
    if description.is_running():
        return [f"left alone: its harness (pid {description.harness.pid}) still runs"]
    done = []
    for group in map(Path, description.groups):
        with contextlib.suppress(OSError):  # removing it says why it cannot be lifted
            open_up(group)
    for name, process in description.processes().items():
        if process.is_alive():
            done.append(await _end(directory, name, process))
    if description.aside is not None and description.aside.is_still_there():
        shutil.rmtree(description.aside.path, ignore_errors=True)
        done.append(f"removed {description.aside.path}")
    for group in map(Path, description.groups):
        if group.is_dir():
            _remove(group)
            done.append(f"removed the control group {group}")
    return done


def _remove(group: Path) -> None:
    try:
        remove_group(group)
    except OSError as failure:
        raise NemesisError(f"cannot remove the control group {group}: {failure}") from None


async def _end(directory: Path, name: str, process: ProcessRecord) -> str:
    """End one process; SIGKILL ends a suspended one as well, so that it needs no SIGCONT."""
    was = "was paused" if state_of(process.pid) is ProcessState.PAUSED else "was running"
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    if not await wait_state(process.pid, ProcessState.STOPPED, timeout_s=END_TIMEOUT_S):
        raise NemesisError(f"{name} (pid {process.pid}) of {directory} is not gone {END_TIMEOUT_S:g} s after SIGKILL")
    return f"ended {name} (pid {process.pid}), which {was}"
