"""The clocks of real members: what they answer once set, after a restart, and when all is put right again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from splitvote.harness.cluster import Health, Process
from splitvote.harness.clusters.clocks.vdso import is_patched, reason_against
from splitvote.harness.clusters.local import LocalCluster
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import Clock, ClockReading, ClockShape

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.skipif((why := reason_against()) is not None, reason=str(why)),
]

BOUND_S = 180.0
NEAR_MS = 250.0

Readings = Mapping[str, ClockReading]


async def awaited(clock: Clock, holds: Callable[[Readings], bool]) -> Readings:
    """Measure until it is as it must be, under a bound."""
    async with asyncio.timeout(BOUND_S):
        while True:
            readings = await clock.offsets()
            if holds(readings):
                return readings


def near(offset_ms: float | None, wanted_ms: float = 0.0) -> bool:
    return offset_ms is not None and abs(offset_ms - wanted_ms) < NEAR_MS


def test_a_members_clocks_show_what_they_were_told_and_a_restarted_one_keeps_its_shape(
    etcd_binary: Callable[[str], Path], tmp_path: Path
) -> None:
    """Measured by the members' own answers; the others' clocks, and after ``reset`` its own, are right."""

    async def run() -> None:
        async with LocalCluster(directory=tmp_path, nodes=3, etcd=etcd_binary("3.5.30")) as cluster:
            clock, process, health = (cluster.capability(kind) for kind in (Clock, Process, Health))
            assert isinstance(clock, Clock)
            assert isinstance(process, Process)
            assert isinstance(health, Health)
            readings = await awaited(clock, lambda all_: [near(each.wall_ms) for each in all_.values()] == [True] * 3)
            assert all(each.monotonic_ms is None for each in readings.values())
            await clock.set("n1", ClockShape(wall_ms=-20_000.0, monotonic_ms=1_500.0, monotonic_drift=0.2))

            def is_as_told(all_: Readings) -> bool:
                others = [all_[node] for node in ("n2", "n3") if node in all_]
                return (
                    "n1" in all_
                    and (all_["n1"].monotonic_ms or 0.0) > 1_900.0
                    and near(all_["n1"].wall_ms, -20_000.0)
                    and len(others) == 2
                    and all(near(each.wall_ms) and near(each.monotonic_ms) for each in others)
                )

            await awaited(clock, is_as_told)

            await process.kill("n1")
            assert "n1" not in await awaited(clock, lambda all_: {"n2", "n3"} <= set(all_))
            await process.start("n1")
            # Of a jump before its time a process knows nothing; that its clock is too fast, it shows anew.
            await awaited(
                clock,
                lambda all_: (
                    "n1" in all_ and (all_["n1"].monotonic_ms or 0.0) > 300.0 and near(all_["n1"].wall_ms, -20_000.0)
                ),
            )
            with pytest.raises(NemesisError, match="cannot go back"):
                await clock.set("n1", ClockShape(monotonic_ms=1.0))

            await clock.reset("n1")
            await awaited(
                clock, lambda all_: "n1" in all_ and near(all_["n1"].monotonic_ms) and near(all_["n1"].wall_ms)
            )
            pids = [member.process.pid for member in cluster._members.values() if member.process is not None]
            async with asyncio.timeout(BOUND_S):
                while any(map(is_patched, pids)):
                    await clock.offsets()  # takes a second
            await clock.reset("n1")
            assert len(pids) == 3
            async with asyncio.timeout(BOUND_S):
                while await health.unready(cluster.nodes):
                    pass

    asyncio.run(run())


def test_a_clock_that_is_strobed_is_seen_at_both_ends(etcd_binary: Callable[[str], Path], tmp_path: Path) -> None:
    async def run() -> None:
        async with LocalCluster(directory=tmp_path, nodes=1, etcd=etcd_binary("3.5.30")) as cluster:
            clock = cluster.capability(Clock)
            assert clock is not None
            await clock.strobe("n1", ClockShape(wall_ms=30_000.0), 500.0)
            await awaited(clock, lambda all_: "n1" in all_ and all_["n1"].wall_ms > 29_000.0)
            await awaited(clock, lambda all_: "n1" in all_ and all_["n1"].wall_ms < 1_000.0)
            await awaited(clock, lambda all_: "n1" in all_ and all_["n1"].wall_ms > 29_000.0)
            await clock.reset("n1")
            for _ in range(2):
                assert all(each.wall_ms < 15_000.0 for each in (await clock.offsets()).values()), "it swings on"
            await awaited(clock, lambda all_: "n1" in all_ and near(all_["n1"].wall_ms))
            with pytest.raises(NemesisError, match="cannot drift"):
                await clock.strobe("n1", ClockShape(wall_drift=0.1), 500.0)
            with pytest.raises(NemesisError, match="there is no node 'n9'"):
                await clock.set("n9", ClockShape())

    asyncio.run(run())
