"""The machine's part of a node's disk: bbolt's part in etcd.

What a process changes is in its memory until ``commit``; ``roll_back`` is what
its death does to the rest.  The consistent index is committed together with the
changes that it counts, which is what guards against applying an entry twice.

The store of revisions is a log of records, of which only compaction removes
any; it only removes what was committed, so that the number of committed records
says where a roll-back cuts.  Leases and alarms are small and changed in place,
with a list of how to undo it.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.mutants import Mutants

RECORD_OVERHEAD_BYTES: Final = 64
"""What a record takes beside its key and value: the revision, the fields of a KeyValue, its share of a page."""

LEASE_BYTES: Final = 64

NEVER_COMPACTED: Final = -1
"""The compact revision of a store that was never compacted."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One change of one key: the ``sub``-th of the transaction that made revision ``main``.

    ``kv`` is the key's new state; of a deletion it has only key and mod_revision.
    """

    main: int
    sub: int
    kv: pb.KeyValue
    is_deletion: bool


class StoredLease(msgspec.Struct, frozen=True):
    """A lease as it is kept: its TTL, and what was left of it at the last checkpoint (0: not known)."""

    ttl_s: int
    remaining_s: int = 0


Alarm: TypeAlias = "tuple[int, pb.AlarmType]"
"""Member id and kind."""


class Snapshot(msgspec.Struct, frozen=True):
    """A whole machine at one index, as sent to a member that is far behind."""

    index: int
    records: tuple[Record, ...]
    leases: tuple[tuple[int, StoredLease], ...]
    alarms: tuple[Alarm, ...]
    compacted: int
    size_bytes: int


class Backend:
    """See the module; ``Backend()`` is an empty disk.

    ``records`` are ordered by revision; they, ``leases``, ``alarms``, ``index``
    (the consistent index) and ``compacted`` (up to where compaction was done)
    are to be changed by this class only.  ``mutants`` are the process's.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.leases: dict[int, StoredLease] = {}
        self.alarms: dict[Alarm, None] = {}
        self.index = 0
        self.compacted = NEVER_COMPACTED
        self.size_bytes = 0
        self.used_bytes = 0
        self._undo_leases: list[tuple[int, StoredLease | None]] = []
        self._undo_alarms: list[tuple[Alarm, bool]] = []
        self._committed_records = 0
        self._committed_index = 0
        self.mutants = Mutants()

    def add(self, record: Record) -> None:
        """Append one change."""
        self.records.append(record)
        self._grow(_size(record))

    def _grow(self, by_bytes: int) -> None:
        self.used_bytes += by_bytes
        if self.used_bytes > self.size_bytes:
            self.size_bytes = self.used_bytes

    def set_lease(self, lease: int, state: StoredLease | None) -> None:
        """Store a lease, or forget it (None)."""
        before = self.leases.get(lease)
        self._undo_leases.append((lease, before))
        if state is None:
            self.leases.pop(lease, None)
        else:
            self.leases[lease] = state
        self._grow(LEASE_BYTES * ((state is not None) - (before is not None)))

    def set_alarm(self, alarm: Alarm, *, is_raised: bool) -> None:
        """Store an alarm, or forget it."""
        self._undo_alarms.append((alarm, alarm in self.alarms))
        if is_raised:
            self.alarms[alarm] = None
        else:
            self.alarms.pop(alarm, None)

    def compact(self, revision: int, kept: list[Record]) -> None:
        """Keep only these of the records up to a revision; durable at once, with all before it.

        etcd commits that a compaction is due before it removes anything, and
        resumes it after a crash, which comes to the same.
        """
        self.compacted = revision
        end = self.first_after(revision)
        removed = self.records[:end]
        self.records[:end] = kept
        self.used_bytes -= sum(map(_size, removed)) - sum(map(_size, kept))
        self.commit()

    def first_after(self, revision: int) -> int:
        """The position of the first record after a revision."""
        low, high = 0, len(self.records)
        records = self.records
        while low < high:
            middle = (low + high) // 2
            if records[middle].main <= revision:
                low = middle + 1
            else:
                high = middle
        return low

    def commit(self) -> None:
        """Make every change durable."""
        self._committed_records = len(self.records)
        self._committed_index = self.index
        self._undo_leases.clear()
        self._undo_alarms.clear()

    def roll_back(self) -> None:
        """The process died: forget every change since the last commit."""
        loses_changes = len(self.records) > self._committed_records or bool(self._undo_leases)
        if not (loses_changes and self.mutants.fires("consistent-index-ahead-of-data")):
            self.index = self._committed_index
        del self.records[self._committed_records :]
        for lease, state in reversed(self._undo_leases):
            if state is None:
                self.leases.pop(lease, None)
            else:
                self.leases[lease] = state
        for alarm, was_raised in reversed(self._undo_alarms):
            if was_raised:
                self.alarms[alarm] = None
            else:
                self.alarms.pop(alarm, None)
        self.used_bytes = sum(map(_size, self.records)) + LEASE_BYTES * len(self.leases)
        self.commit()

    def defragment(self) -> None:
        """Give back what compaction freed."""
        self.size_bytes = self.used_bytes

    def snapshot(self) -> Snapshot:
        """Everything, as it is now."""
        return Snapshot(
            self.index,
            tuple(self.records),
            tuple(self.leases.items()),
            tuple(self.alarms),
            self.compacted,
            self.used_bytes,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Become what was sent, durably."""
        self.records = list(snapshot.records)
        self.leases = dict(snapshot.leases)
        self.alarms = dict.fromkeys(snapshot.alarms)
        self.index = snapshot.index
        self.compacted = snapshot.compacted
        self.size_bytes = self.used_bytes = snapshot.size_bytes
        self.commit()


def _size(record: Record) -> int:
    return RECORD_OVERHEAD_BYTES + len(record.kv.key) + len(record.kv.value)
