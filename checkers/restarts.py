"""Which members may have been restarted when: told by the journal of faults, on the side of caution."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from splitvote.harness.recording import FaultRecord

KEEPS_ALIVE: Final = frozenset({"pause", "partition", "slow", "packet", "clock"})
"""Families of faults that leave the process running; any other may restart it at each of its phases."""


def restarts(faults: Iterable[FaultRecord]) -> list[tuple[int, str]]:
    """Every (time in ns, node) at which a fault may have ended or started the node's process, in order of time."""
    return sorted(
        (fault.time_ns, node) for fault in faults if fault.family not in KEEPS_ALIVE for node in fault.targets
    )
