"""Which keys hung on which lease, at every revision, by the archive; and the revisions at which leases ended.

The lessor keeps this beside the store, and changes it while a revision is being
made: a put takes the key off its old lease and then puts it on the new one, be
it the same; a revoke takes the keys off one by one.  Whoever looks at a lease at
that moment sees it half done, which is no fault (``may_be_seen``).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

from splitvote.checkers.truth import Truth
from splitvote.harness.archive import StoreEvent

Keys = frozenset[str]
NONE: Keys = frozenset()


class Step(NamedTuple):
    """One revision that changed a lease's keys, or put one of them again (``put``); None: it deleted them."""

    revision: int
    before: Keys
    after: Keys
    put: str | None


class Ending(NamedTuple):
    """Keys of a lease (0: of none) that one revision deleted, those it left, and the other leases it took keys of."""

    lease: int
    revision: int
    deleted: Keys
    left: Keys
    others: frozenset[int]


@dataclass(slots=True)
class Attachments:
    """The steps of each lease in order of revision, and every deletion."""

    steps: dict[int, list[Step]] = field(default_factory=dict)
    endings: list[Ending] = field(default_factory=list)

    def at(self, lease: int, revision: int) -> Keys:
        """The lease's keys as of a revision."""
        steps = self.steps.get(lease, [])
        place = bisect_right(steps, revision, key=lambda step: step.revision)
        return steps[place - 1].after if place else NONE

    def may_be_seen(self, lease: int, keys: Keys, first: int, last: int) -> bool:
        """Whether somebody may see exactly these keys while the store goes from one revision to the other."""
        if self.at(lease, first) == keys:
            return True
        steps = self.steps.get(lease, [])
        low = bisect_right(steps, first, key=lambda step: step.revision)
        high = bisect_right(steps, last, key=lambda step: step.revision)
        return any(_may_show(step, keys) for step in steps[low:high])


def _may_show(step: Step, keys: Keys) -> bool:
    if step.put is None:
        return keys <= step.before
    return keys in (step.after, step.before - {step.put})


def attachments_of(truth: Truth, prefix: str) -> Attachments:
    """Follow every event up to where the truth is known."""
    return _Follower(prefix).follow(truth)


class _Follower:
    def __init__(self, prefix: str) -> None:
        self._skipped = len(prefix)
        self._lease_of: dict[str, int] = {}
        self._keys_of: dict[int, Keys] = {}
        self._found = Attachments()

    def follow(self, truth: Truth) -> Attachments:
        for revision, events in truth.groups.items():
            for event in events:
                if event.type == "put":
                    self._put(event, revision)
            gone = [event.key[self._skipped :] for event in events if event.type == "delete"]
            if gone:
                self._delete(gone, revision)
        return self._found

    def _put(self, event: StoreEvent, revision: int) -> None:
        name = event.key[self._skipped :]
        old = self._lease_of.get(name, 0)
        self._lease_of[name] = event.lease
        for lease in dict.fromkeys((old, event.lease)):
            before = self._keys_of.get(lease, NONE)
            after = before | {name} if lease == event.lease else before - {name}
            self._step(lease, Step(revision, before, after, name))

    def _delete(self, names: list[str], revision: int) -> None:
        taken: dict[int, set[str]] = {}
        for name in names:
            taken.setdefault(self._lease_of.pop(name, 0), set()).add(name)
        for lease, theirs in taken.items():
            before = self._keys_of.get(lease, NONE)
            after = before - theirs
            self._step(lease, Step(revision, before, after, None))
            others = frozenset(taken) - {lease}
            self._found.endings.append(Ending(lease, revision, frozenset(theirs), after, others))

    def _step(self, lease: int, step: Step) -> None:
        self._keys_of[lease] = step.after
        if lease:
            self._found.steps.setdefault(lease, []).append(step)
