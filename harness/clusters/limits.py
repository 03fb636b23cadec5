"""What members on this machine may use of it: the capability Resources, by control groups and prlimit."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from splitvote.harness.cluster import Limits, Usage
from splitvote.harness.clusters.cpugroups import CpuGroups, find_cpu_groups
from splitvote.harness.clusters.procfs import stat_fields
from splitvote.harness.errors import NemesisError

NO_IO: Final = (
    "an ordinary file's writes go through the page cache, which cgroup v1 does not limit, and v2 does only for a disk "
    "of one's own"
)
_TICKS_S: Final = os.sysconf("SC_CLK_TCK")


class LocalResources:
    """See ``Resources``.

    ``pid_of`` tells a node's process, ``name`` tells this cluster's groups from
    others', and ``note`` is called before any of ``made`` is made.
    """

    def __init__(
        self,
        nodes: Iterable[str],
        pid_of: Callable[[str], int | None],
        *,
        name: str,
        note: Callable[[], None] = lambda: None,
        groups: CpuGroups | str | None = None,
    ) -> None:
        self._pid_of = pid_of
        self._note = note
        self._name = name
        self._groups = find_cpu_groups() if groups is None else groups
        self._limits: dict[str, Limits] = {node: Limits() for node in nodes}
        self._applied: dict[str, tuple[int, Limits]] = {}
        self._fds_before: dict[int, int] = {}
        self.supports = frozenset({"fds"} if isinstance(self._groups, str) else {"fds", "cpus"})

    def refusal(self, field: str) -> str:
        """See ``Resources.refusal``."""
        return self._groups if field == "cpus" and isinstance(self._groups, str) else NO_IO

    @property
    def made(self) -> tuple[str, ...]:
        """The directories of the control groups that there may be."""
        if isinstance(self._groups, str):
            return ()
        limited = (node for node, limits in self._limits.items() if limits.cpus is not None)
        return tuple(str(self._groups.group(self._group(node))) for node in limited)

    def _group(self, node: str) -> str:
        return f"{self._name}-{node}"

    async def limit(self, node: str, limits: Limits) -> None:
        """See ``Resources.limit``."""
        for field in ("cpus", "io_bytes_s", "fds"):
            if getattr(limits, field) is not None and field not in self.supports:
                raise NemesisError(f"{field} of {node} cannot be limited: {self.refusal(field)}")
        self._limits[node] = limits
        self._note()
        self.apply()

    def apply(self) -> None:
        """Have every process the limits of its node, one that was started since as well; raises NemesisError."""
        for node, limits in self._limits.items():
            pid = self._pid_of(node)
            if pid is None or self._applied.get(node, (pid, Limits())) == (pid, limits):
                continue
            try:
                self._apply(node, pid, limits)
            except ProcessLookupError:
                continue  # it has ended meanwhile
            except OSError as failure:
                raise NemesisError(f"cannot limit {node} (pid {pid}): {failure}") from None
            self._applied[node] = (pid, limits)

    def _apply(self, node: str, pid: int, limits: Limits) -> None:
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        if limits.fds is not None:
            self._fds_before.setdefault(pid, soft)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limits.fds, hard))
        elif pid in self._fds_before:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (self._fds_before.pop(pid), hard))
        if isinstance(self._groups, CpuGroups):
            if limits.cpus is not None:
                self._groups.limit(self._group(node), pid, limits.cpus)
            else:
                self._groups.lift(self._group(node), pid)

    def close(self) -> None:
        """Forget every limit, and remove the groups; their processes have ended.  Raises OSError."""
        self._limits = {node: Limits() for node in self._limits}
        self._applied.clear()
        if isinstance(self._groups, CpuGroups):
            for node in self._limits:
                self._groups.lift(self._group(node), None)

    async def usage(self, node: str) -> Usage:
        """See ``Resources.usage``."""
        pid = self._pid_of(node)
        try:
            if pid is None:
                raise ProcessLookupError
            ticks, written_bytes = _cpu_ticks(pid), _written_bytes(pid)
            fds = len(os.listdir(f"/proc/{pid}/fd"))
            most_fds = resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
        except (OSError, KeyError, ValueError):
            raise NemesisError(f"{node} does not run, so there is no telling what it uses") from None
        groups = self._groups if isinstance(self._groups, CpuGroups) else None
        return Usage(
            cpu_s=ticks / _TICKS_S,
            written_bytes=written_bytes,
            fds=fds,
            most_fds=most_fds,
            most_cpus=None if groups is None else groups.limit_of(self._group(node)),
            throttled_s=0.0 if groups is None else groups.throttled_s(self._group(node)),
        )


def _cpu_ticks(pid: int) -> int:
    fields = stat_fields(f"/proc/{pid}/stat")
    return int(fields[11]) + int(fields[12])


def _written_bytes(pid: int) -> int:
    return int(dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())["write_bytes"])
