"""The seam between a cluster of remote members and whoever has the nodes: docker-compose, or an inventory of hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from splitvote.harness.clusters.remote.node_facts import NodeFacts
from splitvote.harness.clusters.remote.throttles import Throttle
from splitvote.harness.control import Remote
from splitvote.harness.etcd.daemon import Etcd


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node that can be reached: by commands, by its peers (an IP address), and by clients ("host:port").

    ``interface`` is the one that leads to its peers; ``peer`` and
    ``listens_to_clients`` are where its member listens ("address:port"; None:
    etcd's ports at ``address``).
    """

    remote: Remote
    address: str
    endpoint: str
    interface: str
    peer: str | None = None
    listens_to_clients: str | None = None


class Hosts(Protocol):
    """The nodes of one cluster."""

    @property
    def name(self) -> str:
        """What a cluster on them is called: compose, ssh."""
        ...

    def facts(self) -> NodeFacts:
        """What the nodes have; asked at the first call, and raises EnvironmentFailure or ConfigError then."""
        ...

    def binary(self, node: str) -> Etcd:
        """The etcd that a node has itself; raises EnvironmentFailure where there is none."""
        ...

    @property
    def throttle(self) -> Throttle | None:
        """What limits the nodes' processors; None where nothing does."""
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
        """Those of the nodes that are up, changing nothing.

        Raises ControlError or EnvironmentFailure for one that cannot be reached, though it may have something of ours.
        """
        ...

    async def let_go(self) -> None:
        """Close the connections, and leave the nodes as they are now.  Idempotent."""
        ...

    async def close(self) -> None:
        """Leave the nodes as they were found, and let go of them.  Idempotent."""
        ...


def hosts_of(described: Mapping[str, Any]) -> Hosts:
    """The hosts that described themselves so, to be left as they were found then."""
    if described["kind"] == "ssh":
        from splitvote.harness.clusters.remote import ssh_hosts

        return ssh_hosts.hosts_of(described)
    from splitvote.harness.clusters.remote import compose

    return compose.hosts_of(described)
