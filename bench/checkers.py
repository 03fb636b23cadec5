"""How fast the linearizability engines decide, against bars; exits 1 when one is missed.

    python bench/checkers.py [--data ../shared/data] [--only SUBSTRING]

The bars were set on one machine.  A calibration loop is timed in the same run,
and the bars are scaled by how much slower or faster it runs here than there.
Times are CPU times (everything here is one thread without IO, and neighbours on
the machine should not count), the best of several runs, from operation tuples or
columns in memory to the verdict, encoding included.  Histories are generated from fixed seeds;
recorded ones are judged too where their folder exists.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitvote.checkers.linearizability import (
    FAILED,
    UNKNOWN_OUTPUT,
    CheckResult,
    Model,
    Operation,
    check_operations,
    models,
)
from splitvote.checkers.linearizability.columns import CAS, READ, WRITE, from_register
from splitvote.checkers.linearizability.compiled import engine_available, search_compiled
from splitvote.checkers.linearizability.engines import decide
from splitvote.checkers.linearizability.guided import decide_columns
from splitvote.checkers.linearizability.problem import encode
from splitvote.checkers.linearizability.search import SearchOutcome, search
from splitvote.harness.result import Budget

Ints = npt.NDArray[np.int64]

CALIBRATION_MS = 17.2
"""What ``calibrate`` took, in ms, on the machine the bars were set on."""

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Row:
    name: str
    bar_ms: float
    took_ms: float
    note: str = ""
    bar_mib: float | None = None
    took_mib: float | None = None

    def is_met(self, scale: float) -> bool:
        return self.took_ms <= self.bar_ms * scale and (self.bar_mib is None or (self.took_mib or 0) <= self.bar_mib)


def calibrate() -> float:
    """Time a loop of dictionary, integer and sorting work in ms: what the engines are made of."""

    def loop() -> None:
        table: dict[tuple[int, int], int] = {}
        order = []
        for i in range(60_000):
            key = (i * 7919 % 1009, i & 31)
            table[key] = table.get(key, 0) + 1
            order.append((i * 104729) % 65537)
        order.sort()

    return best_of(loop, 7)


def best_of(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest time of several, in ms of this thread's CPU, with the collector off as in timeit."""
    times = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            started = time.thread_time()
            work()
            times.append(time.thread_time() - started)
    finally:
        gc.enable()
    return min(times) * 1e3


# ---- histories -----------------------------------------------------------------


def register_arrays(count: int, clients: int, crash: float, values: int, seed: int, *, bad: bool) -> list[Ints]:
    """Simulate a register: f, a, b, output, call, return_ as ``columns.from_register`` takes them, by call.

    ``values`` 0 makes every written value new.  A bad history has one read in
    the middle that answers a value of long before.
    """
    rng = random.Random(seed)
    f, a, b, output, call, return_ = ([-1] * count for _ in range(6))
    value, fresh, made, now = -1, 0, 0, 0
    open_of: list[int | None] = [None] * clients
    done_of = [False] * clients
    ghosts: list[int] = []

    def new() -> int:
        nonlocal fresh
        if values:
            return rng.randrange(values)
        fresh += 1
        return fresh - 1

    def take_effect(number: int) -> None:
        nonlocal value
        if f[number] == READ:
            output[number] = value
        elif f[number] == WRITE:
            value = a[number]
        else:
            output[number] = int(value == a[number])
            value = b[number] if output[number] else value

    while made < count or any(number is not None for number in open_of):
        if ghosts and rng.random() < 0.05:
            take_effect(ghosts.pop(rng.randrange(len(ghosts))))
        client = rng.randrange(clients)
        number = open_of[client]
        if number is None:
            if made == count:
                continue
            kind = rng.random()
            f[made] = READ if kind < 0.4 else WRITE if kind < 0.7 else CAS
            if f[made] == WRITE:
                a[made] = new()
            elif f[made] == CAS:
                a[made] = value if rng.random() < 0.6 else rng.randrange(values or max(1, fresh))
                b[made] = new()
            call[made] = now = now + 1
            if rng.random() < crash:
                if rng.random() < 0.5:
                    ghosts.append(made)
            else:
                open_of[client], done_of[client] = made, False
            made += 1
        elif not done_of[client]:
            take_effect(number)
            done_of[client] = True
        else:
            return_[number] = now = now + 1
            open_of[client] = None
    columns = [np.array(column, np.int64) for column in (f, a, b, output, call, return_)]
    if bad:
        spoil(columns, values)
    return columns


