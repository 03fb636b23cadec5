"""The truth for watches: every event below the workload's prefix, as records hold them, in the store's order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from splitvote.checkers.truth import Truth
from splitvote.checkers.watch.plan import PREFIX, Told, Watched, digest
from splitvote.harness.archive import StoreEvent


class Expected:
    """The events that a watch of one selection and filter must tell, in order."""

    def __init__(self, events: list[Told]) -> None:
        self.events = events
        self._revisions = [event[0] for event in events]

    def between(self, first: int, last: int) -> list[Told]:
        """Those of the revisions from ``first`` to ``last``, both included."""
        return self.events[bisect_left(self._revisions, first) : bisect_right(self._revisions, last)]

    def count(self, first: int, last: int) -> int:
        """How many there are between these revisions, both included."""
        return max(0, bisect_right(self._revisions, last) - bisect_left(self._revisions, first))


class WatchTruth:
    """All events up to ``known``; ``doubt`` says why no more is known, None where the archive reaches the end."""

    def __init__(self, states: Truth) -> None:
        self._states = states
        self.known = self._states.known
        self.doubt = self._states.doubt
        self.at_revision: dict[int, list[Told]] = {
            revision: [_told(event) for event in events] for revision, events in self._states.groups.items()
        }
        self._by_place = {(event[0], event[1]): event for events in self.at_revision.values() for event in events}
        self._expected: dict[tuple[str | None, str | None, str], Expected] = {}

    def event(self, revision: int, key: str) -> Told | None:
        """What the revision did to the key."""
        return self._by_place.get((revision, key))

    def before(self, revision: int, key: str) -> Told | None:
        """The key's state just before a revision; None when it was absent."""
        state = self._states.at(key, revision - 1)
        if state is None:
            return None
        return [state.mod, key, digest(state.value), state.create, state.version, state.lease]

    def expected(self, watched: Watched) -> Expected:
        """What such a watch must tell."""
        selection = (watched.key, watched.end, watched.without)
        if selection not in self._expected:
            self._expected[selection] = Expected(
                [event for event in self._by_place.values() if watched.covers(event[1]) and watched.wants(event)]
            )
        return self._expected[selection]


def _told(event: StoreEvent) -> Told:
    value = None if event.type == "delete" else digest(event.value)
    key = event.key.removeprefix(PREFIX)
    return [event.mod_revision, key, value, event.create_revision, event.version, event.lease]
