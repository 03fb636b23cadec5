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
from typing import Protocol, TypeVar, runtime_checkable

import msgspec

from splitvote.harness.archive import ArchiveRecord
from splitvote.harness.jsonl import JsonLinesWriter
from splitvote.harness.recording import MemberReading, MemberSample

Pair = tuple[str, str]
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
    """What a directed link does to traffic; all zero is a healthy link."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    rate_bytes_s: float = 0.0
    loss: float = 0.0


class LinkCounter(msgspec.Struct, frozen=True):
    """Bytes over a directed link since the start: offered by the source, delivered to the destination."""

    offered_bytes: int
    delivered_bytes: int


@runtime_checkable
class Links(Protocol):
    """Directed links between nodes."""

    supports: frozenset[str]
    """Which faults this backend can do: of "cut", "delay", "jitter", "rate", "loss"."""

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
