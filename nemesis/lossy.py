"""What is lost and what comes twice: how much, and the proofs, from the bytes that links were given and gave.

Over the targets' links together the share that was lost (offered and not
delivered) is, in the long run, that of the shape.  A look counts from the
fault's start on, so that what happens to be under way between two counters
weighs less and less, and asks for half the share; the end is proven where less
than a quarter of it is lost from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from splitvote.harness.cluster import LinkCounter, Links, LinkShape, Pair
from splitvote.nemesis.fault import Seen, Site
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.targets import between

LOSSY_BOUND_S: Final = 30.0
WHOLE_BOUND_S: Final = 30.0

LEAST_BYTES: Final = 20_000
"""What must have been offered before a share is taken seriously: some hundred packets."""

_SHARE: Final = (0.05, 0.25)
"""Beyond that TCP waits so long between its attempts that there is nothing left to be seen."""


def share(pick: int) -> float:
    """The share that ``pick`` stands for."""
    return round(between(pick, 0, _SHARE), 3)


async def prove_lossy(pairs: Sequence[Pair], shape: LinkShape, site: Site, seen: Seen) -> Proof:
    """At least half the share that was planned is lost, or comes twice."""
    least = max(shape.loss, shape.duplicate) / 2

    def judge(lost: float) -> bool:
        return (lost if shape.loss else -lost) >= least

    return await _prove(pairs, seen["before"], site, judge, what=f"{least:.1%} of the bytes", bound_s=LOSSY_BOUND_S)


async def prove_whole(pairs: Sequence[Pair], shape: LinkShape, site: Site, seen: Seen) -> Proof:
    """Less than a quarter of the planned share is lost, or comes twice."""
    most = max(shape.loss, shape.duplicate) / 4

    def judge(lost: float) -> bool:
        return abs(lost) < most

    return await _prove(pairs, seen["after"], site, judge, what=f"less than {most:.1%}", bound_s=WHOLE_BOUND_S)


async def _prove(
    pairs: Sequence[Pair], first: Mapping[Pair, LinkCounter], site: Site, judge: Any, *, what: str, bound_s: float
) -> Proof:
    links = site.need(Links)
    cut = set(site.others.cut)
    counted = [pair for pair in pairs if pair not in cut]

    async def look() -> Proof:
        now = await links.counters()
        offered = sum(now[pair].offered_bytes - first[pair].offered_bytes for pair in counted)
        delivered = sum(now[pair].delivered_bytes - first[pair].delivered_bytes for pair in counted)
        lost = (offered - delivered) / offered if offered else 0.0
        words = f"of {offered} bytes offered to {len(counted)} links {delivered} were delivered ({lost:.1%} lost)"
        seen = {"offered_bytes": offered, "delivered_bytes": delivered, "lost": round(lost, 4)}
        return Proof(offered >= LEAST_BYTES and judge(lost), words, seen)

    return await await_proof(look, what=what, bound_s=bound_s)
