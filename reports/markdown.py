"""A run as a short Markdown page: for a CI job's summary, such as the file that GITHUB_STEP_SUMMARY names.

Whatever the run, a summary stays far below the megabyte that such pages hold,
and a file that several runs append to stays below it as well.  Values of the
system under test are text in it: no markup, no image, no link.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from splitvote.harness.errors import EnvironmentFailure
from splitvote.harness.result import Verdict
from splitvote.reports.stored import read_run
from splitvote.reports.summary import Summary
from splitvote.reports.tables import error_rows, kind_rows, repeat_command
from splitvote.reports.wording import duration, plain, sentence, times

MOST_BYTES: Final = 200_000
"""Of one run; real ones have 3 kB."""

FILE_BYTES: Final = 1_000_000
"""Of a file that summaries are appended to: a job's page holds a MiB and drops what is larger whole."""

_MOST_KINDS: Final = 8
_MOST_ROWS: Final = 40
_MOST_ERRORS: Final = 5
MARKS: Final = {Verdict.VALID: "✓", Verdict.INVALID: "✗", Verdict.UNKNOWN: "?", Verdict.SLO_MISSED: "!"}
"""How a verdict is marked where there is no room for the word, and before it where there is."""


def markdown_summary(run_directory: Path) -> str:
    """Summarize a stored run as a short Markdown page of at most MOST_BYTES.

    Raises ConfigError when there is no such directory.
    """
    return bounded(_lines(Summary(read_run(run_directory))), MOST_BYTES)


def append_summary(run_directory: Path, output: Path) -> Path:
    """Append a stored run's summary to a file, which is kept below FILE_BYTES, and return its path.

    Raises ConfigError when there is no such run, EnvironmentFailure when the
    file cannot be written.
    """
    return append_markdown(markdown_summary(run_directory), output)


def append_markdown(text: str, output: Path) -> Path:
    """Append Markdown to a file, which is kept below FILE_BYTES, after an empty line where there is something already.

    Raises EnvironmentFailure when the file cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("ab") as file:
            room = FILE_BYTES - file.tell()
            file.write(bounded(["", *text.splitlines()] if file.tell() else text.splitlines(), room).encode())
    except OSError as failure:
        raise EnvironmentFailure(f"cannot write the summary {output}: {failure.strerror}") from failure
    return output


def _lines(summary: Summary) -> Iterator[str]:
    yield from (f"## {inert(summary.title)}", "", inert(summary.run.name), "")
    yield from (f"> {inert(plain(text, 600))}\n" for text in (*summary.headline.warnings, *summary.defects))
    yield from (f"{inert(plain(sentence, 2_000))}\n" for sentence in summary.headline.sentences)
    yield from _anomaly_lines(summary)
    yield from ("", "| operations | ok | fail | info | p50 | p99 |", "|---|--:|--:|--:|--:|--:|")
    rows = kind_rows(summary.operations)
    for row in rows[: _MOST_ROWS - 1] + rows[_MOST_ROWS - 1 :][-1:]:  # the last one sums up
        counts = " | ".join(f"{row.outcomes[outcome]:,}" for outcome in ("ok", "fail", "info"))
        yield f"| {inert(plain(row.f, 40))} | {counts} | {duration(row.p50_ns)} | {duration(row.p99_ns)} |"
    yield from ("", "| checker | verdict | |", "|---|---|---|")
    for result in summary.results[:_MOST_ROWS]:
        verdict = f"{MARKS[result.verdict]} {str(result.verdict).replace('_', ' ')}"
        yield f"| {inert(plain(result.checker, 60))} | {verdict} | {inert(plain(result.reason or '', 300))} |"
    yield from ("", f"- faults: {summary.faults() or 'none'}", f"- unavailable: {summary.unavailable()}")
    errors = error_rows(summary.operations)[:_MOST_ERRORS]
    if errors:
        yield "- errors: " + times({inert(plain(row.name, 60)): row.total for row in errors})
    yield from (f"- {inert(plain(problem, 300))}" for problem in summary.run.problems)
    if (command := repeat_command(summary.run)) is not None:
        yield from ("", "Repeat with:", "", f"    {plain(command, 4_000)}")


def _anomaly_lines(summary: Summary) -> Iterator[str]:
    """The worst anomaly of each name, and how many there are of it."""
    amounts = Counter(anomaly.name for result in summary.results for anomaly in result.anomalies)
    worst = list({card.name: card for card in reversed(summary.cards)}.values())[::-1]
    for card in worst[:_MOST_KINDS]:
        often = f" \u00d7 {amounts[card.name]:,}" if amounts[card.name] > 1 else ""
        issue = "" if card.known_issue is None else f" *Known issue of etcd, {inert(plain(card.known_issue, 300))}.*"
        story = inert(sentence(plain(card.story, 500)))
        yield f"- **{inert(plain(card.title, 120))}**{often} ({inert(card.checker)}): {story}{issue}"
    if len(worst) > _MOST_KINDS:
        yield f"- and {len(worst) - _MOST_KINDS} more kinds of anomalies in the report"


_LEFT_OUT: Final = "\n… the rest has no room here: see the report.\n"


def bounded(lines: Iterable[str], most_bytes: int) -> str:
    """As many whole lines as there is room for; where some are left out the last one says so."""
    room = most_bytes - len(_LEFT_OUT.encode())
    if room < 0:
        return ""
    kept: list[str] = []
    for line in lines:
        room -= len(line.encode()) + 1
        if room < 0:
            return "".join(kept) + _LEFT_OUT
        kept.append(f"{line}\n")
    return "".join(kept)


_MARKUP: Final = re.compile(r"[\\`*_\[\]#~$!]")
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "\n": " "}
_LIST_START: Final = re.compile(r"^(\s*)([-+=]|\d+(?=[.)]))")


def inert(text: str) -> str:
    """Text in which Markdown, GitHub's extensions and HTML find nothing to interpret."""
    text = _MARKUP.sub(r"\\\g<0>", text)
    text = text.translate({ord(mark): entity for mark, entity in _ENTITIES.items()})
    return _LIST_START.sub(_escaped_start, text)


def _escaped_start(found: re.Match[str]) -> str:
    space, mark = found.groups()
    return f"{space}&#{ord(mark[0])};{mark[1:]}"
