"""How fast foreign histories are read and written, and the library's checkers judge; exits 1 when a bar is missed.

    python bench/formats.py [--records 200000]

Rates are in records a second, the best of three runs, from a file on disk to a
History, in processor time.  The bars were set on a 2-core machine; a calibration loop timed in the
same run tells how much slower or faster this one is, and scales them.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from splitvote.checkers.counter import CounterChecker
from splitvote.checkers.set_full import SetFullChecker
from splitvote.harness.formats import read_any, write_edn, write_jsonl
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Checker, Verdict

CALIBRATION_S: Final = 0.0145
"""What ``calibrate`` took on the machine that the bars were set on."""


@dataclass(frozen=True)
class Row:
    """One measurement: ``bar_s`` is for the machine of the bars."""

    name: str
    took_s: float
    bar_s: float
    note: str

    def line(self, scale: float) -> str:
        bar_s = self.bar_s * scale
        return f"{self.name:28} {self.took_s:7.3f} s  bar {bar_s:7.3f} s  {self.note:24} {self.verdict(scale)}"

    def verdict(self, scale: float) -> str:
        return "ok" if self.took_s <= self.bar_s * scale else "MISSED"


def best_of(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the shortest processor time of several, in seconds: other load on the machine does not count."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def calibrate() -> float:
    """Time string, list and dictionary work in seconds: what the readers are made of."""
    text = " ".join(f":k{number % 50} {number}" for number in range(40_000))

    def loop() -> None:
        table: dict[str, int] = {}
        for word in text.split():
            table[word] = table.get(word, 0) + len([word, word])
        sorted(table)

    return best_of(loop, 9)


def registers(records: int) -> list[Op]:
    """Reads, writes and cas of small values by ten processes."""
    rng = random.Random(1)
    ops = []
    for number in range(records // 2):
        f = rng.choice(["read", "write", "cas"])
        value = {"read": None, "write": rng.randrange(5), "cas": [rng.randrange(5), rng.randrange(5)]}[f]
        index = 2 * number
        ops.append(Op(index, index * 10_007, number % 10, "invoke", f, None, value))
        ops.append(Op(index + 1, index * 10_007 + 500, number % 10, "ok", f, None, 3 if f == "read" else value))
    return ops


def transactions(records: int) -> list[Op]:
    """List-append transactions of one read and one append, as Elle judges them."""
    rng = random.Random(2)
    ops = []
    for number in range(records // 2):
        index, read, append = 2 * number, rng.randrange(9), ["append", rng.randrange(9), number]
        ops.append(Op(index, index * 10_007, number % 10, "invoke", "txn", None, [["r", read, None], append]))
        value = [["r", read, [number - 2, number - 1, number]], append]
        ops.append(Op(index + 1, index * 10_007 + 500, number % 10, "ok", "txn", None, value))
    return ops


def log_lines(ops: list[Op]) -> str:
    """The same as Jepsen's log has it."""
    values = {None: "nil"}
    return "".join(
        f"INFO  jepsen.util - {op.process}\t:{op.type}\t:{op.f}\t"
        f"{str(op.value).replace(',', '') if op.value is not None else values[None]}\n"
        for op in ops
    )


def kv_lines(records: int) -> str:
    """A key-value history as Porcupine's tests have it."""
    lines = []
    for number in range(records // 2):
        body = f':f :append, :key "{number % 10}", :value "x {number % 50} {number} y"'
        lines += [f"{{:process {number % 50}, :type {type_}, {body}}}\n" for type_ in (":invoke", ":ok")]
    return "".join(lines)


def readers(folder: Path, records: int) -> list[Row]:
    """Read each format; the EDN bars are 100,000 records a second."""
    register, txn = registers(records), transactions(records)
    write_edn(register, folder / "register.edn")
    write_edn(txn, folder / "txn.edn")
    write_jsonl(register, folder / "register.jsonl")
    (folder / "register.log").write_text(log_lines(register), encoding="utf-8")
    (folder / "kv.txt").write_text(kv_lines(records), encoding="utf-8")
    rows = []
    for name in ("register.edn", "txn.edn", "kv.txt", "register.log", "register.jsonl"):
        found: list[History] = []
        took_s = best_of(lambda name=name, found=found: found.append(read_any(folder / name)))  # type: ignore[misc]
        if len(found[0]) != records // 2 * 2:
            raise SystemExit(f"{name}: read {len(found[0])} records of {records}")
        rows.append(Row(f"read {name}", took_s, records / 100_000, f"{records / took_s:,.0f} records/s"))
    took_s = best_of(lambda: write_edn(txn, folder / "again.edn"), 1)
    rows.append(Row("write txn.edn", took_s, records / 40_000, f"{records / took_s:,.0f} records/s"))
    return rows


def set_history(operations: int) -> History:
    """Adds of fresh elements, and a read of all of them every thousand."""
    ops: list[Op] = []
    held: list[int] = []
    for number in range(operations):
        is_read = number % 1000 == 999
        if not is_read:
            held.append(number)
        f, index, process = "read" if is_read else "add", len(ops), number % 20
        ops.append(Op(index, index * 1000, process, "invoke", f, None, None if is_read else number))
        ops.append(Op(index + 1, index * 1000 + 500, process, "ok", f, None, list(held) if is_read else number))
    return History(ops)


def counter_history(operations: int) -> History:
    """Two adds of one, then a read, over and over, twenty processes deep."""
    ops: list[Op] = []
    for number in range(operations):
        is_read = number % 3 == 2
        f, value = ("read", number // 3 * 2 + 2) if is_read else ("add", 1)
        ops.append(Op(len(ops), len(ops) * 1000, number % 20, "invoke", f, None, None if is_read else 1))
        ops.append(Op(len(ops), len(ops) * 1000, number % 20, "ok", f, None, value))
    return History(ops)


def judges() -> list[Row]:
    """Judge 100,000 operations, pairing included."""
    rows = []
    work: list[tuple[Checker, History]] = [
        (SetFullChecker(linearizable=True), set_history(100_000)),
        (CounterChecker(), counter_history(100_000)),
    ]
    for checker, history in work:

        def judge(checker: Checker = checker, history: History = history) -> None:
            result = checker.check(Recording(History(history)), Budget())
            if result.verdict is not Verdict.VALID:
                raise SystemExit(f"{checker.name}: {result.verdict}, {result.reason}")

        rows.append(Row(f"{checker.name}, 100,000 ops", best_of(judge), 1.2, ""))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    records = parser.parse_args().records
    before = calibrate()
    with tempfile.TemporaryDirectory() as scratch:
        rows = readers(Path(scratch), records) + judges()
    scale = (before + calibrate()) / 2 / CALIBRATION_S
    print(f"this machine takes {scale:.2f} times as long as the one that the bars were set on")
    for row in rows:
        print(row.line(scale))
    return 1 if any(row.verdict(scale) == "MISSED" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
