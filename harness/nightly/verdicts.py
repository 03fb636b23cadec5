"""The rows of a verdict table: of a night, or of all that is in a store."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from splitvote.harness.errors import ConfigError
from splitvote.harness.nightly.ledger import Attempt, read_all_ledgers, read_latest
from splitvote.harness.store import RunDirectory, runs
from splitvote.reports.verdicts import VerdictRow, row_of_run


def rows_of_attempts(store: Path, attempts: Sequence[Attempt]) -> list[VerdictRow]:
    """A row for each run of a night, also for those that came to nothing."""
    return [_row(store, attempt) for attempt in attempts]


def rows_of_night(store: Path) -> list[VerdictRow]:
    """Those of the latest night; raises ConfigError where there was none."""
    attempts = read_latest(store)
    if attempts is None:
        raise ConfigError(f"{store} knows of no night: `splitvote nightly --store {store}` makes one")
    return rows_of_attempts(store, attempts)


def rows_of_store(store: Path) -> list[VerdictRow]:
    """Every run of the store, and what nights tried that left no run; raises ConfigError where there is no store.

    What was pruned is left out.
    """
    if not store.is_dir():
        raise ConfigError(f"{store} is no store: give the folder that `splitvote run --store` writes to")
    attempts = [attempt for night in read_all_ledgers(store) for attempt in night]
    by_run = {attempt.run: attempt for attempt in attempts if attempt.run is not None}
    found = [(run, by_run.get(f"{run.test}/{run.path.name}")) for run in runs(store)]
    begun = [row_of_run(run) if attempt is None else _row(store, attempt) for run, attempt in found]
    return [*rows_of_attempts(store, [attempt for attempt in attempts if attempt.run is None]), *begun]


def _row(store: Path, attempt: Attempt) -> VerdictRow:
    """What the run left, and what the night knows beside: how it ended."""
    command = shlex.join(attempt.command)
    run = None if attempt.run is None else RunDirectory(store / attempt.run)
    if run is None or not run.config.exists():
        return VerdictRow(
            workload=attempt.workload,
            seed=attempt.seed,
            verdict=attempt.verdict,
            failure=attempt.failure,
            command=command,
        )
    row = row_of_run(run)
    return replace(row, failure=row.failure or attempt.failure, command=command)
