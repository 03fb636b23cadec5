"""Slow links: every link of the targets delayed, delayed at random, or limited to a rate.

A linearizable read on a member takes a round trip over its links, unless it is
the only one; so the *fastest* of several reads tells the delay from below, and
a busy machine cannot fake it for long.  Of a rate the counters tell: no link
delivers more than it allows, and bytes are held back; and reads are slow, or
time out behind the bytes that queue up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from splitvote.harness.cluster import Cluster, Health, LinkCounter, Links, LinkShape, Pair
from splitvote.nemesis.fault import Plan, Request, Seen, Site, aim_at_serving
from splitvote.nemesis.partitions import links_of
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.quorum import Effect
from splitvote.nemesis.targets import fraction

SLOW_BOUND_S: Final = 20.0
FAST_BOUND_S: Final = 20.0
READ_TIMEOUT_S: Final = 2.0
READS: Final = 5
"""How many reads a look measures."""

WINDOW_S: Final = 1.5
"""How long the rate of a link is observed."""

TOLERANCE: Final = 0.8
"""The share of the planned round trip that must be seen: clocks and timers are coarse."""

BURST_BYTES: Final = 16 << 10
"""What a link may deliver at once on top of its rate: one piece of the proxy's, or a queue's worth."""

UNKNOWN_READ_MS: Final = 20.0
"""What a read takes on a member that did not serve when it was measured."""

_DELAY_MS: Final = (30.0, 150.0)
_RATE_BYTES_S: Final = (3_000.0, 8_000.0)


@dataclass(frozen=True, slots=True)
class SlowFault:
    """One way of being slow; ``needs`` is what ``Links.supports`` must hold for it."""

    name: str
    summary: str
    needs: frozenset[str]
    family: str = "slow"
    selections: tuple[str, ...] = ("one", "primaries", "minority")
    is_brief: bool = False

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        if len(cluster.nodes) < 2:
            return "it has no links: it is one node"
        links = cluster.capability(Links)
        if links is None or not self.needs <= links.supports:
            return f"it cannot slow links down (Links, {', '.join(sorted(self.needs))})"
        return None if cluster.capability(Health) else "it cannot measure round trips (Health)"

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``; measures how fast the targets are before."""
        aimed = await aim_at_serving(request, site)
        if not aimed.targets:
            return aimed
        pairs = links_of(site.nodes, aimed.targets)
        before = {node: await _fastest_read_ms(node, site, READS) for node in aimed.targets}
        return Plan(
            aimed.targets,
            aimed.detail
            | {
                "pairs": [list(pair) for pair in pairs],
                "shape": msgspec.to_builtins(_shape(self.name, request.pick)),
                "fastest_read_before_ms": before,
            },
        )

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``."""
        shape = _shape_of(plan)
        return Effect(shapes=tuple((pair, shape) for pair in _pairs(plan)))

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        links = site.need(Links)
        before = await links.counters()
        await links.shape(_pairs(plan), _shape_of(plan))
        return {"before": before, "at_s": asyncio.get_running_loop().time()}

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        shape = _shape_of(plan)
        if shape.rate_bytes_s:
            return await _prove_rate(plan, shape.rate_bytes_s, site)
        return await _prove_slow(plan, shape, site)

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``; links that another fault cut stay cut."""
        cut = set(site.others.cut)
        links = site.need(Links)
        await links.heal([pair for pair in _pairs(plan) if pair not in cut])
        await links.shape([pair for pair in _pairs(plan) if pair in cut], LinkShape())
        return {}

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``; a target that another fault keeps from serving cannot be measured, and is left out."""
        nodes = [node for node in plan.targets if site.must_serve(node)]
        if not nodes:
            return Proof(False, "not measured, since other faults keep every target from serving")
        limit_ms = _limit_ms(plan)

        async def look() -> Proof:
            after = {node: await _fastest_read_ms(node, site, READS) for node in nodes}
            fast = all(taken is not None and taken < limit_ms for taken in after.values())
            return Proof(fast, _in_words(after), {"fastest_read_ms": after, "limit_ms": limit_ms})

        return await await_proof(look, what=f"a read faster than {limit_ms:g} ms", bound_s=FAST_BOUND_S)


def _shape(name: str, pick: int) -> LinkShape:
    """How slow: between the bounds above, as ``pick`` has it."""
    part = fraction(pick, 0)
    delay_ms = round(_DELAY_MS[0] + part * (_DELAY_MS[1] - _DELAY_MS[0]), 1)
    match name:
        case "delay":
            return LinkShape(delay_ms=delay_ms)
        case "jitter":
            return LinkShape(delay_ms=delay_ms, jitter_ms=round(delay_ms * 0.8, 1))
        case _:
            return LinkShape(rate_bytes_s=round(_RATE_BYTES_S[0] + part * (_RATE_BYTES_S[1] - _RATE_BYTES_S[0])))


def _shape_of(plan: Plan) -> LinkShape:
    return msgspec.convert(plan.detail["shape"], LinkShape)


def _pairs(plan: Plan) -> tuple[Pair, ...]:
    return tuple((source, destination) for source, destination in plan.detail["pairs"])


def _limit_ms(plan: Plan) -> float:
    """What tells slow reads from fast ones: half the round trip; for a rate, twice what it took before and a little."""
    shape = _shape_of(plan)
    if shape.delay_ms:
        return shape.delay_ms
    before = plan.detail["fastest_read_before_ms"].values()
    return round(4.0 + 2 * max(UNKNOWN_READ_MS if taken is None else taken for taken in before), 2)


async def _read_ms(node: str, site: Site) -> float | None:
    """How long one linearizable read on this member takes; None when it is refused."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    refused = await site.need(Health).unready([node], timeout_s=READ_TIMEOUT_S)
    return None if refused else round(1e3 * (loop.time() - started_s), 2)


