"""A node's disk: the write-ahead log and the machine's backend, and what each kind of death leaves of them.

A record that was written is in the page cache: a killed process leaves it
behind.  Only fsync makes it safe from the loss of power, which may keep a part
of what was not yet synced, in the order of writing, the last of it torn; a torn
record is found by its checksum and cut off at the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec

from splitvote.harness.clock import VirtualLoop
from splitvote.harness.simulation.chance import Chance
from splitvote.harness.simulation.interface import Backend, Snapshot
from splitvote.harness.simulation.messages import Entry, HardState, RaftSnapshot
from splitvote.harness.simulation.process import Process

FSYNC_NS: Final = 400_000
"""The fastest fsync."""

Death = Literal["kill", "power loss"]


class DiskFullError(Exception):
    """ENOSPC."""


class _Record(msgspec.Struct, frozen=True):
    hard_state: HardState | None
    entries: tuple[Entry, ...]
    snapshot: RaftSnapshot | None


class Wal:
    """What a write-ahead log says when it is read from the start: a snapshot, the entries after it, the hard state."""

    def __init__(self, snapshot: RaftSnapshot, entries: Sequence[Entry]) -> None:
        self.snapshot = snapshot
        self.entries = list(entries)
        self.hard_state = HardState(term=entries[-1].term, commit=entries[-1].index) if entries else HardState()
        self._unsynced: list[_Record] = []

    def write(self, record: _Record) -> None:
        """Append a record to the page cache."""
        self._unsynced.append(record)

    @property
    def written(self) -> int:
        """How many records are not synced."""
        return len(self._unsynced)

    def sync(self, count: int) -> None:
        """Make the first ``count`` of the records safe."""
        done, self._unsynced = self._unsynced[:count], self._unsynced[count:]
        for record in done:
            self._replay(record)

    def lose_power(self, kept: int) -> None:
        """Only the first ``kept`` unsynced records are left."""
        self._unsynced = self._unsynced[:kept]
        self.sync(kept)

    def _replay(self, record: _Record) -> None:
        if record.snapshot is not None and record.snapshot.index > self.snapshot.index:
            entries = self.entries
            drop = record.snapshot.index - self.snapshot.index
            keeps = len(entries) > drop and entries[drop - 1].term == record.snapshot.term
            self.entries = entries[drop:] if keeps else []
            self.snapshot = record.snapshot
        if record.entries:
            at = record.entries[0].index - self.snapshot.index - 1
            assert 0 <= at <= len(self.entries), f"a hole in the log before entry {record.entries[0].index}"
            self.entries[at:] = record.entries
        if record.hard_state is not None:
            self.hard_state = record.hard_state


class Disk:
    """One node's disk; survives its processes.  ``backend`` belongs to the machine."""

    def __init__(
        self, loop: VirtualLoop, chance: Chance, backend: Backend, *, snapshot: RaftSnapshot, entries: Sequence[Entry]
    ) -> None:
        self._loop = loop
        self._chance = chance
        self._latencies = chance.latencies(FSYNC_NS, spread=0.5, slowest=20.0)
        self._generation = 0
        self.wal = Wal(snapshot, entries)
        self.backend = backend
        self.received: Snapshot | None = None
        """The machine of the last snapshot that a leader sent: a file of its own, synced before the log tells of it."""

        self.is_full = False
        self.fsync_factor = 1.0
        """How much slower than usual it is."""

    def write(self, hard_state: HardState | None, entries: Sequence[Entry], snapshot: RaftSnapshot | None) -> None:
        """Append to the log; raises DiskFullError."""
        if self.is_full:
            raise DiskFullError
        if snapshot is not None and snapshot.machine is not None:
            self.received = snapshot.machine
            snapshot = msgspec.structs.replace(snapshot, machine=None)
        self.wal.write(_Record(hard_state, tuple(entries), snapshot))

    def fsync(self, process: Process, done: Callable[[Any], object], argument: Any) -> None:
        """Make safe what is written by now, then let the process go on."""
        self._loop.post_at(
            self._loop.now_ns + int(self._latencies.draw_ns() * self.fsync_factor),
            self._synced,
            (self._generation, self.wal.written, process, done, argument),
        )

    def _synced(self, what: tuple[int, int, Process, Callable[[Any], object], Any]) -> None:
        generation, count, process, done, argument = what
        if generation == self._generation:  # else the process died meanwhile, and the log is another one
            self.wal.sync(min(count, self.wal.written))
            process.deliver(done, argument)

    def died(self, death: Death) -> str | None:
        """What a process's death leaves; says in words what a loss of power took."""
        self._generation += 1
        self.backend.roll_back()
        written = self.wal.written
        if death == "kill":
            self.wal.sync(written)
            return None
        kept = self._chance.below(written + 1)
        self.wal.lose_power(kept)
        return f"{written - kept} unsynced record(s) lost, the first of them torn" if kept < written else None
