"""Differential fuzz of the library's checkers: random small histories against brute force.

    python tests/checkers/fuzz_library.py --histories 20000 --seed 1 --seconds 120

prints, per checker, how many histories got which verdict, and exits 1 at the
first disagreement, with the history as JSON lines.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

if __package__ is None:  # run as a script: find the repository's own tests
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from splitvote.checkers.adya import G2Checker
from splitvote.checkers.bank import BankChecker
from splitvote.checkers.causal import CausalChecker, CausalReverseChecker
from splitvote.checkers.counter import CounterChecker
from splitvote.checkers.fifo import FifoChecker
from splitvote.checkers.long_fork import LongForkChecker
from splitvote.checkers.queues import QueueChecker, TotalQueueChecker
from splitvote.checkers.set_full import SetFullChecker
from splitvote.checkers.sets import SetChecker
from splitvote.checkers.unique_ids import UniqueIdsChecker
from splitvote.harness.history import History
from splitvote.harness.op import NEMESIS, Op
from splitvote.harness.result import Checker, Verdict
from tests.checkers import library_oracles as oracles
from tests.checkers.library_histories import judge, random_history

ACCOUNTS = ["0", "1"]


@dataclass(frozen=True)
class Subject:
    """One checker, its oracle, and how to make its histories."""

    checker: Checker
    oracle: Callable[[History], Verdict]
    make: Callable[[random.Random], History]


def _some(rng: random.Random, values: list[Any], repeats: float) -> list[Any]:
    chosen = [value for value in values if rng.random() < 0.6]
    if chosen and rng.random() < repeats:
        chosen.append(rng.choice(chosen))
    return chosen


def _sets(rng: random.Random) -> History:
    """Elements 1-3, one in ten adds twice; reads of mostly what was asked for, so that VALID is frequent."""
    asked: list[int] = []
    honest = rng.random() < 0.7

    def choose(rng: random.Random) -> tuple[str, Any]:
        if rng.random() < 0.5 and len(asked) < 4:
            asked.append(rng.choice([1, 2, 3]) if rng.random() < 0.3 else len(set(asked)) + 1)
            return "add", asked[-1]
        return "read", None

    def answer(rng: random.Random, f: str, value: Any) -> Any:
        if f == "add":
            return value
        if honest:
            return sorted(value for value in set(asked) if rng.random() < 0.93)
        return _some(rng, [1, 2, 3], 0.05)

    return random_history(rng, choose, answer, operations=rng.randint(2, 6), crashes=0.3)


def _queues(rng: random.Random) -> History:
    asked: list[int] = []
    left: list[int] = []

    def choose(rng: random.Random) -> tuple[str, Any]:
        if rng.random() < 0.5:
            asked.append(rng.randint(1, 3) if rng.random() < 0.3 else len(asked) + 1)
            left.append(asked[-1])
            return "enqueue", asked[-1]
        return ("dequeue" if rng.random() < 0.85 else "drain"), None

    def answer(rng: random.Random, f: str, value: Any) -> Any:
        if f == "enqueue":
            return value
        if f == "drain":
            values = list(left) if rng.random() < 0.9 else [rng.randint(1, 3)]
            left.clear()
            return values
        if left and rng.random() < 0.9:
            return left.pop(0)
        return rng.choice([None, None, rng.randint(1, 3)])

    return _with_names(rng, random_history(rng, choose, answer, operations=rng.randint(2, 7), crashes=0.2))


def _fifos(rng: random.Random) -> History:
    """Unique elements that come out mostly in their order; a crashed dequeue names one, and none is left open."""
    asked: list[int] = []
    left: list[int] = []
    order = rng.choice([0.0, 0.0, 1.0])

    def choose(rng: random.Random) -> tuple[str, Any]:
        if rng.random() < 0.5:
            asked.append(len(asked) + 1)
            left.append(asked[-1])
            return "enqueue", asked[-1]
        return "dequeue", None

    def answer(rng: random.Random, f: str, value: Any) -> Any:
        if f == "enqueue":
            return value
        if not left or rng.random() < 0.2:
            return None
        return left.pop(0 if rng.random() < order else rng.randrange(len(left)))

    found = random_history(rng, choose, answer, operations=rng.randint(5, 9), processes=2, crashes=0.1)
    left_open = {op.invoke.index for op in found.operations if op.f == "dequeue" and op.completion is None}
    return _with_names(rng, History(op for op in found if op.index not in left_open), share=1)


def _with_names(rng: random.Random, history: History, *, share: float = 0.5) -> History:
    """So many of the crashed dequeues name what they may have taken."""

    def named(op: Op) -> Op:
        is_named = op.type == "info" and op.f == "dequeue" and rng.random() < share
        return msgspec.structs.replace(op, value=rng.randint(1, 3)) if is_named else op

    return History(map(named, history))


def _counters(rng: random.Random) -> History:
    total = 0
    signs = rng.choice([[1, 2, 5], [1, -1, 2, -2, 0]])

    def choose(rng: random.Random) -> tuple[str, Any]:
        return ("add", rng.choice(signs)) if rng.random() < 0.6 else ("read", None)

    def answer(rng: random.Random, f: str, value: Any) -> Any:
        nonlocal total
        if f == "add":
            total += value
            return value
        return total + (rng.choice([-2, -1, 1, 2]) if rng.random() < 0.3 else 0)

    return random_history(rng, choose, answer, operations=rng.randint(2, 7), crashes=0.2)


def _ids(rng: random.Random) -> History:
    several = rng.choice([3, 20])
    return random_history(
        rng, lambda _: ("generate", None), lambda rng, *_: rng.randrange(several), operations=rng.randint(1, 5)
    )


def _banks(rng: random.Random) -> History:
    def answer(rng: random.Random, f: str, value: Any) -> Any:
        if f == "transfer":
            return value
        first = rng.randint(0, 3) if rng.random() < 0.9 else -1
        second = 3 - first + (rng.choice([-1, 1]) if rng.random() < 0.1 else 0)
        names = ACCOUNTS if rng.random() < 0.95 else ["0", "9"]
        return dict(zip(names, [first, second], strict=True)) if rng.random() < 0.95 else {"0": 3, "1": None}

    def choose(rng: random.Random) -> tuple[str, Any]:
        return ("transfer", {"from": "0", "to": "1", "amount": 1}) if rng.random() < 0.4 else ("read", None)

    return random_history(rng, choose, answer, operations=rng.randint(1, 6))


def _forks(rng: random.Random) -> History:
    keys = [0, 1, 2][: rng.randint(2, 3)]
    order = list(keys)
    rng.shuffle(order)
    unused = list(keys)
    honest = rng.random() < 0.5

    def choose(rng: random.Random) -> tuple[str, Any]:
        if unused and rng.random() < 0.5:
            key = unused.pop() if rng.random() < 0.97 else unused[-1]
            return "txn", [["w", key, 1]]
        group = keys if rng.random() < 0.85 else keys[:1]
        return "txn", [["r", key, None] for key in group]

    def answer(rng: random.Random, f: str, value: Any) -> Any:
        if value[0][0] == "w":
            return value
        depth = rng.randint(0, len(keys))
        seen = set(order[:depth]) if honest else {key for key in keys if rng.random() < 0.5}
        return [
            ["r", key, (1 if rng.random() < 0.99 else 2) if key in seen and key not in unused else None]
            for _, key, _ in value
        ]

    return random_history(rng, choose, answer, operations=rng.randint(3, 8), crashes=0.12)


def _sites(rng: random.Random) -> History:
    """One site after another operation; a crash makes it a new process; now and then two overlap."""
    held: list[Any] = [None, 0]

    def choose(rng: random.Random) -> tuple[str, Any]:
        if rng.random() < 0.45:
            held.append(rng.choice([1, 2, 3]))
            return "write", held[-1]
        return rng.choice(["read", "read", "read-init"]), None

    def answer(rng: random.Random, f: str, value: Any) -> Any:
        if f == "write":
            return value
        return held[-1] if rng.random() < 0.75 else rng.choice(held)

    processes = 1 if rng.random() < 0.9 else 2
    return random_history(rng, choose, answer, operations=rng.randint(2, 6), processes=processes, crashes=0.35)


def _reverses(rng: random.Random) -> History:
    asked: list[int] = []

    def choose(rng: random.Random) -> tuple[str, Any]:
        if rng.random() < 0.6:
            asked.append(len(asked) + 1 if rng.random() < 0.9 or not asked else rng.choice(asked))
            return "write", asked[-1]
        return "read", None

    def answer(rng: random.Random, f: str, value: Any) -> Any:
        if f == "write":
            return value
        return [value for value in dict.fromkeys(asked) if rng.random() < 0.8]

    return random_history(rng, choose, answer, operations=rng.randint(2, 9), crashes=0.2)


def _inserts(rng: random.Random) -> History:
    def choose(rng: random.Random) -> tuple[str, Any]:
        return "insert", [rng.randint(0, 2), [rng.randint(1, 99), None]]

    return random_history(rng, choose, lambda _, __, value: value, operations=rng.randint(1, 5), crashes=0.5)


def with_nemesis(history: History, rng: random.Random) -> History:
    """The history with a record of the nemesis put in, which must change nothing."""
    ops = list(history)
    place = rng.randint(0, len(ops))
    ops.insert(place, Op(process=NEMESIS, type="info", f="read", value=[77]))
    return History(msgspec.structs.replace(op, index=index, time_ns=index * 10) for index, op in enumerate(ops))


SUBJECTS: dict[str, Subject] = {
    "set": Subject(SetChecker(), oracles.set_oracle, _sets),
    "set-full": Subject(SetFullChecker(), oracles.set_full_oracle, _sets),
    "set-full linearizable": Subject(SetFullChecker(linearizable=True), oracles.linearizable_set_oracle, _sets),
    "queue": Subject(QueueChecker(), oracles.queue_oracle, _queues),
    "total-queue": Subject(TotalQueueChecker(), oracles.total_queue_oracle, _queues),
    "fifo": Subject(FifoChecker(), oracles.fifo_oracle, _fifos),
    "counter": Subject(CounterChecker(), oracles.counter_oracle, _counters),
    "unique-ids": Subject(UniqueIdsChecker(), oracles.unique_ids_oracle, _ids),
    "bank": Subject(
        BankChecker(accounts=ACCOUNTS, total=3), lambda found: oracles.bank_oracle(found, ACCOUNTS, 3), _banks
    ),
    "long-fork": Subject(LongForkChecker(), oracles.long_fork_oracle, _forks),
    "causal": Subject(CausalChecker(), lambda found: oracles.causal_oracle(found, 0), _sites),
    "causal-reverse": Subject(CausalReverseChecker(), oracles.causal_reverse_oracle, _reverses),
    "adya-g2": Subject(G2Checker(), oracles.g2_oracle, _inserts),
}


class Disagreement(AssertionError):
    """A checker and its oracle differ; the text holds the history."""


def compare(name: str, seed: int, number: int) -> Verdict:
    """Judge one random history twice; raises Disagreement."""
    subject = SUBJECTS[name]
    rng = random.Random(f"{name}/{seed}/{number}")
    found = subject.make(rng)
    if rng.random() < 0.1:
        found = with_nemesis(found, rng)
    result, theirs = judge(subject.checker, found), subject.oracle(found)
    where = f"{name} (seed {seed}, history {number})"
    if result.verdict is not theirs:
        raise Disagreement(f"{where} says {result.verdict}, brute force {theirs}:\n{_lines(found)}")
    for anomaly in result.anomalies:
        alone = History(anomaly.ops)
        if subject.oracle(alone) is not Verdict.INVALID:
            raise Disagreement(f"{where}: the evidence of {anomaly.name!r} is not enough:\n{_lines(alone)}")
    return result.verdict


def _lines(found: History) -> str:
    return "\n".join(msgspec.json.encode(op).decode() for op in found)


def fuzz(name: str, *, histories: int, seed: int, until: float | None = None) -> Counter[Verdict]:
    """Compare many histories; stops at ``until`` (by ``time.monotonic``) if given."""
    verdicts: Counter[Verdict] = Counter()
    for number in range(histories):
        if until is not None and number % 64 == 0 and time.monotonic() > until:
            break
        verdicts[compare(name, seed, number)] += 1
    return verdicts


def main() -> int:
    """Run every checker's fuzz; 1 when one disagrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=20_000, help="in all, shared out evenly")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=120.0, help="bound in all, shared out evenly")
    options = parser.parse_args()
    each = -(-options.histories // len(SUBJECTS))
    print(f"seed {options.seed}")
    total = 0
    for name in SUBJECTS:
        until = time.monotonic() + options.seconds / len(SUBJECTS)
        try:
            verdicts = fuzz(name, histories=each, seed=options.seed, until=until)
        except Disagreement as found:
            print(found)
            return 1
        total += verdicts.total()
        shares = ", ".join(
            f"{verdict} {verdicts[verdict] / verdicts.total():.0%}" for verdict in Verdict if verdicts[verdict]
        )
        print(f"{name:22} {verdicts.total():6} histories: {shares}")
    print(f"{total} histories, no disagreement")
    return 0


if __name__ == "__main__":
    sys.exit(main())
