"""The capability Process where nodes are somebody else's containers: killed, stopped, frozen and started by the engine.

docker restarts some containers by itself, as their restart policy says, and
that would be no kill as the fault means it: a process is known by its pid and
the time it was started, and one that is there in place of the one that was
ended is told about.  (An ordinary ``docker kill`` keeps the policy from it; what
else watches over containers may not.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.attached.engine import Container, Engine
from splitvote.harness.errors import NemesisError

END_TIMEOUT_S: Final = 20.0
CHANGE_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.02


class ContainerProcess:
    """See ``Process``; ``containers`` are ids by node, ``on_change`` is told of one whose process is new, or gone."""

    def __init__(
        self, engine: Engine, containers: Mapping[str, str], on_change: Callable[[str], Awaitable[None]]
    ) -> None:
        self._engine = engine
        self._containers = dict(containers)
        self._on_change = on_change

    async def look(self, node: str) -> Container:
        """What the engine says of a node's container."""
        return await asyncio.to_thread(self._engine.inspect, self._containers[node])

    async def start(self, node: str) -> None:
        """See ``Process.start``."""
        if (await self.look(node)).is_up:
            return
        await asyncio.to_thread(self._engine.start, self._containers[node])
        await self._await(node, lambda now: now.is_up, "has not started", CHANGE_TIMEOUT_S)
        await self._on_change(node)

    async def stop(self, node: str) -> None:
        """See ``Process.stop``: by the container's stop signal, and SIGKILL after its stop timeout, as docker does."""
        await self._end(node, self._engine.stop)

    async def kill(self, node: str) -> None:
        """See ``Process.kill``."""
        await self._end(node, self._engine.kill)

    async def _end(self, node: str, end: Callable[[str], None]) -> None:
        before = await self.look(node)
        if not before.is_up:
            return
        await asyncio.to_thread(end, before.id)

        def is_another(now: Container) -> bool:
            return now.is_up and now.incarnation != before.incarnation

        after = await self._await(node, lambda now: not now.is_up or is_another(now), "has not ended", END_TIMEOUT_S)
        if is_another(after):
            raise NemesisError(
                f"{node} ({after.name}) was started again at once, not by us (pid {before.incarnation.pid} before, "
                f"{after.incarnation.pid} now; its restart policy is {after.restart_policy}): it cannot be kept down"
            )
        await self._on_change(node)

    async def pause(self, node: str) -> None:
        """See ``Process.pause``: frozen by its control group."""
        if (await self.look(node)).status == "running":
            await asyncio.to_thread(self._engine.pause, self._containers[node])
            await self._await(node, lambda now: now.status == "paused", "is not frozen", CHANGE_TIMEOUT_S)

    async def resume(self, node: str) -> None:
        """See ``Process.resume``."""
        if (await self.look(node)).status == "paused":
            await asyncio.to_thread(self._engine.unpause, self._containers[node])
            await self._await(node, lambda now: now.status != "paused", "is still frozen", CHANGE_TIMEOUT_S)

    async def state(self, node: str) -> ProcessState:
        """See ``Process.state``; a container that docker is about to restart has no process."""
        return state_of(await self.look(node))

    async def wipe(self, node: str) -> None:
        """See ``Process.wipe``: never here."""
        raise NemesisError(f"{node}'s data is not the harness's, and is not wiped; use a cluster of the harness's own")

    async def _await(self, node: str, is_so: Callable[[Container], bool], what: str, timeout_s: float) -> Container:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while not is_so(now := await self.look(node)):
            if loop.time() > deadline_s:
                raise NemesisError(f"{node} ({now.name}) {what} within {timeout_s:g} s: docker says {now.status}")
            await asyncio.sleep(_POLL_S)
        return now


def state_of(container: Container) -> ProcessState:
    """What docker's word for a container means for its process."""
    match container.status:
        case "running":
            return ProcessState.RUNNING
        case "paused":
            return ProcessState.PAUSED
        case _:
            return ProcessState.STOPPED
