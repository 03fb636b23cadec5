"""Applying what is committed, in order: the jobs of a server's scheduler (etcd's applyAll).

One job: snapshot, entries, wake who waits for their outcome, and, once raft has
all of it on disk, a snapshot of our own when enough has been applied since the
last.  ``Progress`` is how far that has come.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from splitvote.harness.simulation.interface import Command, Machine, Outcome
from splitvote.harness.simulation.membership import Membership
from splitvote.harness.simulation.messages import ConfChange, ConfState, Entry, Publish, RaftSnapshot
from splitvote.harness.simulation.ready import Apply
from splitvote.harness.simulation.refusals import error


class Progress:
    """How far a server has come (etcd's etcdProgress): what is applied, and what its snapshots have."""

    __slots__ = ("applied_index", "applied_term", "conf_state", "disk_snapshot_index", "memory_snapshot_index")

    def __init__(self, snapshot: RaftSnapshot) -> None:
        self.conf_state = snapshot.conf_state
        self.disk_snapshot_index = snapshot.index
        self.memory_snapshot_index = snapshot.index
        self.applied_term = snapshot.term
        self.applied_index = snapshot.index


class Waiters:
    """Futures of proposals by their id (etcd's pkg/wait)."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}

    def register(self, proposal: int) -> asyncio.Future[Outcome]:
        """A future for the outcome."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[proposal] = future
        return future

    def forget(self, proposal: int) -> None:
        """Nobody waits any more."""
        self._waiting.pop(proposal, None)

    def trigger(self, proposal: int, outcome: Outcome) -> None:
        """Tell whoever waits, if anybody does on this member."""
        future = self._waiting.pop(proposal, None)
        if future is not None and not future.done():
            future.set_result(outcome)

    def has(self, proposal: int) -> bool:
        """Whether anybody waits on this member."""
        return proposal in self._waiting

    def take_all(self) -> list[asyncio.Future[Outcome]]:
        """Everybody who waits, for whoever ends it all."""
        waiting, self._waiting = list(self._waiting.values()), {}
        return waiting


class Site(Protocol):
    """The server that jobs are applied to."""

    membership: Membership
    progress: Progress
    waiters: Waiters

    @property
    def machine(self) -> Machine:
        """What commands are applied to."""
        ...

    def change_members(self, change: ConfChange) -> ConfState:
        """Have raft take over an applied change."""
        ...

    def learn_members(self) -> None:
        """The members were replaced by a snapshot's."""
        ...

    def applied_empty_entry(self) -> None:
        """A leader's first entry of its term was applied."""
        ...

    def applied(self) -> None:
        """The applied index has risen."""
        ...

    def applied_own_removal(self) -> None:
        """The member itself is none any more."""
        ...

    def trigger_snapshot(self) -> None:
        """Make a snapshot, if enough was applied since the last."""
        ...

    @property
    def member_id(self) -> int:
        """The member's own id."""
        ...


class ApplyAll:
    """The job for one ``Apply``."""

    __slots__ = ("_site", "_work")

    def __init__(self, site: Site, work: Apply) -> None:
        self._site = site
        self._work = work

    def may_begin(self) -> bool:
        """Always: what must be on disk before is held back by ``ready``."""
        return True

    def do(self) -> None:
        """Snapshot, entries, waiters."""
        site, work = self._site, self._work
        if work.snapshot is not None:
            self._apply_snapshot(work.snapshot)
        progress = site.progress
        for entry in work.entries:
            if entry.index <= progress.applied_index:
                continue  # a snapshot had it
            assert entry.index == progress.applied_index + 1, f"entry {entry.index} after {progress.applied_index}"
            progress.applied_index = entry.index
            progress.applied_term = entry.term
            self._apply_entry(entry)
        work.is_done = True
        site.applied()

    def _apply_snapshot(self, snapshot: RaftSnapshot) -> None:
        site, progress = self._site, self._site.progress
        assert snapshot.machine is not None
        assert snapshot.index > progress.applied_index
        site.machine.restore(snapshot.machine)
        site.membership = Membership.of(snapshot)
        site.learn_members()
        progress.conf_state = snapshot.conf_state
        progress.disk_snapshot_index = progress.memory_snapshot_index = snapshot.index
        progress.applied_index, progress.applied_term = snapshot.index, snapshot.term

    def _apply_entry(self, entry: Entry) -> None:
        site, data = self._site, entry.data
        if isinstance(data, Command):
            outcome = site.machine.apply(entry.index, data)
            if outcome is not None:
                site.waiters.trigger(data.id, outcome)
            return
        site.machine.skip(entry.index)
        if data is None:
            site.applied_empty_entry()
        elif isinstance(data, Publish):
            site.membership.publish(data)
            site.waiters.trigger(data.id, Outcome())
        else:
            self._apply_conf_change(data)

    def _apply_conf_change(self, change: ConfChange) -> None:
        site = self._site
        refusal = site.membership.refusal(change)
        if refusal is not None:
            site.waiters.trigger(change.id, Outcome(error=error(refusal)))
            return
        site.membership.apply(change)
        site.progress.conf_state = site.change_members(change)
        site.waiters.trigger(change.id, Outcome())
        if change.kind == "remove" and change.member.id == site.member_id:
            site.applied_own_removal()


class TriggerSnapshot:
    """The job after an ``ApplyAll`` where a snapshot is due, which may have only what raft has on disk."""

    __slots__ = ("_site", "_work")

    def __init__(self, site: Site, work: Apply) -> None:
        self._site = site
        self._work = work

    def may_begin(self) -> bool:
        """Once raft's part is on disk."""
        return self._work.is_saved

    def do(self) -> None:
        """See ``Site.trigger_snapshot``."""
        self._site.trigger_snapshot()
