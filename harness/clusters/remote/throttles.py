"""Limits on the processors that whole nodes may use, set from outside: the seam, and the one for docker's containers.

How a node was before is known before it is changed (``Throttle.noted``), in a
form that another process can undo.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from splitvote.harness.clusters.remote.composition import Composition
from splitvote.harness.errors import EnvironmentFailure, NemesisError

PERIOD_US: Final = 100_000
LEAST_QUOTA_US: Final = 1_000
UNLIMITED: Final = -1
_NANO: Final = 1_000_000_000

Noted = dict[str, dict[str, Any]]
"""By node: how it was, as JSON."""


class Throttle(Protocol):
    """Limits nodes' processors; raises NemesisError when it cannot."""

    @property
    def least_cpus(self) -> float:
        """See ``Resources``."""
        ...

    @property
    def noted(self) -> Noted:
        """How the nodes were that it has limited, or is about to."""
        ...

    async def limit(self, node: str, cpus: float, note: Callable[[], None]) -> None:
        """Let a node use so many processors; ``note`` is called before, once ``noted`` has it."""
        ...

    async def lift(self, noted: Noted) -> list[str]:
        """Have these nodes as they were; a line for each that was another.  Idempotent."""
        ...


class ContainerLimit(msgspec.Struct, frozen=True):
    """What docker was told of a container's processors: "--cpus", or a quota and a period; 0 where nothing."""

    container: str
    nano_cpus: int = 0
    quota_us: int = 0
    period_us: int = 0

    @classmethod
    def of(cls, container: str, settings: Mapping[str, Any]) -> ContainerLimit:
        """By what ``docker inspect`` has of the container's settings."""
        return cls(container, settings["NanoCpus"], settings["CpuQuota"], settings["CpuPeriod"])

    def options(self, cpus: float) -> list[str]:
        """For ``docker update``, to let it use so many; docker wants that said in the way it was said before."""
        if self.nano_cpus:
            return [f"--cpus={max(cpus, LEAST_QUOTA_US / PERIOD_US):.6f}"]
        return [f"--cpu-period={PERIOD_US}", f"--cpu-quota={max(LEAST_QUOTA_US, round(cpus * PERIOD_US))}"]

    @property
    def restoring(self) -> list[str]:
        """For ``docker update``, to have it as it was."""
        if self.nano_cpus:
            return [f"--cpus={self.nano_cpus / _NANO:.6f}"]
        return [f"--cpu-period={self.period_us or PERIOD_US}", f"--cpu-quota={self.quota_us or UNLIMITED}"]


class ContainerThrottle:
    """See ``Throttle``: ``docker update`` of a project's containers, which is all that runs on the nodes.

    What a node is told to do runs in its container: at 0.01 processors that takes
    seconds (8 s by `docker exec`), at 0.03 it can be borne with.
    """

    least_cpus: Final = 0.03

    def __init__(self, composition: Composition) -> None:
        self._composition = composition
        self._limited: dict[str, ContainerLimit] = {}

    @property
    def noted(self) -> Noted:
        """See ``Throttle``."""
        return {node: msgspec.to_builtins(before) for node, before in self._limited.items()}

    async def limit(self, node: str, cpus: float, note: Callable[[], None]) -> None:
        """See ``Throttle``."""
        try:
            if node not in self._limited:
                self._limited[node] = await asyncio.to_thread(self._look, node)
            note()
            before = self._limited[node]
            await asyncio.to_thread(self._composition.update, before.container, before.options(cpus))
        except EnvironmentFailure as failure:
            raise NemesisError(f"the processors of {node} cannot be limited: {failure}") from None

    def _look(self, node: str) -> ContainerLimit:
        container = self._composition.containers().get(node)
        if container is None:
            raise EnvironmentFailure("it has no container")
        return ContainerLimit.of(container.id, self._composition.settings(container.id))

    async def lift(self, noted: Noted) -> list[str]:
        """See ``Throttle``; a container that is gone took its limit with it."""
        lines = await asyncio.gather(
            *(asyncio.to_thread(self._lift, node, each) for node, each in noted.items()), return_exceptions=True
        )
        failures = [line for line in lines if isinstance(line, BaseException)]
        if failures:
            raise NemesisError(f"a limit of processors could not be lifted: {failures[0]}")
        for node in noted:
            self._limited.pop(node, None)
        return [line for line in lines if isinstance(line, str)]

    def _lift(self, node: str, each: Mapping[str, Any]) -> str | None:
        before = msgspec.convert(each, ContainerLimit)
        if before.container not in {container.id for container in self._composition.containers().values()}:
            return None
        now = ContainerLimit.of(before.container, self._composition.settings(before.container))
        self._composition.update(before.container, before.restoring)
        was_limited = (now.nano_cpus, max(0, now.quota_us)) != (before.nano_cpus, max(0, before.quota_us))
        return f"gave {node} its processors back" if was_limited else None
