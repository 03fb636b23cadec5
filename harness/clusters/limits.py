"""What members on this machine may use of it: the capability Resources, by control groups and prlimit."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable
from typing import Final

from splitvote.harness.clusters.cpugroups import CpuGroups, find_cpu_groups
from splitvote.harness.clusters.iogroups import IoGroups, open_up
from splitvote.harness.clusters.procfs import usage_of
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import Limits, Usage

LEAST_CPUS: Final = 0.01
NO_DISK: Final = "there is no telling what disk the data is on"


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
        io_groups: IoGroups | str = NO_DISK,
    ) -> None:
        self._pid_of = pid_of
        self._note = note
        self._name = name
        self._groups = find_cpu_groups() if groups is None else groups
        self._io_groups = io_groups
        self._limits: dict[str, Limits] = {node: Limits() for node in nodes}
        self._applied: dict[str, tuple[int, Limits]] = {}
        self._fds_before: dict[int, int] = {}
        self.least_cpus = LEAST_CPUS

    @property
    def supports(self) -> frozenset[str]:
        """See ``Resources.supports``."""
        by_field = {"cpus": self._groups, "io_bytes_s": self._io_groups}
        return frozenset({"fds", *(field for field, groups in by_field.items() if not isinstance(groups, str))})

    def refusal(self, field: str) -> str:
        """See ``Resources.refusal``."""
        return str(self._groups if field == "cpus" else self._io_groups)

    @property
    def made(self) -> tuple[str, ...]:
        """The directories of the control groups that there may be: of limits that are to be, and of those that are."""
        found = []
        for node, limits in self._limits.items():
            both = (limits, self._applied[node][1]) if node in self._applied else (limits,)
            if isinstance(self._groups, CpuGroups) and any(each.cpus is not None for each in both):
                found.append(str(self._groups.group(self._group(node))))
            if isinstance(self._io_groups, IoGroups) and any(each.io_bytes_s is not None for each in both):
                found.append(str(self._io_groups.group(self._group(node))))
        return tuple(found)

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
        self._note()

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
        cpu, io, name = self._groups, self._io_groups, self._group(node)
        # What is over first: where there is one tree of groups (v2), a process is in one of them.
        if isinstance(cpu, CpuGroups) and limits.cpus is None:
            cpu.lift(name, pid)
        if isinstance(io, IoGroups) and limits.io_bytes_s is None:
            io.lift(name, pid)
        if isinstance(cpu, CpuGroups) and limits.cpus is not None:
            cpu.limit(name, pid, limits.cpus)
        if isinstance(io, IoGroups) and limits.io_bytes_s is not None:
            io.limit(name, pid, limits.io_bytes_s)

    def unblock(self) -> None:
        """Let through whatever waits for a disk: its process could not end.  Raises OSError."""
        if isinstance(self._io_groups, IoGroups):
            for node in self._limits:
                open_up(self._io_groups.group(self._group(node)))

    def close(self) -> None:
        """Forget every limit, and remove the groups; their processes have ended.  Raises OSError."""
        self._limits = {node: Limits() for node in self._limits}
        self._applied.clear()
        for groups in (self._groups, self._io_groups):
            if not isinstance(groups, str):
                for node in self._limits:
                    groups.lift(self._group(node), None)

    async def usage(self, node: str) -> Usage:
        """See ``Resources.usage``."""
        pid = self._pid_of(node)
        try:
            if pid is None:
                raise ProcessLookupError
            used = usage_of(pid)
        except (OSError, KeyError, ValueError):
            raise NemesisError(f"{node} does not run, so there is no telling what it uses") from None
        io_groups, groups = self._io_groups, self._groups if isinstance(self._groups, CpuGroups) else None
        return Usage(
            cpu_s=used.cpu_s,
            written_bytes=used.written_bytes,
            fds=used.fds,
            most_fds=used.most_fds,
            most_cpus=None if groups is None else groups.limit_of(self._group(node)),
            throttled_s=0.0 if groups is None else groups.throttled_s(self._group(node)),
            most_io_bytes_s=io_groups.limit_of(self._group(node)) if isinstance(io_groups, IoGroups) else None,
        )
