"""The seams inside one simulated member: its clock, its replicated state machine, its server, its services.

One member, from below::

    network, disk        carry messages, keep what was fsynced (one per cluster, one per node)
    raft, node           agree on a log of commands
    ServerCore           proposes, applies what was committed in order, serves ReadIndex (``server``)
    Machine              the store, leases and watchers that commands change (``mvcc``, ``lessor``, ``watch``)
    Services             etcd's RPCs in terms of ServerCore and Machine (``services``)
    clients              ``splitvote.harness.etcd.rpc.Rpc``, as for a real member

What a process has in memory dies with it: ``ServerCore``, ``Machine`` and
``Services`` are made anew at every start.  What survives is the node's disk:
the raft log, and the machine's ``Backend`` (``backend``).

Rules for everything above the network, so that a process can be paused, killed
and given a clock of its own:

* Time comes from ``Host.clock`` only: it drifts and jumps as the node's clock is
  told to, and stands still while the process is paused.  Never ``asyncio.sleep``,
  ``asyncio.timeout`` or the loop's own ``call_later``.
* Tasks are made by ``Host.spawn`` only: they are cancelled when the process
  ends.  Nothing a task does after that may matter.
* Requests and answers of etcd's protobufs are shared by all members (an entry of
  the log is one object): nobody changes one that was handed on.
* A set is never iterated over, a dictionary is in the order of insertion.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

import msgspec

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import Method
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.mutants import Mutants


class LeaseCheckpoint(msgspec.Struct, frozen=True):
    """The leader tells how much of each lease's time is left: pairs (lease id, seconds)."""

    remaining_s: tuple[tuple[int, int], ...]


Request = (
    pb.PutRequest
    | pb.DeleteRangeRequest
    | pb.RangeRequest
    | pb.TxnRequest
    | pb.CompactionRequest
    | pb.LeaseGrantRequest
    | pb.LeaseRevokeRequest
    | pb.AlarmRequest
    | LeaseCheckpoint
)
"""What is replicated; ``Machine.apply`` tells them apart by type."""


class Command(msgspec.Struct, frozen=True, gc=False):
    """One entry of the log that is the machine's: ``id`` pairs it with the proposal that waits on ``member_id``."""

    id: int
    request: Request


class Outcome(msgspec.Struct, frozen=True):
    """What applying a command gave: an answer, or the error that etcd answers with.

    ``answer`` has the revision in its header; the rest of the header is filled
    in by the member that serves the client.
    """

    answer: Any = None
    error: TransportError | None = None


class Timer(Protocol):
    """Something that was asked for at a time."""

    def cancel(self) -> None:
        """Do not do it; does nothing when it is done."""
        ...


class Clock(Protocol):
    """A process's own idea of time; stands still while it is paused (what was due then is done on resuming)."""

    def now_s(self) -> float:
        """Seconds by the node's own monotonic clock: only differences mean anything."""
        ...

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call back when so much has passed on the node's own clock; never after the process has ended."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait so long by the node's own clock."""
        ...


class Host(Protocol):
    """What a Machine needs of the process it lives in."""

    mutants: Mutants

    @property
    def clock(self) -> Clock:
        """The process's clock."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> Any:
        """Run a task that ends with the process; an exception in it ends the run as our own failure."""
        ...

    def revoke_expired(self, leases: Sequence[int]) -> None:
        """The lessor of a leader found these leases expired: they are revoked by proposals."""
        ...

    def checkpoint(self, leases: LeaseCheckpoint) -> None:
        """The lessor of a leader wants this replicated."""
        ...

    def awaits(self, command_id: int) -> bool:
        """Whether somebody waits on this member for what becomes of a command."""
        ...

    def compact(self, revision: int) -> None:
        """The periodic compactor of a leader wants the store compacted up to there: proposed, that is all."""
        ...


class Snapshot(Protocol):
    """The whole machine at one index, immutable, as it is sent to a member that is far behind."""

    @property
    def index(self) -> int:
        """The consistent index."""
        ...

    @property
    def size_bytes(self) -> int:
        """About what it takes on the wire."""
        ...


