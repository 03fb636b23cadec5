"""A node's two clocks: one that a process counts time by, and one that it writes into its log.

Both are set and drift independently, as a patched vDSO has them.  etcd counts
elections and leases by the monotonic clock; of the wall clock it only tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from splitvote.harness.clock import VirtualLoop
from splitvote.harness.machine import ClockReading, ClockShape
from splitvote.harness.simulation.process import NodeClock

TRUE: Final = ClockShape()
"""Clocks that show the truth."""


class NodeClocks:
    """Survive processes; ``on_set`` is called after the monotonic clock was set."""

    def __init__(self, loop: VirtualLoop, on_set: Callable[[], object]) -> None:
        self.wall = NodeClock(loop)
        self.monotonic = NodeClock(loop)
        self._loop = loop
        self._on_set = on_set
        self._strobes = 0

    def set(self, shape: ClockShape) -> None:
        """Show this from now on."""
        self._strobes += 1
        self._show(shape)

    def strobe(self, shape: ClockShape, period_ns: int) -> None:
        """Show this and the truth in turn, until they are set."""
        self.set(shape)
        self._turn_soon((self._strobes, period_ns, TRUE, shape))

    def _turn_soon(self, turn: tuple[int, int, ClockShape, ClockShape]) -> None:
        self._loop.post_at(self._loop.now_ns + max(1, turn[1]), self._turn, turn)

    def _turn(self, turn: tuple[int, int, ClockShape, ClockShape]) -> None:
        strobe, period_ns, shape, other = turn
        if strobe == self._strobes:
            self._show(shape)
            self._turn_soon((strobe, period_ns, other, shape))

    def _show(self, shape: ClockShape) -> None:
        self.wall.set(offset_ns=round(shape.wall_ms * 1e6), rate=1.0 + shape.wall_drift)
        self.monotonic.set(offset_ns=round(shape.monotonic_ms * 1e6), rate=1.0 + shape.monotonic_drift)
        self._on_set()

    def reading(self) -> ClockReading:
        """How far they are ahead now; there is nothing to be uncertain about."""
        return ClockReading(
            wall_ms=round(self.wall.offset_ns / 1e6, 3), monotonic_ms=round(self.monotonic.offset_ns / 1e6, 3)
        )
