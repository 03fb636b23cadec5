"""The seam between a cluster of remote members and whoever has the nodes: docker-compose, or an inventory of hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from splitvote.harness.clusters.node_facts import NodeFacts
from splitvote.harness.control import Remote


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node that can be reached: by commands, by its peers (an IP address), and by clients ("host:port").

    ``interface`` is the one that leads to its peers.
    """

    remote: Remote
    address: str
    endpoint: str
    interface: str


class Hosts(Protocol):
    """The nodes of one cluster."""

    @property
    def name(self) -> str:
        """What a cluster on them is called: compose, ssh."""
        ...

    def facts(self) -> NodeFacts:
        """What the nodes have; asked at the first call, and raises EnvironmentFailure or ConfigError then."""
        ...

    def described(self) -> dict[str, Any]:
        """All that it takes to make such an object again in another process (JSON), with how the nodes were found."""
        ...

    async def open(self, note: Callable[[], None]) -> Mapping[str, Node]:
        """Bring up what is down, and reach every node; ``note`` is called before, once it is known how they were found.

        Raises EnvironmentFailure or ConfigError; then nothing is left changed.
        """
        ...

    async def reach(self) -> Mapping[str, Node]:
        """Those of the nodes that are up, changing nothing; raises ControlError for one that cannot be reached."""
        ...

    async def close(self) -> None:
        """Leave the nodes as they were found, and let go of them.  Idempotent."""
        ...
