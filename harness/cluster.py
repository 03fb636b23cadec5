"""The seam between faults and clusters: nodes plus capabilities, each a small protocol a backend has or has not.

``cluster.capability(Links)`` answers an object or None.  A nemesis asks for
capabilities only, and never learns which backend or system it is hurting.
Directed pairs are ``(source, destination)``: cutting ``("n1", "n2")`` loses
what n1 sends to n2 and nothing else.

Every method that changes something is idempotent, returns once the change is
made (not once the system has noticed) and raises NemesisError when it cannot.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar, runtime_checkable

import msgspec

from splitvote.harness.archive import ArchiveRecord
from splitvote.harness.jsonl import JsonLinesWriter
from splitvote.harness.recording import MemberReading, MemberSample

Pair = tuple[str, str]
CLIENT: Final = "client"
"""Stands for all clients in a pair, where ``Links.supports`` has "client"; the harness's own calls are among them."""

C = TypeVar("C")


class ProcessState(enum.StrEnum):
    """What the operating system says of a node's process."""

    RUNNING = "running"
    PAUSED = "paused"  # every thread is in state T
    STOPPED = "stopped"


class Cluster(Protocol):
    """A set of named nodes; ``nodes`` never changes its order."""

    @property
    def name(self) -> str:
        """The backend's name: local, netns, compose, ssh, attach, sim."""
        ...

    @property
    def nodes(self) -> Sequence[str]:
        """The nodes' names, n1 first."""
        ...

    def capability(self, kind: type[C]) -> C | None:
        """The backend's implementation of a capability protocol, or None when it has none."""
        ...


@runtime_checkable
class Process(Protocol):
    """Start, end and suspend nodes' processes."""

    async def start(self, node: str) -> None:
        """Start the node on the data it has; does nothing when it runs."""
        ...

    async def stop(self, node: str) -> None:
        """End it in order (SIGTERM) and wait until it is gone."""
        ...

    async def kill(self, node: str) -> None:
        """End it at once (SIGKILL) and wait until it is gone."""
        ...

    async def pause(self, node: str) -> None:
        """Suspend it (SIGSTOP)."""
        ...

    async def resume(self, node: str) -> None:
        """Let it go on (SIGCONT)."""
        ...

    async def state(self, node: str) -> ProcessState:
        """What the operating system says now."""
        ...

    async def wipe(self, node: str) -> None:
        """Remove a stopped node's data; raises NemesisError for data the harness did not create."""
        ...


