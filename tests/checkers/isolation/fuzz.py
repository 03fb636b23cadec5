"""Differential fuzzing of the isolation checkers against the brute force.

    python tests/checkers/isolation/fuzz.py --histories 20000 --seed 1 [--seconds 120]

List-append histories: INVALID exactly when no execution of the model explains
what was seen, for the serial models and the snapshot models, plain, per session
and in real time (for the snapshot models only where every append was read).
rw-register histories: INVALID only when none does (what is known of version
orders is partial), also with the orders of keys that the model itself implies
assumed.  Whatever a verdict rules out must not explain the history.  Exits 1 at
the first disagreement, and when the histories were too tame: less than a
quarter of the cases explained or unexplained, or a fifth with crashes.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

if __package__ is None:  # run as a script: find the repository's own tests
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from splitvote.checkers import isolation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Verdict, run_checker
from tests.checkers.isolation.brute import MODELS, SERIAL, SNAPSHOT, Txn, allows
from tests.checkers.isolation.histories import history_of, random_txns

IMPLIED_ORDERS: dict[str, tuple[str, ...]] = {
    "serializable": ("wfr",),
    "strong-session-serializable": ("wfr", "sequential"),
    "strong-serializable": ("wfr", "sequential", "linearizable"),
}
"""The orders of keys that hold wherever the model does."""


def disagreements(
    txns: list[Txn], dialect: str, models: Sequence[str], package: Any, tally: Counter[str]
) -> Iterator[str]:
    """Every disagreement between a package's checkers and the brute force about one history and these models."""
    recording = Recording(history_of(txns))
    truth = {model: allows(model, txns) for model in models}
    tally["with crashes"] += any(txn.type == "info" for txn in txns)
    for model in models:
        tally["explained" if truth[model] else "unexplained"] += 1
        results = [run_checker(checker, recording, Budget()) for checker in _checkers(model, dialect, package)]
        for place, result in enumerate(results):
            says = result.verdict != Verdict.INVALID
            tally[f"{result.verdict} {dialect}"] += 1
            if "traceback" in result.evidence:
                yield f"crashed: {result.evidence['traceback']}"
                return
            if not says and truth[model]:
                yield f"false alarm for {model}{' with orders' if place else ''}: {result.reason}"
            if says and not truth[model] and dialect == "append" and (model in SERIAL or all_read(txns)):
                yield f"missed that it is not {model}: {result.verdict}, {result.evidence}"
        evidence = results[0].evidence
        for other in (name for name in MODELS if name in evidence["not"] or name in evidence["also_not"]):
            if other not in truth:
                truth[other] = allows(other, txns)
            if truth[other]:
                yield f"ruled out {other}, which explains the history: {evidence['counts']}"


def _checkers(model: str, dialect: str, package: Any) -> list[Any]:
    """The checkers of a dialect: for registers also one that assumes the orders of keys that the model implies."""
    if dialect == "append":
        return [package.ListAppendChecker(model)]
    plain = [package.RwRegisterChecker(model)]
    return [*plain, package.RwRegisterChecker(model, key_orders=IMPLIED_ORDERS[model])] if model in SERIAL else plain


def all_read(txns: list[Txn]) -> bool:
    """Whether every append that certainly happened was read: then the version orders are known in full.

    Else snapshot isolation can be broken in a way that no one order of the
    appends shows: two transactions that wrote one key may not overlap,
    whichever came first.
    """
    seen = {
        (key, element)
        for txn in txns
        if txn.type == "ok"
        for f, key, value in txn.micro_ops
        if f == "r"
        for element in value or ()
    }
    return all(
        (key, value) in seen for txn in txns if txn.type == "ok" for f, key, value in txn.micro_ops if f == "append"
    )


def fuzz(histories: int, seed: int, seconds: float = 1e9, package: Any = isolation) -> tuple[Counter[str], str | None]:
    """Judge this many random histories, or as many as fit; stops at the first disagreement and describes it."""
    deadline = time.monotonic() + seconds
    tally: Counter[str] = Counter()
    for number in range(histories):
        if time.monotonic() > deadline:
            break
        dialect = "w" if number % 3 == 2 else "append"
        txns = random_txns(random.Random(f"{seed}/{number}"), dialect)
        tally["histories"] += 1
        models = (SERIAL[number // 3 % 3], SNAPSHOT[number // 9 % 3])
        for problem in disagreements(txns, dialect, models, package, tally):
            return tally, "\n  ".join([f"history {number} of seed {seed} ({dialect}): {problem}", *map(str, txns)])
    return tally, None


def is_varied(tally: Counter[str]) -> bool:
    """Whether each truth is at least a quarter of the cases, and a fifth of the histories had crashed transactions."""
    few = min(tally["explained"], tally["unexplained"])
    return few * 4 >= tally["explained"] + tally["unexplained"] and tally["with crashes"] * 5 >= tally["histories"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9)
    arguments = parser.parse_args()
    tally, problem = fuzz(arguments.histories, arguments.seed, arguments.seconds)
    print(dict(sorted(tally.items())))
    if problem is not None:
        print(problem)
        return 1
    if not is_varied(tally):
        print("the histories were too tame")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
