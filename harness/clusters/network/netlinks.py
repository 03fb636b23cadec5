"""The capability Links where nodes have network namespaces: packets dropped by netfilter, held and delayed by queues.

Each node's state is kept here and given to its namespace whole, so that a node
gets from one state to the next in one step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from splitvote.harness.cluster import CLIENT, LinkCounter, LinkShape, Pair
from splitvote.harness.clusters.network import queueing
from splitvote.harness.clusters.network.links import checked
from splitvote.harness.clusters.network.namespaces import Work
from splitvote.harness.clusters.network.packetfilter import Filter
from splitvote.harness.errors import NemesisError

Run = Callable[[Work], Awaitable[Mapping[str, Sequence[str]]]]
"""Runs commands in namespaces by name; gives what they printed."""

_HEALTHY: Final = LinkShape()
_SHARES: Final = ("loss", "duplicate", "reorder", "corrupt")


_Counted = tuple[dict[str, int], dict[str, int]]
"""Bytes that left a namespace for each peer, and that arrived there from each."""


class _Link:
    """One directed link; ``has_class`` once its queue has a class of its own."""

    __slots__ = ("has_class", "is_cut", "shape")

    def __init__(self) -> None:
        self.is_cut = False
        self.shape = _HEALTHY
        self.has_class = False


class NamespaceLinks:
    """Links between the nodes, and between each node and the clients where those have a namespace, too.

    ``addresses`` are those of the nodes, and of CLIENT if it has one; ``qdiscs`` what the
    kernel has of "htb" and "netem"; ``run`` reaches the namespaces.
    """

    def __init__(self, addresses: Mapping[str, str], packets: Filter, qdiscs: Sequence[str], run: Run) -> None:
        self._addresses = dict(addresses)
        self._numbers = queueing.numbers(list(addresses))
        self._filter = packets
        self._has_netem = "netem" in qdiscs
        self._run = run
        self._interfaces: dict[str, str] = {}
        self._turn = asyncio.Lock()
        self._links: dict[Pair, _Link] = {}
        self._carried: dict[str, _Counted] = {}
        self._counted: dict[str, _Counted] = {}
        names = tuple(addresses)
        self._pairs = tuple((a, b) for a in names for b in names if a != b)
        able = (
            {"cut", "loss"} | ({"client"} if CLIENT in addresses else set()) | ({"rate"} if "htb" in qdiscs else set())
        )
        if {"htb", "netem"} <= set(qdiscs):
            able |= set(queueing.NETEM_SHAPES)
        self.supports: frozenset[str] = frozenset(able)

    async def begin(
        self, addresses: Mapping[str, str] | None = None, interfaces: Mapping[str, str] | None = None
    ) -> None:
        """Have everything counted, and nothing hurt yet; ``addresses`` are the same names' where they are now.

        ``interfaces`` are those that lead from the nodes to the others (None: INTERFACE).
        """
        self._addresses = dict(self._addresses if addresses is None else addresses)
        self._interfaces = dict(
            dict.fromkeys(self._addresses, queueing.INTERFACE) if interfaces is None else interfaces
        )
        self._links = {pair: _Link() for pair in self._pairs}
        self._carried, self._counted = {}, {}
        await self._run({name: [self._filter.begin(self._peers(name))] for name in self._addresses})

    async def rejoin(self, moved: Mapping[str, str], interfaces: Mapping[str, str]) -> None:
        """Go on in the namespaces of nodes that came back in new ones: hurt as before, and counted on.

        ``moved`` are their addresses now.  What was counted since the last look is lost with the old namespace.
        """
        self._check_open()
        async with self._turn:
            is_elsewhere = any(self._addresses[name] != address for name, address in moved.items())
            others = [name for name in self._addresses if is_elsewhere and name not in moved]
            now = await self._count(others)
            self._carried |= {name: now[name] for name in others}
            self._carried |= {name: self._counted[name] for name in moved if name in self._counted}
            self._addresses |= moved
            cleared = [name for name in others if self._has_root(name)]
            await self._run({name: [queueing.script(queueing.no_root(self._interfaces[name]))] for name in cleared})
            self._interfaces |= interfaces
            work: Work = {}
            for node in (*others, *moved):
                for pair, link in self._links.items():
                    link.has_class = link.has_class and pair[0] != node
                mine = [(pair, link) for pair, link in self._links.items() if pair[0] == node]
                shaped = [pair for pair, link in mine if _queue(link.shape) != _HEALTHY]
                work[node] = [self._filter.begin(self._peers(node)), self._filter.drop(self._drops(node))]
                if lines := self._queues(node, shaped):
                    work[node].append(queueing.script(lines))
            await self._run(work)

    def _has_root(self, node: str) -> bool:
        return any(link.has_class for (source, _), link in self._links.items() if source == node)

    def end(self) -> None:
        """Note that the namespaces are gone."""
        self._links = {}

    def _peers(self, name: str) -> dict[str, str]:
        return {other: address for other, address in self._addresses.items() if other != name}

    async def cut(self, pairs: Iterable[Pair]) -> None:
        """See ``Links.cut``; packets that a queue holds already are dropped where they arrive."""

        def change(link: _Link) -> None:
            link.is_cut = True

        await self._change(checked(pairs, self._pairs), change)

    async def shape(self, pairs: Iterable[Pair], shape: LinkShape) -> None:
        """See ``Links.shape``."""
        self._check(shape)

        def change(link: _Link) -> None:
            link.shape = shape

        await self._change(checked(pairs, self._pairs), change)

    def wanting(self, what: str) -> str:
        """See ``Explaining``."""
        if what == "client":
            return "clients come to the nodes by the way that commands do, which is not cut"
        return f"this kernel has no {'netem' if what in queueing.NETEM_SHAPES else 'HTB'} (for `tc`)"

    def _check(self, shape: LinkShape) -> None:
        wanted = {name.split("_")[0]: value for name, value in msgspec.structs.asdict(shape).items()}
        for name, value in wanted.items():
            if value and name not in self.supports:
                raise NemesisError(f"links cannot do {name} here ({name}={value}): {self.wanting(name)}")
            if value < 0 or (name in _SHARES and value > 1):
                raise NemesisError(f"a link cannot have {shape}: shares are between 0 and 1, the others not negative")

    async def heal(self, pairs: Iterable[Pair] | None = None) -> None:
        """See ``Links.heal``; TCP finds out when it tries again, which may take as long as the link was cut."""

        def change(link: _Link) -> None:
            link.is_cut = False
            link.shape = _HEALTHY

        await self._change(checked(self._pairs if pairs is None else pairs, self._pairs), change)

    async def _change(self, pairs: Sequence[Pair], change: Callable[[_Link], None]) -> None:
        self._check_open()
        async with self._turn:
            queued = {pair: self._links[pair].shape for pair in pairs}
            for pair in pairs:
                change(self._links[pair])
            work: Work = {}
            for node in dict.fromkeys(destination for _, destination in pairs):
                work.setdefault(node, []).append(self._filter.drop(self._drops(node)))
            for node in dict.fromkeys(source for source, _ in pairs):
                mine = [
                    pair
                    for pair in pairs
                    if pair[0] == node and _queue(queued[pair]) != _queue(self._links[pair].shape)
                ]
                if lines := self._queues(node, mine):
                    work.setdefault(node, []).append(queueing.script(lines))
            await self._run(work)

    def _drops(self, node: str) -> dict[str, float]:
        """The share of packets to be dropped at a node, by the address they come from."""
        shares = {}
        for source, address in self._peers(node).items():
            link = self._links[source, node]
            if share := 1.0 if link.is_cut else link.shape.loss:
                shares[address] = share
        return shares

    def _queues(self, node: str, pairs: Sequence[Pair]) -> list[str]:
        """What brings the queues for these links of a node up to their shapes."""
        lines = []
        interface = self._interfaces[node]
        has_root = self._has_root(node)
        for pair in pairs:
            link, number = self._links[pair], self._numbers[pair[1]]
            if not has_root:
                lines += queueing.root(interface)
                has_root = True
            if not link.has_class:
                lines += queueing.link(interface, number, self._addresses[pair[1]])
                link.has_class = True
            lines += queueing.shape(interface, number, link.shape, has_netem=self._has_netem)
        return lines

    async def counters(self) -> Mapping[Pair, LinkCounter]:
        """See ``Links.counters``: bytes of IP packets, TCP's headers and repetitions included."""
        self._check_open()
        async with self._turn:
            counted = await self._count(self._addresses)
        return {(a, b): LinkCounter(counted[a][0][b], counted[b][1][a]) for a, b in self._pairs}

    async def _count(self, names: Iterable[str]) -> dict[str, _Counted]:
        """What was counted in these namespaces, and in those that were there in their place before."""
        outputs = await self._run({name: [self._filter.count()] for name in names})
        for name, output in outputs.items():
            left, came = self._filter.read(output[-1])
            had_left, had_come = self._carried.get(name, ({}, {}))
            self._counted[name] = _added(left, had_left), _added(came, had_come)
        return {name: self._counted[name] for name in outputs}

    def _check_open(self) -> None:
        if not self._links:
            raise NemesisError("there are no links yet: bring the cluster up first")


def _added(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {peer: size + before.get(peer, 0) for peer, size in now.items()}


def _queue(shape: LinkShape) -> LinkShape:
    """What of a shape the queues do."""
    return msgspec.structs.replace(shape, loss=0.0)
