"""Proofs: what was seen of a fault's effect, or of its end, and waiting for it under a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

POLL_S: Final = 0.1


class Proof(msgspec.Struct, frozen=True):
    """What was observed, in words and in numbers; ``holds`` whether that proves what was to be proven."""

    holds: bool
    words: str
    observed: dict[str, Any] = {}

    def __and__(self, other: Proof) -> Proof:
        """Both; the words of both."""
        words = "; ".join(filter(None, (self.words, other.words)))
        return Proof(self.holds and other.holds, words, self.observed | other.observed)


NOTHING_TO_PROVE: Final = Proof(True, "")


async def await_proof(
    look: Callable[[], Awaitable[Proof]], *, what: str, bound_s: float, poll_s: float = POLL_S
) -> Proof:
    """Look until the proof holds, at most for ``bound_s``; then the last look, with ``what`` was awaited.

    Nothing is raised for a proof that does not come: that is a finding about
    the cluster.  Each look bounds its own calls.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + bound_s
    while True:
        proof = await look()
        if proof.holds:
            return proof
        if loop.time() + poll_s > deadline_s:
            return Proof(False, f"{what} was not seen within {bound_s:g} s: {proof.words}", proof.observed)
        await asyncio.sleep(poll_s)
