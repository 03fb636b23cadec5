"""Exploring: many seeds of one workload on the simulation, and what is left of those that were not VALID.

Every failure is a run's directory in the store, with its report, and the
command that repeats it, byte for byte.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from splitvote.harness.errors import INTERRUPTED_EXIT, OWN_FAILURE_EXIT, ConfigError
from splitvote.harness.result import Verdict, worst
from splitvote.harness.seeds import Keep, Pool, SeedOutcome, replay, run_seed, settled

if TYPE_CHECKING:
    from splitvote.harness.campaign import RunOptions

Until = Literal["all", "first"]
"""Whether every seed is run, or the first that is INVALID ends it."""

MOST_SEEDS: Final = 10_000_000


def parse_seeds(given: str) -> range:
    """``A..B`` (both included) or one seed; raises ConfigError."""
    match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", given)
    if match is None:
        raise ConfigError(f"--seeds {given}: give A..B, both included, as 1..1000")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first or last - first >= MOST_SEEDS:
        raise ConfigError(f"--seeds {given}: give A..B with A <= B, {MOST_SEEDS:,} seeds at most")
    return range(first, last + 1)


@dataclass(slots=True)
class Exploration:
    """What has been found so far; ``failed`` are the seeds that were not VALID, in the order in which they ended."""

    seeds: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    failed: list[SeedOutcome] = field(default_factory=list)
    broken: list[SeedOutcome] = field(default_factory=list)
    """Those in which our own side failed."""
    is_interrupted: bool = False
    """Whether it ended before all seeds were run."""

    def note(self, outcome: SeedOutcome) -> None:
        """Count one seed."""
        self.seeds += 1
        self.verdicts[str(outcome.verdict or "failed")] += 1
        if outcome.failure is not None:
            self.broken.append(outcome)
        elif outcome.verdict is not Verdict.VALID:
            self.failed.append(outcome)

    @property
    def exit_code(self) -> int:
        """An INVALID's before all else; 130 where seeds were left out, 3 where our own side failed, else a run's."""
        verdict = worst(outcome.verdict for outcome in self.failed if outcome.verdict is not None)
        if verdict is Verdict.INVALID:
            return verdict.exit_code
        if self.is_interrupted:
            return INTERRUPTED_EXIT
        return OWN_FAILURE_EXIT if self.broken else verdict.exit_code

    def summary(self) -> str:
        """How many of each verdict."""
        counts = ", ".join(f"{count} {verdict}" for verdict, count in self.verdicts.most_common())
        return f"{self.seeds} seeds: {counts or 'none'}"


def failure_lines(options: RunOptions, outcome: SeedOutcome) -> Iterator[str]:
    """One seed that was not VALID: what was found, where it is, how it is repeated."""
    names = ", ".join(dict.fromkeys(found.anomaly for found in outcome.found))
    why = outcome.failure or names or "; ".join(f"{c}: {reason}" for c, reason in outcome.reasons.items())
    yield f"seed {outcome.seed}: {outcome.verdict or 'the harness failed'}: {why}"
    if outcome.run is not None:
        yield f"  {outcome.run}"
    yield f"  {replay(options, outcome.seed)}"


def explore_and_tell(
    options: RunOptions, seeds: Sequence[int], *, executor: str, jobs: int | None, keep: Keep, until: Until
) -> int:
    """``explore``, with its progress and failures on the terminal; returns the exit code, also when interrupted."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"seeds {seeds[0]} to {seeds[-1]} of {options.workload}")
    found = Exploration()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("exploring", total=len(seeds))
        try:
            for outcome in explore(options, seeds, executor=executor, jobs=jobs, keep=keep, until=until):
                found.note(outcome)
                progress.advance(bar)
                if outcome.verdict is not Verdict.VALID or outcome.failure is not None:
                    for line in failure_lines(options, outcome):
                        console.print(line)
        except KeyboardInterrupt:
            found.is_interrupted = True
            console.print(f"interrupted after {found.seeds} of {len(seeds)}; so far:")
    console.print(found.summary())
    return found.exit_code


def explore(
    options: RunOptions,
    seeds: Sequence[int],
    *,
    executor: str,
    jobs: int | None,
    keep: Keep,
    until: Until,
) -> Iterator[SeedOutcome]:
    """Run every seed and yield what became of it, in the order in which they end.

    Raises ConfigError for options or an executor that cannot be, at once; a
    worker that dies is its seed's failure.
    """
    if options.cluster != "sim":
        raise ConfigError(f"--cluster {options.cluster}: seeds are explored on sim")
    with Pool(partial(_run, options, keep), kind=executor, jobs=jobs) as pool:
        for seed, outcome in pool.done(seeds):
            known = settled(seed, outcome)
            yield known
            if until == "first" and known.verdict is Verdict.INVALID:
                return


def _run(options: RunOptions, keep: Keep, seed: int) -> SeedOutcome:
    return run_seed(options, seed, keep)
