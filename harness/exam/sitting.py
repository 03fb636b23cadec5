"""One sitting of the exam: asks the questions, records each answer, and goes on where an earlier one stopped.

``answers.jsonl`` in the sitting's directory has a line an answer, each with the
fingerprint of the code that gave it and the command that was run: answers of
other code, or to a question that is asked otherwise now (other faults, another
rate), are left in the file and not counted.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

import splitvote
from splitvote.harness.campaign import RunOptions
from splitvote.harness.errors import EnvironmentFailure
from splitvote.harness.exam.questions import Question, control_questions, questions_of
from splitvote.harness.jsonl import JsonLinesWriter, read_all
from splitvote.harness.seeds import PROCESS, Pool, SeedOutcome, replay, run_seed, settled
from splitvote.harness.simulation.mutants import Mutant

MOST_SEEDS: Final = 50
"""A mutant that the first seeds do not show is given so many."""

RATE: Final = 100.0
FILE_NAME: Final = "answers.jsonl"
_ROOMS: Final = ("checkers", "harness", "nemesis", "workloads")


class Answer(msgspec.Struct, frozen=True):
    """What came of one question, by the code of this fingerprint; ``command`` is what was run, to the last option."""

    question: Question
    outcome: SeedOutcome
    code: str
    command: str = ""

    @property
    def right(self) -> tuple[str, ...]:
        """The right names that were found."""
        shows = self.question.expectation.shows
        return tuple(dict.fromkeys(found.anomaly for found in self.outcome.found if found.anomaly in shows))

    @property
    def at_s(self) -> float | None:
        """The virtual second by which the first right anomaly had happened."""
        times = [found.at_s for found in self.outcome.found if found.anomaly in self.right and found.at_s is not None]
        return min(times, default=None)


def code_fingerprint() -> str:
    """What all code that an answer depends on hashes to: all but the exam's own, of which the command tells."""
    package = Path(splitvote.__file__).parent
    digest = hashlib.sha256(sys.version.encode())
    for room in _ROOMS:
        folder = (package / room).resolve()
        for file in sorted((*folder.rglob("*.py"), *folder.rglob("*.c"))):
            place = file.relative_to(folder)
            if place.parts[0] != "exam":
                digest.update(f"{room}/{place}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def options_for(question: Question, store: Path) -> RunOptions:
    """The options of a question's run."""
    planted, expected = question.planted, question.expectation
    settings = {"nodes": 5, "rate": RATE, "concurrency": 10, "ops_per_key": 200, "keys": None, "op_timeout_s": 2.0}
    return RunOptions(
        workload=question.workload,
        cluster="sim",
        faults=question.faults,
        time_s=question.time_s,
        seed=question.seed,
        etcd_args=planted.etcd_args if planted else (),
        store=store,
        avoid=(),
        workload_options={},
        interval_s=expected.interval_s,
        overlap=expected.overlap,
        check_timeout_s=120.0,
        mutants=(planted.name,) if planted else (),
        **(settings | expected.settings),
    )


def _ask(store: Path, question: Question) -> SeedOutcome:
    return run_seed(options_for(question, store), question.seed, "nothing")


def _earlier(path: Path) -> list[Answer]:
    """The answers of before; a torn last line is cut off, since the next one is to stand alone."""
    if not path.exists():
        return []
    earlier, torn_bytes = read_all(path, Answer)
    if torn_bytes:
        os.truncate(path, path.stat().st_size - torn_bytes)
    return earlier


class Sitting:
    """An exam whose answers are kept in ``directory``; used as a context manager.

    ``on_answer`` is told each answer, those of before as well.  Raises
    EnvironmentFailure when answers cannot be written, HistoryError when those of
    before cannot be read, ConfigError for an executor that there is not.
    """

    def __init__(
        self,
        directory: Path,
        *,
        jobs: int | None = None,
        executor: str = PROCESS,
        on_answer: Callable[[Answer], object] = lambda answer: None,
    ) -> None:
        self._directory = directory
        self._on_answer = on_answer
        self._code = code_fingerprint()
        self._known: dict[Question, Answer] = {}
        self._make_pool = partial(Pool, partial(_ask, directory / "runs"), kind=executor, jobs=jobs)

    def __enter__(self) -> Sitting:
        path = self._directory / FILE_NAME
        earlier = _earlier(path)
        self._known = {
            answer.question: answer
            for answer in earlier
            if answer.code == self._code and answer.command == self._command_of(answer.question)
        }
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._writer: JsonLinesWriter[Answer] = JsonLinesWriter(path)
        except OSError as failure:
            raise EnvironmentFailure(f"cannot keep answers in {path}: {failure.strerror}; give --store") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def examine(self, mutants: Sequence[Mutant], *, seeds: int, time_s: float, control: int) -> list[Answer]:
        """Ask ``seeds`` of every workload of every mutant, more where they show nothing, and the control."""
        first = [question for each in mutants for question in questions_of(each, range(1, seeds + 1), time_s=time_s)]
        answers = list(self.ask([*first, *control_questions(control)]))
        for each in mutants:
            if not any(answer.right for answer in answers if answer.question.mutant == each.name):
                for answer in self.ask(questions_of(each, range(seeds + 1, MOST_SEEDS + 1), time_s=time_s)):
                    answers.append(answer)
                    if answer.right:
                        break
        return answers

    def ask(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """The answers to these questions, those that are known already first."""
        open_: list[Question] = []
        for question in questions:
            if (known := self._known.get(question)) is None:
                open_.append(question)
            else:
                self._on_answer(known)
                yield known
        if not open_:
            return
        with self._make_pool() as pool:
            for question, outcome in pool.done(open_):
                answer = Answer(question, settled(question.seed, outcome), self._code, self._command_of(question))
                yield self._given(answer)

    def _command_of(self, question: Question) -> str:
        return replay(options_for(question, self._directory), question.seed)

    def _given(self, answer: Answer) -> Answer:
        self._writer.append(answer)
        self._writer.flush()
        self._known[answer.question] = answer
        self._on_answer(answer)
        return answer
