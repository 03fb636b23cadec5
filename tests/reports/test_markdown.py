"""The Markdown summary: short whatever the run, nothing in it interpreted, appended within what a CI page holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from splitvote.harness.errors import EnvironmentFailure
from splitvote.harness.result import Anomaly, Result, Verdict
from splitvote.reports import append_summary, markdown_summary
from splitvote.reports.markdown import FILE_BYTES, MOST_BYTES
from tests.reports.fake_runs import HOSTILE
from tests.reports.nightly_stores import ISSUE, lost_write, night

Stored = Callable[[str], Path]


def test_it_answers_what_broke_when_under_which_fault_and_how_to_repeat_it(stored: Stored) -> None:
    """The verdict first, the anomalies by name, tables of operations and checkers, and the command."""
    text = markdown_summary(stored("invalid"))
    lines = text.splitlines()
    assert lines[0].startswith("## INVALID: ")
    assert re.search(r"^\| all \| [\d,]+ \| [\d,]+ \| [\d,]+ \| ", text, re.MULTILINE)
    assert "| agreement | ✗ INVALID | " in text
    assert re.search(r"^- \*\*Not linearizable\*\* \(linearizability\): ", text, re.MULTILINE)
    assert lines[-1].startswith("    splitvote run register --faults ")


def test_anomalies_of_one_name_are_one_line(tmp_path: Path) -> None:
    """A run with hundreds of anomalies says each name once, how often, and which known issue it matches."""
    run = night(tmp_path, "kv", 1, Verdict.INVALID, anomalies=tuple([lost_write(known=True)] * 200))
    text = markdown_summary(run.path)
    assert text.count("**Lost write**") == 1
    assert "**Lost write** \u00d7 200 (kv)" in text
    assert f"Known issue of etcd, {ISSUE}" in text


@pytest.mark.parametrize("text", [*HOSTILE, "![x](http://127.0.0.1/x.png)", "$x^2$ ~~s~~ &lt;b&gt;", "1. a\n- b\n# c"])
def test_values_are_text(tmp_path: Path, text: str) -> None:
    """No element, no image, no link, no table cell, no heading comes out of a value."""
    story = Anomaly(text, text, key=text)
    found = {"results": (Result(text, Verdict.INVALID, text, (story,)),), "failure": text}
    made = markdown_summary(night(tmp_path, "kv", 1, Verdict.INVALID, results=found, config={"command": (text,)}).path)
    prose, _, command = made.partition("\nRepeat with:\n\n    ")
    assert "\n" not in command.rstrip("\n")
    assert not re.search(r"<[a-z!/]", prose)
    assert not re.search(r"(?<!\\)!(?<!\\)\[|(?<!\\)\]\(", prose)
    assert not re.search(r"(?<!\\)[$~`]", prose)
    rows = [line for line in prose.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in rows if "INVALID" in line} == {4}
    assert sum(line.startswith("#") for line in prose.splitlines()) == 1


def test_a_summary_is_small_whatever_the_run(tmp_path: Path) -> None:
    """Thousands of checkers, anomalies and megabytes of words: below the bound, cut at a line, and saying so."""
    results = tuple(
        Result(
            f"checker {number} " + "|" * 5_000, Verdict.INVALID, "#" * 100_000, (Anomaly(f"a{number}", "<" * 9_000),)
        )
        for number in range(2_000)
    )
    text = markdown_summary(night(tmp_path, "kv", 1, Verdict.INVALID, results={"results": results}).path)
    assert len(text.encode()) <= MOST_BYTES
    assert text.startswith("## INVALID: ")


def test_summaries_are_appended_until_the_page_is_full(tmp_path: Path) -> None:
    """What others wrote stays; a summary that does not fit is cut and says so; a full file is left alone."""
    run, page = night(tmp_path, "kv", 1), tmp_path / "new" / "summary.md"
    append_summary(run.path, page)
    once = page.read_text()
    append_summary(run.path, page)
    assert page.read_text() == f"{once}\n{once}"
    page.write_text("x" * (FILE_BYTES - 300))
    append_summary(run.path, page)
    assert "## VALID" in page.read_text()
    assert page.read_text().endswith("see the report.\n")
    assert page.stat().st_size <= FILE_BYTES
    page.write_text("x" * FILE_BYTES)
    append_summary(run.path, page)
    assert page.stat().st_size == FILE_BYTES


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A folder is no file to append to."""
    with pytest.raises(EnvironmentFailure, match="cannot write the summary"):
        append_summary(night(tmp_path, "kv", 1).path, tmp_path)
