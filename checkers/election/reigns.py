"""Who led by revision: the candidates' keys from creation to deletion, put together from the store's history.

A candidate's key is ``<prefix><election>/<lease in hexadecimal>``.  At every
revision the one with the smallest create revision leads.  An older key is never
created later, so once no older key is left a candidate leads as long as its own
key lives: leaders come in the order of their create revisions.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final

from splitvote.checkers.truth import Truth
from splitvote.harness.archive import StoreEvent

GUARDED: Final = "guarded"
"""The folder of the keys that leaders write to, which is no election."""


@dataclass(slots=True)
class Tenure:
    """One life of a candidate's key: created, perhaps deleted (None: it lives at the end of what is known).

    ``values`` are what it proclaimed, each with the revision of its put.
    """

    election: str
    key: str
    lease: int
    created: int
    deleted: int | None = None
    values: list[tuple[int, str]] = field(default_factory=list)

    def is_alive_at(self, revision: int) -> bool:
        """Whether the key is there in the state of this revision."""
        return self.values[0][0] <= revision and (self.deleted is None or revision < self.deleted)

    def value_at(self, revision: int) -> tuple[int, str]:
        """The last value put up to this revision (not before the key's creation), and the revision of its put."""
        place = bisect_right(self.values, revision, key=lambda put: put[0])
        return self.values[place - 1]

    def until(self, mod_revision: int) -> int | None:
        """The revision that ended the value put at this one: the next put or the deletion; None: it still stands."""
        place = bisect_right(self.values, mod_revision, key=lambda put: put[0])
        return self.values[place][0] if place < len(self.values) else self.deleted

    @property
    def life(self) -> str:
        """From when to when, in words."""
        end = "still there" if self.deleted is None else f"deleted at {self.deleted}"
        return f"created at {self.created}, {end}"


@dataclass(frozen=True, slots=True)
class Reign:
    """A tenure's time as leader: from ``first`` on, up to the revision before ``end`` (None: it does not end)."""

    tenure: Tenure
    first: int
    end: int | None


class Reigns:
    """Every tenure and reign up to ``known``, the last revision of which everything is known."""

    def __init__(self, truth: Truth, prefix: str) -> None:
        self.known = truth.known
        self.is_complete = truth.doubt is None
        self.tenures: dict[tuple[str, int], Tenure] = {}
        self.by_election: dict[str, list[Reign]] = {}
        self._reign_of: dict[tuple[str, int], Reign] = {}
        self._prefix = prefix
        alive: dict[str, dict[str, Tenure]] = {}
        for revision, events in truth.groups.items():
            for election in self._apply(events, alive):
                oldest = min(alive[election].values(), key=lambda tenure: tenure.created, default=None)
                self._crown(election, revision, oldest)

    def _apply(self, events: list[StoreEvent], alive: dict[str, dict[str, Tenure]]) -> list[str]:
        """Take one revision's events; returns the elections that they are about."""
        touched: dict[str, None] = {}
        for event in events:
            election = self.election_of(event.key)
            if election is None:
                continue
            touched[election] = None
            standing = alive.setdefault(election, {})
            if event.type == "delete":
                gone = standing.pop(event.key, None)
                if gone is not None:
                    gone.deleted = event.mod_revision
                continue
            tenure = standing.get(event.key)
            if tenure is None or tenure.created != event.create_revision:
                if tenure is not None:  # created anew, though nothing told of its deletion
                    tenure.deleted = event.mod_revision
                tenure = Tenure(election, event.key, event.lease, event.create_revision)
                standing[event.key] = self.tenures[event.key, event.create_revision] = tenure
            tenure.values.append((event.mod_revision, event.value))
        return list(touched)

    def _crown(self, election: str, revision: int, leader: Tenure | None) -> None:
        reigns = self.by_election.setdefault(election, [])
        last = reigns[-1] if reigns else None
        if last is not None and last.end is None:
            if last.tenure is leader:
                return
            reigns[-1] = self._reign_of[last.tenure.key, last.tenure.created] = Reign(last.tenure, last.first, revision)
        if leader is not None:
            reign = self._reign_of[leader.key, leader.created] = Reign(leader, revision, None)
            reigns.append(reign)

    def election_of(self, key: str) -> str | None:
        """The election that a key is a candidate's of; None for a key that leaders write to."""
        election = key[len(self._prefix) :].rpartition("/")[0]
        return None if election == GUARDED else election

    def last_by(self, election: str, revision: int) -> Reign | None:
        """The newest reign that began at this revision or before."""
        reigns = self.by_election.get(election, [])
        place = bisect_right(reigns, revision, key=lambda reign: reign.first)
        return reigns[place - 1] if place else None

    def leader_at(self, election: str, revision: int) -> Tenure | None:
        """Who leads in the state of this revision."""
        reign = self.last_by(election, revision)
        return None if reign is None or (reign.end is not None and reign.end <= revision) else reign.tenure

    def is_vacant_within(self, election: str, first: int, last: int) -> bool:
        """Whether nobody led at some revision from ``first`` to ``last``."""
        revision = first
        while revision <= last:
            reign = self.last_by(election, revision)
            if reign is None or (reign.end is not None and reign.end <= revision):
                return True
            if reign.end is None:
                return False
            revision = reign.end
        return False

    def reign_of(self, tenure: Tenure) -> Reign | None:
        """The tenure's time as leader; None when it never led."""
        return self._reign_of.get((tenure.key, tenure.created))
