"""What an exam came to: for every mutant and workload how many seeds showed it, and how; what the control said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

import msgspec

from splitvote.harness.exam.questions import CONTROL
from splitvote.harness.exam.sitting import Answer
from splitvote.harness.result import Verdict

LEAST_VALID: Final = 0.98
"""The share of the control that has to be VALID."""


class Mark(msgspec.Struct, frozen=True):
    """One mutant under one workload.

    ``caught`` of ``seeds`` showed it by a right name; ``names`` count the seeds by
    the checker and the right name, ``other_names`` those of INVALID runs that
    had no right one.  ``fired`` is in how many seeds it made any difference.
    """

    mutant: str
    workload: str
    seeds: int
    caught: int
    fired: int
    names: dict[str, int]
    other_names: dict[str, int]
    median_at_s: float | None
    median_wall_s: float | None


class ControlMark(msgspec.Struct, frozen=True):
    """The runs with nothing planted: how many of each verdict, why not VALID, and which alarms there were."""

    seeds: int
    verdicts: dict[str, int]
    reasons: dict[str, int]
    alarms: tuple[str, ...]

    @property
    def share_valid(self) -> float:
        """0 to 1."""
        return self.verdicts.get(Verdict.VALID, 0) / self.seeds if self.seeds else 1.0


class Marks(msgspec.Struct, frozen=True):
    """A whole exam; ``failures`` are our own side's troubles, by question."""

    mutants: tuple[Mark, ...]
    control: ControlMark
    failures: tuple[str, ...]
    wall_s: float

    @property
    def uncaught(self) -> tuple[str, ...]:
        """Mutants that no workload of theirs showed."""
        caught = {mark.mutant for mark in self.mutants if mark.caught}
        return tuple(dict.fromkeys(mark.mutant for mark in self.mutants if mark.mutant not in caught))

    @property
    def missed_bars(self) -> tuple[str, ...]:
        """What keeps the exam from being passed, a line each."""
        missed = [f"{name} was not caught" for name in self.uncaught]
        missed += [f"false alarm: {alarm}" for alarm in self.control.alarms]
        not_valid = self.control.seeds - self.control.verdicts.get(Verdict.VALID, 0)
        if self.control.share_valid < LEAST_VALID and not_valid > 1:  # of a few dozen seeds, one is no share
            missed.append(f"{self.control.share_valid:.1%} of the control is VALID, less than {LEAST_VALID:.0%}")
        return tuple(missed)


def marks_of(answers: Iterable[Answer]) -> Marks:
    """Count the answers; mutants and workloads in the order of the questions."""
    by_place: dict[tuple[str, str], list[Answer]] = {}
    control: list[Answer] = []
    failures: list[str] = []
    wall_s = 0.0
    for answer in answers:
        question, outcome = answer.question, answer.outcome
        wall_s += outcome.wall_s
        if outcome.failure is not None:
            failures.append(f"{question.mutant}, {question.workload}, seed {question.seed}: {outcome.failure}")
        if question.mutant == CONTROL:
            control.append(answer)
        else:
            by_place.setdefault((question.mutant, question.workload), []).append(answer)
    marks = tuple(_mark(mutant, workload, own) for (mutant, workload), own in by_place.items())
    return Marks(marks, _control(control), tuple(failures), round(wall_s, 1))


def _mark(mutant: str, workload: str, answers: Sequence[Answer]) -> Mark:
    caught = [answer for answer in answers if answer.right]
    names: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for answer in answers:
        shown = {(found.checker, found.anomaly) for found in answer.outcome.found}
        for checker, anomaly in sorted(shown):
            if anomaly in answer.right:
                names[_called(checker, anomaly)] += 1
            elif not answer.right:
                others[_called(checker, anomaly)] += 1
    times = [answer.at_s for answer in caught if answer.at_s is not None]
    return Mark(
        mutant,
        workload,
        len(answers),
        len(caught),
        sum(any(answer.outcome.mutants.values()) for answer in answers),
        dict(names.most_common()),
        dict(others.most_common()),
        round(median(times), 1) if times else None,
        round(median(answer.outcome.wall_s for answer in caught), 2) if caught else None,
    )


def _called(checker: str, anomaly: str) -> str:
    """The anomaly, and the checker where the name does not tell it."""
    return anomaly if ":" in anomaly else f"{checker}: {anomaly}"


def _control(answers: Sequence[Answer]) -> ControlMark:
    alarms, reasons = [], Counter[str]()
    for answer in answers:
        question, outcome = answer.question, answer.outcome
        for checker, reason in outcome.reasons.items():
            reasons[f"{question.workload}: {checker}: {reason}"] += 1
        if outcome.verdict is Verdict.INVALID:
            names = ", ".join(dict.fromkeys(found.anomaly for found in outcome.found))
            alarms.append(f"{question.workload}, seed {question.seed}: {names}")
    verdicts = Counter(str(answer.outcome.verdict or "failed") for answer in answers)
    return ControlMark(len(answers), dict(verdicts.most_common()), dict(reasons.most_common()), tuple(alarms))
