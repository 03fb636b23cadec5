"""What every binding is given: the members, a deadline, and the run's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from splitvote.harness.cluster import Archivist
from splitvote.harness.etcd.rpc import Rpc

UNREACHABLE_PAUSE_S: Final = 0.1
"""What a client waits when nobody listens at its node: else it would fail thousands of times a second, and take the
run's rate away from the clients that get through."""


class Nodes(Protocol):
    """The seam to every node; ``splitvote.harness.etcd.connection.Connections`` is one."""

    def __getitem__(self, node: str) -> Rpc:
        """The seam to this node."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the bindings of a run share; whoever made ``nodes`` closes them.

    ``names`` are the nodes' names; ``timeout_s`` is an operation's deadline;
    ``options`` are the run's options of single workloads, ``avoid`` the known
    issues whose triggering operations are left out.  A binding that compacts
    asks the ``archivist`` first.
    """

    nodes: Nodes
    names: tuple[str, ...] = ()
    timeout_s: float = 1.5
    options: Mapping[str, Any] = field(default_factory=dict)
    avoid: frozenset[str] = frozenset()
    archivist: Archivist | None = None
