"""The questions of an exam: which mutant, under which workload and faults, and which anomalies are the right answer.

An anomaly is a right one when its name is what the mutant breaks, as a user
would see it: that members disagree is right for a bug that makes them differ,
and wrong for a late watch.  A run that is INVALID by other names only is shown
as such and counts as not caught.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from splitvote.harness.simulation.mutants import MUTANTS, Mutant
from splitvote.workloads import NAMES

TIME_S: Final = 60.0
CONTROL_TIME_S: Final = 20.0
CONTROL: Final = "control"
"""Stands in a question for no mutant."""

_STALE: Final = ("nonlinearizable", "kv: stale read", "kv: linearizable read")
_DISAGREEMENT: Final = (
    "member agreement: keys",
    "member agreement: hash",
    "member agreement: revision",
    "store history: disagreement",
)
_LOST: Final = (
    "nonlinearizable",
    "set: lost",
    "kv: lost write",
    "kv: stale read",
    "kv: member went back",
    "kv: two writes at one revision",
    *_DISAGREEMENT,
)
_TWO_HISTORIES: Final = ("kv: two writes at one revision", "kv: write order", *_LOST, "log: panic")
_EARLY_END: Final = ("lease: early expiry", "lease: ttl", "lease: refused while alive")


class Expectation(msgspec.Struct, frozen=True):
    """How a mutant is looked for: the names that are right, and what else than the default finds it.

    ``faults`` is the list of faults as ``--faults`` takes it (None: the mutant's
    families); ``interval_s`` and ``overlap`` lay them out; ``settings`` are
    further fields of the run's options.
    """

    shows: tuple[str, ...]
    faults: str | None = None
    interval_s: float | None = None
    overlap: bool = False
    settings: dict[str, Any] = {}


EXPECTATIONS: Final[Mapping[str, Expectation]] = {
    "read-without-read-index": Expectation(_STALE),
    "read-index-before-first-commit": Expectation(
        _STALE, faults="packet:delay:all,packet:loss:all,partition:primaries", interval_s=1.0, overlap=True
    ),
    "ack-before-fsync": Expectation(_TWO_HISTORIES, "disk:power_loss"),
    "ack-before-commit": Expectation(_LOST),
    "two-votes-in-one-term": Expectation(
        _TWO_HISTORIES, faults="packet:delay:jitter:all,kill:primaries", interval_s=1.0, overlap=True
    ),
    # The wall clocks' faults do no harm: while one is active nobody waits for full health between the others.
    "commit-by-counting-in-an-old-term": Expectation(
        _TWO_HISTORIES,
        faults="pause:primaries,partition:primaries,clock:wall_bump",
        interval_s=0.8,
        overlap=True,
        settings={"nodes": 3},
    ),
    "duplicated-message-applied-twice": Expectation(("kv: repeated write", "kv: effect", "nonlinearizable")),
    "reapply-after-restart": Expectation(_DISAGREEMENT),
    "consistent-index-ahead-of-data": Expectation(_DISAGREEMENT),
    "revision-falls-after-crash": Expectation(_DISAGREEMENT),
    "restart-forgets-attachments": Expectation(
        ("lease: attachment", "lease: late expiry", "lock: stuck", *_DISAGREEMENT)
    ),
    "snapshot-loses-leases": Expectation(
        ("lease: attachment", "lease: late expiry", *_EARLY_END, "lease: granted twice", "lock: stuck", *_DISAGREEMENT)
    ),
    "ranges-stripped-from-transactions": Expectation(_DISAGREEMENT),
    "compare-on-stale-view": Expectation(
        (
            "nonlinearizable",
            "kv: transaction answer",
            "kv: effect",
            "lost-update",
            "G-single",
            "G2-item",
            "incompatible-order",
        )
    ),
    "lost-update": Expectation(("nonlinearizable", "kv: effect", "kv: repeated write", "kv: lost write", "set: lost")),
    "create-revision-kept": Expectation(("kv: effect", "store history: create revision")),
    "version-not-reset": Expectation(("kv: effect", "store history: version")),
    "compaction-drops-tombstone": Expectation(("watch: resumable", "watch: reliable")),
    "compaction-removes-live-keys": Expectation(("kv: linearizable read", "kv: serializable read", "kv: effect")),
    "watch-splits-transaction": Expectation(("watch: atomic",)),
    "watch-restored-without-min-revision": Expectation(("watch: unique", "watch: compacted")),
    "full-channel-drops-events": Expectation(("watch: reliable",)),
    "progress-ahead-of-events": Expectation(("watch: bookmarkable",)),
    "filter-ignored": Expectation(("watch: filter",)),
    "previous-state-from-wrong-revision": Expectation(("watch: prev_kv",)),
    "stale-leader-revokes-lease": Expectation(_EARLY_END),
    "promote-without-extension": Expectation(_EARLY_END),
    "lease-keys-at-different-revisions": Expectation(("lease: split expiry",)),
    "keepalive-renews-revoked-lease": Expectation(("lease: renewed after revoke",)),
    "campaign-ignores-predecessor": Expectation(
        ("election: no predecessor", "election: succession", "lock: mutual exclusion", "lock: no predecessor")
    ),
    "observe-reports-deposed-leader": Expectation(
        ("election: leader read", "election: stale observation", "election: deposed leader observed")
    ),
    "proclaim-unguarded": Expectation(("election: fencing", "set: lost", "set: stale")),
    "unlock-by-non-holder": Expectation(("lock: release", "lock: release by another")),
}
"""What the exam expects of every mutant."""


class Question(msgspec.Struct, frozen=True):
    """One seed of one workload with one mutant (``CONTROL``: none)."""

    mutant: str
    workload: str
    seed: int
    time_s: float

    @property
    def expectation(self) -> Expectation:
        """How it is looked for; under all faults where nothing is planted."""
        return EXPECTATIONS[self.mutant] if self.mutant != CONTROL else Expectation((), "all")

    @property
    def planted(self) -> Mutant | None:
        """The mutant, if there is one."""
        return MUTANTS.get(self.mutant)

    @property
    def faults(self) -> str:
        """As ``--faults`` takes it."""
        given = self.expectation.faults
        return given if given is not None else ",".join(self.planted.needs if self.planted else ())


def questions_of(mutant: Mutant, seeds: Sequence[int], *, time_s: float = TIME_S) -> Iterator[Question]:
    """Each of the mutant's workloads with each seed, a seed of every workload first."""
    for seed in seeds:
        for workload in mutant.workloads:
            yield Question(mutant.name, workload, seed, time_s)


def control_questions(count: int, *, time_s: float = CONTROL_TIME_S) -> Iterator[Question]:
    """So many seeds over all workloads in turn, with nothing planted."""
    for number in range(count):
        yield Question(CONTROL, NAMES[number % len(NAMES)], number, time_s)
