"""What a broken disk does to requests: lets them through, refuses them, or has them wait; pure."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Final

from splitvote.harness.clusters.disks.wire import Opcode

_CHANGES: Final = frozenset(
    {
        Opcode.WRITE,
        Opcode.CREATE,
        Opcode.MKDIR,
        Opcode.UNLINK,
        Opcode.RMDIR,
        Opcode.RENAME,
        Opcode.SETATTR,
    }
)
_SYNCS: Final = frozenset({Opcode.FSYNC, Opcode.FSYNCDIR})
_GROWTH: Final = frozenset({Opcode.WRITE, Opcode.CREATE, Opcode.MKDIR})
_READS: Final = frozenset({Opcode.OPEN, Opcode.READ, Opcode.OPENDIR, Opcode.READDIR})

_REFUSALS: Final = {
    "full": (_GROWTH, errno.ENOSPC),
    "eio": (_CHANGES | _SYNCS | _READS, errno.EIO),
    "read_only": (_CHANGES, errno.EROFS),
}
FAULTS: Final = (*_REFUSALS, "slow_fsync", "freeze")
"""The names of ``cluster.DISK_FAULTS``."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One of FAULTS, or None for a disk that works; ``delay_ms`` is how much longer an fsync takes."""

    fault: str | None = None
    delay_ms: float = 0.0

    def refusal(self, opcode: int, flags: int = 0) -> int | None:
        """The error that a request ends in; ``flags`` are those that a file is opened with."""
        if self.fault not in _REFUSALS:
            return None
        opcodes, error = _REFUSALS[self.fault]
        writes = opcode == Opcode.OPEN and flags & os.O_ACCMODE != os.O_RDONLY
        return error if opcode in opcodes or (writes and self.fault == "read_only") else None

    def wait_s(self, opcode: int) -> float:
        """How long a request waits: 0, the delay of an fsync, or for as long as it takes (infinity)."""
        if self.fault == "freeze" and opcode in _CHANGES | _SYNCS:
            return float("inf")
        return self.delay_ms / 1e3 if self.fault == "slow_fsync" and opcode in _SYNCS else 0.0
