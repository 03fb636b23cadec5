"""Raft members without servers under every hardship at once, and the safety properties of Raft checked at each step.

Messages are delivered in any order, lost and duplicated; disks take their time;
members crash with what they have not yet on disk, restart, compact their logs,
are added and removed.  What to do next is drawn from one seed.

The properties are those of Ongaro's thesis, figure 3.2: election safety, log
matching, leader completeness, state machine safety.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.chance import Chance
from splitvote.harness.simulation.interface import Command, MemberInfo
from splitvote.harness.simulation.log import RaftLog
from splitvote.harness.simulation.messages import (
    ConfChange,
    ConfState,
    Entry,
    HardState,
    Message,
    RaftSnapshot,
    ReadState,
    size_of,
)
from splitvote.harness.simulation.mutants import Mutants
from splitvote.harness.simulation.node import Node, Ready
from splitvote.harness.simulation.raft import Raft

IDS = (11, 12, 13, 14, 15)


class UnsafeError(AssertionError):
    """A safety property does not hold; the first word names it."""


@dataclass
class Disk:
    """What survives a crash."""

    snapshot: RaftSnapshot
    hard_state: HardState = field(default_factory=HardState)
    entries: list[Entry] = field(default_factory=list)

    def save(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.snapshot, self.entries = ready.snapshot, []
        if ready.entries:
            kept = ready.entries[0].index - self.snapshot.index - 1
            self.entries[kept:] = ready.entries
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state


class Member:
    """One member: up or down, with a Ready that the disk is at, or not."""

    def __init__(self, chaos: Chaos, member_id: int, disk: Disk) -> None:
        self.chaos = chaos
        self.id = member_id
        self.disk = disk
        self.node: Node | None = None
        self.writing: Ready | None = None
        self.applied = 0
        self.conf_state = disk.snapshot.conf_state
        self.pending_reads: dict[int, int] = {}
        self.unsent: list[Message] = []

    def start(self) -> None:
        disk = self.disk
        self.applied = disk.snapshot.index
        self.conf_state = disk.snapshot.conf_state
        raft = Raft(
            member_id=self.id,
            log=RaftLog(
                disk.snapshot, disk.entries, min(disk.hard_state.commit, disk.snapshot.index + len(disk.entries))
            ),
            hard_state=disk.hard_state,
            conf_state=disk.snapshot.conf_state,
            election_ticks=10,
            heartbeat_ticks=1,
            chance=self.chaos.chance,
            mutants=self.chaos.mutants,
        )
        self.node = Node(raft, self.on_ready, self.chaos.send_from(self))
        self.node.begin()

    def crash(self) -> None:
        if self.node is not None:
            self.node.stop()
        self.node = self.writing = None
        self.pending_reads.clear()

    def on_ready(self, ready: Ready) -> None:
        for state in ready.read_states:
            self.chaos.read_confirmed(self, state)
        if ready.role == "leader":
            self.chaos.send(self, ready.messages)
        self.writing = ready
        if not ready.must_sync and ready.snapshot is None:
            self.written()

    def written(self) -> None:
        """The disk has it: apply, answer, go on."""
        ready, self.writing = self.writing, None
        assert ready is not None
        assert self.node is not None
        self.disk.save(ready)
        if ready.snapshot is not None:
            self.applied, self.conf_state = ready.snapshot.index, ready.snapshot.conf_state
        for entry in ready.committed:
            self.apply(entry)
        if ready.role != "leader":
            self.chaos.send(self, ready.messages)
        self.node.advance()

    def apply(self, entry: Entry) -> None:
        assert self.node is not None
        if entry.index <= self.applied:
            return
        self.chaos.note_committed(self, entry)
        self.applied = entry.index
        if isinstance(entry.data, ConfChange):
            self.conf_state = self.node.apply_conf_change(entry.data)

    def compact(self) -> None:
        """Make a snapshot of what is applied, and forget the entries."""
        if self.node is None or self.writing is not None or self.applied <= self.disk.snapshot.index:
            return
        log = self.node.raft.log
        self.disk.entries = self.disk.entries[self.applied - self.disk.snapshot.index :]
        self.disk.snapshot = self.snapshot()
        log.compact(self.applied)

    def snapshot(self) -> RaftSnapshot:
        assert self.node is not None
        term = self.node.raft.log.term(self.applied)
        assert term is not None
        return RaftSnapshot(self.applied, term, self.conf_state, ())


class Chaos:
    """A cluster of ``size`` under chaos; ``run`` raises UnsafeError where a property does not hold."""

    def __init__(
        self, seed: int, *, size: int = 3, mutants: Mutants | None = None, changes_members: bool = False
    ) -> None:
        self.chance = Chance(seed, "chaos")
        self.mutants = mutants or Mutants()
        self.changes_members = changes_members
        first = RaftSnapshot(0, 0, ConfState(IDS[:size]), ())
        ids = IDS if changes_members else IDS[:size]
        self.members = {member: Member(self, member, Disk(first)) for member in ids}
        self.messages: list[Message] = []
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, Entry] = {}
        self.newest_committed = 0
        self.reads = 0
        self.proposals = 0
        for member in self.members.values():
            member.start()

    # What members do

    def send_from(self, member: Member) -> Any:
        return lambda messages: self.send(member, messages)

    def send(self, member: Member, messages: list[Message]) -> None:
        for message in messages:
            if message.type == "MsgSnap":
                assert member.node is not None
                snapshot = member.snapshot()
                member.node.raft.progress[message.target].pending_snapshot = snapshot.index
                message = Message("MsgSnap", message.target, message.source, message.term, snapshot=snapshot)
            self.messages.append(message)

    def note_committed(self, member: Member, entry: Entry) -> None:
        known = self.committed.setdefault(entry.index, entry)
        if (known.term, known.data) != (entry.term, entry.data):
            raise UnsafeError(f"state machine safety: {member.id} applies {entry} where {known} was applied before")
        self.newest_committed = max(self.newest_committed, entry.index)

    def read_confirmed(self, member: Member, state: ReadState) -> None:
        """A linearizable read may not miss what was committed when it was asked for."""
        asked_at = member.pending_reads.pop(state.context, None)
        if asked_at is not None:
            self.reads += 1
            if state.index < asked_at:
                raise UnsafeError(f"linearizable reads: index {state.index}, but {asked_at} was committed before")

    # Chance

    def run(self, steps: int) -> None:
        for step in range(steps):
            self._act()
            self._check_leaders()
            if step % 100 == 0:
                self._check_log_matching()

    def _act(self) -> None:
        chance = self.chance.part()
        members = list(self.members.values())
        member = members[self.chance.below(len(members))]
        if self.messages and chance < 0.55:
            self._deliver()
        elif chance < 0.72:
            if member.node is not None:
                member.node.tick()
        elif chance < 0.86:
            if member.writing is not None:
                member.written()
        elif chance < 0.91:
            self._propose(member)
        elif chance < 0.95:
            self._read(member)
        elif chance < 0.955:
            member.compact()
        elif chance < 0.965:
            self._transfer(member)
        elif chance < 0.972:
            member.crash()
        elif member.node is None:
            member.start()

    def _deliver(self) -> None:
        place = self.chance.below(min(len(self.messages), 40))
        fate = self.chance.part()
        message = self.messages[place] if fate < 0.05 else self.messages.pop(place)  # one in twenty comes again
        if fate > 0.95:
            return
        target = self.members.get(message.target)
        if target is not None and target.node is not None:
            target.node.receive(message)

    def _propose(self, member: Member) -> None:
        if member.node is None:
            return
        self.proposals += 1
        data: Command | ConfChange = Command(self.proposals, pb.PutRequest(key=b"k"))
        if self.changes_members and self.chance.part() < 0.2:
            other = MemberInfo(IDS[self.chance.below(len(IDS))], "", ())
            leaves = other.id in member.conf_state.voters and len(member.conf_state.voters) > 1
            data = ConfChange(self.proposals, "remove" if leaves else "add", other)
        entry = Entry(0, 0, data, size_of(data))
        member.node.receive(Message("MsgProp", source=member.id, entries=(entry,)))

    def _read(self, member: Member) -> None:
        if member.node is not None:
            self.proposals += 1
            member.pending_reads[self.proposals] = self.newest_committed
            member.node.read_index(self.proposals)

    def _transfer(self, member: Member) -> None:
        if member.node is not None and member.node.raft.role == "leader":
            member.node.receive(Message("MsgTransferLeader", source=IDS[self.chance.below(len(IDS))]))

    # Properties

    def _check_leaders(self) -> None:
        for member in self.members.values():
            if member.node is None or member.node.raft.role != "leader":
                continue
            raft = member.node.raft
            known = self.leaders.get(raft.term)
            if known is None:
                self.leaders[raft.term] = member.id
                self._check_completeness(raft)
            elif known != member.id:
                raise UnsafeError(f"election safety: {known} and {member.id} lead in term {raft.term}")

    def _check_completeness(self, raft: Raft) -> None:
        for index, entry in self.committed.items():
            if index > raft.log.offset and raft.log.term(index) != entry.term:
                raise UnsafeError(
                    f"leader completeness: {raft.id} leads in {raft.term} without committed entry {index}"
                )

    def _check_log_matching(self) -> None:
        logs = [member.node.raft.log for member in self.members.values() if member.node is not None]
        for place, one in enumerate(logs):
            for other in logs[:place]:
                self._check_pair(one, other)

    def _check_pair(self, one: RaftLog, other: RaftLog) -> None:
        low, high = max(one.first, other.first), min(one.last, other.last)
        agree = [one.term(index) == other.term(index) for index in range(low, high + 1)]
        if True in agree and not all(agree[: len(agree) - agree[::-1].index(True)]):
            raise UnsafeError("log matching: two logs agree at an index and not before it")
