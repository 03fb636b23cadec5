"""A raft member's log in memory: entries after a snapshot, and how far they are stable, committed and handed on.

Source: etcd's raft/log.go and log_unstable.go.  Storage and unstable tail are
one list here; ``stable`` tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from splitvote.harness.simulation.messages import Entry, RaftSnapshot
from splitvote.harness.simulation.process import PanicError


class RaftLog:
    """Entries ``first`` to ``last``; indices at or below ``offset`` are only in the snapshot.

    ``stable``: on disk; ``committed``: on a majority's disks, as far as known;
    ``applied``: handed on to be applied.
    """

    __slots__ = ("_entries", "applied", "committed", "last", "offset", "offset_term", "pending_snapshot", "stable")

    def __init__(self, snapshot: RaftSnapshot, entries: Sequence[Entry], committed: int) -> None:
        self._entries = list(entries)
        self.offset = snapshot.index
        self.offset_term = snapshot.term
        self.last = self.offset + len(self._entries)
        """The index of the last entry."""

        self.stable = self.last
        self.committed = max(committed, snapshot.index)
        self.applied = snapshot.index
        self.pending_snapshot: RaftSnapshot | None = None
        """Received, and not yet on disk."""

    @property
    def first(self) -> int:
        """The index of the first entry that is still here."""
        return self.offset + 1

    @property
    def last_term(self) -> int:
        """The term of the last entry."""
        return self._entries[-1].term if self._entries else self.offset_term

    def term(self, index: int) -> int | None:
        """The term of an entry; None when it is compacted away or not there yet."""
        place = index - self.offset
        if place == 0:
            return self.offset_term
        if 0 < place <= len(self._entries):
            return self._entries[place - 1].term
        return None

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends so has all that this one has committed: the later last term, or the longer log."""
        own = self.last_term
        return term > own or (term == own and index >= self.last)

    def slice(self, low: int, high: int) -> list[Entry]:
        """Entries ``low`` to ``high``, both included."""
        return self._entries[low - self.offset - 1 : high - self.offset]

    def append(self, entries: Sequence[Entry]) -> None:
        """Put entries at their places, dropping whatever was there and after; never below the commit index."""
        after = entries[0].index - 1
        if after < self.committed:
            raise PanicError(f"entry {after + 1} conflicts with committed entry [committed({self.committed})]")
        if after < self.last:
            del self._entries[after - self.offset :]
            self.stable = min(self.stable, after)
        self._entries.extend(entries)
        self.last = after + len(entries)

    def maybe_append(self, index: int, term: int, committed: int, entries: Sequence[Entry]) -> int | None:
        """Append what follows (index, term) if that is in the log; the last new index, or None."""
        if self.term(index) != term:
            return None
        for place, entry in enumerate(entries):
            if self.term(entry.index) != entry.term:
                self.append(entries[place:])
                break
        last_new = index + len(entries)
        self.commit_to(min(committed, last_new))
        return last_new

    def find_conflict_by_term(self, index: int, term: int) -> int:
        """The last index at or below ``index`` whose term is at most ``term``: where two logs may still agree."""
        index = min(index, self.last)
        while index > self.offset:
            own = self.term(index)
            if own is None or own <= term:
                break
            index -= 1
        return index

    def commit_to(self, index: int) -> None:
        """Raise the commit index."""
        if index > self.committed:
            if index > self.last:
                raise PanicError(
                    f"tocommit({index}) is out of range [lastIndex({self.last})]. "
                    "Was the raft log corrupted, truncated, or lost?"
                )
            self.committed = index

    def unstable(self) -> list[Entry]:
        """Entries that are not on disk yet."""
        return self._entries[self.stable - self.offset :]

    def stable_to(self, index: int, term: int) -> None:
        """The disk has the log up to this entry, if it is still the entry that was written."""
        if index > self.stable and self.term(index) == term:
            self.stable = index

    def restore(self, snapshot: RaftSnapshot) -> None:
        """Become a snapshot that the leader sent."""
        self._entries.clear()
        self.offset, self.offset_term = snapshot.index, snapshot.term
        self.committed = self.stable = self.last = snapshot.index
        self.pending_snapshot = snapshot

    def compact(self, index: int) -> None:
        """Forget entries up to this index, which must have been applied."""
        if index <= self.offset:
            return
        term = self.term(index)
        assert term is not None
        assert index <= self.applied, f"cannot compact to {index}, applied {self.applied}"
        del self._entries[: index - self.offset]
        self.offset, self.offset_term = index, term
