"""The run report: one HTML file that opens anywhere, offline, made from the stored run alone.

The page asks the network for nothing, and its content security policy forbids
it: only our own scripts, named by their hashes, may run, so that a value from
the system under test stays data even if an escape were missed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from splitvote.harness.availability import covered_ns, recoveries, shares, unavailable_windows
from splitvote.harness.errors import EnvironmentFailure
from splitvote.harness.result import Verdict
from splitvote.harness.spans import fault_spans
from splitvote.reports import wording
from splitvote.reports.anomalies import Cards, by_kind
from splitvote.reports.embedding import Embedded
from splitvote.reports.headline import headline, when_and_under
from splitvote.reports.nodelogs import LogSearch, tails
from splitvote.reports.stored import StoredRun, pair_leniently, read_run
from splitvote.reports.tables import (
    error_rows,
    harness_figures,
    harness_notes,
    kind_rows,
    raw_files,
    recovery_bars,
    repeat_command,
    run_facts,
    slo_rows,
)
from splitvote.reports.templating import Script, environment, joined
from splitvote.reports.timeline import embedded_run

if TYPE_CHECKING:
    from jinja2 import Environment

_STYLES: Final = ("page.css", "timeline.css")
_FIRST_SCRIPTS: Final = ("theme.js",)
_SCRIPTS: Final = (
    "data.js",
    "scale.js",
    "density.js",
    "filters.js",
    "raster.js",
    "rows.js",
    "panels.js",
    "latency.js",
    "lanes.js",
    "members.js",
    "views.js",
    "keyvalues.js",
    "tooltip.js",
    "overview.js",
    "timeline.js",
    "inspector.js",
    "search.js",
    "keys.js",
    "diagrams.js",
    "links.js",
    "main.js",
)


INLINE_BYTES: Final = 5_000_000
"""When the details of operations are larger than this, they lie beside the page and are loaded when asked for."""

SIBLINGS: Final = "report-details"


@dataclass(frozen=True, slots=True)
class Page:
    """The page, and the scripts beside it by file name (none but for huge runs)."""

    html: str
    siblings: dict[str, str]


def write_report(run_directory: Path) -> Path:
    """Make report.html of a run's directory, whatever of it is there, and return its path.

    Raises ConfigError when there is no such directory, EnvironmentFailure when
    the page cannot be written.
    """
    page = render(read_run(run_directory))
    path, folder = run_directory / "report.html", run_directory / SIBLINGS
    try:
        for stale in folder.glob("details-*.js"):
            stale.unlink()
        if page.siblings:
            folder.mkdir(exist_ok=True)
        for name, text in page.siblings.items():
            (folder / name).write_text(text, encoding="ascii")
        unfinished = run_directory / ".report.html.unfinished"
        unfinished.write_text(page.html, encoding="utf-8", errors="replace", newline="\n")
        unfinished.replace(path)
    except OSError as failure:
        raise EnvironmentFailure(f"cannot write {path}: {failure.strerror}; free some space") from failure
    return path


def render(run: StoredRun) -> Page:
    """The page as text."""
    context = report_context(run)
    inline, siblings = _split(context.pop("embedded"))
    html = (
        _environment()
        .get_template("report.html")
        .render(
            styles=joined(_STYLES),
            scripts=[Script.of(_FIRST_SCRIPTS), Script.of(_SCRIPTS)],
            embedded=inline,
            siblings=SIBLINGS if siblings else "",
            **context,
        )
    )
    return Page(html, siblings)


def _split(embedded: Sequence[Embedded]) -> tuple[list[Embedded], dict[str, str]]:
    """Keep the details of operations in the page, or make scripts of them when they are too large.

    Scripts, because a page opened as a file may load nothing else from beside it.
    """
    details = [part for part in embedded if part.id.startswith("details-")]
    if sum(len(part.text) for part in details) <= INLINE_BYTES:
        return list(embedded), {}
    scripts = {
        f"{part.id}.js": f"splitvoteData({json.dumps(part.id)}, {json.dumps(part.kind)}, {json.dumps(part.text)});\n"
        for part in details
    }
    return [part for part in embedded if part not in details], scripts


def report_context(run: StoredRun) -> dict[str, Any]:
    """Everything the template shows."""
    operations = pair_leniently(run.records)
    spans = fault_spans(run.faults, run.records)
    results = run.results.results if run.results is not None else ()
    cards, cards_left_out = Cards(operations, spans, LogSearch(run)).make(results)
    end_ns = run.end_ns
    windows = unavailable_windows(operations, spans, end_ns)
    recovered = recoveries(operations, spans)
    return {
        "run": run,
        "headline": headline(run, operations, spans, cards),
        "known_defects": run.config.known_defects if run.config is not None else (),
        "facts": run_facts(run, spans),
        "command": repeat_command(run),
        "files": raw_files(run.directory),
        "kinds": kind_rows(operations),
        "cards": cards,
        "kinds_of_cards": by_kind(cards),
        "cards_left_out": cards_left_out,
        "spans": spans,
        "recoveries": recovered,
        "recovery_bars": recovery_bars(spans, recovered),
        "slos": slo_rows(results),
        "windows": windows,
        "shares": shares(operations, spans, end_ns),
        "faulted_ns": covered_ns(spans, end_ns),
        "end_ns": end_ns,
        "errors": error_rows(operations),
        "results": sorted(results, key=lambda result: -_severity(result.verdict)),
        "tails": tails(run),
        "notes": harness_notes(run),
        "figures": harness_figures(run),
        "embedded": embedded_run(run, operations, spans, cards, windows),
    }


def _severity(verdict: Verdict) -> int:
    return list(Verdict).index(verdict)


def _environment() -> Environment:
    made = environment()
    names = (
        "abridged",
        "figure",
        "sentence",
        "shown",
        "plain",
        "seconds",
        "duration",
        "count",
        "share",
        "listed",
        "called",
        "answered",
    )
    made.filters.update({name: getattr(wording, name) for name in names})
    made.globals["when_and_under"] = when_and_under
    return made
