"""The seam between a cluster that was attached to and whoever knows where its members are: a compose project, a list.

Also what is said to faults that such a cluster is not given to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from splitvote.harness.cluster import Links

ALLOWABLE: Final = ("compact", "save_snapshot")
"""Faults that meet the data of others in the store, done only where the user says so (--allow)."""

DONE: Final = ("kill", "stop", "pause", "restart", "partition", "packet")
"""Families that are done to any cluster, as far as its ground has what they need; another one is refused."""

DONE_BY_ADMINS: Final = ("defragment", "move_leader", "crash_during_defragment")
"""Faults of the family admin that are."""

_REASONS: Final[Mapping[str, str]] = {
    "member": "members and their data are not the harness's to remove, add or wipe (Members, Process.wipe)",
    "damage": "the members' data are not the harness's to damage (Damage)",
    "disk": "the members' disks and data are not the harness's to damage (Disk, Damage)",
    "clock": "clocks are set inside the nodes, by what the harness brings there (Clock)",
    "resource": "limits on processes that are not the harness's are not changed (Resources)",
    "failpoint": "no binary of the harness's choice runs there (Failpoints)",
    "version": "no binary of the harness's choice runs there (Versions)",
    "no_space": "it would refuse the writes of all other clients (Upkeep)",
    "auth": "it would lock all other clients out, and make a user (Auth)",
}
"""Why others are not, by family, or by fault of the family admin."""

_COMPACTION: Final = "it forgets the history of every key in the store, others' too: --allow compact permits it"
_NOT_ALLOWED: Final[Mapping[str, tuple[str, str]]] = {
    "compact": ("compact", _COMPACTION),
    "crash_during_compaction": ("compact", _COMPACTION),
    "save_snapshot": (
        "save_snapshot",
        "a snapshot is the whole store, others' keys too: --allow save_snapshot permits it",
    ),
}
"""Faults of the family admin that want to be allowed: by what word, and what is said where they were not."""


class Limits:
    """See ``Boundaries``: what is done at all, not on this ground (by family or fault), and what was allowed."""

    def __init__(self, forbidden: Mapping[str, str], allowed: Sequence[str]) -> None:
        self._forbidden = dict(forbidden)
        self._allowed = frozenset(allowed)

    def refusal(self, family: str, fault: str) -> str | None:
        """See ``Boundaries.refusal``."""
        here = self._forbidden.get(f"{family}:{fault}") or self._forbidden.get(family)
        if family in DONE:
            return here
        if family != "admin":
            return _not_ours(family)
        if fault in _NOT_ALLOWED:
            word, reason = _NOT_ALLOWED[fault]
            return here if word in self._allowed else reason
        return here if fault in DONE_BY_ADMINS else _not_ours(fault)


def _not_ours(what: str) -> str:
    return _REASONS.get(what, "it is not done to a cluster that is somebody else's")


Moved = Callable[[str, str | None], Awaitable[None]]
"""Told of a node and where it is now, as "host:port"; None while it is nowhere, and its place may be another's."""


class Ground(Protocol):
    """Where the members are, and what can be done to them there."""

    @property
    def name(self) -> str:
        """What a cluster on it is called: compose, attach."""
        ...

    @property
    def words(self) -> str:
        """What was attached to, in a few words."""
        ...

    @property
    def forbidden(self) -> Mapping[str, str]:
        """What is not done here, by family or fault, with the reason and what would do it."""
        ...

    def endpoints(self) -> Mapping[str, str]:
        """Where clients find the members now, by node, in the nodes' order; raises NemesisError."""
        ...

    def described(self) -> dict[str, Any]:
        """All that it takes to make such an object again (JSON), with how the members were found."""
        ...

    async def open(self, moved: Moved) -> None:
        """Prepare to hurt; raises NemesisError or EnvironmentFailure.  ``moved`` is told of nodes that go elsewhere."""
        ...

    def capabilities(self) -> Mapping[type[Any], object]:
        """What it adds to what etcd's own API can, but for links."""
        ...

    @property
    def links(self) -> Links | None:
        """The links between nodes, where they can be hurt."""
        ...

    async def restore(self) -> list[str]:
        """Leave the members as they were found, whoever hurt them; what was done, a line each.  Idempotent."""
        ...

    async def close(self) -> None:
        """Let go of what ``open`` took.  Idempotent."""
        ...

    async def save_logs(self, folder: Path, since_s: float) -> None:
        """Fetch what the members have said since then (s since 1970), where that is to be had."""
        ...
