"""The store of revisions: one main revision a transaction, a sub revision a change (etcd's mvcc).

Transactions come one after another, in the order of the log, and are never
undone: what may refuse is checked before the first change (``requests``).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.backend import Backend, Record
from splitvote.harness.simulation.keys import KeyIndex, is_within
from splitvote.harness.simulation.lessor import Lessor
from splitvote.harness.simulation.mutants import Mutants
from splitvote.harness.simulation.refusals import COMPACTED, FUTURE_REVISION, error

FIRST_REVISION: Final = 1
"""The revision of an empty store."""

REMEMBERED_HASHES: Final = 10


class Hash(NamedTuple):
    """A hash of the store, and the compact revision that it begins at."""

    value: int
    compacted: int


class Store:
    """Keys and values as of every revision since the last compaction.

    ``on_change`` hears of every transaction that changed something, once it is
    complete: its revision and records.
    """

    def __init__(
        self, backend: Backend, lessor: Lessor, mutants: Mutants, on_change: Callable[[int, list[Record]], None]
    ) -> None:
        self.backend = backend
        self._lessor = lessor
        self.mutants = mutants
        self._on_change = on_change
        self.recover()

    def recover(self) -> None:
        """Build everything anew from what the backend holds."""
        records = self.backend.records
        self.index = KeyIndex(records)
        self.compacted = self.backend.compacted
        self.revision = max(self._last_revision(), self.compacted, FIRST_REVISION)
        self._hash = _RunningHash()
        self._hashes: dict[int, Hash] = {}
        for key in self.index.keys(b"\0", b"\0"):
            state = self.index.get(key)
            if state is not None and state.lease and not self.mutants.fires("restart-forgets-attachments"):
                self._lessor.attach(state.lease, key)

    def _last_revision(self) -> int:
        records = self.backend.records
        if not records:
            return FIRST_REVISION
        if records[-1].is_deletion and self.mutants.fires("revision-falls-after-crash"):
            return max((record.main for record in records if not record.is_deletion), default=FIRST_REVISION)
        return records[-1].main

    def write(self) -> WriteTxn:
        """Begin a transaction; ``end`` it."""
        return WriteTxn(self, self._lessor, self.mutants)

    def complete(self, revision: int, records: list[Record]) -> None:
        """A transaction has ended (called by it)."""
        self.revision = revision
        self._on_change(revision, records)

    def range(self, start: bytes, end: bytes, revision: int = 0, *, current: int = 0) -> list[pb.KeyValue]:
        """The keys of a range as of a revision, 0 for the newest; raises what etcd answers for a bad revision.

        ``current`` is the newest revision that this reader may see, that of the store by default.
        """
        current = current or self.revision
        if revision > current:
            raise error(FUTURE_REVISION)
        if revision <= 0:
            revision = current
        if revision < self.compacted:
            raise error(COMPACTED)
        return self.index.range(start, end, revision)

    def last_deleted(self, start: bytes, end: bytes) -> pb.KeyValue | None:
        """What a key of a range was before its deletion, if that is the last thing that happened."""
        records = self.backend.records
        if records and records[-1].is_deletion and is_within(records[-1].kv.key, start, end):
            return self.index.former(records[-1].kv.key)
        return None

    def compact(self, revision: int) -> None:
        """Forget what was overwritten or deleted before a revision."""
        if revision <= self.compacted:
            raise error(COMPACTED)
        if revision > self.revision:
            raise error(FUTURE_REVISION)
        self._hashes[revision] = self.hash(revision)
        while len(self._hashes) > REMEMBERED_HASHES:
            del self._hashes[next(iter(self._hashes))]
        self.compacted = revision
        self.backend.compact(revision, self.index.compact(revision, self.mutants))
        self._hash = _RunningHash()

    def records_since(self, revision: int) -> Sequence[Record]:
        """What was changed at or after a revision, in order."""
        return self.backend.records[self.backend.first_after(revision - 1) :]

    def hash(self, revision: int) -> Hash:
        """The hash of all that is known up to a revision, 0 for the newest.

        Members that agree hash alike where they were compacted alike.  Of the
        revisions up to which the store was compacted, the hashes from before are
        remembered for as long as the process lives, as in etcd 3.5.16 and later.
        """
        remembered = self._hashes.get(revision)
        if remembered is not None:
            return remembered
        if revision > self.revision:
            raise error(FUTURE_REVISION)
        if 0 < revision < self.compacted:
            raise error(COMPACTED)
        end = self.backend.first_after(revision or self.revision)
        running = self._hash if end >= self._hash.count else _RunningHash()
        return Hash(running.up_to(self.backend.records, end), self.compacted)


class WriteTxn:
    """One transaction: what it does is seen by its own reads at once, by others from its end on."""

    __slots__ = ("_lessor", "_store", "begin", "mutants", "records")

    def __init__(self, store: Store, lessor: Lessor, mutants: Mutants) -> None:
        self._store = store
        self._lessor = lessor
        self.mutants = mutants
        self.begin = store.revision
        self.records: list[Record] = []

    @property
    def revision(self) -> int:
        """The newest revision that the transaction sees: its own once it has changed something."""
        return self.begin + 1 if self.records else self.begin

    def put(self, key: bytes, value: bytes, lease: int) -> int:
        """Put a key; returns the transaction's revision."""
        revision = self.begin + 1
        index = self._store.index
        before = index.get(key)
        if before is None:
            created, version = self._creation(key, revision)
        else:
            created, version = before.create_revision, before.version + 1
            is_lost = before.mod_revision == self.begin and before.value != value
            if is_lost and self.mutants.fires("lost-update"):
                value = before.value
        state = pb.KeyValue(
            key=key, value=value, create_revision=created, mod_revision=revision, version=version, lease=lease
        )
        self._add(Record(revision, len(self.records), state, False))
        if before is not None and before.lease != lease:
            self._lessor.detach(key)
        if lease and (before is None or before.lease != lease):
            self._lessor.attach(lease, key)
        return revision

    def _creation(self, key: bytes, revision: int) -> tuple[int, int]:
        """The create revision and version of a key that is not there."""
        created, version = revision, 1
        mutants = self.mutants
        if mutants.has("create-revision-kept") or mutants.has("version-not-reset"):
            former = self._store.index.former(key)
            if former is not None:
                if mutants.fires("create-revision-kept"):
                    created = former.create_revision
                if mutants.fires("version-not-reset"):
                    version = former.version + 1
        return created, version

    def delete_range(self, start: bytes, end: bytes) -> list[pb.KeyValue]:
        """Delete the keys of a range; returns what they were.  Deleting nothing changes no revision."""
        index = self._store.index
        gone = [index.get(key) for key in index.keys(start, end)]
        deleted = [state for state in gone if state is not None]
        if not deleted and not end and self.mutants.has("unlock-by-non-holder"):
            deleted = self._next_in_queue(start)
        revision = self.begin + 1
        for state in deleted:
            tombstone = pb.KeyValue(key=state.key, mod_revision=revision)
            self._add(Record(revision, len(self.records), tombstone, True))
            if state.lease:
                self._lessor.detach(state.key)
        return deleted

    def _next_in_queue(self, key: bytes) -> list[pb.KeyValue]:
        """Mutant: the key after one that is gone, below the same prefix; what a search without a last look finds."""
        prefix, slash, _ = key.rpartition(b"/")
        if not slash:
            return []
        after = self._store.index.range(key, prefix + b"0", self.revision)[:1]
        return after if after and self.mutants.fires("unlock-by-non-holder") else []

    def range(self, start: bytes, end: bytes, revision: int = 0) -> list[pb.KeyValue]:
        """See ``Store.range``, as the transaction sees it."""
        return self._store.range(start, end, revision, current=self.revision)

    def _add(self, record: Record) -> None:
        self._store.backend.add(record)
        self._store.index.add(record)
        self.records.append(record)

    def end(self) -> None:
        """Show the changes, if there are any."""
        if self.records:
            self._store.complete(self.begin + 1, self.records)


class _RunningHash:
    """The hash of the first ``count`` records, kept so that asking again hashes only what is new."""

    __slots__ = ("_value", "count")

    def __init__(self) -> None:
        self.count = 0
        self._value = 0

    def up_to(self, records: Sequence[Record], end: int) -> int:
        """The hash of the first ``end`` records, which are at least as many as before."""
        value = self._value
        for position in range(self.count, end):
            record = records[position]
            value = zlib.crc32(b"%d.%d" % (record.main, record.sub) + record.kv.SerializeToString(), value)
        self.count, self._value = end, value
        return value
