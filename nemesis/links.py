"""Partitions: links between nodes that are cut, whom that leaves without a majority, and the proof of both.

Proof of effect: the bytes delivered over every cut link stay what
they were, for a while in which there was something to deliver (bytes offered
to the cut links, or traffic over the others); and the members that the cut
leaves no way to a majority, or to clients, refuse linearizable reads.  Where
the leader was isolated, another one was elected elsewhere; not where it was
isolated from clients alone.  Proof of the end: every link that was cut has
delivered something again, and members that clients were cut off from serve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from splitvote.harness.cluster import CLIENT, Cluster, Explaining, Health, LinkCounter, Links, Pair
from splitvote.nemesis.fault import Plan, Request, Seen, Site, aim, prove_new_leader
from splitvote.nemesis.partitions import KINDS, grudge
from splitvote.nemesis.proof import NOTHING_TO_PROVE, Proof, await_proof
from splitvote.nemesis.quorum import Effect, apart_from_clients, cut_off

CUT_BOUND_S: Final = 15.0
OPEN_BOUND_S: Final = 20.0
FLAT_S: Final = 1.0
"""How long nothing may be delivered over a link for it to count as cut."""

READ_TIMEOUT_S: Final = 1.0

Counters = Mapping[Pair, LinkCounter]


@dataclass(frozen=True, slots=True)
class PartitionFault:
    """One kind of partition."""

    name: str
    family: str = "partition"
    is_brief: bool = False

    @property
    def summary(self) -> str:
        """The first line of what makes it."""
        return (KINDS[self.name].make.__doc__ or "").splitlines()[0]

    @property
    def selections(self) -> tuple[str, ...]:
        """See ``Fault``."""
        return KINDS[self.name].aims

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        least = KINDS[self.name].least_nodes
        if len(cluster.nodes) < least:
            return f"it has {len(cluster.nodes)} nodes where {least} are needed"
        links, needs = cluster.capability(Links), KINDS[self.name].needs
        if links is not None and links.supports >= set(needs):
            return None
        return cannot(links, "cut clients off" if CLIENT in needs else "cut links", needs)

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``."""
        aimed = Plan((), {"pick": request.pick})
        if KINDS[self.name].aims:
            aimed = await aim(request, site)
            if not aimed.targets:
                return aimed
        cut = grudge(self.name, site.nodes, request.pick, aimed.targets)
        down = site.others.down
        if all(a in down or b in down for a, b in cut.pairs):
            return Plan((), skipped="other faults hold an end of every link down that it would cut")
        return Plan(cut.targets, aimed.detail | {"pairs": [list(pair) for pair in cut.pairs], "picture": cut.words})

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``."""
        return Effect(cut=_pairs(plan))

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        await site.need(Links).cut(_pairs(plan))
        return {}

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        silence = await _prove_cut(_pairs(plan), site)
        if not silence.holds or apart_from_clients(self.effect(plan)):
            return silence
        return silence & await prove_new_leader(plan, site, self.effect(plan))

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``; what other faults do to the same links stays."""
        links = site.need(Links)
        mine = _left_by_others(_pairs(plan), site.others)
        before = await links.counters()
        await links.heal(mine)
        for pair, shape in site.others.shapes:
            if pair in mine:
                await links.shape((pair,), shape)
        return {"before": before, "pairs": mine}

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        down = site.others.down
        pairs = [pair for pair in seen["pairs"] if pair[0] not in down and pair[1] not in down]
        freed = [node for node in apart_from_clients(Effect(cut=tuple(pairs))) if site.must_serve(node)]
        return await _prove_open(pairs, freed, seen["before"], site)


def cannot(links: Links | None, deed: str, needs: Iterable[str]) -> str:
    """That a cluster cannot do something for want of these faults of its links, and why where it can say so."""
    reason = f"it cannot {deed} (Links, {', '.join(sorted(needs))})"
    missing = [] if links is None else sorted(set(needs) - links.supports)
    return f"{reason}: {links.wanting(missing[0])}" if missing and isinstance(links, Explaining) else reason


def _pairs(plan: Plan) -> tuple[Pair, ...]:
    return tuple((source, destination) for source, destination in plan.detail["pairs"])


