"""Who patches the clocks of members on remote nodes: an agent there (``node_agent``), asked over the control plane."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.clocks.vdso import Course, now_ns
from splitvote.harness.clusters.remote.agents import NodeAgents, Placed
from splitvote.harness.clusters.remote.daemon import Found


class RemotePatcher:
    """See ``Patcher``; ``refusal`` is what the nodes themselves have against it.

    Where a clock is steered is told by how long ago, since the nodes' clocks are
    not ours; what monotonic time has gained meanwhile the node itself sees to.
    """

    def __init__(self, members: Mapping[str, Placed], agents: NodeAgents, refusal: str | None) -> None:
        self._members = members
        self._agents = agents
        self._refusal = refusal

    @property
    def refusal(self) -> str | None:
        """See ``Patcher``."""
        return self._refusal

    async def _look(self, node: str) -> Found:
        found = await self._agents.ask(node, "look", folder=self._members[node].daemon.folder)
        return Found(found["pid"], frozenset(found["states"]))

    async def pid_of(self, node: str) -> int | None:
        """See ``Patcher``."""
        return (await self._look(node)).pid

    async def state(self, node: str) -> ProcessState:
        """See ``Patcher``."""
        return (await self._look(node)).state

    async def steer(self, node: str, pid: int, *, wall: Course, monotonic: Course) -> Course | None:
        """See ``Patcher``."""
        wall_ns, monotonic_ns = now_ns()
        courses: dict[str, Any] = {"wall": wall.carried(wall_ns), "monotonic": monotonic.carried(monotonic_ns)}
        answer = await self._agents.ask(node, "steer", pid=pid, **courses)
        return None if "gone" in answer else Course.arrived(answer["monotonic"], time.monotonic_ns())

    async def courses(self, node: str, pid: int) -> tuple[Course, Course] | None:
        """See ``Patcher``."""
        answer = await self._agents.ask(node, "courses", pid=pid)
        if "wall" not in answer:
            return None
        wall_ns, monotonic_ns = now_ns()
        return Course.arrived(answer["wall"], wall_ns), Course.arrived(answer["monotonic"], monotonic_ns)

    async def release(self, node: str, pid: int) -> None:
        """See ``Patcher``."""
        await self._agents.ask(node, "release", pid=pid)
