"""What members on remote nodes may use: descriptors by prlimit there, processors by whoever has the nodes.

Proof comes from the node itself: its agent tells what the kernel has of the
member's process, and of the group that the node is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from splitvote.harness.clusters.remote.agents import NodeAgents, Placed
from splitvote.harness.clusters.remote.throttles import Noted, Throttle
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import Limits, Usage

NO_IO: Final = "docker cannot change how much a container may write while it runs"
NO_THROTTLE: Final = "limiting a host's processors is not supported there: containers' are limited by `docker update`"


class RemoteResources:
    """See ``Resources``.

    ``throttle`` is None where processors cannot be limited, ``no_agent`` why
    there is no agent on the nodes; ``note`` is called before something is done
    that does not end with the member's process.
    """

    def __init__(
        self,
        nodes: Iterable[str],
        members: Mapping[str, Placed],
        agents: NodeAgents,
        *,
        throttle: Throttle | None,
        no_agent: str | None,
        note: Callable[[], None],
    ) -> None:
        self._members = members
        self._agents = agents
        self._throttle = throttle
        self._no_agent = no_agent
        self._note = note
        self._limits = {node: Limits() for node in nodes}
        self._fds_before: dict[tuple[str, int], int] = {}
        self.least_cpus = 0.0 if throttle is None else throttle.least_cpus
        able = {"fds", "cpus"} if throttle is not None else {"fds"}
        self.supports = frozenset(able if no_agent is None else ())

    def refusal(self, field: str) -> str:
        """See ``Resources.refusal``."""
        if field == "io_bytes_s":
            return NO_IO
        return self._no_agent or NO_THROTTLE

    @property
    def noted(self) -> Noted:
        """What another process needs to undo what does not end with the members."""
        return {} if self._throttle is None else self._throttle.noted

    async def limit(self, node: str, limits: Limits) -> None:
        """See ``Resources.limit``."""
        for field in ("cpus", "io_bytes_s", "fds"):
            if getattr(limits, field) is not None and field not in self.supports:
                raise NemesisError(f"{field} of {node} cannot be limited: {self.refusal(field)}")
        self._limits[node] = limits
        if self._throttle is not None:
            if limits.cpus is not None:
                await self._pid_of(node)  # starts the agent, which would take long with few processors
                await self._throttle.limit(node, limits.cpus, self._note)
            elif node in self._throttle.noted:
                await self._throttle.lift({node: self._throttle.noted[node]})
        await self.apply(node)

    async def apply(self, node: str) -> None:
        """Have the node's process, which may have been started since, its limits; raises NemesisError."""
        most = self._limits[node].fds
        if most is None and not self._fds_before:
            return
        pid = await self._pid_of(node)
        if pid is None:
            return
        if most is not None:
            answer = await self._agents.ask(node, "limit_fds", pid=pid, most=most)
            if "before" in answer:
                self._fds_before.setdefault((node, pid), answer["before"])
        elif (node, pid) in self._fds_before:
            await self._agents.ask(node, "limit_fds", pid=pid, most=self._fds_before.pop((node, pid)))

    async def _pid_of(self, node: str) -> int | None:
        found = await self._agents.ask(node, "look", folder=self._members[node].daemon.folder)
        pid: int | None = found["pid"]
        return pid

    async def usage(self, node: str) -> Usage:
        """See ``Resources.usage``; what its processors are limited to is what the node's kernel says."""
        pid = await self._pid_of(node)
        used: dict[str, Any] = {"gone": True} if pid is None else await self._agents.ask(node, "usage", pid=pid)
        if "gone" in used:
            raise NemesisError(f"{node} does not run, so there is no telling what it uses")
        return Usage(**used)

    async def close(self) -> list[str]:
        """Forget every limit, and lift those that do not end with the members; raises NemesisError."""
        self._limits = dict.fromkeys(self._limits, Limits())
        self._fds_before.clear()
        return [] if self._throttle is None else await self._throttle.lift(self._throttle.noted)
