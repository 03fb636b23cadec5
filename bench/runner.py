"""How many no-op operations a second the runner schedules and records, and at what cost beside the generator alone.

The load is a mix of three kinds under concurrent independent keys, reserve,
stagger and time_limit, with a nemesis attached and records on disk: all that a
real run has but the system under test.  A calibration loop in the same
run says how fast this machine is today; the bars are scaled by it.

    python bench/runner.py [--seconds S] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from splitvote.harness.client import Emit
from splitvote.harness.generator import (
    GeneratorLike,
    clients,
    concurrent_keys,
    limit,
    mix,
    repeat,
    reserve,
    sleep,
    stagger,
    time_limit,
)
from splitvote.harness.history import HistoryWriter
from splitvote.harness.op import Op
from splitvote.harness.runner import Runner

BARS: Final = {100: 30_000, 1_024: 20_000}
"""Operations a second at this concurrency, on one core of the reference machine."""

REFERENCE_CALIBRATION_S: Final = 0.06
"""What the calibration loop took on the machine the bars were set on (median)."""


class Noop:
    async def setup(self) -> None: ...

    async def invoke(self, op: Op, emit: Emit) -> Op:
        return op.completed("ok")

    async def teardown(self) -> None: ...

    async def close(self) -> None: ...


class NoopBinding:
    async def open(self, process: int, node: str) -> Noop:
        return Noop()

    async def close(self) -> None: ...


class NoopNemesis:
    async def invoke(self, op: Op) -> Op:
        return op.completed("info")


def load(concurrency: int, seconds: float) -> GeneratorLike:
    """Three kinds of operations on many keys, half the threads reserved for reads, a fault each 100 ms."""
    kinds = mix([repeat({"f": "read"}), repeat({"f": "write", "value": 3}), repeat({"f": "cas", "value": [3, 4]})])
    half = concurrency // 2
    keyed = concurrent_keys(5 if half % 5 == 0 else 8, lambda number: number, lambda key: limit(500, kinds))
    operations = stagger(1e-9, reserve(half, repeat({"f": "read", "key": 0}), keyed))
    faults = repeat([{"f": "start"}, sleep(0.05), {"f": "stop"}, sleep(0.05)])
    return time_limit(seconds, clients(operations, faults))


def calibrate() -> float:
    """Seconds of a fixed piece of interpreter work."""
    started = time.process_time()
    total = 0
    for number in range(2_000_000):
        total += number & 7
    return time.process_time() - started


async def measure(concurrency: int, seconds: float) -> float:
    """Operations a second."""
    with tempfile.TemporaryDirectory() as scratch:
        history = HistoryWriter(Path(scratch) / "history.jsonl")
        runner = Runner(
            binding=NoopBinding(),
            nodes=("n1", "n2", "n3"),
            history=history,
            concurrency=concurrency,
            seed=7,
            nemesis=NoopNemesis(),
        )
        started = time.process_time()
        await runner.run(load(concurrency, seconds))
        elapsed = time.process_time() - started
        await runner.close()
        history.close()
        assert runner.failure is None, runner.failure
        return sum(count for (_, kind), count in runner.counts.items() if kind == "ok") / elapsed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    missed = 0
    for concurrency, bar in BARS.items():
        rounds = [(calibrate(), asyncio.run(measure(concurrency, options.seconds))) for _ in range(options.rounds)]
        scaled = statistics.median(ops * took / REFERENCE_CALIBRATION_S for took, ops in rounds)
        plain = statistics.median(ops for _, ops in rounds)
        verdict = "ok" if scaled >= bar else "MISSED"
        missed += scaled < bar
        print(f"concurrency {concurrency:>5}: {plain:>8,.0f} ops/s, scaled {scaled:>8,.0f}, bar {bar:>7,}  {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
