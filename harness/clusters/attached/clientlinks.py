"""The capability Links for the way of the harness's own clients to members that are somebody else's.

All that the harness says to such a member passes through one proxy process, by
a port on 127.0.0.1 that stays the same wherever the member is.  Other clients
are not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from splitvote.harness.cluster import CLIENT, Explaining, LinkCounter, Links, LinkShape, Pair
from splitvote.harness.clusters.network.controlled import ControlledProcess
from splitvote.harness.clusters.network.links import MODULE, checked
from splitvote.harness.clusters.ports import LOOPBACK
from splitvote.harness.clusters.processes import Children
from splitvote.harness.errors import EnvironmentFailure, NemesisError

_HEALTHY: Final = LinkShape()


class ClientLinks:
    """See ``Links``: pairs of CLIENT and a node, cut and healed."""

    supports: frozenset[str] = frozenset({"cut", "client"})

    def __init__(self, nodes: Sequence[str], children: Children) -> None:
        self._pairs = tuple(pair for node in nodes for pair in ((CLIENT, node), (node, CLIENT)))
        self._proxy = ControlledProcess("client proxy", MODULE, children)
        self._ports: dict[str, int] = {}

    @property
    def pairs(self) -> Sequence[Pair]:
        """All there are."""
        return self._pairs

    def endpoint(self, node: str) -> str:
        """Where the harness finds a node; raises EnvironmentFailure before ``open``."""
        if node not in self._ports:
            raise EnvironmentFailure(f"{node} is not reached yet: bring the cluster up first")
        return f"{LOOPBACK}:{self._ports[node]}"

    async def open(self, members: Mapping[str, str], log: Path) -> None:
        """Start the proxy for members at "host:port"; raises EnvironmentFailure or OSError."""
        await self._proxy.open(log)
        places = {name: _split(place) for name, place in members.items()}
        try:
            self._ports = (await self._proxy.ask({"do": "forward", "client": CLIENT, "members": places}))["ports"]
        except NemesisError as failure:
            raise EnvironmentFailure(f"the client proxy did not start: {failure}; see {log}") from None

    async def route(self, node: str, place: str | None) -> None:
        """Note where a node is now (None: nowhere); connections to where it was are reset."""
        await self._proxy.ask({"do": "route", "members": {node: None if place is None else _split(place)}})

    async def close(self) -> None:
        """End the proxy; idempotent."""
        self._ports = {}
        await self._proxy.close()

    async def cut(self, pairs: Iterable[Pair]) -> None:
        """See ``Links.cut``."""
        await self._proxy.ask({"do": "cut", "pairs": checked(pairs, self._pairs)})

    async def shape(self, pairs: Iterable[Pair], shape: LinkShape) -> None:
        """See ``Links.shape``: none but a healthy one."""
        chosen = checked(pairs, self._pairs)
        if shape != _HEALTHY and chosen:
            raise NemesisError(f"the links of clients cannot be {shape}: they are cut, or not")

    async def heal(self, pairs: Iterable[Pair] | None = None) -> None:
        """See ``Links.heal``."""
        await self._proxy.ask({"do": "heal", "pairs": checked(self._pairs if pairs is None else pairs, self._pairs)})

    async def counters(self) -> Mapping[Pair, LinkCounter]:
        """See ``Links.counters``."""
        answer = await self._proxy.ask({"do": "counters"})
        return {(a, b): LinkCounter(offered, delivered) for a, b, offered, delivered in answer["links"]}


class JoinedLinks:
    """See ``Links``: those of clients, and those between nodes by other means."""

    def __init__(self, clients: ClientLinks, nodes: Links) -> None:
        self._clients = clients
        self._nodes = nodes
        self.supports: frozenset[str] = clients.supports | nodes.supports

    def wanting(self, what: str) -> str:
        """See ``Explaining``."""
        return self._nodes.wanting(what) if isinstance(self._nodes, Explaining) else "there is no way to do it"

    async def cut(self, pairs: Iterable[Pair]) -> None:
        """See ``Links.cut``."""
        ours, theirs = _parted(pairs)
        if ours:
            await self._clients.cut(ours)
        if theirs:
            await self._nodes.cut(theirs)

    async def shape(self, pairs: Iterable[Pair], shape: LinkShape) -> None:
        """See ``Links.shape``."""
        ours, theirs = _parted(pairs)
        if ours:
            await self._clients.shape(ours, shape)
        if theirs:
            await self._nodes.shape(theirs, shape)

    async def heal(self, pairs: Iterable[Pair] | None = None) -> None:
        """See ``Links.heal``."""
        if pairs is None:
            await self._clients.heal()
            await self._nodes.heal()
            return
        ours, theirs = _parted(pairs)
        if ours:
            await self._clients.heal(ours)
        if theirs:
            await self._nodes.heal(theirs)

    async def counters(self) -> Mapping[Pair, LinkCounter]:
        """See ``Links.counters``."""
        return {**await self._nodes.counters(), **await self._clients.counters()}


def _parted(pairs: Iterable[Pair]) -> tuple[list[Pair], list[Pair]]:
    """The links of clients, and those between nodes."""
    chosen = list(pairs)
    return [pair for pair in chosen if CLIENT in pair], [pair for pair in chosen if CLIENT not in pair]


def _split(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host.strip("[]"), int(port)
