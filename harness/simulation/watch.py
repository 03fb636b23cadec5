"""Watchers of one member: who hears of which changes, in etcd's three groups.

*Synced* watchers hear of a transaction as it ends.  *Unsynced* ones are behind
(they began in the past, or the store was restored from a snapshot): every
``SYNC_S`` at most ``WATCHERS_A_SYNC`` of them are shown what they missed.  Each
stream has a channel of ``CHANNEL`` answers; a watcher whose stream's channel is
full becomes a *victim*: its answer is offered again every ``VICTIM_S``, and it
hears nothing else before.  A watcher's ``min_revision`` is the first revision
that it has not been told, so that no event is told twice or left out, whichever
way it takes through the groups.  Source: etcd's server/mvcc/watchable_store.go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.backend import Record
from splitvote.harness.simulation.interface import Host, Timer
from splitvote.harness.simulation.keys import is_within
from splitvote.harness.simulation.refusals import DUPLICATE_WATCH_ID, EMPTY_WATCH_RANGE
from splitvote.harness.simulation.store import Store

SYNC_S: Final = 0.1
WATCHERS_A_SYNC: Final = 512
VICTIM_S: Final = 0.01
CHANNEL: Final = 128
REVISIONS_AN_ANSWER: Final = 1000
"""How many revisions a watcher that is behind is told of in one answer."""

EVERYBODY: Final = -1
"""The watch id of a progress report for all watchers of a stream, and of a watch that was refused."""


class Watcher:
    """One watch."""

    __slots__ = (
        "end",
        "filters",
        "first_revision",
        "id",
        "is_cancelled",
        "key",
        "min_revision",
        "start_revision",
        "stream",
    )

    def __init__(
        self, stream: WatchStream, id: int, key: bytes, end: bytes, start_revision: int, filters: frozenset[bool]
    ) -> None:
        self.stream = stream
        self.id = id
        self.key = key
        self.end = end
        self.start_revision = start_revision
        self.min_revision = start_revision
        self.first_revision = start_revision
        self.filters = filters
        self.is_cancelled = False


class Told(msgspec.Struct, frozen=True):
    """What a watcher is told: events (none: a progress report), or that what it wants to hear was compacted.

    ``revision`` is the store's when it was told.
    """

    watcher: Watcher | None
    records: tuple[Record, ...]
    revision: int
    compacted: int = 0


class Batch(msgspec.Struct):
    """What a watcher is to be told at once; ``more_from`` is the first revision that did not go in, 0 if all did."""

    records: list[Record]
    revisions: int = 1
    more_from: int = 0

    def add(self, record: Record) -> None:
        """Take a record, unless there are enough revisions."""
        if self.more_from:
            return
        if record.main > self.records[-1].main:
            self.revisions += 1
            if self.revisions > REVISIONS_AN_ANSWER:
                self.more_from = record.main
                return
        self.records.append(record)


class Group:
    """Watchers, to be found by the keys they watch."""

    __slots__ = ("_by_key", "_ranges", "watchers")

    def __init__(self) -> None:
        self.watchers: dict[Watcher, None] = {}
        self._by_key: dict[bytes, dict[Watcher, None]] = {}
        self._ranges: dict[Watcher, None] = {}

    def add(self, watcher: Watcher) -> None:
        """Take a watcher."""
        self.watchers[watcher] = None
        if watcher.end:
            self._ranges[watcher] = None
        else:
            self._by_key.setdefault(watcher.key, {})[watcher] = None

    def remove(self, watcher: Watcher) -> bool:
        """Let a watcher go; False if it was not here."""
        if watcher not in self.watchers:
            return False
        del self.watchers[watcher]
        if watcher.end:
            del self._ranges[watcher]
        else:
            of_key = self._by_key[watcher.key]
            del of_key[watcher]
            if not of_key:
                del self._by_key[watcher.key]
        return True

    def watching(self, key: bytes) -> Iterator[Watcher]:
        """Who watches a key."""
        yield from self._by_key.get(key, ())
        for watcher in self._ranges:
            if is_within(key, watcher.key, watcher.end):
                yield watcher

    def batches(self, records: Iterable[Record]) -> dict[Watcher, Batch]:
        """What each watcher has not been told of these records."""
        batches: dict[Watcher, Batch] = {}
        for record in records:
            for watcher in self.watching(record.kv.key):
                if record.main >= watcher.min_revision:
                    batch = batches.get(watcher)
                    if batch is None:
                        batches[watcher] = Batch([record])
                    else:
                        batch.add(record)
        return batches


class WatchHub:
    """All watchers of one member."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.mutants = host.mutants
        self._synced = Group()
        self._unsynced = Group()
        self._victims: dict[Watcher, Batch] = {}
        self._sync_timer: Timer | None = None
        self._victim_timer: Timer | None = None

    def serve(self, store: Store) -> None:
        """The store that is watched."""
        self._store = store

    @property
    def revision(self) -> int:
        """The store's."""
        return self._store.revision

    def stream(self) -> WatchStream:
        """A new stream of watches."""
        return WatchStream(self)

    def add(self, watcher: Watcher) -> None:
        """Begin to tell a watcher: of what comes, or first of what it wants to hear of the past."""
        current = self._store.revision
        if watcher.start_revision == 0 or watcher.start_revision > current:
            watcher.min_revision = max(watcher.start_revision, current + 1)
            self._synced.add(watcher)
        else:
            self._add_unsynced(watcher)
        watcher.first_revision = watcher.min_revision

    def _add_unsynced(self, watcher: Watcher) -> None:
        self._unsynced.add(watcher)
        if self._sync_timer is None:
            clock = self._host.clock
            # A loop of the process that turns every SYNC_S: when it turns next depends on when the process began.
            self._sync_timer = clock.call_later(SYNC_S - clock.now_s() % SYNC_S, self._sync)

    def remove(self, watcher: Watcher) -> None:
        """Tell a watcher nothing more."""
        watcher.is_cancelled = True
        if not self._synced.remove(watcher) and not self._unsynced.remove(watcher):
            self._victims.pop(watcher, None)

    def restore(self) -> None:
        """The store has become another (a snapshot of the leader's): everybody may have missed something."""
        for watcher in list(self._synced.watchers):
            is_on = watcher.first_revision < watcher.min_revision
            if is_on and self.mutants.fires("watch-restored-without-min-revision"):
                watcher.min_revision = watcher.first_revision
            self._add_unsynced(watcher)
        self._synced = Group()

    # ---- synced

    def notify(self, revision: int, records: list[Record]) -> None:
        """A transaction has ended."""
        if not self._synced.watchers:
            return
        for watcher, batch in self._synced.batches(records).items():
            watcher.min_revision = revision + 1
            if len(batch.records) > 1 and self.mutants.fires("watch-splits-transaction"):
                is_told = False not in [self._tell(watcher, (record,), revision) for record in batch.records]
            else:
                is_told = self._tell(watcher, batch.records, revision)
            if not is_told and not self.mutants.fires("full-channel-drops-events"):
                self._synced.remove(watcher)
                self._add_victim(watcher, batch)

    def is_synced(self, watcher: Watcher) -> bool:
        """Whether a watcher has been told everything so far, and has begun."""
        return watcher in self._synced.watchers and watcher.start_revision <= self._store.revision

    def report_progress(self, watcher: Watcher) -> None:
        """Tell a watcher that it has been told everything so far, if that is so and its channel has room."""
        if self.is_synced(watcher):
            watcher.stream.push(Told(watcher, (), self._store.revision))

    def _tell(self, watcher: Watcher, records: Iterable[Record], revision: int) -> bool:
        """Tell of what passes the filters; False if there is no room."""
        filters = watcher.filters
        passing = tuple(record for record in records if record.is_deletion not in filters)
        return not passing or watcher.stream.push(Told(watcher, passing, revision))

    # ---- unsynced

    def _sync(self) -> None:
        self._sync_timer = None
        before = len(self._unsynced.watchers)
        self._catch_up()
        left = len(self._unsynced.watchers)
        if left:
            delay_s = 0.0 if left < before else SYNC_S
            self._sync_timer = self._host.clock.call_later(delay_s, self._sync)

    def _catch_up(self) -> None:
        chosen = self._choose()
        if not chosen.watchers:
            return
        current = self._store.revision
        first = min(watcher.min_revision for watcher in chosen.watchers)
        batches = chosen.batches(self._store.records_since(first))
        for watcher in chosen.watchers:
            watcher.min_revision = max(watcher.min_revision, current + 1)
            batch = batches.get(watcher)
            if batch is not None:
                if batch.more_from:
                    watcher.min_revision = batch.more_from
                if self._ignores_filters(watcher, batch):
                    is_told = watcher.stream.push(Told(watcher, tuple(batch.records), current))
                else:
                    is_told = self._tell(watcher, batch.records, current)
                if not is_told:
                    self._unsynced.remove(watcher)
                    self._add_victim(watcher, batch)
                    continue
                if batch.more_from:
                    continue  # stays behind
            self._unsynced.remove(watcher)
            self._synced.add(watcher)

    def _ignores_filters(self, watcher: Watcher, batch: Batch) -> bool:
        left_out = any(record.is_deletion in watcher.filters for record in batch.records)
        return left_out and self.mutants.fires("filter-ignored")

    def _choose(self) -> Group:
        """The next ones to catch up, without those whose past is compacted: they are told, and cancelled."""
        chosen = Group()
        for watcher in list(self._unsynced.watchers)[:WATCHERS_A_SYNC]:
            if watcher.min_revision >= self._store.compacted:
                chosen.add(watcher)
            elif watcher.stream.push(Told(watcher, (), 0, self._store.compacted)):
                self._unsynced.remove(watcher)
        return chosen

    # ---- victims

    def _add_victim(self, watcher: Watcher, batch: Batch) -> None:
        self._victims[watcher] = batch
        if self._victim_timer is None:
            self._victim_timer = self._host.clock.call_later(VICTIM_S, self._retry_victims)

    def _retry_victims(self) -> None:
        self._victim_timer = None
        for watcher, batch in list(self._victims.items()):
            if not self._tell(watcher, batch.records, watcher.min_revision - 1):
                continue
            del self._victims[watcher]
            if batch.more_from:
                watcher.min_revision = batch.more_from
            if watcher.min_revision <= self._store.revision:
                self._add_unsynced(watcher)
            else:
                self._synced.add(watcher)
        if self._victims:
            self._victim_timer = self._host.clock.call_later(VICTIM_S, self._retry_victims)


