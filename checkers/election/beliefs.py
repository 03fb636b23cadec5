"""For how long several clients believed at once that they lead.  Measured, never judged (SOUNDNESS 16).

A client that watches its session believes until that is lost by its own clock;
one that does not look believes until it is told: by a refusal, or because it
gave up itself.  Overlaps of the first kind mean clock skew, a stall, or a lease that
ended early; those of the second are what leases promise and fences are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitvote.checkers.election.claims import Claim, Claims, is_refusal
from splitvote.harness.history import History
from splitvote.harness.op import NEMESIS, Op

_GIVES_UP: Final = frozenset({"resign", "retire", "campaign"})


@dataclass(slots=True)
class Belief:
    """A client's belief to lead, in ns: until it was told, and until its session was lost by its own clock."""

    claim: Claim
    from_ns: int
    told_ns: int
    lost_ns: int | None = None

    @property
    def watchful_ns(self) -> int:
        """The end for a client that watches its session."""
        return self.told_ns if self.lost_ns is None else max(self.from_ns, min(self.told_ns, self.lost_ns))


def beliefs_of(history: History, claims: Claims) -> list[Belief]:
    """Every belief, by its beginning."""
    won = {claim.campaign.completion.index: claim for claim in claims.won.values() if claim.campaign.completion}
    refused = {
        operation.completion.index
        for operation in claims.operations
        if operation.completion is not None and is_refusal(operation)
    }
    end_ns = history[-1].time_ns if len(history) else 0
    open_: dict[int, Belief] = {}
    found: list[Belief] = []
    for op in history:
        if op.process == NEMESIS or op.type == "event":
            continue
        belief = open_.get(op.process)
        if belief is not None:
            if op.index in refused or op.type == "info" or (op.type == "invoke" and op.f in _GIVES_UP):
                belief.told_ns = min(belief.told_ns, op.time_ns)
            if op.type != "invoke" and op.f != "campaign":
                _note_loss(belief, op)  # also by the operation that gives it up
            if op.index in refused or op.type == "info" or (op.type != "invoke" and op.f in _GIVES_UP):
                del open_[op.process]
        if op.index in won:
            open_[op.process] = Belief(won[op.index], op.time_ns, end_ns)
            found.append(open_[op.process])
    return found


def _note_loss(belief: Belief, op: Op) -> None:
    lost_s = (op.extra or {}).get("lost_s")
    if lost_s is not None and belief.lost_ns is None:
        belief.lost_ns = op.time_ns - int(lost_s * 1e9)


def overlaps(beliefs: Sequence[Belief]) -> dict[str, Any]:
    """How often and how long beliefs of one election overlapped, with and without an eye on the session."""
    return {
        "overlapping_beliefs": _overlaps([(b.claim.campaign.key, b.from_ns, b.told_ns) for b in beliefs]),
        "overlapping_watchful_beliefs": _overlaps([(b.claim.campaign.key, b.from_ns, b.watchful_ns) for b in beliefs]),
    }


def _overlaps(spans: Sequence[tuple[str, int, int]]) -> dict[str, Any]:
    latest: dict[str, int] = {}
    lengths = []
    for election, from_ns, until_ns in spans:
        others_ns = latest.get(election, 0)
        if min(others_ns, until_ns) > from_ns:
            lengths.append(min(others_ns, until_ns) - from_ns)
        latest[election] = max(others_ns, until_ns)
    return {
        "count": len(lengths),
        "longest_s": round(max(lengths, default=0) / 1e9, 3),
        "total_s": round(sum(lengths) / 1e9, 3),
    }
