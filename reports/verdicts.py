"""The verdicts of many runs in one table, for terminals and for CI jobs' summaries.

A row says what was run, what was found, whether the faults were proven and
undone, and how it is repeated.  Of a run's history nothing is read, as in the
index; values of the system under test are text in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from splitvote.harness.errors import HistoryError
from splitvote.harness.jsonl import read_all
from splitvote.harness.recording import FaultRecord
from splitvote.harness.result import Verdict
from splitvote.harness.spans import fault_spans
from splitvote.harness.store import RunDirectory
from splitvote.reports.index.entries import AnomalyEntry, CheckerEntry, read_entry
from splitvote.reports.markdown import MARKS, MOST_BYTES, bounded, inert
from splitvote.reports.wording import NOTHING, count, plain

FAILED: Final = "FAILED"
"""Our own side failed; what came before was not INVALID."""

NOT_JUDGED: Final = "NOT JUDGED"

_ORDER: Final = ("INVALID", FAILED, NOT_JUDGED, "UNKNOWN", "SLO_MISSED", "VALID")
_FAILED_MARK: Final = "!!"
_MOST_NAMES: Final = 8


@dataclass(frozen=True, slots=True)
class FaultCounts:
    """How many faults began, took effect for all to see, and were seen to be gone."""

    injected: int = 0
    proven: int = 0
    healed: int = 0

    @property
    def words(self) -> str:
        """One cell of a table."""
        if not self.injected:
            return "none"
        return f"{self.injected}, {self.proven} proven, {self.healed} healed"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRow:
    """One run, or what was to be one: then ``report`` is None and ``failure`` says why.

    ``report`` is the page's path below the store, of a run without a page its
    directory's; ``command`` is a line for a shell.
    """

    workload: str
    seed: int | None
    cluster: str = ""
    verdict: Verdict | None = None
    failure: str | None = None
    faults: FaultCounts = FaultCounts()
    checkers: tuple[CheckerEntry, ...] = ()
    anomalies: tuple[AnomalyEntry, ...] = ()
    issues: tuple[str, ...] = ()
    report: str | None = None
    command: str = ""

    @property
    def word(self) -> str:
        """What the run came to: INVALID before our own failure, and that before any other verdict."""
        if self.verdict is Verdict.INVALID:
            return str(self.verdict)
        if self.failure is not None:
            return FAILED
        return NOT_JUDGED if self.verdict is None else str(self.verdict)

    @property
    def blamed(self) -> tuple[CheckerEntry, ...]:
        """Checkers that are not content."""
        return tuple(checker for checker in self.checkers if checker.verdict is not Verdict.VALID)


def row_of_run(run: RunDirectory) -> VerdictRow:
    """Read one run's row; what cannot be read is our own failure, in words."""
    entry = read_entry(run.path, run.test, run.path.name)
    faults, problem = _faults(run)
    return VerdictRow(
        workload=entry.workload or run.test,
        seed=entry.seed,
        cluster=entry.cluster,
        verdict=entry.verdict,
        failure=entry.failure or entry.problem or ("interrupted" if entry.interrupted else problem),
        faults=faults,
        checkers=entry.checkers,
        anomalies=entry.anomalies,
        issues=entry.issues,
        report=f"{run.test}/{run.path.name}" + (f"/{run.report.name}" if run.report.exists() else ""),
        command=entry.command,
    )


def _faults(run: RunDirectory) -> tuple[FaultCounts, str | None]:
    try:
        spans = fault_spans(read_all(run.faults, FaultRecord)[0]) if run.faults.exists() else []
    except (HistoryError, OSError) as damage:
        return FaultCounts(), plain(str(damage), 300)
    proven, healed = sum(span.proven for span in spans), sum(span.heal_proven for span in spans)
    return FaultCounts(len(spans), proven, healed), None


def worst_first(rows: Iterable[VerdictRow]) -> list[VerdictRow]:
    """The rows by what they came to, those of one word as they were."""
    return sorted(rows, key=lambda row: _ORDER.index(row.word))


