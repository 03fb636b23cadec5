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
