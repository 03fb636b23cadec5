"""Harm done to members' files on remote nodes, by the agents there: the capability Damage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from splitvote.harness.clusters.filedamage import without_snapshots
from splitvote.harness.clusters.remote.agents import NodeAgents, Placed
from splitvote.harness.errors import NemesisError


class RemoteDamage:
    """See ``Damage``.

    ``no_agent`` is why there is no agent on the nodes; ``settle`` is awaited
    before the files are touched; after ``snapshot_count`` entries members make
    a snapshot (None: etcd's default).
    """

    def __init__(
        self,
        members: Mapping[str, Placed],
        agents: NodeAgents,
        *,
        no_agent: str | None,
        settle: Callable[[Sequence[str]], Awaitable[None]],
        snapshot_count: int | None,
    ) -> None:
        self._members = members
        self._agents = agents
        self._no_agent = no_agent
        self._settle = settle
        self._snapshot_count = snapshot_count

    def refusal(self, kind: str) -> str | None:
        """See ``Damage.refusal``."""
        return self._no_agent or without_snapshots(kind, self._snapshot_count)

    async def damageable(self, node: str) -> frozenset[str]:
        """See ``Damage.damageable``."""
        answer = await self._agents.ask(node, "damageable", data=self._members[node].daemon.data)
        return frozenset(answer["kinds"])

    async def damage(self, node: str, kind: str, pick: int) -> Mapping[str, str | int]:
        """See ``Damage.damage``."""
        daemon = self._members[node].daemon
        if (await self._agents.ask(node, "look", folder=daemon.folder))["pid"] is not None:
            raise NemesisError(f"{node} runs: stop it before its files are damaged")
        await self._settle([node])
        # A bit that is flipped twice is as it was: a file would be told to be damaged that is not.
        return await self._agents.ask_once(node, "damage", data=daemon.data, kind=kind, pick=pick)
