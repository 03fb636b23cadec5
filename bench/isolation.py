"""How fast transactions are judged: columns in memory, and a history from disk.

Elle checks 32,000 transactions a second at 1e5 and 25,000 at 1e6, on two cores
and 11 GB.  The bars are those of a 2-core laptop, scaled by a calibration loop
timed beside every measurement; the ratio of a figure to its bar is printed, and
the exit status is 1 when one is above 1.

    python bench/isolation.py [--transactions N ...] [--skip-disk]
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from splitvote.checkers.isolation import ListAppendChecker, RwRegisterChecker
from splitvote.checkers.isolation.transactions import INFO, NEVER, NIL, OK, Codes, Transactions
from splitvote.harness.history import HistoryWriter
from splitvote.harness.op import Op
from splitvote.harness.result import Budget, Result

MEMORY_BARS_S: Final = {100_000: 0.25, 1_000_000: 2.0}
DISK_BARS_S: Final = {100_000: 1.6, 1_000_000: 15.0}
DISK_BAR_BYTES: Final = 2 << 30
REFERENCE_CALIBRATION_S: Final = 0.06
CLIENTS: Final = 20
KEYS: Final = 10
WRITES_PER_KEY: Final = 32


def calibrate() -> float:
    """Seconds of a fixed piece of interpreter work."""
    started = time.process_time()
    total = 0
    for number in range(2_000_000):
        total += number & 7
    return time.process_time() - started


def generate(transactions: int, seed: int = 1, stale_reads: int = 0) -> Transactions:
    """A strictly serializable list-append history; ``stale_reads`` reads miss the last append they should see.

    Each transaction takes effect at a moment of its own, somewhere inside its
    interval; 1 to 4 micro-operations, keys drawn exponentially from KEYS at a
    time and retired after WRITES_PER_KEY appends, one transaction in 100 crashed.
    """
    random = np.random.default_rng(seed)
    process = np.argsort(random.random((transactions // CLIENTS + 1, CLIENTS)), axis=1).ravel()[:transactions]
    invoke, complete = _intervals(process, random)
    counts = random.integers(1, 5, transactions)
    first = np.concatenate([[0], np.cumsum(counts)])
    micro_ops = int(first[-1])
    is_read = random.random(micro_ops) < 0.5
    crashed = random.random(transactions) < 0.01
    owner = np.repeat(np.arange(transactions), counts)
    key, value, length = _contents(random, is_read, owner)
    length[is_read & crashed[owner]] = 0
    late = np.flatnonzero(is_read & ~crashed[owner] & (length > 1))
    length[late[len(late) // 2 : len(late) // 2 + stale_reads]] -= 1
    keep = ~(is_read & crashed[owner])
    counts = np.bincount(owner[keep], minlength=transactions)
    length = length[keep]
    seen = np.concatenate([[0], np.cumsum(length)])
    elements = (np.arange(int(seen[-1])) - np.repeat(seen[:-1], length)).astype(np.int32)
    return Transactions(
        type=np.where(crashed, INFO, OK).astype(np.int8),
        process=process.astype(np.int64),
        invoke=invoke,
        complete=np.where(crashed, NEVER, complete),
        last=complete,
        first=np.concatenate([[0], np.cumsum(counts)]),
        is_read=is_read[keep],
        key=key[keep].astype(np.int32),
        value=np.where(is_read, NIL, value)[keep].astype(np.int32),
        seen=seen,
        elements=elements,
        keys=range(int(key.max()) + 1),
        codes=Codes(),
    )


def as_registers(txns: Transactions) -> Transactions:
    """The same history of registers: a write sets its element, a read sees the last that was set."""
    length = np.diff(txns.seen)
    return dataclasses.replace(
        txns,
        value=np.where(txns.is_read, length - 1, txns.value).astype(np.int32),  # of nothing: -1, which is NIL
        seen=np.zeros(len(txns.seen), np.int64),
        elements=np.zeros(0, np.int32),
    )


def _intervals(process: Any, random: Any) -> tuple[Any, Any]:
    """Places of invocation and completion around each transaction's effect, never overlapping within a process."""
    n = len(process)
    order = np.lexsort((np.arange(n), process))
    same = process[order[1:]] == process[order[:-1]]
    middle = np.where(same, (order[1:] + order[:-1]) / 2, np.nan)
    begin, end = np.empty(n), np.empty(n)
    begin[order] = np.concatenate([[np.nan], middle])
    end[order] = np.concatenate([middle, [np.nan]])
    effect = np.arange(n, dtype=float)
    begin = np.where(np.isnan(begin), effect - CLIENTS / 2, begin)
    end = np.where(np.isnan(end), effect + CLIENTS / 2, end)
    called = effect - random.random(n) * (effect - begin)
    answered = effect + random.random(n) * (end - effect)
    places = np.argsort(np.argsort(np.concatenate([called, answered]), kind="stable"), kind="stable")
    return places[:n].astype(np.int64), places[n:].astype(np.int64)