async def _fastest_read_ms(node: str, site: Site, reads: int) -> float | None:
    taken = await _reads_ms(node, site, reads)
    return min(taken, default=None)


async def _reads_ms(node: str, site: Site, reads: int) -> list[float]:
    taken = [await _read_ms(node, site) for _ in range(reads)]
    return [one for one in taken if one is not None]


async def _prove_slow(plan: Plan, shape: LinkShape, site: Site) -> Proof:
    """The fastest read takes the round trip; with jitter, the mean does, and reads differ."""
    least_ms = TOLERANCE * 2 * (shape.delay_ms - shape.jitter_ms)

    async def look() -> Proof:
        reads = {node: await _reads_ms(node, site, READS) for node in plan.targets}
        holds = all(_are_late(taken, shape, least_ms) for taken in reads.values())
        fastest = {node: min(taken, default=None) for node, taken in reads.items()}
        return Proof(holds, _in_words(fastest), {"reads_ms": reads, "least_ms": round(least_ms, 1)})

    return await await_proof(look, what=f"reads no faster than {least_ms:.0f} ms", bound_s=SLOW_BOUND_S)


def _are_late(reads_ms: Sequence[float], shape: LinkShape, least_ms: float) -> bool:
    if len(reads_ms) < READS or min(reads_ms) < least_ms:
        return False
    spread_ms, mean_ms = max(reads_ms) - min(reads_ms), sum(reads_ms) / len(reads_ms)
    return not shape.jitter_ms or (mean_ms >= shape.delay_ms and spread_ms >= shape.jitter_ms / 2)


async def _prove_rate(plan: Plan, rate_bytes_s: float, site: Site) -> Proof:
    """Over a window no link delivers more than its rate, bytes are held back, and no read is fast."""
    links, loop = site.need(Links), asyncio.get_running_loop()
    pairs, limit_ms = _pairs(plan), _limit_ms(plan)
    first, started_s = await links.counters(), loop.time()
    most_held = 0

    async def look() -> Proof:
        nonlocal most_held
        reads = {node: await _fastest_read_ms(node, site, READS) for node in plan.targets}
        now, passed_s = await links.counters(), loop.time() - started_s
        delivered = max(now[pair].delivered_bytes - first[pair].delivered_bytes for pair in pairs)
        most_held = max(most_held, sum(_held_bytes(now, pair) - _held_bytes(first, pair) for pair in pairs))
        kept = delivered <= rate_bytes_s * passed_s + BURST_BYTES
        slow = all(taken is None or taken >= limit_ms for taken in reads.values())
        words = (
            f"in {passed_s:.1f} s the busiest of {len(pairs)} links delivered {delivered} bytes where "
            f"{rate_bytes_s * passed_s:.0f} were allowed, up to {most_held} were held back; {_in_words(reads)}"
        )
        seen: dict[str, Any] = {"most_delivered_bytes": delivered, "most_held_bytes": most_held, "reads_ms": reads}
        return Proof(passed_s >= WINDOW_S and kept and slow and most_held > 0, words, seen)

    return await await_proof(look, what="links held to their rate", bound_s=SLOW_BOUND_S, poll_s=0.05)


def _held_bytes(counters: Mapping[Pair, LinkCounter], pair: Pair) -> int:
    return counters[pair].offered_bytes - counters[pair].delivered_bytes


def _in_words(reads_ms: Mapping[str, float | None]) -> str:
    return "; ".join(
        f"{node} serves no read" if taken is None else f"the fastest read on {node} takes {taken:g} ms"
        for node, taken in reads_ms.items()
    )


SLOW: Final = (
    SlowFault("delay", "every packet of the targets' links is late by the same time", frozenset({"delay"})),
    SlowFault("jitter", "every packet of the targets' links is late by a random time", frozenset({"delay", "jitter"})),
    SlowFault("rate", "the targets' links pass only so many bytes a second", frozenset({"rate"})),
)