class LinkShape(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a directed link does to traffic; all zero is a healthy link.

    ``loss``, ``duplicate``, ``reorder`` and ``corrupt`` are shares of packets (of
    messages on the simulation).
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    rate_bytes_s: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0


class LinkCounter(msgspec.Struct, frozen=True):
    """Bytes over a directed link since the start: offered by the source, delivered to the destination."""

    offered_bytes: int
    delivered_bytes: int


@runtime_checkable
class Links(Protocol):
    """Directed links between nodes."""

    supports: frozenset[str]
    """Which faults this backend can do: "cut", the fields of ``LinkShape`` ("delay", "rate", ...), and "client"
    where the links between clients and nodes can be hurt, too."""

    async def cut(self, pairs: Iterable[Pair]) -> None:
        """Deliver nothing over these links from now on (other links keep their state)."""
        ...

    async def shape(self, pairs: Iterable[Pair], shape: LinkShape) -> None:
        """Give these links this shape; raises NemesisError for one the backend cannot do."""
        ...

    async def heal(self, pairs: Iterable[Pair] | None = None) -> None:
        """Make these links (None: all) healthy again."""
        ...

    async def counters(self) -> Mapping[Pair, LinkCounter]:
        """Bytes so far over every link, as seen on the wire, not in our own switch."""
        ...


@runtime_checkable
class Explaining(Protocol):
    """A capability that can say why it does not support something."""

    def wanting(self, what: str) -> str:
        """What would provide a fault that is not in ``supports``, in a few words."""
        ...


class ClockShape(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node's clocks show: so far ahead of the truth, and gaining so many seconds a second from then on."""

    wall_ms: float = 0.0
    monotonic_ms: float = 0.0
    wall_drift: float = 0.0
    monotonic_drift: float = 0.0


class ClockReading(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a node's clocks were measured to be ahead of the harness's, give or take the errors.

    The monotonic one's is None where it was not set, nor measured.
    """

    wall_ms: float
    monotonic_ms: float | None = None
    error_ms: float = 0.0
    monotonic_error_ms: float = 0.0


@runtime_checkable
class Clock(Protocol):
    """The clocks of single nodes, never the host's; a node that is restarted keeps its shape.

    Where monotonic time cannot go back it goes slower until it is where it is to be.
    """

    supports: frozenset[str]
    """Which fields of ``ClockShape`` this backend can do: of "wall", "monotonic", "wall_drift", "monotonic_drift"."""

    @property
    def refusal(self) -> str | None:
        """Why it cannot do the others here, in words."""
        ...

    async def set(self, node: str, shape: ClockShape) -> None:
        """Have the node's clocks show this from now on."""
        ...

    async def strobe(self, node: str, shape: ClockShape, period_ms: float) -> None:
        """Switch between this shape and the truth, a period each, until ``reset``."""
        ...

    async def reset(self, node: str) -> None:
        """Have them show the truth again."""
        ...

    async def offsets(self) -> Mapping[str, ClockReading]:
        """What the clocks of all nodes that run are measured to show, not what they were told to."""
        ...


class DiskShape(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong with a node's disk: one of ``DISK_FAULTS``, and by how much."""

    fault: str
    delay_ms: float = 0.0


DISK_FAULTS: Final = ("full", "slow_fsync", "eio", "read_only", "freeze")
"""Writes fail for want of space; an fsync takes ``delay_ms`` longer; reads and writes fail; writes fail; they hang."""


class DiskReading(msgspec.Struct, frozen=True, omit_defaults=True):
    """What writing and syncing a small file beside a member's data came to: the error, or how long the fsync took."""

    error: str | None = None
    fsync_ms: float | None = None


@runtime_checkable
class Disk(Protocol):
    """The disks that the members' data lies on."""

    supports: frozenset[str]
    """Which of ``DISK_FAULTS`` and "power_loss" this backend can do."""

    async def impair(self, node: str, shape: DiskShape) -> None:
        """Have the disk behave like this from now on, in place of what was wrong with it before."""
        ...

    async def restore(self, node: str) -> None:
        """Have it work again; what it holds stays as it is."""
        ...

    async def lose_power(self, node: str) -> str:
        """End the node's process and lose what it had not synced; says in words what was lost."""
        ...

    async def probe(self, node: str, *, timeout_s: float = 2.0) -> DiskReading:
        """Write and sync a small file on the node's disk; a hang is an error in the reading."""
        ...


DAMAGES: Final = ("wal_bit_flip", "wal_truncate", "wal_loss", "snapshot_bit_flip", "snapshot_loss")
"""One bit of a record's body in the log, its last records cut off, a whole file gone; the same of a snapshot."""


@runtime_checkable
class Damage(Protocol):
    """Harm done to the files of a member that is not running."""

    def refusal(self, kind: str) -> str | None:
        """Why one of ``DAMAGES`` cannot be done here, in words; None where it can."""
        ...

    async def damageable(self, node: str) -> frozenset[str]:
        """Which of ``DAMAGES`` there are files for now; the node may run."""
        ...

    async def damage(self, node: str, kind: str, pick: int) -> Mapping[str, str | int]:
        """Do one of ``DAMAGES`` where ``pick`` says; tells the file, the place and the sizes.

        Raises NemesisError when there is no such file, or the node runs.
        """
        ...


class MemberRole(enum.StrEnum):
    """What a node is to the cluster."""

    VOTER = "voter"
    LEARNER = "learner"
    ABSENT = "absent"  # not a member at present


@runtime_checkable
class Members(Protocol):
    """Which nodes are members.

    ``Cluster.nodes`` never changes: a node that was removed is still a node, and
    can be added again.  A call that the cluster refuses is a NemesisError with
    the cluster's words.
    """

    async def roster(self, *, timeout_s: float = 2.0) -> Mapping[str, MemberRole]:
        """What each node is, as a member that answers with a linearizable read has it; raises NemesisError if none."""
        ...

    async def remove(self, node: str) -> None:
        """Have another member propose its removal; the node is not touched."""
        ...

    async def add(self, node: str, role: MemberRole) -> None:
        """Have another member propose it; ``Process.start`` on empty data then joins the cluster as it is."""
        ...

    async def promote(self, node: str) -> None:
        """Make a learner a voter; refused while it is too far behind."""
        ...


@runtime_checkable
class Versions(Protocol):
    """The binaries that nodes can be started with, going forth and back between them on the same data."""

    @property
    def available(self) -> Sequence[str]:
        """The versions there are, oldest first; two at least."""
        ...

    async def running(self, *, timeout_s: float = 1.0) -> Mapping[str, str | None]:
        """The version each member says it is; None for one that does not answer."""
        ...

    def in_use(self, node: str) -> str:
        """The version that the node runs, or ran last."""
        ...

    async def use(self, node: str, version: str) -> None:
        """Start the node with this version from its next start on; raises NemesisError for one that there is not."""
        ...


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node's process may use; None is as much as there is.

    ``cpus`` is in processors, ``fds`` how many file descriptors it may have open.
    """

    cpus: float | None = None
    io_bytes_s: float | None = None
    fds: int | None = None


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node's process has used by now, and may use, as the operating system has it.

    ``throttled_s`` is for how long it had to wait for processors by a limit,
    ``most_cpus`` that limit; both are of the limit that is on now, as is
    ``most_io_bytes_s``.
    """

    cpu_s: float
    written_bytes: int
    fds: int
    most_fds: int
    most_cpus: float | None = None
    throttled_s: float = 0.0
    most_io_bytes_s: float | None = None


@runtime_checkable
class Resources(Protocol):
    """What nodes may take of their machine."""

    supports: frozenset[str]
    """Which fields of ``Limits`` this backend can do."""

    least_cpus: float
    """With fewer processors a node could not be told anything any more, where that takes a share of them."""

    def refusal(self, field: str) -> str:
        """Why it cannot do one of the others here, in words."""
        ...

    async def limit(self, node: str, limits: Limits) -> None:
        """Have these limits and no others from now on, also when it is restarted."""
        ...

    async def usage(self, node: str) -> Usage:
        """What it uses; raises NemesisError when it does not run."""
        ...


@runtime_checkable
class Failpoints(Protocol):
    """Points in the binary where a failure can be switched on (gofail), where it was built with them."""

    async def known(self, node: str) -> Mapping[str, str]:
        """The points by name, and the terms that are on ("" when off); empty for a binary without any."""
        ...

    async def enable(self, node: str, point: str, terms: str) -> None:
        """Switch one on: "panic", "sleep(100)", "1*return(true)" ..."""
        ...

    async def disable(self, node: str, point: str) -> None:
        """Switch one off."""
        ...


@runtime_checkable
class Roles(Protocol):
    """Who leads, and what each member says of itself."""

    async def sample(self, *, timeout_s: float = 1.0) -> dict[str, MemberSample]:
        """Ask every member at once; one that does not answer has its ``error`` set."""
        ...

    async def leader(self) -> str | None:
        """The node that most answering members name as leader in the highest term; None when there is none."""
        ...


@runtime_checkable
class Health(Protocol):
    """Whether the cluster as a whole serves."""

    async def unready(self, nodes: Sequence[str], *, timeout_s: float = 1.0) -> dict[str, str]:
        """Ask each of these members for a linearizable read: who failed, and its error in one line."""
        ...

    async def readings(self, keys: Sequence[str], *, timeout_s: float = 5.0) -> dict[str, MemberReading]:
        """Every member's own view: HashKV at one common explicit revision, and a serializable read of the keys."""
        ...


@runtime_checkable
class Admin(Protocol):
    """The operator's calls that hurt."""

    async def compact(self, *, keep: int = 0) -> int:
        """Compact everything older than the last ``keep`` revisions; returns the compact revision."""
        ...

    async def defragment(self, node: str, *, timeout_s: float = 10.0) -> None:
        """Defragment one member's database."""
        ...

    async def move_leader(self, target: str) -> None:
        """Ask the leader to hand over to the target."""
        ...


class SnapshotReading(msgspec.Struct, frozen=True):
    """A database that a member sent: what came, what it had announced, and whether its own digest fits."""

    size_bytes: int
    announced_bytes: int
    is_intact: bool


@runtime_checkable
class Upkeep(Protocol):
    """The operator's calls about a member's space."""

    async def save_snapshot(self, node: str, *, timeout_s: float = 10.0) -> SnapshotReading:
        """Receive a member's whole database, and check it; nothing is kept."""
        ...

    async def alarms(self, *, timeout_s: float = 1.0) -> Mapping[str, tuple[str, ...]]:
        """The alarms each member that answers knows of, by its own account."""
        ...

    async def raise_no_space(self, node: str) -> None:
        """Have the cluster take this member's space for exhausted: it refuses to grow from then on."""
        ...

    async def disarm(self) -> None:
        """Call off every such alarm."""
        ...


@runtime_checkable
class Auth(Protocol):
    """Whether callers must say who they are; the harness's own connections can, clients' cannot."""

    async def enable(self) -> None:
        """Ask every caller for a user; the harness's is made first where there is none."""
        ...

    async def disable(self) -> None:
        """Serve anybody again."""
        ...

    async def refusals(self, *, timeout_s: float = 1.0) -> Mapping[str, str | None]:
        """What each member says to a caller without a user: its error, or None when it serves."""
        ...


@runtime_checkable
class Archivist(Protocol):
    """Keeps the store's history as every member tells it (``splitvote.harness.archive``)."""

    def start(self, writer: JsonLinesWriter[ArchiveRecord], now_ns: Callable[[], int]) -> None:
        """Begin to ask every member; ``now_ns`` is the run's clock."""
        ...

    async def reach(self, revision: int, *, timeout_s: float) -> bool:
        """Whether some member has told everything up to this revision; waits for it so long at most.

        Whoever destroys history (compacts) asks this first.  True when no archive is kept.
        """
        ...

    async def finish(self, nodes: Sequence[str], *, timeout_s: float) -> bool:
        """Whether all these members have told all they have; waits for it so long at most."""
        ...

    async def stop(self) -> None:
        """Ask no more; raises EnvironmentFailure when the archive could not be written (a full disk)."""
        ...


@runtime_checkable
class Boundaries(Protocol):
    """What is not done to a cluster that is somebody else's, whatever its capabilities."""

    def refusal(self, family: str, fault: str) -> str | None:
        """Why this fault is not done here, and what would do it or permit it; None where nothing forbids it."""
        ...


@runtime_checkable
class Logs(Protocol):
    """Where each node's output goes."""

    def log_path(self, node: str) -> Path:
        """The node's log file on this machine (it may not exist yet)."""
        ...


@runtime_checkable
class Data(Protocol):
    """The members' data directories."""

    async def keep_data(self, destination: Path) -> None:
        """Copy every member's data directory below ``destination`` (stopped members give the truest copy)."""
        ...
