"""`splitvote exam`: a sitting with its progress on the terminal, and its marks in the form that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from splitvote.harness.errors import OWN_FAILURE_EXIT, ConfigError, unknown
from splitvote.harness.exam.marks import marks_of
from splitvote.harness.exam.sitting import Answer, Sitting
from splitvote.harness.exam.table import as_json, as_text, write_into
from splitvote.harness.simulation.mutants import MUTANTS, Mutant

MISSED_EXIT: Final = 1


class Wish(msgspec.Struct, frozen=True):
    """What the command line asks of an exam; ``first_only`` leaves all but each mutant's first workload out."""

    mutants: tuple[str, ...]
    seeds: int
    time_s: float
    control: int
    first_only: bool
    store: Path
    jobs: int | None
    executor: str
    write: Path | None
    as_json: bool


def sit(wish: Wish) -> int:
    """Sit the exam; 0 when every bar is met, 1 when one is missed, 3 when our own side failed.

    Raises ConfigError for a mutant that there is not, else as ``Sitting`` does.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    mutants = [_trimmed(each, first_only=wish.first_only) for each in _mutants(wish.mutants)]
    asked = wish.seeds * sum(len(each.workloads) for each in mutants) + wish.control
    console = Console(stderr=wish.as_json, soft_wrap=True, highlight=False, markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("exam", total=asked)

        def on_answer(answer: Answer) -> None:
            progress.update(bar, advance=1, description=f"{answer.question.mutant} on {answer.question.workload}")

        with Sitting(wish.store / "exam", jobs=wish.jobs, executor=wish.executor, on_answer=on_answer) as sitting:
            marks = marks_of(sitting.examine(mutants, seeds=wish.seeds, time_s=wish.time_s, control=wish.control))
    if wish.as_json:
        print(as_json(marks))
    else:
        for line in as_text(marks):
            console.print(line)
    if wish.write is not None:
        write_into(wish.write, marks)
    if marks.missed_bars:
        return MISSED_EXIT
    return OWN_FAILURE_EXIT if marks.failures else 0


def _mutants(names: Sequence[str]) -> list[Mutant]:
    for name in names:
        if name not in MUTANTS:
            raise ConfigError(unknown("mutant", name, sorted(MUTANTS)))
    return [MUTANTS[name] for name in names] or list(MUTANTS.values())


def _trimmed(mutant: Mutant, *, first_only: bool) -> Mutant:
    return msgspec.structs.replace(mutant, workloads=mutant.workloads[:1]) if first_only else mutant
