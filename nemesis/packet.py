"""Faults of the packets on links: the links of the targets given a shape, both ways, and what they are proven by.

How slowness is seen is in ``slow``, how loss is in ``lossy``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from splitvote.harness.cluster import Cluster, Health, Links, LinkShape, Pair
from splitvote.nemesis import lossy, slow
from splitvote.nemesis.fault import Plan, Request, Seen, Site, aim_at_serving
from splitvote.nemesis.links import cannot
from splitvote.nemesis.partitions import links_of
from splitvote.nemesis.proof import Proof
from splitvote.nemesis.quorum import Effect

FAMILY: Final = "packet"


@dataclass(frozen=True, slots=True)
class PacketFault:
    """One thing done to packets; ``needs`` is what ``Links.supports`` must hold for it, ``draw`` how much of it.

    The proofs are given the plan and the shape.
    """

    name: str
    summary: str
    needs: frozenset[str]
    draw: Callable[[int], LinkShape]
    prove: Callable[[Plan, LinkShape, Site, Seen], Awaitable[Proof]]
    prove_end: Callable[[Plan, LinkShape, Site, Seen], Awaitable[Proof]]
    family: str = FAMILY
    selections: tuple[str, ...] = ("one", "primaries", "minority")
    is_brief: bool = False

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        if len(cluster.nodes) < 2:
            return "it has no links: it is one node"
        links = cluster.capability(Links)
        if links is None or not self.needs <= links.supports:
            return cannot(links, "do that to its links", self.needs)
        return None if cluster.capability(Health) else "it cannot measure round trips (Health)"

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``; measures how fast the targets are before."""
        aimed = await aim_at_serving(request, site)
        if not aimed.targets:
            return aimed
        pairs = links_of(site.nodes, aimed.targets)
        detail = {
            "pairs": [list(pair) for pair in pairs],
            "shape": msgspec.to_builtins(self.draw(request.pick)),
            "fastest_read_before_ms": await slow.fastest_reads_ms(aimed.targets, site),
        }
        return Plan(aimed.targets, aimed.detail | detail)

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``."""
        shape = shape_of(plan)
        return Effect(shapes=tuple((pair, shape) for pair in pairs_of(plan)))

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        links = site.need(Links)
        before = await links.counters()
        await links.shape(pairs_of(plan), shape_of(plan))
        return {"before": before}

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        return await self.prove(plan, shape_of(plan), site, seen)

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``; links that another fault cut stay cut."""
        cut = set(site.others.cut)
        links = site.need(Links)
        await links.heal([pair for pair in pairs_of(plan) if pair not in cut])
        await links.shape([pair for pair in pairs_of(plan) if pair in cut], LinkShape())
        return {"after": await links.counters()}

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        return await self.prove_end(plan, shape_of(plan), site, seen)


def shape_of(plan: Plan) -> LinkShape:
    """What the plan does to its links."""
    return msgspec.convert(plan.detail["shape"], LinkShape)


def pairs_of(plan: Plan) -> tuple[Pair, ...]:
    """The links that the plan is about."""
    return tuple((source, destination) for source, destination in plan.detail["pairs"])


async def _prove_delay(plan: Plan, shape: LinkShape, site: Site, seen: Seen) -> Proof:
    return await slow.prove_delay(plan.targets, shape, site)


async def _prove_rate(plan: Plan, shape: LinkShape, site: Site, seen: Seen) -> Proof:
    before = plan.detail["fastest_read_before_ms"]
    return await slow.prove_rate(plan.targets, pairs_of(plan), shape, site, limit_ms=slow.limit_ms(shape, before))


async def _prove_fast(plan: Plan, shape: LinkShape, site: Site, seen: Seen) -> Proof:
    limit_ms = slow.limit_ms(shape, plan.detail["fastest_read_before_ms"])
    return await slow.prove_fast(plan.targets, site, limit_ms=limit_ms)


async def _prove_lossy(plan: Plan, shape: LinkShape, site: Site, seen: Seen) -> Proof:
    return await lossy.prove_lossy(pairs_of(plan), shape, site, seen)


async def _prove_whole(plan: Plan, shape: LinkShape, site: Site, seen: Seen) -> Proof:
    return await lossy.prove_whole(pairs_of(plan), shape, site, seen)


PACKETS: Final = (
    PacketFault(
        "delay",
        "every packet of the targets' links is late by the same time",
        frozenset({"delay"}),
        slow.delay,
        _prove_delay,
        _prove_fast,
    ),
    PacketFault(
        "jitter",
        "every packet of the targets' links is late by a random time",
        frozenset({"delay", "jitter"}),
        slow.jitter,
        _prove_delay,
        _prove_fast,
    ),
    PacketFault(
        "rate",
        "the targets' links pass only so many bytes a second",
        frozenset({"rate"}),
        slow.rate,
        _prove_rate,
        _prove_fast,
    ),
    PacketFault(
        "loss",
        "a share of the packets of the targets' links is lost",
        frozenset({"loss"}),
        lambda pick: LinkShape(loss=lossy.share(pick)),
        _prove_lossy,
        _prove_whole,
    ),
    PacketFault(
        "duplicate",
        "a share of the packets of the targets' links comes twice",
        frozenset({"duplicate"}),
        lambda pick: LinkShape(duplicate=lossy.share(pick)),
        _prove_lossy,
        _prove_whole,
    ),
)
