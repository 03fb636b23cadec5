"""A run in a few lines: plain text for the terminal, Markdown for a CI job's page."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from splitvote.harness.result import Verdict
from splitvote.reports.anomalies import Card, Cards
from splitvote.reports.availability import unavailable_windows
from splitvote.reports.headline import Headline, headline
from splitvote.reports.nodelogs import LogSearch
from splitvote.reports.spans import FaultSpan, fault_spans
from splitvote.reports.stored import StoredRun, pair_leniently, read_run
from splitvote.reports.tables import error_rows, kind_rows, repeat_command
from splitvote.reports.wording import count, duration, plain, times

_MOST_ANOMALIES: Final = 5
_MOST_ERRORS: Final = 5


class _Summary:
    """What both forms say."""

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
        return f"{self.headline.word}: {self.headline.title}"

    @property
    def defects(self) -> tuple[str, ...]:
        return self.run.config.known_defects if self.run.config is not None else ()

    def faults(self) -> str | None:
        """One line: how many faults of each family, how many proven."""
        if not self.spans:
            return None
        families = Counter(span.family for span in self.spans)
        proven = sum(span.proven for span in self.spans)
        ended = sum(span.heal_proven for span in self.spans)
        return f"{times(families)}; {proven} of {len(self.spans)} proven to take effect, {ended} proven to have ended"

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
    summary = _Summary(read_run(run_directory))
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


_MARKS: Final = {Verdict.VALID: "✓", Verdict.INVALID: "✗", Verdict.UNKNOWN: "?", Verdict.SLO_MISSED: "!"}


def markdown_summary(run_directory: Path) -> str:
    """Summarize a stored run as a short Markdown page.

    Raises ConfigError when there is no such directory.
    """
    summary = _Summary(read_run(run_directory))
    lines = [f"## {_md(summary.title)}", "", _md(summary.run.name), ""]
    lines += [f"> {_md(text)}" for text in (*summary.headline.warnings, *summary.defects)]
    lines += ["", *(f"{_md(sentence)}\n" for sentence in summary.headline.sentences)]
    for card in summary.cards[:_MOST_ANOMALIES]:
        lines.append(f"- **{_md(card.title)}** ({_md(card.checker)}): {_md(plain(card.story, 500))}")
    lines += ["", "| operations | ok | fail | info | p50 | p99 |", "|---|--:|--:|--:|--:|--:|"]
    for row in kind_rows(summary.operations):
        counts = " | ".join(f"{row.outcomes[outcome]:,}" for outcome in ("ok", "fail", "info"))
        lines.append(f"| {_md(plain(row.f, 40))} | {counts} | {duration(row.p50_ns)} | {duration(row.p99_ns)} |")
    lines += ["", "| checker | verdict | |", "|---|---|---|"]
    for result in summary.results:
        reason = _md(plain(result.reason or "", 300))
        lines.append(f"| {_md(result.checker)} | {_MARKS[result.verdict]} {result.verdict} | {reason} |")
    lines += ["", f"- faults: {summary.faults() or 'none'}", f"- unavailable: {summary.unavailable()}"]
    errors = error_rows(summary.operations)[:_MOST_ERRORS]
    if errors:
        lines.append("- errors: " + times({_md(plain(row.name, 60)): row.total for row in errors}))
    if (command := repeat_command(summary.run)) is not None:
        lines += ["", "Repeat with:", "", f"    {command}"]
    lines += [f"- {_md(problem)}" for problem in summary.run.problems]
    return "\n".join(lines) + "\n"


def _md(text: str) -> str:
    """Text in which Markdown and HTML find nothing to interpret."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"&#{ord(mark)};" if mark in "<>|" else f"\\{mark}")
    return text.replace("\n", " ")