def _tally(rows: Sequence[VerdictRow]) -> str:
    """How many runs of each word, the worst first."""
    counts = Counter(row.word for row in rows)
    told = ", ".join(f"{counts[word]} {word}" for word in _ORDER if counts[word])
    return f"{count(len(rows), 'run')}: {told}" if rows else "no runs"


# For terminals.


def verdict_text(rows: Sequence[VerdictRow], store: Path) -> str:
    """A line a run, the worst first; below those that are not VALID why, where to look, and the command."""
    width = max((len(row.workload) for row in rows), default=0)
    lines = [_tally(rows)]
    for row in worst_first(rows):
        lines.append(f"  {row.word:<10} {row.workload:<{width}}  seed {row.seed}  faults: {row.faults.words}")
        lines += [f"{'':13}{line}" for line in _why(row)]
        lines += [f"{'':13}{store / row.report}"] if row.report else []
        lines += [f"{'':13}{row.command}"] if row.command else []
    return "\n".join(lines) + "\n"


def _why(row: VerdictRow) -> Iterator[str]:
    if row.failure is not None:
        yield f"our own side: {row.failure}"
    for checker in row.blamed:
        yield f"{checker.name}: {checker.verdict}: {checker.reason}"
    if row.anomalies:
        yield "found: " + _found(row)
    yield from (f"known issue of etcd, {issue}" for issue in row.issues)


def _found(row: VerdictRow) -> str:
    """The anomalies by name, as the checkers call them."""
    names = [f"{found.name} \u00d7 {found.count}" if found.count > 1 else found.name for found in row.anomalies]
    more = [f"and {len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return ", ".join([*names[:_MOST_NAMES], *more])


# For summaries.


def verdict_markdown(rows: Sequence[VerdictRow]) -> str:
    """The same as Markdown of at most MOST_BYTES: a table of runs, one of their checkers, the commands."""
    return bounded(_markdown(worst_first(rows)), MOST_BYTES)


def _markdown(rows: Sequence[VerdictRow]) -> Iterator[str]:
    yield f"## {inert(_tally(rows))}"
    if not rows:
        return
    yield from ("", "| verdict | workload | cluster | seed | faults | found | known issue | report |")
    yield "|---|---|---|--:|---|---|---|---|"
    for row in rows:
        seed = NOTHING if row.seed is None else str(row.seed)
        cells = (_marked(row), row.workload, row.cluster, seed, row.faults.words, _found(row), "; ".join(row.issues))
        yield "| " + " | ".join(inert(plain(cell, 600)) for cell in (*cells, row.report or NOTHING)) + " |"
    for row in rows:
        reasons = [line for line in _why(row) if not line.startswith("found: ")]
        if reasons:
            yield from ("", f"**{inert(_named(row))}**", "")
            yield from (f"- {inert(plain(reason, 600))}" for reason in reasons)
    yield from _checker_table(rows)
    yield from ("", "Repeat with:", "")
    yield from (f"    {plain(row.command, 4_000)}" for row in rows if row.command)


def _marked(row: VerdictRow) -> str:
    mark = MARKS.get(row.verdict) if row.verdict is not None and row.word == row.verdict else _FAILED_MARK
    return f"{mark} {row.word.replace('_', ' ')}"


def _named(row: VerdictRow) -> str:
    return row.workload if row.seed is None else f"{row.workload}, seed {row.seed}"


def _checker_table(rows: Sequence[VerdictRow]) -> Iterator[str]:
    """Each checker's verdict in each run; empty where a run does not have it."""
    names = list(dict.fromkeys(checker.name for row in rows for checker in row.checkers))
    if not names:
        return
    yield from ("", "| run | " + " | ".join(inert(name) for name in names) + " |", "|---|" + ":-:|" * len(names))
    for row in rows:
        marks = {checker.name: MARKS[checker.verdict] for checker in row.checkers}
        yield f"| {inert(_named(row))} | " + " | ".join(marks.get(name, "") for name in names) + " |"
