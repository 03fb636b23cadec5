"""How late our own event loop runs: a harness that stalls looks like an unavailable cluster (SOUNDNESS 21).

A timer is asked for every ``INTERVAL_S``; what it comes late by is lag.  Lags
past ``STALL_S`` are kept as stalls with their time, so that a checker or a
reader can tell an unavailable cluster from a busy laptop.
"""

from __future__ import annotations

import asyncio
from typing import Final

INTERVAL_S: Final = 0.02
STALL_S: Final = 0.1
_MOST_STALLS: Final = 10_000


class LagMonitor:
    """Measures the running loop's lag between ``start`` and ``stop``."""

    def __init__(self, *, origin_s: float) -> None:
        self._origin_s = origin_s
        self._handle: asyncio.TimerHandle | None = None
        self._expected_s = 0.0
        self._recent_s = 0.0
        self.worst_ms = 0.0
        self.stalls: list[tuple[int, float]] = []
        """(time_ns at its end, duration in ms) of each stall."""

    def start(self) -> None:
        """Begin measuring on the running loop."""
        loop = asyncio.get_running_loop()
        self._expected_s = loop.time() + INTERVAL_S
        self._handle = loop.call_at(self._expected_s, self._tick)

    def stop(self) -> None:
        """End measuring; what was measured stays."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def take_worst_ms(self) -> float:
        """The worst lag in ms since this was last asked."""
        worst_s, self._recent_s = self._recent_s, 0.0
        return round(worst_s * 1e3, 2)

    def stalls_since(self, time_ns: int) -> tuple[float, ...]:
        """Durations in ms of the stalls that ended after this time."""
        return tuple(duration for end_ns, duration in self.stalls if end_ns >= time_ns)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        lag_s = max(0.0, now_s - self._expected_s)
        self._recent_s = max(self._recent_s, lag_s)
        self.worst_ms = max(self.worst_ms, round(lag_s * 1e3, 2))
        if lag_s >= STALL_S and len(self.stalls) < _MOST_STALLS:
            self.stalls.append((int((now_s - self._origin_s) * 1e9), round(lag_s * 1e3, 1)))
        self._expected_s = now_s + INTERVAL_S
        self._handle = loop.call_at(self._expected_s, self._tick)