def _contents(random: Any, is_read: Any, owner: Any) -> tuple[Any, Any, Any]:
    """Keys, appended elements and lengths of reads, executed in the order of micro-operations."""
    slot = np.minimum(random.geometric(0.5, len(is_read)) - 1, KEYS - 1)
    order = np.argsort(slot, kind="stable")
    appended = (~is_read[order]).astype(np.int64)
    before = np.cumsum(appended) - appended
    starts = np.concatenate([[0], np.cumsum(np.bincount(slot, minlength=KEYS))])[:-1]
    before -= np.repeat(before[np.minimum(starts, len(before) - 1)], np.bincount(slot, minlength=KEYS))
    generation, place = before // WRITES_PER_KEY, before % WRITES_PER_KEY
    key, value = np.empty(len(slot), np.int64), np.empty(len(slot), np.int64)
    _, key[order] = np.unique(slot[order] * len(slot) + generation, return_inverse=True)
    value[order] = place
    return key, value, np.where(is_read, value, 0)


def write_history(txns: Transactions, path: Path) -> None:
    """Stream the transactions to disk as a run would."""
    calls: list[tuple[int, int, bool]] = []
    for txn in range(len(txns)):
        calls += [(int(txns.invoke[txn]), txn, True), (int(txns.last[txn]), txn, False)]
    calls.sort()
    writer = HistoryWriter(path)
    for place, txn, is_call in calls:
        micro_ops = [["append" if f == "w" else f, k, v] for f, k, v in txns.micro_ops(txn)]
        answered = int(txns.type[txn]) == OK
        kind = "invoke" if is_call else "ok" if answered else "info"
        value = micro_ops if answered and not is_call else [[f, k, None if f == "r" else v] for f, k, v in micro_ops]
        # A crashed client is replaced by a new one.
        writer.append(Op(place, place * 1000, int(txns.process[txn]), kind, "txn", None, value))
    writer.close()


def measure(work: Callable[[], Result], expected: str) -> tuple[float, Result]:
    """Median seconds of three runs, scaled to the reference machine."""
    times = []
    for _ in range(3):
        before = calibrate()
        gc.collect()
        started = time.perf_counter()
        result = work()
        spent = time.perf_counter() - started
        times.append(spent * REFERENCE_CALIBRATION_S / ((before + calibrate()) / 2))
        assert result.verdict == expected, (result.verdict, result.reason)
    return sorted(times)[1], result


def _judge_file(path: Path, results: Any) -> None:
    started = time.perf_counter()
    verdict = ListAppendChecker().check_file(path, Budget()).verdict
    results.put((str(verdict), time.perf_counter() - started, _peak_bytes()))


def _peak_bytes() -> int:
    """The most this process ever held; ``ru_maxrss`` would count what its parent held when it was started."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def from_disk(path: Path) -> tuple[str, float, int]:
    """Verdict, scaled seconds and peak bytes of a process of its own that judges a file."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    before = calibrate()
    child = context.Process(target=_judge_file, args=(path, results))
    child.start()
    child.join()
    verdict, spent, peak = results.get()
    return verdict, spent * REFERENCE_CALIBRATION_S / ((before + calibrate()) / 2), peak


def report(what: str, seconds: float, bar: float | None) -> bool:
    """Print a figure; whether its bar holds."""
    if bar is None:
        print(f"  {what}: {seconds:.2f} s")
        return True
    print(f"  {what}: {seconds:.2f} s, {seconds / bar:.2f} of the bar ({bar:g} s)")
    return seconds <= bar


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--skip-disk", action="store_true")
    arguments = parser.parse_args()
    holds = True
    for transactions in arguments.transactions:
        txns = generate(transactions)
        print(f"{transactions} transactions, {len(txns.key)} micro-operations, {len(txns.elements)} elements read")
        seconds, _ = measure(lambda txns=txns: ListAppendChecker().check_transactions(txns, Budget()), "VALID")
        holds &= report("valid, from columns", seconds, MEMORY_BARS_S.get(transactions))
        stale = generate(transactions, stale_reads=5)
        seconds, result = measure(lambda txns=stale: ListAppendChecker().check_transactions(txns, Budget()), "INVALID")
        holds &= report(f"stale reads ({result.reason}), from columns", seconds, MEMORY_BARS_S.get(transactions))
        registers = as_registers(txns)
        for orders in ((), ("wfr", "linearizable")):
            checker = RwRegisterChecker(key_orders=orders)
            seconds, _ = measure(lambda c=checker, txns=registers: c.check_transactions(txns, Budget()), "VALID")
            bar = None if orders else MEMORY_BARS_S.get(transactions)
            holds &= report(f"registers, {'+'.join(orders) or 'initial state only'}, from columns", seconds, bar)
        if arguments.skip_disk:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "history.jsonl"
            write_history(txns, path)
            del txns, stale, registers
            verdict, seconds, peak = from_disk(path)
            assert verdict == "VALID", verdict
            holds &= report(f"from disk ({path.stat().st_size >> 20} MiB)", seconds, DISK_BARS_S.get(transactions))
            print(f"  from disk: peak {peak >> 20} MiB (bar {DISK_BAR_BYTES >> 20} MiB)")
            holds &= peak <= DISK_BAR_BYTES
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