class Machine(Protocol):
    """The replicated state machine of one process: ``mvcc.Machine(host, backend)`` goes on with what is committed.

    ``apply`` and ``skip`` are called for every index in order, once a process;
    after a restart indices at or below ``consistent_index`` come once more and
    must change nothing (answer ``Outcome()``).
    """

    @property
    def consistent_index(self) -> int:
        """The index of the last entry whose effect is in the backend, committed or not."""
        ...

    @property
    def revision(self) -> int:
        """The store's current revision."""
        ...

    def apply(self, index: int, command: Command) -> Outcome | None:
        """Apply one committed command; None for one that was applied before the restart, so that nobody is answered."""
        ...

    def skip(self, index: int) -> None:
        """Note an index whose entry is not the machine's (empty, or a change of members)."""
        ...

    def commit(self) -> None:
        """Make everything durable (called every 100 ms, before a raft snapshot, and when stopping in order)."""
        ...

    def snapshot(self) -> Snapshot:
        """All of it, at ``consistent_index``."""
        ...

    def restore(self, snapshot: Snapshot) -> None:
        """Become what the leader sent: store, leases; watchers go on from where they were (synced become unsynced)."""
        ...

    def start(self) -> None:
        """Begin the lessor's, the watches' and the compactor's loops."""
        ...

    def promote_lessor(self, extend_s: float) -> None:
        """The member leads and has applied its first entry: expire leases from now on, extending each first."""
        ...

    def demote_lessor(self) -> None:
        """The member no longer leads: never expire a lease."""
        ...

    def pause_compactor(self) -> None:
        """The member no longer leads."""
        ...

    def resume_compactor(self) -> None:
        """The member leads."""
        ...


class MemberInfo(msgspec.Struct, frozen=True):
    """One entry of the member list."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False


class ServerCore(Protocol):
    """One running member, for its services.  Times out, drops and stops with etcd's own codes and words."""

    mutants: Mutants
    cluster_id: int
    member_id: int

    @property
    def clock(self) -> Clock:
        """The process's clock."""
        ...

    @property
    def machine(self) -> Machine:
        """The member's replicated state."""
        ...

    @property
    def leader_id(self) -> int:
        """Whom this member takes for the leader, 0 for nobody."""
        ...

    @property
    def term(self) -> int:
        """The current raft term."""
        ...

    @property
    def committed_index(self) -> int:
        """What is known to be committed (Status.raftIndex)."""
        ...

    @property
    def applied_index(self) -> int:
        """What was applied (Status.raftAppliedIndex)."""
        ...

    @property
    def is_learner(self) -> bool:
        """Whether this member is a learner: it serves serializable Range, Status and Snapshot only."""
        ...

    @property
    def election_timeout_s(self) -> float:
        """The minimum TTL of a lease is ceil(1.5 x) it."""
        ...

    @property
    def database_bytes(self) -> int:
        """Status.dbSize."""
        ...

    async def propose(self, request: Request) -> Outcome:
        """Replicate, await its apply on this member.

        Raises TransportError: request timed out (and why), server stopped, too
        many requests, raft proposal dropped.
        """
        ...

    async def read_index(self) -> None:
        """Return when this member has applied all that was committed when this was called (linearizable reads).

        Raises TransportError: request timed out, leader changed, server stopped.
        """
        ...

    def next_id(self) -> int:
        """A fresh positive 63-bit id, unique over members and restarts (leases)."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> Any:
        """See ``Host.spawn``."""
        ...

    async def defragment(self) -> None:
        """Rewrite the database: the member applies nothing meanwhile."""
        ...

    async def move_leader(self, target_id: int) -> None:
        """Hand the lead over; raises TransportError when this member does not lead or it takes too long."""
        ...

    def members(self) -> tuple[MemberInfo, ...]:
        """The member list as applied here, by id."""
        ...

    async def add_member(self, peer_urls: Sequence[str], *, is_learner: bool) -> MemberInfo:
        """Add a member; returns it (its name is empty until it starts)."""
        ...

    async def remove_member(self, member_id: int) -> None:
        """Remove a member."""
        ...

    async def promote_member(self, member_id: int) -> None:
        """Make a learner a voter; refused while it is behind."""
        ...

    async def update_member(self, member_id: int, peer_urls: Sequence[str]) -> None:
        """Change where a member is reached."""
        ...

    def forwarded(self, method: Method[Any, Any], request: Any, timeout_s: float) -> Awaitable[Any]:
        """Ask the leader's own service (etcd's peer HTTP for keepalives and time-to-live), over the peer network.

        Raises TransportError no leader, or request timed out.
        """
        ...


class ServerStream(Protocol):
    """A streaming call as its handler on the member sees it; the handler's task is cancelled when the client goes."""

    request: Any
    """The one request of a server stream; None for a stream of requests."""

    async def receive(self) -> Any:
        """The client's next request."""
        ...

    async def send(self, answer: Any) -> None:
        """Send an answer, waiting while the client has many that it has not taken (flow control)."""
        ...


class Services(Protocol):
    """``services.Services(core)``: etcd's RPCs."""

    async def unary(self, method: Method[Any, Any], request: Any) -> Any:
        """Answer one call, or raise TransportError with etcd's code and words (UNIMPLEMENTED if not simulated)."""
        ...

    async def stream(self, method: Method[Any, Any], stream: ServerStream) -> None:
        """Serve a stream to its end; returning ends it in order, TransportError breaks it."""
        ...
