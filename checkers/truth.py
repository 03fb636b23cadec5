"""The truth by revision: the states of the workload's keys, put together from the archive of the store's history."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from splitvote.harness.archive import Archive, StoreEvent
from splitvote.harness.recording import Recording

NO_ARCHIVE: Final = "no archive of the store's history was kept, so there is no truth"


class KeyState(NamedTuple):
    """A key that is there; ``lease`` 0 is none, None one that nobody knows."""

    value: str
    create: int
    mod: int
    version: int
    lease: int | None = 0


class Truth:
    """The keys below ``prefix`` (which their names here leave out) at every revision up to ``known``.

    ``known`` is the last revision before the first that no member told, or that
    two told differently: from there on a state could be anything, and ``doubt``
    says why.  ``final_revision`` is the members' newest at the end (None: they
    were not asked): an archive that ends before it is doubted from its end on.
    ``groups`` are the events of each revision that changed such a key.
    """

    def __init__(self, archive: Archive, prefix: str, *, final_revision: int | None) -> None:
        untold = archive.untold(2, archive.newest)
        self.newest = archive.newest
        self.known = archive.newest
        self.doubt: str | None = None
        if final_revision is None or final_revision > archive.newest:
            self.doubt = "the archive ends here, before the run's end"
        if untold:
            self.known, self.doubt = untold[0][0] - 1, "no member told what happened then"
        split = min((disagreement.revision for disagreement in archive.disagreements), default=None)
        if split is not None and split <= self.known:
            self.known, self.doubt = split - 1, "the members tell different histories of it"
        self.groups: dict[int, list[StoreEvent]] = {}
        self._revisions: dict[str, list[int]] = {}
        self._states: dict[str, list[KeyState | None]] = {}
        skipped = len(prefix)
        for event in archive.events(prefix):
            if event.mod_revision > self.known:
                break
            self.groups.setdefault(event.mod_revision, []).append(event)
            name = event.key[skipped:]
            self._revisions.setdefault(name, []).append(event.mod_revision)
            self._states.setdefault(name, []).append(state_of(event))
        self._names = sorted(self._revisions)
        self._names_at = lru_cache(maxsize=4096)(self._find_names)

    def at(self, key: str, revision: int) -> KeyState | None:
        """A key as of a revision; None when it was absent."""
        revisions = self._revisions.get(key)
        if revisions is None:
            return None
        place = bisect_right(revisions, revision)
        return self._states[key][place - 1] if place else None

    def names_at(self, revision: int) -> list[str]:
        """The keys that there were at a revision, in order."""
        return self._names_at(revision)

    def _find_names(self, revision: int) -> list[str]:
        return [name for name in self._names if self.at(name, revision) is not None]

    def changes_at(self, revision: int, prefix: str) -> Mapping[str, KeyState | None]:
        """Each key that the revision changed, with its state then."""
        return {event.key[len(prefix) :]: state_of(event) for event in self.groups.get(revision, ())}


def state_of(event: StoreEvent) -> KeyState | None:
    """A key's state after an event."""
    if event.type == "delete":
        return None
    return KeyState(event.value, event.create_revision, event.mod_revision, event.version, event.lease)


def truth_of(recording: Recording, prefix: str) -> Truth | None:
    """The truth below a prefix, doubted beyond what the archive has; None without an archive (``NO_ARCHIVE``)."""
    if recording.archive is None or not recording.archive.told:
        return None
    newest = None if recording.final is None else recording.final.newest_revision
    return Truth(recording.archive, prefix, final_revision=newest)