class WatchStream:
    """The watches of one stream, and the channel in which they are told; ``on_told`` hears when something is in it."""

    def __init__(self, hub: WatchHub) -> None:
        self._hub = hub
        self._watchers: dict[int, Watcher] = {}
        self._next_id = 0
        self._channel: deque[Told] = deque()
        self.on_told: Callable[[], None] = _nobody

    @property
    def revision(self) -> int:
        """The store's."""
        return self._hub.revision

    def watch(
        self, watch_id: int, key: bytes, end: bytes, start_revision: int, filters: Iterable[int] = ()
    ) -> int | str:
        """Begin a watch; its id (chosen here for 0), or why not.

        ``filters`` are WatchCreateRequest's.
        """
        if len(end) and end != b"\0" and key >= end:
            return EMPTY_WATCH_RANGE
        if watch_id == 0:
            while self._next_id in self._watchers:
                self._next_id += 1
            watch_id = self._next_id
            self._next_id += 1
        elif watch_id in self._watchers:
            return DUPLICATE_WATCH_ID
        left_out = frozenset(kind == pb.WatchCreateRequest.NODELETE for kind in filters)
        watcher = Watcher(self, watch_id, key, end, start_revision, left_out)
        self._watchers[watch_id] = watcher
        self._hub.add(watcher)
        return watch_id

    def cancel(self, watch_id: int) -> bool:
        """End a watch; False if there is none of this id."""
        watcher = self._watchers.pop(watch_id, None)
        if watcher is None:
            return False
        self._hub.remove(watcher)
        return True

    def close(self) -> None:
        """End all watches."""
        for watch_id in list(self._watchers):
            self.cancel(watch_id)

    def report_progress(self, watch_id: int) -> None:
        """Report the progress of one watch, if it has any to report."""
        watcher = self._watchers.get(watch_id)
        if watcher is not None:
            self._hub.report_progress(watcher)

    def report_all_progress(self) -> None:
        """Report the progress of all watches at once, if none of them is behind."""
        if not self._watchers:
            return
        is_told = all(map(self._hub.is_synced, self._watchers.values()))
        if is_told or self._hub.mutants.fires("progress-ahead-of-events"):
            self.push(Told(None, (), self.revision))

    def push(self, told: Told) -> bool:
        """Put something in the channel; False if it is full."""
        if len(self._channel) >= CHANNEL:
            return False
        self._channel.append(told)
        self.on_told()
        return True

    def pop(self) -> Told | None:
        """Take the next from the channel; None when it is empty."""
        return self._channel.popleft() if self._channel else None


def _nobody() -> None:
    """Nobody listens yet."""


def event_of(record: Record, before: pb.KeyValue | None = None) -> pb.Event:
    """A change as a watcher sees it, with the key's state before it where that is wanted."""
    kind = pb.Event.DELETE if record.is_deletion else pb.Event.PUT
    return pb.Event(type=kind, kv=record.kv, prev_kv=before)
