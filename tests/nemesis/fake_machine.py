"""What the fake cluster's nodes are on: binaries, processors, points to fail at.  Breaks as ``FakeCluster`` does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from splitvote.harness.cluster import ProcessState
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import Limits, Usage

if TYPE_CHECKING:
    from tests.nemesis.fake_cluster import FakeCluster

FDS = 50


class FakeVersions:
    """Two versions; a node runs the one it was last started with."""

    available = ("1.0", "1.1")

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.chosen = dict.fromkeys(cluster.nodes, "1.0")
        self.runs = dict(self.chosen)

    def note_start(self, node: str) -> None:
        self.runs[node] = self.chosen[node]

    async def running(self, *, timeout_s: float = 1.0) -> Mapping[str, str | None]:
        states = self._cluster.states
        return {node: run if states[node] is ProcessState.RUNNING else None for node, run in self.runs.items()}

    def in_use(self, node: str) -> str:
        return self.chosen[node]

    async def use(self, node: str, version: str) -> None:
        if self._cluster.does("use", node, version):
            self.chosen[node] = version


class FakeResources:
    """Every node uses all it may have of a tenth of a processor, and writes a megabyte a second."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.supports = frozenset({"cpus", "io_bytes_s", "fds"})
        self.least_cpus = 0.01
        self.limits = dict.fromkeys(cluster.nodes, Limits())
        self.last_words: str | None = None
        """What a node says, and ends, that may have no other descriptor; None where it goes on."""

    def refusal(self, field: str) -> str:
        return f"there is no way to limit {field}"

    async def limit(self, node: str, limits: Limits) -> None:
        if self._cluster.does("limit", node):
            self.limits[node] = limits
            if limits.fds is not None and self.last_words is not None:
                self._cluster.states[node] = ProcessState.STOPPED
                self._cluster.log_path(node).write_text(self.last_words)

    async def usage(self, node: str) -> Usage:
        if self._cluster.states[node] is ProcessState.STOPPED:
            raise NemesisError(f"{node} does not run")
        limits, now_s = self.limits[node], asyncio.get_running_loop().time()
        return Usage(
            cpu_s=now_s * min(0.1, limits.cpus or 0.1),
            written_bytes=int(now_s * min(1e6, limits.io_bytes_s or 1e6)),
            fds=FDS,
            most_fds=limits.fds or 1 << 20,
            most_cpus=limits.cpus,
            throttled_s=0.0 if limits.cpus is None else now_s * 0.9,
            most_io_bytes_s=limits.io_bytes_s,
        )


class FakeFailpoints:
    """Two points; a panic is come by at once, and a process that is started anew has them off."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.terms: dict[str, dict[str, str]] = {node: {} for node in cluster.nodes}

    def note_start(self, node: str) -> None:
        self.terms[node] = {}

    async def known(self, node: str) -> Mapping[str, str]:
        self._check(node)
        return {point: self.terms[node].get(point, "") for point in ("beforeCommit", "afterSave")}

    async def enable(self, node: str, point: str, terms: str) -> None:
        self._check(node)
        if self._cluster.does("enable_point", node, point, terms):
            self.terms[node][point] = terms
            if terms == "panic":
                self._cluster.states[node] = ProcessState.STOPPED

    async def disable(self, node: str, point: str) -> None:
        self._check(node)
        if self._cluster.does("disable_point", node, point):
            self.terms[node].pop(point, None)

    def _check(self, node: str) -> None:
        if self._cluster.states[node] is not ProcessState.RUNNING:
            raise NemesisError(f"{node} does not answer")
