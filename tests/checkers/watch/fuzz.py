"""Differential fuzzing of the watch checker against the brute-force judge.

    python tests/checkers/watch/fuzz.py --histories 20000 --seed 1

Fails where the two disagree, and where its histories are too tame: less than a
quarter of either verdict, or hardly any cancels, fragments and progress.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

if __package__ is None:  # run as a script: find the repository's own tests
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from splitvote.checkers.watch import WatchChecker
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict, run_checker
from tests.checkers.watch.brute import is_faithful
from tests.checkers.watch.system import record, spoil

SPOILT = 0.75


def history(seed: int) -> Recording:
    """The history of a seed; three of four are spoilt."""
    rng = random.Random(seed)
    made = record(rng)
    return spoil(rng, made) if rng.random() < SPOILT else made


def verdict_of(result: Result) -> Verdict:
    """VALID also where nothing was told: the fuzz is about promises, not about how much was exercised."""
    return Verdict.VALID if "vacuous" in (result.reason or "") else result.verdict


def disagreement(recording: Recording, result: Result) -> str | None:
    """How the checker and the oracle differ on a history, if they do."""
    expected = Verdict.VALID if is_faithful(recording) else Verdict.INVALID
    if verdict_of(result) is expected:
        return None
    return f"the oracle says {expected}, the checker {result.verdict} ({result.reason})"


def fuzz(histories: int, *, seed: int) -> tuple[list[str], Counter[str]]:
    """Disagreements, and what the histories were."""
    problems = []
    counts: Counter[str] = Counter()
    for number in range(histories):
        recording = history(seed * 1_000_003 + number)
        result = run_checker(WatchChecker(), recording, Budget())
        if (problem := disagreement(recording, result)) is not None:
            problems.append(f"seed {seed * 1_000_003 + number}: {problem}")
        counts["histories"] += 1
        counts[verdict_of(result)] += 1
        counts.update({anomaly.name for anomaly in result.anomalies})
        for kind in ("canceled_as_compacted", "fragments", "progress", "events"):
            counts[kind] += bool(result.stats.get(kind))
    return problems, counts


def is_tame(counts: Counter[str]) -> bool:
    """Whether too little happened for the agreement to mean much."""
    total = counts["histories"]
    verdicts = (counts[Verdict.VALID], counts[Verdict.INVALID])
    kinds = ("canceled_as_compacted", "fragments", "progress")
    return min(verdicts) < total / 4 or any(counts[kind] < total / 30 for kind in kinds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    problems, counts = fuzz(options.histories, seed=options.seed)
    for problem in problems[:20]:
        print(problem)
    print(f"{len(problems)} disagreements in {dict(counts)}")
    return 1 if problems or is_tame(counts) else 0


if __name__ == "__main__":
    sys.exit(main())
