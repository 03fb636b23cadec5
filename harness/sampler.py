"""What the cluster looked like: every member's own words each 500 ms, into cluster.jsonl."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from splitvote.harness.cluster import Roles
from splitvote.harness.errors import SplitvoteError
from splitvote.harness.jsonl import JsonLinesWriter
from splitvote.harness.lag import LagMonitor
from splitvote.harness.machine import Clock, ClockReading
from splitvote.harness.recording import ClusterSample

INTERVAL_S: Final = 0.5
ANSWER_TIMEOUT_S: Final = 0.4
CLOCK_AGE_S: Final = 3.0
"""How old a measurement of the clocks may be, which takes a second or more, to go into a sample."""


class Sampler:
    """Samples the members on a grid of INTERVAL_S until it is cancelled.

    ``now_ns`` is the run's clock, ``wall_ns`` the wall's (None on the
    simulation, where there is none).  Where there is a ``clock``, the members'
    clocks are measured all the time, beside the samples.  A member that does not
    answer is a sample with an error, never an exception.
    """

    def __init__(
        self,
        roles: Roles,
        writer: JsonLinesWriter[ClusterSample],
        *,
        now_ns: Callable[[], int],
        lag: LagMonitor,
        wall_ns: Callable[[], int] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._roles = roles
        self._writer = writer
        self._now_ns = now_ns
        self._wall_ns = wall_ns
        self._lag = lag
        self._clock = clock
        self._offsets: tuple[float, Mapping[str, ClockReading]] = (0.0, {})
        self.latest: ClusterSample | None = None

    async def run(self) -> None:
        """Sample until cancelled; a sample that fell behind its place on the grid skips to the next."""
        if self._clock is None:
            await self._sample_on_grid()
        else:
            await asyncio.gather(self._sample_on_grid(), self._measure_clocks(self._clock))

    async def _measure_clocks(self, clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started_s = loop.time()
            readings = await clock.offsets()
            self._offsets = loop.time(), readings
            await asyncio.sleep(max(0.0, started_s + INTERVAL_S - loop.time()))

    async def _sample_on_grid(self) -> None:
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        while True:
            await self.sample_once()
            next_s = max(next_s + INTERVAL_S, loop.time())
            await asyncio.sleep(next_s - loop.time())

    async def sample_once(self) -> ClusterSample | None:
        """Take and write one sample; None when the members could not be asked at all."""
        time_ns = self._now_ns()
        try:
            members = await self._roles.sample(timeout_s=ANSWER_TIMEOUT_S)
        except SplitvoteError:
            return None
        offsets = self._recent_offsets()
        self.latest = ClusterSample(
            time_ns=time_ns,
            members=members,
            wall_ns=None if self._wall_ns is None else self._wall_ns(),
            loop_lag_ms=self._lag.take_worst_ms(),
            clock_offsets_ms={node: reading.wall_ms for node, reading in offsets.items()},
            monotonic_offsets_ms={
                node: reading.monotonic_ms for node, reading in offsets.items() if reading.monotonic_ms is not None
            },
        )
        self._writer.append(self.latest)
        self._writer.flush()
        return self.latest

    def _recent_offsets(self) -> Mapping[str, ClockReading]:
        """What the clocks were measured to show last, unless that is too long ago."""
        measured_s, readings = self._offsets
        return readings if asyncio.get_running_loop().time() - measured_s <= CLOCK_AGE_S else {}
