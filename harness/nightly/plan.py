"""Which runs a night has: a pure function of its seed, its workloads and the time that there is."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from splitvote.harness.generator.randomness import branch_entropy, op_entropy

WORKLOADS: Final = ("kv+watch+election+lease", "register", "append")
"""What a night runs when nothing else is asked for."""

LONGEST_S: Final = 300.0
SHORTEST_S: Final = 20.0
"""Between these lies how long the load of one run lasts: a night of many shorter runs sees more schedules of faults,
and each must last long enough for something to happen."""

BESIDE_LOAD_S: Final = 30.0
"""What a run takes beside its load, roughly: the cluster's start, the final heal, the checks, the report."""

_SEED_BITS: Final = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked of a night.

    ``run_options`` are the words of `splitvote run` that all its runs share;
    ``time_s`` is how long each run's load lasts, by the budget when None.
    """

    seed: int
    workloads: tuple[str, ...]
    budget_s: float
    time_s: float | None
    run_options: tuple[str, ...]
    store: Path

    @property
    def load_s(self) -> float:
        """How long the load of each run lasts: so long that every workload is run once within the budget."""
        if self.time_s is not None:
            return self.time_s
        return float(round(min(LONGEST_S, max(SHORTEST_S, self.budget_s / len(self.workloads) - BESIDE_LOAD_S))))


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run; ``command`` is its command line without the program's name."""

    number: int
    workload: str
    seed: int
    command: tuple[str, ...]


def planned_runs(wish: Wish) -> Iterator[PlannedRun]:
    """The night's runs, without end: every workload in turn."""
    for number in count():
        turn, place = divmod(number, len(wish.workloads))
        workload = wish.workloads[place]
        seed = seed_of(wish.seed, workload, turn)
        command = ("run", workload, "--seed", str(seed), "--time", f"{wish.load_s:g}", *wish.run_options)
        yield PlannedRun(number, workload, seed, (*command, "--store", str(wish.store)))


def seed_of(night_seed: int, workload: str, turn: int) -> int:
    """The seed of a workload's run; which other workloads there are does not matter to it."""
    entropy = branch_entropy(op_entropy(night_seed, turn), zlib.crc32(workload.encode()))
    return entropy >> (64 - _SEED_BITS)
