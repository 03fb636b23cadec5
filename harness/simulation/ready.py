"""From raft's Ready values to network, disk and server, in the one order that is safe (etcd's raftNode.start).

For each Ready: change of leadership -> read states -> what is committed goes to
``applyc`` -> a leader's messages -> log and hard state on disk, fsync -> everybody
else's messages -> the next Ready.

A leader may send before its own fsync, since it counts a majority only by what
comes back, and hears of it only after that fsync.  A follower's answer says
that it *has* the entries, so that it must not leave before they are safe.  What
is committed and in the same Ready not yet on disk (a single voter commits alone)
is applied, and thus answered, only when it is.
"""

from __future__ import annotations

from typing import Final, Protocol

from splitvote.harness.simulation.disk import Disk, DiskError
from splitvote.harness.simulation.messages import ConfChange, Entry, Message, RaftSnapshot, ReadState
from splitvote.harness.simulation.mutants import Mutants
from splitvote.harness.simulation.node import Node, Ready
from splitvote.harness.simulation.process import Process


class Apply:
    """What is to be applied, in order: a snapshot, entries.

    Raft has it on disk when ``is_saved``; with ``waits_for_disk`` it is not handed on before.
    """

    __slots__ = ("entries", "is_done", "is_saved", "snapshot", "waits_for_disk")

    def __init__(self, entries: list[Entry], snapshot: RaftSnapshot | None) -> None:
        self.entries = entries
        self.snapshot = snapshot
        self.is_saved = False
        self.is_done = False
        self.waits_for_disk = False


class ReadyHandler(Protocol):
    """What the server does about a Ready."""

    def update_lead(self, lead: int, *, is_leader: bool, is_new_leader: bool) -> None:
        """Who leads has changed: ``is_new_leader`` when it is somebody, and another one than before."""
        ...

    def update_committed_index(self, index: int) -> None:
        """More is known to be committed."""
        ...

    def read_states(self, states: list[ReadState]) -> None:
        """Raft has answered ReadIndex requests."""
        ...

    def apply(self, work: Apply) -> None:
        """Put this on applyc."""
        ...

    def saved(self) -> None:
        """Some Apply became ``is_saved``."""
        ...

    def send(self, messages: list[Message]) -> None:
        """Hand these to the network."""
        ...

    def disk_failed(self, failure: DiskError) -> None:
        """The log cannot be written: fatal."""
        ...


class ReadyLoop:
    """Carries out one Ready after another; ``node`` is set once it is made."""

    node: Node

    def __init__(self, process: Process, disk: Disk, handler: ReadyHandler, mutants: Mutants) -> None:
        self._process = process
        self._disk = disk
        self._handler = handler
        self._mutants = mutants
        self._lead = 0
        self._work: Apply | None = None

    def do(self, ready: Ready) -> None:
        """Begin to carry out a Ready; ``node.advance`` follows, now or after the fsync."""
        if ready.is_new_leadership:
            is_new_leader = ready.lead != 0 and ready.lead != self._lead
            self._lead = ready.lead
            self._handler.update_lead(ready.lead, is_leader=ready.role == "leader", is_new_leader=is_new_leader)
        if ready.read_states:
            self._handler.read_states(ready.read_states)
        work = self._work = self._work_of(ready)
        if work is not None:
            work.waits_for_disk = _is_ahead_of_disk(ready)
            if not work.waits_for_disk:
                self._handler.apply(work)
        if ready.role == "leader" and ready.messages:
            self._handler.send(ready.messages)
        try:
            self._write(ready)
        except DiskError as failure:
            self._handler.disk_failed(failure)
            return
        if ready.must_sync or ready.snapshot is not None or (ready.hard_state is not None and self._disk.is_frozen):
            self._sync(ready)
        else:
            self._saved(ready)

    def _sync(self, ready: Ready) -> None:
        if self._mutants.has("ack-before-fsync"):
            self._disk.write_back()
            self._saved(ready)
        else:
            self._disk.fsync(self._process, self._saved, ready)

    def _work_of(self, ready: Ready) -> Apply | None:
        if not ready.committed and ready.snapshot is None:
            return None
        index = ready.committed[-1].index if ready.committed else 0
        if ready.snapshot is not None:
            index = max(index, ready.snapshot.index)
        self._handler.update_committed_index(index)
        return Apply(ready.committed, ready.snapshot)

    def _write(self, ready: Ready) -> None:
        if ready.hard_state is not None or ready.entries or ready.snapshot is not None:
            self._disk.write(ready.hard_state, ready.entries, ready.snapshot)

    def _saved(self, ready: Ready) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.is_saved = True
            if work.waits_for_disk:
                self._handler.apply(work)
            self._handler.saved()
        if work is not None and not work.is_done and _changes_members(work):
            # Whoever is no leader must not vote or answer in the old configuration any more: wait for the apply.
            self._process.call_later(_POLL_S, self._saved_and_applied, work, ready)
            return
        self._finish(ready)

    def _saved_and_applied(self, work: Apply, ready: Ready) -> None:
        if work.is_done:
            self._finish(ready)
        else:
            self._process.call_later(_POLL_S, self._saved_and_applied, work, ready)

    def _finish(self, ready: Ready) -> None:
        if ready.role != "leader" and ready.messages:
            self._handler.send(ready.messages)
        self.node.advance()


_POLL_S: Final = 0.001


def _is_ahead_of_disk(ready: Ready) -> bool:
    """Whether something is committed that this very Ready is to put on disk."""
    return bool(ready.committed and ready.entries) and ready.committed[-1].index >= ready.entries[0].index


def _changes_members(work: Apply) -> bool:
    return any(isinstance(entry.data, ConfChange) for entry in work.entries)