def _left_by_others(pairs: Iterable[Pair], others: Effect) -> tuple[Pair, ...]:
    cut = set(others.cut)
    return tuple(pair for pair in pairs if pair not in cut)


class _Silence:
    """Watches the counters of cut links: since when has nothing been delivered, and was there anything to deliver?"""

    def __init__(self, pairs: Sequence[Pair], counters: Counters, now_s: float) -> None:
        self._pairs = tuple(pairs)
        self._cut = frozenset(pairs)
        self._first = counters
        self._last = counters
        self._since_s = now_s

    def note(self, counters: Counters, now_s: float) -> Proof:
        """What the counters say by now."""
        if any(counters[pair].delivered_bytes != self._last[pair].delivered_bytes for pair in self._pairs):
            self._first, self._since_s = counters, now_s
        self._last = counters
        held = {pair: counters[pair].offered_bytes - self._first[pair].offered_bytes for pair in self._pairs}
        pressed = sum(size > 0 for size in held.values())
        beside = sum(
            counter.delivered_bytes - self._first[pair].delivered_bytes
            for pair, counter in counters.items()
            if pair not in self._cut
        )
        flat_s = round(now_s - self._since_s, 2)
        words = (
            f"for {flat_s} s no byte was delivered over {len(self._pairs)} cut links, while {sum(held.values())} bytes "
            f"were offered to {pressed} of them and {beside} delivered over the others"
        )
        seen = {"flat_s": flat_s, "held_bytes": sum(held.values()), "pressed_links": pressed, "beside_bytes": beside}
        return Proof(flat_s >= FLAT_S and (pressed > 0 or beside > 0), words, seen)


async def _prove_cut(pairs: Sequence[Pair], site: Site) -> Proof:
    links = site.need(Links)
    loop = asyncio.get_running_loop()
    silence = _Silence(pairs, await links.counters(), loop.time())
    whole = site.others | Effect(cut=tuple(pairs))
    victims = tuple(dict.fromkeys((*cut_off(site.nodes, whole), *apart_from_clients(whole))))

    async def look() -> Proof:
        refusal = await _prove_refusal(victims, site)  # first: it takes as long as a read's timeout
        return silence.note(await links.counters(), loop.time()) & refusal

    return await await_proof(look, what="silence over the cut links", bound_s=CUT_BOUND_S)


async def _prove_refusal(victims: Sequence[str], site: Site) -> Proof:
    """None of the members that are cut off from every majority, or from us, serves a linearizable read."""
    health = site.cluster.capability(Health)
    if not victims or health is None:
        return NOTHING_TO_PROVE
    refused = await health.unready(victims, timeout_s=READ_TIMEOUT_S)
    serve = [node for node in victims if node not in refused]
    if serve:
        return Proof(False, f"{', '.join(serve)} still serving reads, though cut off")
    words = f"no linearizable read on {', '.join(victims)}, cut off from every majority or from clients"
    return Proof(True, words, {"refused": refused})


async def _prove_open(pairs: Sequence[Pair], freed: Sequence[str], before: Counters, site: Site) -> Proof:
    """Each of these links has delivered something since, and these members serve linearizable reads."""
    links, health = site.need(Links), site.cluster.capability(Health)

    async def look() -> Proof:
        refused = await health.unready(freed, timeout_s=READ_TIMEOUT_S) if health is not None and freed else {}
        now = await links.counters()
        grown = {pair: now[pair].delivered_bytes - before[pair].delivered_bytes for pair in pairs}
        quiet = [f"{a} to {b}" for (a, b), size in grown.items() if size <= 0]
        words = f"{len(grown) - len(quiet)} of {len(grown)} links deliver again ({sum(grown.values())} bytes)"
        if quiet:
            words += f", but not {', '.join(quiet)}"
        if freed:
            words += f"; {', '.join(refused)} still serve no read" if refused else f"; {', '.join(freed)} serve reads"
        return Proof(
            not quiet and not refused,
            words,
            {"open_links": len(grown) - len(quiet), "delivered_bytes": sum(grown.values())},
        )

    return await await_proof(look, what="traffic over the healed links", bound_s=OPEN_BOUND_S)


PARTITIONS: Final = tuple(PartitionFault(kind) for kind in KINDS)
