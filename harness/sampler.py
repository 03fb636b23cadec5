"""What the cluster looked like: every member's own words each 500 ms, into cluster.jsonl."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from splitvote.harness.cluster import Roles
from splitvote.harness.errors import SplitvoteError
from splitvote.harness.jsonl import JsonLinesWriter
from splitvote.harness.lag import LagMonitor
from splitvote.harness.recording import ClusterSample

INTERVAL_S: Final = 0.5
ANSWER_TIMEOUT_S: Final = 0.4


class Sampler:
    """Samples the members on a grid of INTERVAL_S until it is cancelled.

    ``now_ns`` is the run's clock, ``wall_ns`` the wall's (None on the
    simulation, where there is none).  A member that does not answer is a
    sample with an error, never an exception.
    """

    def __init__(
        self,
        roles: Roles,
        writer: JsonLinesWriter[ClusterSample],
        *,
        now_ns: Callable[[], int],
        lag: LagMonitor,
        wall_ns: Callable[[], int] | None = None,
    ) -> None:
        self._roles = roles
        self._writer = writer
        self._now_ns = now_ns
        self._wall_ns = wall_ns
        self._lag = lag
        self.latest: ClusterSample | None = None

    async def run(self) -> None:
        """Sample until cancelled; a sample that fell behind its place on the grid skips to the next."""
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
        self.latest = ClusterSample(
            time_ns=time_ns,
            members=members,
            wall_ns=None if self._wall_ns is None else self._wall_ns(),
            loop_lag_ms=self._lag.take_worst_ms(),
        )
        self._writer.append(self.latest)
        self._writer.flush()
        return self.latest
