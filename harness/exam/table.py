"""An exam's marks as text for a terminal, as Markdown for the documentation, as JSON for tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from splitvote.harness.errors import ConfigError, EnvironmentFailure
from splitvote.harness.exam.marks import Mark, Marks
from splitvote.harness.simulation.mutants import MUTANTS

BEGIN: Final = "<!-- exam: made by `make exam`, edit nothing from here -->"
END: Final = "<!-- exam: to here -->"
_MOST_NAMES: Final = 3
_MOST_REASONS: Final = 12


def as_json(marks: Marks) -> str:
    """Everything, and which bars were missed."""
    whole = msgspec.to_builtins(marks) | {"missed_bars": list(marks.missed_bars)}
    return msgspec.json.format(msgspec.json.encode(whole), indent=1).decode()


def as_text(marks: Marks) -> Iterator[str]:
    """A line a mutant and workload, the control, and the bars."""
    for mark in marks.mutants:
        when = "" if mark.median_at_s is None else f"by {mark.median_at_s:g} s, "
        wall = "" if mark.median_wall_s is None else f"{mark.median_wall_s:g} s a run; "
        yield (
            f"{mark.mutant:<37}{mark.workload:<10}{mark.caught:>3}/{mark.seeds:<3} {when}{wall}"
            f"{_names(mark.names) or _unseen(mark)}"
        )
    yield from _control_lines(marks)
    yield from (f"MISSED: {missed}" for missed in marks.missed_bars)
    yield from (f"the harness failed: {failure}" for failure in marks.failures)


def as_markdown(marks: Marks) -> str:
    """The table of docs/exam.md."""
    lines = [
        "| mutant | breaks | workload | caught | fired | found by (seeds) | median s, virtual / wall |",
        "|---|---|---|---|---|---|---|",
    ]
    for mark in marks.mutants:
        breaks = MUTANTS[mark.mutant].breaks
        times = "" if mark.median_wall_s is None else f"{_or_dash(mark.median_at_s)} / {mark.median_wall_s:g}"
        lines.append(
            f"| {mark.mutant} | {breaks} | {mark.workload} | {mark.caught} of {mark.seeds} | {mark.fired} "
            f"| {_names(mark.names) or _unseen(mark)} | {times} |"
        )
    lines += ["", *_control_lines(marks), ""]
    lines += [f"- **missed**: {missed}" for missed in marks.missed_bars] or ["Every bar is met."]
    return "\n".join(lines)


def write_into(document: Path, marks: Marks) -> None:
    """Put the table between the document's two marker lines.

    Raises ConfigError for a document without them, EnvironmentFailure when it
    cannot be written.
    """
    try:
        text = document.read_text(encoding="utf-8")
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ConfigError(f"{document} lacks the lines {BEGIN!r} and {END!r}, between which the table goes")
        document.write_text(f"{before}{BEGIN}\n\n{as_markdown(marks)}\n\n{END}{after}", encoding="utf-8")
    except OSError as failure:
        raise EnvironmentFailure(f"cannot write {document}: {failure.strerror}") from failure


def _names(names: Mapping[str, int]) -> str:
    told = [f"{name} ({count})" for name, count in list(names.items())[:_MOST_NAMES]]
    more = len(names) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def _unseen(mark: Mark) -> str:
    """Why a mutant was not caught, as far as that shows."""
    if mark.other_names:
        return f"only by other names: {_names(mark.other_names)}"
    return "it fired, and nothing was found" if mark.fired else "it never fired"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _control_lines(marks: Marks) -> Iterator[str]:
    control = marks.control
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in control.verdicts.items())
    yield f"Control, nothing planted, all faults: {control.seeds} seeds: {verdicts or 'none'}."
    for reason, count in list(control.reasons.items())[:_MOST_REASONS]:
        yield f"- {count} x {reason}"
