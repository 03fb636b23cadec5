"""What a machine gives a node's process, and how it can fail: time, a disk, processors, descriptors; and the points at
which the binary itself can.  Capabilities as ``splitvote.harness.cluster`` has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol, runtime_checkable

import msgspec


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
