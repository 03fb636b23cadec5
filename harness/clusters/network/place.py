"""The seam between a cluster's members and what carries their traffic on this machine.

A network knows where each member is: what it listens on, what its peers call
it, where clients find it, and what its process needs in order to get there.
Which processes there are, and for how long, is the cluster's affair
(``local``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from splitvote.harness.cluster import Links
from splitvote.harness.clusters.processes import ProcessRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a member is to run: the URLs it listens on, its proxy, and the namespaces its process enters.

    ``namespaces`` are descriptors of ours, entered in their order.
    """

    listen_peer_url: str
    client_url: str
    proxy_url: str | None = None
    namespaces: tuple[int, ...] = ()


class Network(Protocol):
    """What carries the traffic of one cluster."""

    @property
    def name(self) -> str:
        """What a cluster on it is called: local, netns."""
        ...

    @property
    def links(self) -> Links | None:
        """How its links are hurt; None where there are none."""
        ...

    def peer_url(self, node: str) -> str:
        """What a node advertises to its peers, for good."""
        ...

    def endpoint(self, node: str) -> str:
        """Where clients find a node, as host and port; found, and held, at the first look."""
        ...

    def ports(self, node: str) -> Mapping[str, int]:
        """The ports on 127.0.0.1 that are held for a node, by what they are for; none before they were found."""
        ...

    @property
    def processes(self) -> Mapping[str, ProcessRecord]:
        """The processes it runs on, by what they are."""
        ...

    @property
    def trouble(self) -> str | None:
        """What of it has ended though nobody ended it, if anything: nothing can be said of the cluster then."""
        ...

    async def open(self, logs: Path) -> None:
        """Make it, before any member is started; raises OSError, NemesisError or EnvironmentFailure."""
        ...

    def namespaces(self, node: str) -> tuple[int, ...]:
        """The namespaces that processes of the node's enter, in their order (descriptors of ours)."""
        ...

    def place(self, node: str) -> Place:
        """Where the node's process, which is about to be started, will be; raises OSError."""
        ...

    async def close(self) -> None:
        """Take it down, once no member runs any more; idempotent."""
        ...
