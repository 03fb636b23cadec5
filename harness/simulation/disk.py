"""A node's disk: the write-ahead log and the machine's backend, and what each kind of death leaves of them.

A record that was written is in the page cache: a killed process leaves it
behind.  Only fsync makes it safe from the loss of power, which may keep a part
of what was not yet synced, in the order of writing, the last of it torn; a torn
record is found by its checksum and cut off at the next start.

While something is wrong with it (``DiskShape``) writes fail, fsyncs take longer,
or both hang until it is restored.  What was damaged keeps a member from
starting, as etcd refuses to, but for a log that lost its last records: that
looks like one that was torn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from splitvote.harness.clock import VirtualLoop
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import DiskReading, DiskShape
from splitvote.harness.simulation.backend import Backend
from splitvote.harness.simulation.chance import Chance
from splitvote.harness.simulation.interface import Snapshot
from splitvote.harness.simulation.messages import Entry, HardState, RaftSnapshot
from splitvote.harness.simulation.process import Process

FSYNC_NS: Final = 400_000
"""The fastest fsync."""

WRITE_BACK_NS: Final = 5_000_000_000
"""When the kernel writes back what was not synced (vm.dirty_writeback_centisecs)."""

MOST_TRUNCATED: Final = 50
"""Records at most that a truncated log lacks."""

Death = Literal["kill", "power loss"]

WRITE_ERRORS: Final[Mapping[str, str]] = {
    "full": "no space left on device",
    "eio": "input/output error",
    "read_only": "read-only file system",
}
"""What the operating system says of a write, by what is wrong with the disk."""

_UNREADABLE: Final = ("eio", "read_only")
"""With these a member does not even start: it cannot read its log, or not open it to append."""

_REFUSALS: Final[Mapping[str, str]] = {
    "wal_bit_flip": "walpb: crc mismatch",
    "wal_loss": "wal: file not found",
    "snapshot_bit_flip": "snap: crc mismatch",
    "snapshot_loss": "snap: no available snapshot",
}
"""What a member says of a damage that it cannot start on."""


class DiskError(Exception):
    """A write failed, for the reason that the message gives."""


class Loss(msgspec.Struct, frozen=True):
    """What a loss of power took: records of the log that were not synced, and how many entries were in them."""

    records: int
    entries: int

    def __str__(self) -> str:
        return f"{self.records} unsynced record(s) lost, the first of them torn, with {self.entries} entries"


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
        self._synced = 0

    def write(self, record: _Record) -> None:
        """Append a record to the page cache."""
        self._unsynced.append(record)

    @property
    def unsynced(self) -> int:
        """How many records are not synced."""
        return len(self._unsynced)

    @property
    def written(self) -> int:
        """How many records were ever written."""
        return self._synced + len(self._unsynced)

    def sync(self, written: int) -> None:
        """Make the first ``written`` of all records safe."""
        count = max(0, written - self._synced)
        done, self._unsynced = self._unsynced[:count], self._unsynced[count:]
        self._synced += len(done)
        for record in done:
            self._replay(record)

    def lose_power(self, kept: int) -> int:
        """Only the first ``kept`` unsynced records are left; how many entries are lost with the others."""
        lost = self._unsynced[kept:]
        self._unsynced = self._unsynced[:kept]
        self.sync(self.written)
        return sum(len(record.entries) for record in lost)

    def truncate(self, count: int) -> None:
        """Lose the last entries, and the hard states that were written after them."""
        del self.entries[len(self.entries) - count :]
        term, index = self.snapshot.term, self.snapshot.index
        if self.entries:
            term, index = self.entries[-1].term, self.entries[-1].index
        self.hard_state = HardState(term=term, commit=min(self.hard_state.commit, index))

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
        self._latencies_ns = chance.latencies_ns(FSYNC_NS, spread=0.5, slowest=20.0)
        self._generation = 0
        self.wal = Wal(snapshot, entries)
        self.backend = backend
        self.received: Snapshot | None = None
        """The machine of the last snapshot that a leader sent: a file of its own, synced before the log tells of it."""

        self.fault: DiskShape | None = None
        self._damage: str | None = None
        self._hanging: list[tuple[int, int, Process, Callable[[Any], object], Any]] = []

    # What is wrong with it

    def impair(self, shape: DiskShape) -> None:
        """Behave like this from now on."""
        self.fault = shape
        self._go_on()

    def restore(self) -> None:
        """Work again; what hangs is done now."""
        self.fault = None
        self._go_on()

    @property
    def is_frozen(self) -> bool:
        """Whether writes hang."""
        return self.fault is not None and self.fault.fault == "freeze"

    @property
    def refusal(self) -> str | None:
        """What keeps a member from starting, in its words."""
        if self.fault is not None and self.fault.fault in _UNREADABLE:
            return WRITE_ERRORS[self.fault.fault]
        return self._damage

    @property
    def _write_error(self) -> str | None:
        return None if self.fault is None else WRITE_ERRORS.get(self.fault.fault)

    async def probe(self, timeout_s: float) -> DiskReading:
        """Write and sync a small file."""
        if self.is_frozen:
            await asyncio.sleep(timeout_s)
            return DiskReading(error=f"no answer within {timeout_s:g} s")
        if self._write_error is not None:
            return DiskReading(error=self._write_error)
        fsync_s = self._fsync_ns() / 1e9
        await asyncio.sleep(min(fsync_s, timeout_s))
        if fsync_s > timeout_s:
            return DiskReading(error=f"no answer within {timeout_s:g} s")
        return DiskReading(fsync_ms=round(1e3 * fsync_s, 3))

    def is_damageable(self, kind: str) -> bool:
        """Whether there is anything that one of ``cluster.DAMAGES`` could be done to: records, or a snapshot."""
        return bool(self.wal.entries if kind.startswith("wal") else self.wal.snapshot.index)

    def damage(self, kind: str, pick: int) -> dict[str, str | int]:
        """Do one of ``cluster.DAMAGES``; raises NemesisError where there is no such file."""
        wal, is_of_wal = self.wal, kind.startswith("wal")
        if not self.is_damageable(kind):
            raise NemesisError(f"{kind}: the member has no {'records' if is_of_wal else 'snapshot'} on its disk")
        size = sum(entry.size_bytes for entry in wal.entries) if is_of_wal else self.backend.size_bytes
        told: dict[str, str | int] = {"file": "wal" if is_of_wal else "snap", "size_bytes": size}
        if kind == "wal_truncate":
            count = 1 + pick % min(len(wal.entries), MOST_TRUNCATED)
            wal.truncate(count)
            return told | {"records": count}
        if kind.endswith("bit_flip"):
            told["bit"] = pick % (8 * max(1, size))
        self._damage = _REFUSALS[kind]
        return told

    # What a member does with it

    def write(self, hard_state: HardState | None, entries: Sequence[Entry], snapshot: RaftSnapshot | None) -> None:
        """Append to the log; raises DiskError."""
        if (problem := self._write_error) is not None:
            raise DiskError(problem)
        if snapshot is not None and snapshot.machine is not None:
            self.received = snapshot.machine
            snapshot = msgspec.structs.replace(snapshot, machine=None)
        self.wal.write(_Record(hard_state, tuple(entries), snapshot))

    def fsync(self, process: Process, done: Callable[[Any], object], argument: Any) -> None:
        """Make safe what is written by now, then let the process go on."""
        self._sync_soon((self._generation, self.wal.written, process, done, argument))

    def _sync_soon(self, what: tuple[int, int, Process, Callable[[Any], object], Any]) -> None:
        if self.is_frozen:
            self._hanging.append(what)
        else:
            self._loop.post_at(self._loop.now_ns + self._fsync_ns(), self._synced, what)

    def _fsync_ns(self) -> int:
        latency_ns = next(self._latencies_ns)
        return latency_ns if self.fault is None else latency_ns + int(self.fault.delay_ms * 1e6)

    def _go_on(self) -> None:
        """Sync what hung, unless it still does."""
        hanging, self._hanging = self._hanging, []
        for what in hanging:
            self._sync_soon(what)

    def _synced(self, what: tuple[int, int, Process, Callable[[Any], object], Any]) -> None:
        generation, written, process, done, argument = what
        if generation != self._generation:
            return  # the process died meanwhile, and the log is another one
        if self.is_frozen:
            self._hanging.append(what)
            return
        self.wal.sync(written)
        process.deliver(done, argument)

    def write_back(self) -> None:
        """What becomes of writes that nobody syncs: the kernel does, when it gets to it."""
        self._loop.post_at(self._loop.now_ns + WRITE_BACK_NS, self._written_back, (self._generation, self.wal.written))

    def _written_back(self, what: tuple[int, int]) -> None:
        generation, written = what
        if generation == self._generation:
            self.wal.sync(written)

    def died(self, death: Death) -> Loss | None:
        """What a process's death leaves; tells what a loss of power took, if it took anything."""
        self._generation += 1
        self._hanging.clear()
        self.backend.roll_back()
        written = self.wal.unsynced
        if death == "kill":
            self.wal.sync(self.wal.written)
            return None
        kept = self._chance.below(written + 1)
        entries = self.wal.lose_power(kept)
        return None if kept == written else Loss(written - kept, entries)
