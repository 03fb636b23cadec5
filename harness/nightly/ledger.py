"""What a night tried: ``STORE/nightly/<time>-<seed>.jsonl``, a line a run, also of those that came to nothing.

A run that could not begin has no directory in the store; only the ledger knows of it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from splitvote.harness.errors import ConfigError
from splitvote.harness.jsonl import JsonLinesWriter, read_all
from splitvote.harness.result import Verdict
from splitvote.harness.store import Results

FOLDER: Final = "nightly"
_NAME: Final = "%Y%m%dT%H%M%S"


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run of a night, when it was over.

    ``run`` is its directory below the store, None where it never began;
    ``exit_code`` is what `splitvote run` ended with (negative: by that signal);
    ``failure`` says what went wrong on our own side, and then there may be a
    verdict on what came before.
    """

    number: int
    workload: str
    seed: int
    command: tuple[str, ...]
    exit_code: int
    run: str | None = None
    verdict: Verdict | None = None
    failure: str | None = None
    interrupted: bool = False


def conclude(exit_code: int, results: Results | None, last_words: str = "") -> tuple[Verdict | None, str | None]:
    """The verdict of a run, and what failed on our own side, from what it left and how it ended.

    The exit code alone is not believed: Python ends with 1 as well when it
    cannot even begin.  ``last_words`` is the last line that it wrote to stderr.
    """
    ended = f"ended by signal {-exit_code}" if exit_code < 0 else f"exit {exit_code}"
    more = f": {last_words}" if last_words else ""
    if results is None:
        return None, f"no verdict ({ended}){more}"
    agrees = exit_code == results.verdict.exit_code or (results.interrupted and exit_code >= 0)
    if results.failure is None and not agrees:
        return results.verdict, f"{ended} beside the verdict {results.verdict}{more}"
    return results.verdict, results.failure


def create_ledger(store: Path, seed: int, *, now: datetime | None = None) -> JsonLinesWriter[Attempt]:
    """Begin a night's ledger; raises ConfigError when the store cannot be written to."""
    folder = store / FOLDER
    name = f"{(now or datetime.now(UTC)).strftime(_NAME)}-{seed}.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return JsonLinesWriter(folder / name)
    except OSError as failure:
        raise ConfigError(f"cannot write to --store {store}: {failure.strerror}; choose a writable folder") from None


def read_all_ledgers(store: Path) -> list[list[Attempt]]:
    """What each night tried, the earliest first; a line that a killed night tore is left out."""
    return [read_all(path, Attempt)[0] for path in sorted((store / FOLDER).glob("*.jsonl"))]


def read_latest(store: Path) -> list[Attempt] | None:
    """What the latest night tried; None where there was none."""
    nights = read_all_ledgers(store)
    return nights[-1] if nights else None
