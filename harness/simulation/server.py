"""One running member, in the shape of etcd's EtcdServer: proposals in, applied entries out, and the loop between.

``run`` has three phases.  Set-up: from the raft snapshot on disk the progress,
the FIFO scheduler, the ready handler (which is this object: changes of
leadership pause and resume the compactor, promote and demote the lessor).  Main
loop: what is committed becomes a scheduled job; expired leases are revoked by
proposals, on the leader only; an error is logged with the word that this
member's data directory must be removed, and ends the loop; so does a stop.
Clean-up: scheduler, reads and raft are stopped, and all tasks are awaited.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import Method
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation import proposals, reconfiguration, revocation, snapshots
from splitvote.harness.simulation.apply import ApplyAll, Progress, TriggerSnapshot, Waiters
from splitvote.harness.simulation.calls import Door
from splitvote.harness.simulation.chance import Chance
from splitvote.harness.simulation.context import Deadlines, StoppedError, fail
from splitvote.harness.simulation.disk import Disk, DiskError
from splitvote.harness.simulation.interface import LeaseCheckpoint, MemberInfo, Outcome, Request
from splitvote.harness.simulation.log import RaftLog
from splitvote.harness.simulation.logs import NodeLog
from splitvote.harness.simulation.membership import Membership
from splitvote.harness.simulation.messages import (
    NONE,
    ConfChange,
    ConfState,
    Message,
    Publish,
    ReadState,
)
from splitvote.harness.simulation.mutants import Mutants
from splitvote.harness.simulation.mvcc import Machine
from splitvote.harness.simulation.node import Node
from splitvote.harness.simulation.options import ServerOptions
from splitvote.harness.simulation.peers import PeerCalls, Transport
from splitvote.harness.simulation.process import Process
from splitvote.harness.simulation.raft import Raft
from splitvote.harness.simulation.rafthttp import PeerMessages
from splitvote.harness.simulation.reads import ReadIndexLoop
from splitvote.harness.simulation.ready import Apply, ReadyLoop
from splitvote.harness.simulation.refusals import (
    NO_LEADER,
    error,
)
from splitvote.harness.simulation.scheduler import FifoScheduler
from splitvote.harness.simulation.services import Services

NO_LEADER_ELECTIONS: Final = 3
"""So many election timeouts without a leader break the streams that require one."""

KEEPALIVE_TICKS: Final = 10
"""Between two that something is passed over the connections to the peers."""

DATA_DIR_WORDS: Final = "the data-dir used by this member must be removed"
_REMOVED_DELAY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Seat:
    """Who a member is: ``incarnation`` counts its node's starts, so that ids are not given twice."""

    cluster_id: int
    member_id: int
    node: str
    number: int
    incarnation: int
    client_url: str


@dataclass(frozen=True, slots=True)
class _Expired:
    leases: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Failure:
    words: str


_Event = Apply | _Expired | _Failure | Literal["stop"]


