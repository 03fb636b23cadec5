"""How fast a history streams to disk and loads into columns: a million operations, two million records.

The bars (seconds and bytes) are those of a 2-core laptop; the calibration loop
of ``bench/runner.py``'s kind tells how fast this machine is today.

    python bench/history.py [--operations N]
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from splitvote.harness.history import HistoryWriter, read_columns
from splitvote.harness.op import Op

LOAD_BAR_S: Final = 4.0
MEMORY_BAR_BYTES: Final = 1 << 30
REFERENCE_CALIBRATION_S: Final = 0.06


def calibrate() -> float:
    """Seconds of a fixed piece of interpreter work."""
    started = time.process_time()
    total = 0
    for number in range(2_000_000):
        total += number & 7
    return time.process_time() - started


def write(path: Path, operations: int) -> float:
    """Seconds to stream the operations to disk."""
    writer = HistoryWriter(path)
    started = time.process_time()
    for number in range(operations):
        process, key, time_ns = number % 100, number % 500, number * 1000
        writer.append(Op(2 * number, time_ns, process, "invoke", "write", key, number))
        writer.append(Op(2 * number + 1, time_ns + 500, process, "ok", "write", key, number, None, "n1", number))
    writer.close()
    return time.process_time() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    operations = parser.parse_args().operations
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "history.jsonl"
        print(f"write: {write(path, operations):.2f} s, {path.stat().st_size / 1e6:.0f} MB on disk")
        before = calibrate()
        started = time.process_time()
        columns = read_columns(path)
        load_s = time.process_time() - started
        scale = REFERENCE_CALIBRATION_S / ((before + calibrate()) / 2)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        started = time.process_time()
        frame = columns.to_pandas()
        pandas_s = time.process_time() - started
    assert len(frame) == 2 * operations
    is_met = load_s * scale <= LOAD_BAR_S * operations / 1e6 and peak <= MEMORY_BAR_BYTES
    print(
        f"load into columns: {load_s:.2f} s (scaled {load_s * scale:.2f}, bar {LOAD_BAR_S}), peak {peak / 1e9:.2f} GB"
    )
    print(f"as a data frame: {pandas_s:.2f} s more  {'ok' if is_met else 'MISSED'}")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
