"""Differential fuzzing of the kv checker against the brute force.

    python tests/checkers/kv/fuzz.py --histories 20000 --seed 1

Fails where the two disagree, and where its histories are too tame: less than a
quarter of either verdict, or fewer than a fifth with operations of unknown outcome.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

if __package__ is None:  # run as a script: find the repository's own tests
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from splitvote.checkers.kv import KvChecker
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Verdict, run_checker
from tests.checkers.kv.brute import is_explained
from tests.checkers.kv.system import record, spoil


def history(seed: int) -> Recording:
    """The history of a seed; half of them are spoilt."""
    rng = random.Random(seed)
    made = record(rng)
    return spoil(rng, made) if rng.random() < 0.62 else made


def disagreement(recording: Recording, *, is_good: bool) -> str | None:
    """How the checker and the oracle differ on a history, if they do."""
    result = run_checker(KvChecker(), recording, Budget())
    expected = Verdict.VALID if is_good else Verdict.INVALID
    if result.verdict is expected:
        return None
    return f"the oracle says {expected}, the checker {result.verdict} ({result.reason})"


def fuzz(histories: int, seed: int) -> tuple[list[str], dict[str, int]]:
    """Judge so many histories; the disagreements, and how many there were of each kind."""
    problems = []
    counts = {"valid": 0, "invalid": 0, "unknown outcomes": 0}
    for number in range(histories):
        made = history(seed * 1_000_003 + number)
        is_good = is_explained(made)
        counts["valid" if is_good else "invalid"] += 1
        counts["unknown outcomes"] += any(operation.type == "info" for operation in made.history.operations)
        problem = disagreement(made, is_good=is_good)
        if problem is not None:
            problems.append(f"seed {seed * 1_000_003 + number}: {problem}")
    return problems, counts


def is_tame(counts: dict[str, int]) -> bool:
    total = counts["valid"] + counts["invalid"]
    return min(counts["valid"], counts["invalid"]) < total / 4 or counts["unknown outcomes"] < total / 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    problems, counts = fuzz(options.histories, options.seed)
    print(f"kv: {options.histories} histories, {counts}")
    for problem in problems[:20]:
        print(problem)
    if is_tame(counts):
        print("the histories are too tame")
    return 1 if problems or is_tame(counts) else 0


if __name__ == "__main__":
    sys.exit(main())