class Server:
    """See the module; ``ServerCore`` to its services, ``Host`` to its machine, ``Site`` to its jobs."""

    def __init__(
        self,
        *,
        seat: Seat,
        options: ServerOptions,
        process: Process,
        disk: Disk,
        chance: Chance,
        transport: Transport,
        door: Door,
        log: NodeLog,
        mutants: Mutants,
    ) -> None:
        self.seat = seat
        self.options = options
        self.cluster_id, self.member_id = seat.cluster_id, seat.member_id
        self.clock = process
        self.mutants = mutants
        self.disk = disk
        self.log = log
        self.transport = transport
        self._process = process
        self._chance = chance
        self._door = door
        self._events: deque[_Event] = deque()
        self._sleeper: asyncio.Future[None] | None = None
        self.is_stopping = False
        self.is_listening = False
        self._ids = 0
        self._ticks = 0
        self.revoking: dict[int, None] = {}
        self.is_leader = False
        self.lead_elected_s = 0.0
        self.committed_index = 0
        self.waiters = Waiters()
        self._no_leader_since_s: float | None = None

    # Phase 1

    def _set_up(self) -> None:
        wal = self.disk.wal
        self.progress = Progress(wal.snapshot)
        self.membership = Membership.of(wal.snapshot)
        self.machine = Machine(self, self.disk.backend, self.options.machine)
        if self.machine.consistent_index < wal.snapshot.index:
            assert self.disk.received is not None, "the log begins after what the backend has"
            self.machine.restore(self.disk.received)
        self.scheduler = FifoScheduler()
        self.deadlines = Deadlines(self.clock, self.options.request_timeout_s)
        ready = ReadyLoop(self._process, self.disk, self, self.mutants)
        raft = Raft(
            member_id=self.member_id,
            log=RaftLog(wal.snapshot, wal.entries, wal.hard_state.commit),
            hard_state=wal.hard_state,
            conf_state=wal.snapshot.conf_state,
            election_ticks=self.options.election_ticks,
            heartbeat_ticks=1,
            chance=self._chance,
            mutants=self.mutants,
        )
        self.node = ready.node = Node(raft, ready.do, self.send)
        self._reads = ReadIndexLoop(
            self.clock,
            timeout_s=self.options.request_timeout_s,
            next_id=self.next_id,
            ask=self.node.read_index,
            applied=lambda: self.progress.applied_index,
        )
        self.services = Services(self)
        calls = PeerCalls(self.clock, self.transport, self.services.peer, self.spawn)
        self.rafthttp = PeerMessages(self, self._process, calls)

    async def run(self) -> None:
        """Serve until stopped, or until an error; the process ends with it."""
        self._set_up()
        self.log.write(
            "info",
            "starting etcd server",
            **{"local-member-id": f"{self.member_id:x}", "applied-index": self.machine.consistent_index},
        )
        self.machine.start()
        self._process.call_later(self._chance.part() * self.options.heartbeat_s, self._tick)
        self.spawn(self._publish(), "publish")
        self.is_listening = True
        if self.membership.is_removed(self.member_id):
            self.applied_own_removal()
        self.node.begin()
        try:
            await self._serve_events()
        finally:
            self._clean_up()
        await self._process.wind_down()

    # Phase 2

    async def _serve_events(self) -> None:
        while True:
            event = await self._next_event()
            if isinstance(event, Apply):
                self._schedule(event)
            elif isinstance(event, _Expired):
                revocation.revoke(self, event.leases)
            elif isinstance(event, _Failure):
                self.log.write("warn", "server error", error=event.words)
                self.log.write("warn", DATA_DIR_WORDS)
                return
            else:
                self.machine.commit()
                return

    def _schedule(self, work: Apply) -> None:
        self.scheduler.schedule(ApplyAll(self, work))
        if snapshots.is_due(self):
            self.scheduler.schedule(TriggerSnapshot(self, work))

    async def _next_event(self) -> _Event:
        while not self._events:
            self._sleeper = self._process.loop.create_future()
            await self._sleeper
        return self._events.popleft()

    def _post(self, event: _Event) -> None:
        self._events.append(event)
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)

    def stop(self) -> None:
        """End ``run`` in order, before anything else that waits."""
        self._events.clear()
        self._post("stop")

    def fail(self, words: str) -> None:
        """Something happened after which this member cannot go on."""
        self._post(_Failure(words))

    # Phase 3

    def _clean_up(self) -> None:
        self.is_stopping = True
        self.scheduler.stop()
        self._reads.stop()
        self.node.stop()
        self.rafthttp.stop()
        for waiter in self.waiters.take_all():
            fail(waiter, StoppedError())

    # Ticks

    def _tick(self) -> None:
        if self.is_stopping:
            return
        self._process.call_later(self.options.heartbeat_s, self._tick)
        self.node.tick()
        self._reads.tick()
        self.machine.commit()
        self._watch_for_leader()
        self._ticks += 1
        if self._ticks % KEEPALIVE_TICKS == 0:
            self.rafthttp.keep_connections_alive()

    def _watch_for_leader(self) -> None:
        """Break streams that require a leader when there has been none for long enough."""
        if self.leader_id != NONE:
            self._no_leader_since_s = None
        elif self._no_leader_since_s is None:
            self._no_leader_since_s = self.clock.now_s()
        elif self.clock.now_s() - self._no_leader_since_s >= NO_LEADER_ELECTIONS * self.options.election_timeout_s:
            self._door.break_those_that_require_a_leader(NO_LEADER)

    async def _publish(self) -> None:
        """Tell the cluster our name and address through the log; then clients are served."""
        while True:
            told = Publish(self.next_id(), self.member_id, self.seat.node, (self.seat.client_url,))
            try:
                await proposals.await_applied(self, told)
            except TransportError:
                await self.clock.sleep(self.options.heartbeat_s)
            else:
                break
        self.log.write("info", "ready to serve client requests")
        self._door.open(self._process, self.services)

    # ReadyHandler

    def update_lead(self, lead: int, *, is_leader: bool, is_new_leader: bool) -> None:
        """See ``ReadyHandler``."""
        self.is_leader = is_leader
        if is_new_leader:
            self.log.write("info", "raft.node: elected leader", leader=f"{lead:x}", term=self.term)
        if not is_leader:
            self.machine.demote_lessor()
            self.machine.pause_compactor()
        else:
            if is_new_leader:
                self.lead_elected_s = self.clock.now_s()
            self.machine.resume_compactor()
        if is_new_leader:
            self._reads.leader_changed()

    def update_committed_index(self, index: int) -> None:
        """See ``ReadyHandler``."""
        self.committed_index = max(self.committed_index, index)

    def read_states(self, states: list[ReadState]) -> None:
        """See ``ReadyHandler``."""
        for state in states:
            self._reads.confirmed(state)

    def apply(self, work: Apply) -> None:
        """See ``ReadyHandler``: a loop that waits for it takes it at once, which saves a task's turn an entry."""
        if self._sleeper is not None:
            self._schedule(work)
        else:
            self._post(work)

    def saved(self) -> None:
        """See ``ReadyHandler``."""
        self.scheduler.go_on()

    def send(self, messages: list[Message]) -> None:
        """See ``ReadyHandler``."""
        self.rafthttp.send(messages)

    def disk_failed(self, failure: DiskError) -> None:
        """See ``ReadyHandler``."""
        self.log.write("fatal", "failed to save Raft hard state and entries", error=str(failure))
        self.fail(str(failure))

    # Site of the apply jobs

    def trigger_snapshot(self) -> None:
        """See ``apply.Site``."""
        snapshots.trigger(self)

    def change_members(self, change: ConfChange) -> ConfState:
        """See ``apply.Site``."""
        self.log.write("info", "applied a configuration change", kind=change.kind, member=f"{change.member.id:x}")
        self.transport.learn(change.member)
        return self.node.apply_conf_change(change)

    def learn_members(self) -> None:
        """See ``apply.Site``."""
        for member in self.membership.members():
            self.transport.learn(member)

    def applied_empty_entry(self) -> None:
        """See ``apply.Site``: extends every lease, since nobody has kept count of them since the last leader."""
        if self.is_leader:
            self.machine.promote_lessor(self.options.election_timeout_s)
        self._reads.committed_in_term()

    def applied(self) -> None:
        """See ``apply.Site``."""
        self._reads.index_applied()

    def applied_own_removal(self) -> None:
        """See ``apply.Site``."""
        self.clock.call_later(_REMOVED_DELAY_S, self.fail, "the member has been permanently removed from the cluster")

    # Host of the machine

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """See ``interface.Host``."""
        return self._process.spawn(work, name)

    def revoke_expired(self, leases: Sequence[int]) -> None:
        """See ``interface.Host``."""
        self._post(_Expired(leases))

    def checkpoint(self, leases: LeaseCheckpoint) -> None:
        """See ``interface.Host``."""
        self.spawn(self._propose_or_log(leases, "failed to checkpoint leases"), "checkpoint leases")

    def compact(self, revision: int) -> None:
        """See ``interface.Host``."""
        request = pb.CompactionRequest(revision=revision)
        self.spawn(self._propose_or_log(request, "failed auto revision compaction"), "compact")

    def awaits(self, command_id: int) -> bool:
        """See ``interface.Host``."""
        return self.waiters.has(command_id)

    async def _propose_or_log(self, request: Request, words: str) -> None:
        try:
            await self.propose(request)
        except TransportError as failure:
            self.log.write("warn", words, error=str(failure))

    # ServerCore

    @property
    def leader_id(self) -> int:
        """See ``ServerCore``."""
        return self.node.raft.lead

    @property
    def term(self) -> int:
        """See ``ServerCore``."""
        return self.node.raft.term

    @property
    def applied_index(self) -> int:
        """See ``ServerCore``."""
        return self.progress.applied_index

    @property
    def is_learner(self) -> bool:
        """See ``ServerCore``."""
        return self.node.raft.is_learner

    @property
    def election_timeout_s(self) -> float:
        """See ``ServerCore``."""
        return self.options.election_timeout_s

    @property
    def database_bytes(self) -> int:
        """See ``ServerCore``."""
        return self.disk.backend.size_bytes

    def next_id(self) -> int:
        """See ``ServerCore``."""
        self._ids += 1
        return self.seat.number << 56 | (self.seat.incarnation & 0xFFFF) << 40 | self._ids

    async def propose(self, request: Request) -> Outcome:
        """See ``ServerCore``."""
        return await proposals.propose(self, request)

    async def read_index(self) -> None:
        """See ``ServerCore``."""
        if self.mutants.has("read-without-read-index"):
            self.spawn(self._note_stale_read(self.applied_index), "mutant: whether a read was stale")
        else:
            await self._reads.read()

    async def _note_stale_read(self, applied: int) -> None:
        """Mutant: a read was answered at once; it matters where it had to see more than was applied, or to fail."""
        try:
            is_stale = await self._reads.read() > applied
        except TransportError:
            is_stale = not self.is_stopping
        if is_stale:
            self.mutants.fires("read-without-read-index")

    async def defragment(self) -> None:
        """See ``ServerCore``."""
        await reconfiguration.defragment(self)

    async def move_leader(self, target_id: int) -> None:
        """See ``ServerCore``."""
        await reconfiguration.move_leader(self, target_id)

    def members(self) -> tuple[MemberInfo, ...]:
        """See ``ServerCore``."""
        return self.membership.members()

    async def add_member(self, peer_urls: Sequence[str], *, is_learner: bool) -> MemberInfo:
        """See ``ServerCore``."""
        return await reconfiguration.add_member(self, peer_urls, is_learner=is_learner)

    async def remove_member(self, member_id: int) -> None:
        """See ``ServerCore``."""
        await reconfiguration.remove_member(self, member_id)

    async def promote_member(self, member_id: int) -> None:
        """See ``ServerCore``."""
        await reconfiguration.promote_member(self, member_id)

    async def update_member(self, member_id: int, peer_urls: Sequence[str]) -> None:
        """See ``ServerCore``."""
        await reconfiguration.update_member(self, member_id, peer_urls)

    async def forwarded(self, method: Method[Any, Any], request: Any, timeout_s: float) -> Any:
        """See ``ServerCore``."""
        if self.leader_id == NONE:
            raise error(NO_LEADER)
        return await self.rafthttp.calls.ask(self.member_id, self.leader_id, method, request, timeout_s)
