"""A run in a few lines of plain text, and what every short form of a run says (``markdown.py`` has the other)."""

from __future__ import annotations

from pathlib import Path

from splitvote.harness.availability import unavailable_windows
from splitvote.harness.result import Verdict
from splitvote.harness.spans import FaultSpan, fault_spans
from splitvote.reports.anomalies import Card, Cards
from splitvote.reports.headline import Headline, headline
from splitvote.reports.nodelogs import LogSearch
from splitvote.reports.stored import StoredRun, pair_leniently, read_run
from splitvote.reports.tables import faults_in_words, kind_rows, repeat_command
from splitvote.reports.wording import count, duration, plain


class Summary:
    """What a short form says of a run; ``results`` are the worst first."""

    def __init__(self, run: StoredRun) -> None:
        self.run = run
        self.operations = pair_leniently(run.records)
        self.spans: list[FaultSpan] = fault_spans(run.faults, run.records)
        results = run.results.results if run.results is not None else ()
        self.results = sorted(results, key=lambda result: -list(Verdict).index(result.verdict))
        self.cards: list[Card] = Cards(self.operations, self.spans, LogSearch(run)).make(results)[0]
        self.headline: Headline = headline(run, self.operations, self.spans, self.cards)

    @property
    def title(self) -> str:
        """The verdict and what it means, in one line."""
        return f"{self.headline.word}: {self.headline.title}"

    @property
    def defects(self) -> tuple[str, ...]:
        """Known defects of what was tested."""
        return self.run.config.known_defects if self.run.config is not None else ()

    def faults(self) -> str | None:
        """One line: how many faults of each family, how many proven."""
        return faults_in_words(self.spans)

    def unavailable(self) -> str:
        """One line: windows without success and the longest."""
        windows = unavailable_windows(self.operations, self.spans, self.run.end_ns)
        if not windows:
            return "never for a second or longer"
        longest = max(windows, key=lambda window: window.end_ns - window.start_ns)
        length = duration(longest.end_ns - longest.start_ns)
        return f"{count(len(windows), 'window')}, the longest {length} from {longest.start_ns / 1e9:.1f} s"


def text_summary(run_directory: Path) -> str:
    """Summarize a stored run in plain lines for a terminal.

    Raises ConfigError when there is no such directory.
    """
    summary = Summary(read_run(run_directory))
    lines = [summary.title, *(f"  {sentence}" for sentence in summary.headline.sentences)]
    lines += [f"  ! {warning}" for warning in (*summary.headline.warnings, *summary.defects)]
    for row in kind_rows(summary.operations):
        outcomes = ", ".join(f"{row.outcomes[outcome]:,} {outcome}" for outcome in ("ok", "fail", "info"))
        lines.append(f"  {plain(row.f, 24):<12} {outcomes}; ok p50 {duration(row.p50_ns)}, p99 {duration(row.p99_ns)}")
    if (faults := summary.faults()) is not None:
        lines.append(f"  faults       {faults}")
    lines.append(f"  unavailable  {summary.unavailable()}")
    if (command := repeat_command(summary.run)) is not None:
        lines.append(f"  repeat with  {command}")
    lines += [f"  note         {problem}" for problem in summary.run.problems]
    return "\n".join(lines) + "\n"