def spoil(columns: list[Ints], values: int) -> None:
    """Make the middle read that allows it answer a value written 25 writes before the one it saw (or another one)."""
    f, _, _, output, _, return_ = columns
    reads = np.flatnonzero((f == READ) & (return_ >= 0) & (output >= 25 if not values else output >= 0))
    middle = reads[len(reads) // 2]
    output[middle] = output[middle] - 25 if not values else (output[middle] + 1) % values


def operations_of(columns: Sequence[Ints]) -> list[Operation]:
    """Turn a register's arrays into operation tuples; value -1 becomes None."""
    found = []
    for client, (f, a, b, output, call, return_) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        old = None if a == -1 else a
        asked: tuple[str, Any] = ("read", None) if f == READ else ("write", a) if f == WRITE else ("cas", (old, b))
        answer: Any = None
        if return_ < 0:
            answer = UNKNOWN_OUTPUT
        elif f == READ:
            answer = None if output == -1 else output
        elif f == CAS and output != 1:
            answer = FAILED
        found.append(Operation(client, asked, call, answer, None if return_ < 0 else return_))
    return found


def kv_history(count: int, clients: int, keys: int, seed: int, *, bad: bool) -> list[Operation]:
    """Simulate a store of strings under appends, gets and a few puts, as Porcupine's c50 files have them."""
    rng = random.Random(seed)
    store = dict.fromkeys(map(str, range(keys)), "")
    operations: list[list[Any]] = []
    open_of: dict[int, tuple[int, bool]] = {}
    now = 0
    while len(operations) < count or open_of:
        now += 1
        client = rng.randrange(clients)
        if client not in open_of:
            if len(operations) < count:
                f = rng.choices(["append", "get", "put"], [52, 42, 6])[0]
                value = None if f == "get" else f"x {client} {len(operations)} y"
                operations.append([client, (f, str(rng.randrange(keys)), value), now, UNKNOWN_OUTPUT, None])
                open_of[client] = (len(operations) - 1, False)
            continue
        number, done = open_of[client]
        f, key, value = operations[number][1]
        if done:
            operations[number][4] = now
            del open_of[client]
            continue
        open_of[client] = (number, True)
        operations[number][3] = store[key] if f == "get" else None
        if f != "get":
            store[key] = value if f == "put" else store[key] + value
    if bad:
        gets = [operation for operation in operations if operation[1][0] == "get" and operation[3].count("y") > 3]
        spoilt = gets[len(gets) // 2]
        spoilt[3] = spoilt[3][: spoilt[3].rindex("x")]  # it missed the last append it saw ...
        spoilt[3] = spoilt[3][: spoilt[3].rindex("x")]  # ... and the one before
    return [Operation(*operation) for operation in operations]


def jepsen_log(path: Path) -> list[Operation]:
    """Read one of Jepsen's etcd logs (one register): a failed cas is an observation, a failed read is dropped."""
    operations: list[list[Any]] = []
    open_of: dict[str, int] = {}
    for now, line in enumerate(path.read_text().splitlines()):
        words = line.replace("[", " ").replace("]", " ").split()
        if "jepsen.util" not in words or (":invoke" not in line and words[3] not in open_of):
            continue
        process, kind, f, *values = words[3:]
        if kind == ":invoke":
            numbers = [int(value) for value in values if value != "nil"]
            value = None if not numbers else numbers[0] if len(numbers) == 1 else tuple(numbers)
            open_of[process] = len(operations)
            operations.append([int(process), (f[1:], value), now, UNKNOWN_OUTPUT, None])
        elif kind == ":ok":
            answer = None if f != ":read" or values[0] == "nil" else int(values[0])
            operations[open_of.pop(process)][3:] = [answer, now]
        elif kind == ":fail" and f == ":cas":
            operations[open_of.pop(process)][3:] = [FAILED, now]
    return [Operation(*operation) for operation in operations]


# ---- what is timed -------------------------------------------------------------


def expect(result: CheckResult | None, wanted: CheckResult) -> None:
    if result is not wanted:
        raise SystemExit(f"wrong verdict: {result}, expected {wanted}")


def wanted(bad: bool) -> CheckResult:
    return CheckResult.ILLEGAL if bad else CheckResult.OK


def judge_log(engine: Callable[..., SearchOutcome], model: Model, operations: list[Operation]) -> CheckResult:
    return engine(encode(model, operations)).result


def jepsen_rows(data: Path) -> Iterator[Row]:
    folder = data / "porcupine" / "jepsen-etcd"
    if not folder.is_dir():
        print(f"no logs at {folder}; that bar is not measured")
        return
    model = models.cas_register()
    verdicts = json.loads((folder / "verdicts.json").read_text())
    logs = [(jepsen_log(folder / name), wanted(not verdict)) for name, verdict in verdicts.items()]
    engines = {"pure Python": search} | ({"with C": search_compiled} if engine_available() else {})
    for name, engine in engines.items():
        times = []
        for operations, answer in logs:
            judge = partial(judge_log, engine, model, operations)
            expect(judge(), answer)
            times.append(best_of(judge, 7))
        note = f"{len(logs)} logs"
        yield Row(f"jepsen-etcd, mean, {name}", 0.11 if name == "with C" else 0.24, statistics.mean(times), note)
        if name == "with C":
            yield Row(f"jepsen-etcd, median, {name}", 0.09, statistics.median(times), note)


def kv_rows() -> Iterator[Row]:
    model = models.kv()
    for bad, bar in ((False, 15.0), (True, 4.5)):
        history = kv_history(2000, 50, 10, 5, bad=bad)

        def judge(history: list[Operation] = history) -> CheckResult:
            return check_operations(model, history)

        expect(judge(), wanted(bad))
        yield Row(f"kv, 50 clients, {'bad' if bad else 'ok'}", bar, best_of(judge, 7), f"{len(history)} operations")


def tuple_rows() -> Iterator[Row]:
    model = models.cas_register()
    columns = register_arrays(10_000, 20, 0, 5, 3, bad=False)
    history = operations_of(columns)
    expect(decide(model, history, Budget()).result, CheckResult.OK)
    took = best_of(lambda: decide(model, history, Budget()), 5)
    yield Row(
        "values 0-4, n=1e4 c=20, ok", 30 if engine_available() else 600, took, decide(model, history, Budget()).engine
    )
    history = operations_of(register_arrays(1_000, 20, 0, 0, 4, bad=True))
    expect(decide(model, history, Budget()).result, CheckResult.ILLEGAL)
    took = best_of(lambda: decide(model, history, Budget()), 7)
    yield Row("unique, n=1e3 c=20, bad", 5, took, decide(model, history, Budget()).engine)


COLUMN_BARS = [
    ("unique, n=1e4 c=10 p=1%, bad", (10_000, 10, 0.01), True, 5.0, None),
    ("unique, n=1e5 c=10, ok", (100_000, 10, 0.0), False, 220.0, 300.0),
    ("unique, n=1e6 c=10 p=1%, ok", (1_000_000, 10, 0.01), False, 3000.0, 1500.0),
    ("unique, n=1e6 c=10 p=1%, bad", (1_000_000, 10, 0.01), True, 300.0, 1500.0),
]


def column_row(name: str, shape: tuple[int, int, float], bad: bool, bar_ms: float, bar_mib: float | None) -> Row:
    """Judge one history in columns; run in a process of its own, whose peak memory is then the engine's."""
    engine = search_compiled if engine_available() else search
    arrays = register_arrays(*shape, 0, 6, bad=bad)

    def judge() -> CheckResult | None:
        return decide_columns(from_register(*arrays), Budget(), engine).result

    expect(judge(), wanted(bad))
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    outcome = decide_columns(from_register(*arrays), Budget(), engine)
    note = f"searched, {outcome.nodes} nodes" if outcome.searched else "zones"
    return Row(name, bar_ms, best_of(judge, 3 if shape[0] > 100_000 else 7), note, bar_mib, peak_mib)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of recorded histories (default %(default)s)")
    parser.add_argument("--only", default="", help="measure only bars whose name contains this")
    options = parser.parse_args(arguments)
    scale = calibrate() / CALIBRATION_MS
    print(f"calibration: this machine needs {scale:.2f} times what the bars' machine needed")
    print(f"C search: {'yes' if engine_available() else 'no, the pure-Python one stands in'}")
    missed = 0
    for row in measured(options.data, options.only):
        met = row.is_met(scale)
        missed += not met
        memory = "" if row.bar_mib is None else f", {row.took_mib:.0f} of {row.bar_mib:.0f} MiB"
        print(
            f"{'met   ' if met else 'MISSED'} {row.name:34} {row.took_ms:10.3f} ms of "
            f"{row.bar_ms * scale:9.3f}{memory}  ({row.note})",
            flush=True,
        )
    print("all bars are met" if not missed else f"{missed} bars are missed")
    return 1 if missed else 0


def measured(data: Path, only: str) -> Iterator[Row]:
    if only in "jepsen-etcd":
        yield from jepsen_rows(data)
    if only in "kv":
        yield from kv_rows()
    if only in "values unique":
        yield from tuple_rows()
    context = multiprocessing.get_context("spawn")
    for bar in COLUMN_BARS:
        if only in bar[0]:
            with context.Pool(1) as pool:
                yield pool.apply(column_row, bar)


if __name__ == "__main__":
    sys.exit(main())
