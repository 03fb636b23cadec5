"""The index of keys: every key's history, and ranges over keys as of a revision.

etcd's treeIndex.  A key's state as of a revision is that of its last record up to it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.backend import Record
from splitvote.harness.simulation.mutants import Mutants

TO_THE_END: Final = b"\0"
"""The range end that stands for no end."""

_by_revision: Final = attrgetter("main")


def is_within(key: bytes, start: bytes, end: bytes) -> bool:
    """Whether a key is in the range: ``end`` empty: that key only; ``TO_THE_END``: all from ``start`` on."""
    if not end:
        return key == start
    return start <= key and (end == TO_THE_END or key < end)


class KeyIndex:
    """Every key's records, oldest first."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._histories: dict[bytes, list[Record]] = {}
        self._keys: list[bytes] = []
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Take the newest record."""
        key = record.kv.key
        history = self._histories.get(key)
        if history is None:
            self._histories[key] = [record]
            insort(self._keys, key)
        else:
            history.append(record)

    def get(self, key: bytes) -> pb.KeyValue | None:
        """A key's newest state; None where there is none."""
        history = self._histories.get(key)
        if history is None:
            return None
        last = history[-1]
        return None if last.is_deletion else last.kv

    def get_at(self, key: bytes, revision: int) -> pb.KeyValue | None:
        """A key's state as of a revision that is not compacted."""
        history = self._histories.get(key)
        if history is None:
            return None
        last = history[-1]
        if last.main > revision:
            position = bisect_right(history, revision, key=_by_revision)
            if position == 0:
                return None
            last = history[position - 1]
        return None if last.is_deletion else last.kv

    def keys(self, start: bytes, end: bytes) -> list[bytes]:
        """The keys in a range that have a history, in order."""
        if not end:
            return [start] if start in self._histories else []
        first = bisect_left(self._keys, start)
        return self._keys[first:] if end == TO_THE_END else self._keys[first : bisect_left(self._keys, end)]

    def range(self, start: bytes, end: bytes, revision: int) -> list[pb.KeyValue]:
        """The states of the keys in a range as of a revision, in the order of keys."""
        if not end:
            state = self.get_at(start, revision)
            return [] if state is None else [state]
        states = (self.get_at(key, revision) for key in self.keys(start, end))
        return [state for state in states if state is not None]

    def former(self, key: bytes) -> pb.KeyValue | None:
        """What a key that is deleted was last, as far as that is not compacted."""
        history = self._histories.get(key, ())
        return next((record.kv for record in reversed(history) if not record.is_deletion), None)

    def compact(self, revision: int, mutants: Mutants) -> list[Record]:
        """Forget what nobody can ask for any more; returns the records up to the revision that are kept, in order.

        A key's last record up to the revision is kept, except for a deletion
        before the revision.  A deletion *at* it is an event that a watch from
        that revision on is to see.
        """
        kept: list[Record] = []
        gone: list[bytes] = []
        for key, history in self._histories.items():
            count = bisect_right(history, revision, key=_by_revision)
            if count == 0:
                continue
            last = history[count - 1]
            is_at_it = last.main == revision
            if last.is_deletion:
                is_kept = is_at_it and not mutants.fires("compaction-drops-tombstone")
            else:
                is_new = is_at_it and last.kv.version == 1
                is_kept = not (is_new and mutants.fires("compaction-removes-live-keys"))
            if not is_kept:
                del history[:count]
                if not history:
                    gone.append(key)
            else:
                del history[: count - 1]
                kept.append(last)
        for key in gone:
            del self._histories[key]
            del self._keys[bisect_left(self._keys, key)]
        kept.sort(key=lambda record: (record.main, record.sub))
        return kept
