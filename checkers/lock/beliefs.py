"""Who held each lock when: by revision, as the store tells, and in time, as the clients believed.

A client believes from the answer to its acquire until it invokes the release, or
its process ends.  That beliefs overlap is what leases promise and no defect;
here it is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitvote.checkers.lock.grants import Grant
from splitvote.harness.history import History
from splitvote.harness.op import NEMESIS, Op

MOST_ROWS: Final = 300

COLUMNS: Final = (
    "lock", "process", "api", "lease", "created", "granted", "ended",
    "believed_from_s", "believed_until_s", "overlap_s", "beside",
)  # fmt: skip
"""Of the evidence's rows: the key's create revision, the revision of the answer, the key's end; then seconds, and the
process whose belief had begun before and overlaps."""


@dataclass(frozen=True, slots=True)
class Belief:
    """A client's belief to hold a lock, in ns.

    ``beside`` is the belief that had begun before and went on for longest, where
    that overlaps; ``overlap_ns`` for how long.
    """

    grant: Grant
    from_ns: int
    until_ns: int
    beside: Belief | None = None
    overlap_ns: int = 0

    def row(self) -> list[Any]:
        """See ``COLUMNS``."""
        claim, life = self.grant.claim, self.grant.life
        return [
            claim.lock, claim.operation.process, claim.operation.invoke.value["api"], f"{claim.lease:x}",
            life.create, self.grant.revision, life.end,
            round(self.from_ns / 1e9, 3), round(self.until_ns / 1e9, 3), round(self.overlap_ns / 1e9, 3),
            None if self.beside is None else self.beside.grant.claim.operation.process,
        ]  # fmt: skip


def beliefs(history: History, grants: Sequence[Grant]) -> list[Belief]:
    """Every belief, by its beginning."""
    ends = _ends(history, grants)
    found = []
    longest: dict[str, Belief] = {}
    for grant in sorted(grants, key=_began_ns):
        begin_ns, end_ns = _began_ns(grant), ends[grant.claim.operation.invoke.index]
        other = longest.get(grant.claim.lock)
        overlap_ns = 0 if other is None else max(0, min(other.until_ns, end_ns) - begin_ns)
        belief = Belief(grant, begin_ns, end_ns, other if overlap_ns else None, overlap_ns)
        found.append(belief)
        if other is None or other.until_ns < end_ns:
            longest[grant.claim.lock] = belief
    return found


def _began_ns(grant: Grant) -> int:
    completion = grant.claim.operation.completion
    assert completion is not None
    return completion.time_ns


def _ends(history: History, grants: Sequence[Grant]) -> dict[int, int]:
    """When each grant's holder began to release it, or its process ended; by the index of the acquire."""
    acquired = {grant.claim.operation.completion.index: grant for grant in grants if grant.claim.operation.completion}
    held: dict[tuple[int, Any], int] = {}
    ends: dict[int, int] = {}
    last_ns = 0
    for op in history:
        last_ns = op.time_ns
        if op.process == NEMESIS:
            continue
        if op.index in acquired:
            held[op.process, op.key] = acquired[op.index].claim.operation.invoke.index
        for place in _let_go(op, held):
            ends[held.pop(place)] = op.time_ns
    for index in held.values():
        ends[index] = last_ns
    for grant in grants:  # acquired anew without a release in between
        ends.setdefault(grant.claim.operation.invoke.index, _began_ns(grant))
    return ends


def _let_go(op: Op, held: dict[tuple[int, Any], int]) -> list[tuple[int, Any]]:
    """The locks of which this record ends the belief."""
    if op.type == "info" or (op.f == "release" and op.type == "invoke" and op.value != "unlock"):
        return [place for place in held if place[0] == op.process]
    if op.f == "release" and op.type == "invoke" and (op.process, op.key) in held:
        return [(op.process, op.key)]
    return []


def evidence(found: Sequence[Belief]) -> dict[str, Any]:
    """The table of holders; where there are too many, those whose beliefs overlap are kept first."""
    overlapping = {_place(each) for belief in found if belief.beside for each in (belief, belief.beside)}
    kept = sorted(found, key=lambda belief: (_place(belief) not in overlapping, belief.from_ns))[:MOST_ROWS]
    rows = [belief.row() for belief in sorted(kept, key=lambda belief: belief.from_ns)]
    return {"holders": {"columns": list(COLUMNS), "rows": rows, "of": len(found)}}


def _place(belief: Belief) -> int:
    return belief.grant.claim.operation.invoke.index


def stats(found: Sequence[Belief]) -> dict[str, Any]:
    """How often and how long beliefs overlapped."""
    overlaps = [belief.overlap_ns for belief in found if belief.overlap_ns]
    return {
        "overlapping_beliefs": len(overlaps),
        "longest_overlap_s": round(max(overlaps, default=0) / 1e9, 3),
        "overlapped_s": round(sum(overlaps) / 1e9, 3),
    }
