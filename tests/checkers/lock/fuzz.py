"""Differential fuzzing of the lock checker against the oracle.

    python tests/checkers/lock/fuzz.py --histories 20000 --seed 1

Fails where the two name different things, where they name anything in a history that was
left as the system made it, and where its histories are too tame: less than a quarter of
either verdict, fewer than a fifth with operations of unknown outcome, or a named anomaly
that never came up.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

if __package__ is None:  # run as a script: find the repository's own tests
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from splitvote.checkers.lock import LockChecker
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Verdict, run_checker
from tests.checkers.lock.brute import Oracle
from tests.checkers.lock.system import record, spoil

NAMES = (
    "lock: mutual exclusion", "lock: no predecessor", "lock: own key", "lock: phantom key", "lock: guarded put",
    "lock: release by another", "lock: release", "lock: order",
)  # fmt: skip


def history(seed: int) -> tuple[Recording, bool]:
    """The history of a seed, and whether it is spoilt, once or twice."""
    rng = random.Random(seed)
    made = record(rng)
    times = rng.choice((0, 1, 1, 2))
    for _ in range(times):
        made = spoil(rng, made)
    return made, times > 0


def fuzz(histories: int, seed: int) -> tuple[list[str], Counter[str]]:
    """Judge so many histories; the disagreements, and how many there were of each kind."""
    problems = []
    counts: Counter[str] = Counter()
    for number in range(histories):
        made, is_spoilt = history(seed * 1_000_003 + number)
        result = run_checker(LockChecker(), made, Budget())
        named, expected = {anomaly.name for anomaly in result.anomalies}, Oracle(made).judge()
        counts.update(expected)
        counts["invalid" if expected else "valid"] += 1
        counts["unknown outcomes"] += any(operation.type == "info" for operation in made.history.operations)
        if expected and not is_spoilt:
            problems.append(
                f"seed {seed * 1_000_003 + number}: nothing is wrong, and the oracle says {sorted(expected)}"
            )
        if named != expected or (result.verdict is Verdict.INVALID) != bool(expected):
            problems.append(
                f"seed {seed * 1_000_003 + number}: {result.verdict} {sorted(named)}, oracle {sorted(expected)}"
            )
    return problems, counts


def tame(counts: Counter[str]) -> list[str]:
    """What these histories lack, to prove anything."""
    total = counts["valid"] + counts["invalid"]
    lacking = [name for name in NAMES if not counts[name]]
    lacking += [kind for kind in ("valid", "invalid") if counts[kind] * 4 < total]
    return lacking + (["unknown outcomes"] if counts["unknown outcomes"] * 5 < total else [])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    problems, counts = fuzz(options.histories, options.seed)
    print(dict(counts))
    for problem in problems[:20]:
        print(problem)
    if lacking := tame(counts):
        print(f"too tame: {', '.join(lacking)}")
    return 1 if problems or lacking else 0


if __name__ == "__main__":
    sys.exit(main())
