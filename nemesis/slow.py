"""What slow links are: how late packets are and at what rate they pass, and the proofs, from reads and counters.

A linearizable read on a member takes a round trip over its links, unless it is
the only one; so the *fastest* of several reads tells the delay from below, and
a busy machine cannot fake it for long.  Of a rate the counters tell: no link
delivers more than it allows, and bytes are held back; and reads are slow, or
time out behind the bytes that queue up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from splitvote.harness.cluster import Health, LinkCounter, Links, LinkShape, Pair
from splitvote.nemesis.fault import Site
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.targets import between

SLOW_BOUND_S: Final = 20.0
FAST_BOUND_S: Final = 20.0
READ_TIMEOUT_S: Final = 2.0
READS: Final = 5
"""How many reads a look measures."""

LATE_S: Final = 0.4
"""When a read over links with a rate is given up as slow: there may be no answer, and looks are to be short."""

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

Reads = Mapping[str, float | None]
"""How long reads on nodes take, in ms; None where none was served."""


def delay(pick: int) -> LinkShape:
    """The delay that ``pick`` stands for."""
    return LinkShape(delay_ms=_delay_ms(pick))


def jitter(pick: int) -> LinkShape:
    """The delay, and what it varies by."""
    return LinkShape(delay_ms=_delay_ms(pick), jitter_ms=round(_delay_ms(pick) * 0.8, 1))


def rate(pick: int) -> LinkShape:
    """The rate that ``pick`` stands for."""
    return LinkShape(rate_bytes_s=round(between(pick, 0, _RATE_BYTES_S)))


def _delay_ms(pick: int) -> float:
    return round(between(pick, 0, _DELAY_MS), 1)


def limit_ms(shape: LinkShape, before: Reads) -> float:
    """What tells slow reads from fast ones: half the round trip; for a rate, twice what it took before and a little."""
    if shape.delay_ms:
        return shape.delay_ms
    return round(4.0 + 2 * max(UNKNOWN_READ_MS if taken is None else taken for taken in before.values()), 2)


async def _read_ms(node: str, site: Site, timeout_s: float) -> float | None:
    """How long one linearizable read on this member takes; None when it is refused."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    refused = await site.need(Health).unready([node], timeout_s=timeout_s)
    return None if refused else round(1e3 * (loop.time() - started_s), 2)


async def fastest_reads_ms(
    nodes: Sequence[str], site: Site, *, timeout_s: float = READ_TIMEOUT_S
) -> dict[str, float | None]:
    """The fastest of several reads on each node."""
    return {node: min(await _reads_ms(node, site, timeout_s), default=None) for node in nodes}


async def _reads_ms(node: str, site: Site, timeout_s: float = READ_TIMEOUT_S) -> list[float]:
    taken = [await _read_ms(node, site, timeout_s) for _ in range(READS)]
    return [one for one in taken if one is not None]


async def prove_delay(targets: Sequence[str], shape: LinkShape, site: Site) -> Proof:
    """The fastest read takes the round trip; with jitter, the mean does, and reads differ."""
    least_ms = TOLERANCE * 2 * (shape.delay_ms - shape.jitter_ms)

    async def look() -> Proof:
        reads = {node: await _reads_ms(node, site) for node in targets}
        holds = all(_are_late(taken, shape, least_ms) for taken in reads.values())
        fastest = {node: min(taken, default=None) for node, taken in reads.items()}
        return Proof(holds, _in_words(fastest), {"reads_ms": reads, "least_ms": round(least_ms, 1)})

    return await await_proof(look, what=f"reads no faster than {least_ms:.0f} ms", bound_s=SLOW_BOUND_S)


def _are_late(reads_ms: Sequence[float], shape: LinkShape, least_ms: float) -> bool:
    if len(reads_ms) < READS or min(reads_ms) < least_ms:
        return False
    spread_ms, mean_ms = max(reads_ms) - min(reads_ms), sum(reads_ms) / len(reads_ms)
    return not shape.jitter_ms or (mean_ms >= shape.delay_ms and spread_ms >= shape.jitter_ms / 2)


async def prove_rate(
    targets: Sequence[str], pairs: Sequence[Pair], shape: LinkShape, site: Site, *, limit_ms: float
) -> Proof:
    """Over a window no link delivers more than its rate, bytes are held back, and no read is fast."""
    links, loop = site.need(Links), asyncio.get_running_loop()
    first, started_s = await links.counters(), loop.time()
    most_held = 0

    async def look() -> Proof:
        nonlocal most_held
        reads = await fastest_reads_ms(targets, site, timeout_s=max(LATE_S, 2e-3 * limit_ms))
        now, passed_s = await links.counters(), loop.time() - started_s
        allowed = shape.rate_bytes_s * passed_s
        delivered = max(now[pair].delivered_bytes - first[pair].delivered_bytes for pair in pairs)
        most_held = max(most_held, sum(_held_bytes(now, pair) - _held_bytes(first, pair) for pair in pairs))
        slow = all(taken is None or taken >= limit_ms for taken in reads.values())
        words = (
            f"in {passed_s:.1f} s the busiest of {len(pairs)} links delivered {delivered} bytes where "
            f"{allowed:.0f} were allowed, up to {most_held} were held back; {_in_words(reads)}"
        )
        seen: dict[str, Any] = {"most_delivered_bytes": delivered, "most_held_bytes": most_held, "reads_ms": reads}
        kept = delivered <= allowed + BURST_BYTES
        return Proof(passed_s >= WINDOW_S and kept and slow and most_held > 0, words, seen)

    return await await_proof(look, what="links held to their rate", bound_s=SLOW_BOUND_S, poll_s=0.05)


def _held_bytes(counters: Mapping[Pair, LinkCounter], pair: Pair) -> int:
    return counters[pair].offered_bytes - counters[pair].delivered_bytes


async def prove_fast(targets: Sequence[str], site: Site, *, limit_ms: float) -> Proof:
    """Reads are fast again; a target that another fault keeps from serving cannot be measured, and is left out."""
    nodes = [node for node in targets if site.must_serve(node)]
    if not nodes:
        return Proof(False, "not measured, since other faults keep every target from serving")

    async def look() -> Proof:
        after = await fastest_reads_ms(nodes, site)
        fast = all(taken is not None and taken < limit_ms for taken in after.values())
        return Proof(fast, _in_words(after), {"fastest_read_ms": after, "limit_ms": limit_ms})

    return await await_proof(look, what=f"a read faster than {limit_ms:g} ms", bound_s=FAST_BOUND_S)


def _in_words(reads_ms: Reads) -> str:
    return "; ".join(
        f"{node} serves no read" if taken is None else f"the fastest read on {node} takes {taken:g} ms"
        for node, taken in reads_ms.items()
    )
