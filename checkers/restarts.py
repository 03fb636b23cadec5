"""Which members may have been restarted when: told by the journal of faults, on the side of caution."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from splitvote.harness.recording import FaultRecord

KEEPS_ALIVE: Final = frozenset({"pause", "partition", "slow", "packet", "clock"})
"""Families of faults that leave the process running; any other may restart it, or give it other data, as it begins or
ends."""

LASTING: Final = KEEPS_ALIVE | {"resource", "failpoint", "disk"}
"""Families of faults that may slow a running node down for as long as they are active."""

_BEGINS: Final = ("starting", "healing")
"""What is done to the process is done between one of these phases and the next."""

FOREVER_NS: Final = 2**63 - 1


class Restart(NamedTuple):
    """A time (both ends included) at any moment of which the node's process may have been ended and started."""

    start_ns: int
    end_ns: int
    node: str


def restarts(faults: Iterable[FaultRecord]) -> list[Restart]:
    """Every time at which a fault may have restarted a node's process, by its beginning.

    A crash loop restarts it several times within one of them, and a
    replacement begins anew in the middle of one.  What was begun and has no end
    in the journal lasts to the end of the run.
    """
    found: list[Restart] = []
    begun: dict[int, FaultRecord] = {}
    for fault in faults:
        if fault.family in KEEPS_ALIVE:
            continue
        before = begun.pop(fault.id, fault)
        found += [Restart(before.time_ns, fault.time_ns, node) for node in fault.targets]
        if fault.phase in _BEGINS:
            begun[fault.id] = fault
    found += [Restart(fault.time_ns, FOREVER_NS, node) for fault in begun.values() for node in fault.targets]
    return sorted(found)
