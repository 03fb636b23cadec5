"""Carrying a night out: one `splitvote run` after another, what each came to, and what the whole is worth.

A run is a process of its own in a session of its own, so that its end, however
it comes, is that run's alone.  What it left is judged even when it was killed:
its recorded history may hold a violation, and that goes before our own failure.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Final

from splitvote.harness.errors import INTERRUPTED_EXIT, OWN_FAILURE_EXIT, ConfigError, SplitvoteError
from splitvote.harness.jsonl import JsonLinesWriter
from splitvote.harness.nightly.ledger import Attempt, conclude, create_ledger
from splitvote.harness.nightly.plan import BESIDE_LOAD_S, PlannedRun, Wish, planned_runs
from splitvote.harness.result import Verdict, worst
from splitvote.harness.store import RunDirectory, load_results, runs

Command = Callable[[Sequence[str]], Sequence[str]]
Say = Callable[[str], None]

MOST_FAILURES: Final = 3
"""Runs that end in our own failure one after another: what is around us is broken, and more of them tell no more."""

OVERDUE_S: Final = 3600.0
"""How much longer than its load a run may take, checks included (300 s each); then it hangs, and is ended."""

_GRACE_S: Final = 120.0
"""What a run has between being told to end and being killed: it heals, takes the cluster down and judges."""

_USAGE_EXIT: Final = ConfigError.exit_code


def splitvote_command(words: Sequence[str]) -> Sequence[str]:
    """The process that `splitvote WORDS` is."""
    return (sys.executable, "-m", "splitvote.harness.cli", *words)


@dataclass(slots=True)
class Night:
    """One night; ``attempts`` are its runs that are over.

    ``command`` makes a process of a command line, and ``overdue_s`` is how much longer than its load that may take:
    other ones than these are for tests.
    """

    wish: Wish
    say: Say
    command: Command = splitvote_command
    overdue_s: float = OVERDUE_S
    attempts: list[Attempt] = field(default_factory=list)
    is_interrupted: bool = False
    _running: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Carry it out and return the exit code; raises ConfigError when the store cannot be written to."""
        with self._forwarding_signals():
            ledger = create_ledger(self.wish.store, self.wish.seed)
            try:
                self._run_all(ledger)
            finally:
                ledger.close()
        return exit_code(self.attempts, is_interrupted=self.is_interrupted)

    def _run_all(self, ledger: JsonLinesWriter[Attempt]) -> None:
        started_s = time.monotonic()
        longest_s = self.wish.load_s + BESIDE_LOAD_S
        for planned in planned_runs(self.wish):
            run_started_s = time.monotonic()
            left_s = self.wish.budget_s - (run_started_s - started_s)
            if self.is_interrupted or (planned.number >= len(self.wish.workloads) and left_s < longest_s):
                return
            attempt = self._attempt(planned)
            self.attempts.append(attempt)
            ledger.append(attempt)
            ledger.sync()
            longest_s = max(longest_s, time.monotonic() - run_started_s)
            if reason := stops_early(self.attempts):
                self.say(reason)
                return

    def _attempt(self, planned: PlannedRun) -> Attempt:
        """Make one run, and judge what it left if it did not come to that itself."""
        self.say(f"\n== run {planned.number + 1}: {shlex.join(('splitvote', *planned.command))}")
        store, workload = self.wish.store, planned.workload
        before = {run.path for run in runs(store, workload)}
        code, said = self._call(planned.command, self.wish.load_s + self.overdue_s)
        begun = (run for run in runs(store, workload) if run.path not in before and is_of_seed(run, planned.seed))
        run = next(begun, None)
        if run is not None and not run.results.exists():
            self._salvage(run)
        try:
            results = None if run is None else load_results(run.path)
        except SplitvoteError as damage:
            results, said = None, str(damage)
        verdict, failure = conclude(code, results, said)
        return Attempt(
            number=planned.number,
            workload=workload,
            seed=planned.seed,
            command=("splitvote", *planned.command),
            exit_code=code,
            run=None if run is None else str(run.path.relative_to(store)),
            verdict=verdict,
            failure=failure,
            interrupted=results is not None and results.interrupted,
        )

    def _salvage(self, run: RunDirectory) -> None:
        """A run that died: undo what it left behind, then judge and report what it recorded."""
        self.say(f"the run ended without a verdict; healing, and judging what is recorded in {run.path}")
        for words in (("heal", str(run.path)), ("check", str(run.path)), ("report", str(run.path))):
            self._call(words, OVERDUE_S)

    def _call(self, words: Sequence[str], bound_s: float) -> tuple[int, str]:
        """Run splitvote with its output passed on; its exit code, and the last line that it wrote to stderr."""
        with tempfile.TemporaryFile() as errors:
            process = self._running = subprocess.Popen(
                self.command(words), stdin=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )
            try:
                code = self._await_end(process, bound_s)
            finally:
                self._running = None
            lines = _text(errors).splitlines()
        for line in lines:
            self.say(line)
        return code, lines[-1] if lines else ""

    def _await_end(self, process: subprocess.Popen[bytes], bound_s: float) -> int:
        for patience_s, end in ((bound_s, process.terminate), (_GRACE_S, process.kill)):
            try:
                return process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self.say(f"not over after {patience_s:g} s: it is ended")
                end()
        return process.wait()

    @contextmanager
    def _forwarding_signals(self) -> Iterator[None]:
        """Ctrl-C (or SIGTERM) ends the night, and the run that is under way early: a second one ends that at once."""

        def on_signal(number: int, _: object) -> None:
            self.is_interrupted = True
            if self._running is not None:
                self._running.send_signal(number)

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def is_of_seed(run: RunDirectory, seed: int) -> bool:
    """Whether it is a run of this seed, by its name: others may write to the same store."""
    return re.fullmatch(rf"[^-]+-{seed}(\.\d+)?", run.path.name) is not None


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def stops_early(attempts: Sequence[Attempt]) -> str | None:
    """Why a night has no more runs though there is time; None where it goes on."""
    last = attempts[-MOST_FAILURES:]
    if last and last[-1].exit_code == _USAGE_EXIT:
        return "the run was refused, and the others would be as well"
    if last and last[-1].interrupted:
        return "the run was interrupted: that ends the night"
    if len(last) == MOST_FAILURES and all(attempt.failure is not None for attempt in last):
        return f"{MOST_FAILURES} runs one after another failed on our own side: that ends the night"
    return None


def exit_code(attempts: Sequence[Attempt], *, is_interrupted: bool = False) -> int:
    """An INVALID's before all else; then 130 where the night was interrupted, 64 where a run was refused, 3 where our
    own side failed; else the worst verdict's (2, 4 or 0).
    """
    verdict = worst(attempt.verdict for attempt in attempts if attempt.verdict is not None)
    if verdict is Verdict.INVALID:
        return verdict.exit_code
    if is_interrupted or any(attempt.interrupted for attempt in attempts):
        return INTERRUPTED_EXIT
    if any(attempt.exit_code == _USAGE_EXIT for attempt in attempts):
        return _USAGE_EXIT
    if not attempts or any(attempt.failure is not None for attempt in attempts):
        return OWN_FAILURE_EXIT
    return verdict.exit_code
