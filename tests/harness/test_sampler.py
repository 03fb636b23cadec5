"""The sampler on virtual time: members each half second, and their clocks beside that, however long measuring takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from splitvote.harness import clock as virtual
from splitvote.harness.jsonl import JsonLinesWriter, read_all
from splitvote.harness.lag import LagMonitor
from splitvote.harness.machine import ClockReading, ClockShape
from splitvote.harness.recording import ClusterSample, MemberSample
from splitvote.harness.sampler import CLOCK_AGE_S, Sampler

TAKES_S = 1.2


class FakeRoles:
    async def sample(self, *, timeout_s: float = 1.0) -> dict[str, MemberSample]:
        return {"n1": MemberSample(leader="n1", term=2)}

    async def leader(self) -> str | None:
        return "n1"


class FakeClock:
    """Measuring takes longer than the time between samples; later it hangs."""

    supports = frozenset({"wall"})
    refusal = None

    def __init__(self) -> None:
        self.hangs_from_s = 5.0

    async def set(self, node: str, shape: ClockShape) -> None: ...

    async def strobe(self, node: str, shape: ClockShape, period_ms: float) -> None: ...

    async def reset(self, node: str) -> None: ...

    async def offsets(self) -> Mapping[str, ClockReading]:
        loop = asyncio.get_running_loop()
        if loop.time() > self.hangs_from_s:
            await asyncio.sleep(1e6)
        await asyncio.sleep(TAKES_S)
        return {"n1": ClockReading(1e3 * loop.time()), "n2": ClockReading(0.0, monotonic_ms=70.0)}


def sampled(path: Path, clock: FakeClock | None) -> list[ClusterSample]:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        writer: JsonLinesWriter[ClusterSample] = JsonLinesWriter(path)
        lag = LagMonitor(origin_s=loop.time())
        sampler = Sampler(FakeRoles(), writer, now_ns=lambda: int(loop.time() * 1e9), lag=lag, clock=clock)
        task = asyncio.create_task(sampler.run())
        await asyncio.sleep(12.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.close()

    virtual.run(run())
    return read_all(path, ClusterSample)[0]


def test_samples_have_the_clocks_as_they_were_last_measured(tmp_path: Path) -> None:
    """No sample waits for the clocks, and none shows what was measured long ago."""
    samples = sampled(tmp_path / "cluster.jsonl", FakeClock())
    assert len(samples) == 24
    assert [sample.time_ns // 500_000_000 for sample in samples] == list(range(24))
    for sample in samples:
        at_s = sample.time_ns / 1e9
        if at_s < TAKES_S or at_s > 6.1 + CLOCK_AGE_S:
            assert sample.clock_offsets_ms == {}
        elif at_s < 6.0:
            assert 0 <= 1e3 * at_s - sample.clock_offsets_ms["n1"] <= 1e3 * (TAKES_S + 0.1)
            assert sample.monotonic_offsets_ms == {"n2": 70.0}


def test_without_a_clock_nothing_is_measured(tmp_path: Path) -> None:
    samples = sampled(tmp_path / "cluster.jsonl", None)
    assert len(samples) == 24
    assert not any(sample.clock_offsets_ms or sample.monotonic_offsets_ms for sample in samples)
