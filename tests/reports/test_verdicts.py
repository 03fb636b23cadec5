"""The table of verdicts: worst first, our own failure never before an INVALID, nothing of the system's is markup."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from splitvote.harness.recording import FaultPhase, FaultRecord
from splitvote.harness.result import Anomaly, Verdict
from splitvote.harness.store import RunDirectory
from splitvote.nemesis import Journal
from splitvote.reports.markdown import MOST_BYTES
from splitvote.reports.verdicts import FaultCounts, VerdictRow, row_of_run, verdict_markdown, verdict_text
from tests.harness.test_cli import splitvote
from tests.reports.fake_runs import HOSTILE
from tests.reports.nightly_stores import ISSUE, night


def journal(run: RunDirectory, *faults: tuple[FaultPhase, ...]) -> None:
    """Faults, each by its phases."""
    written = Journal(run.faults)
    for number, phases in enumerate(faults, start=1):
        for time_ns, phase in enumerate(phases):
            written.note(FaultRecord(number, "kill", "kill", phase, time_ns, ("n1",), proof="seen"))
    written.close()


def found(name: str, issue: str | None = None) -> Anomaly:
    return Anomaly(name, "a story", details={} if issue is None else {"known_issue": issue})


def test_a_row_tells_what_was_run_found_and_proven(tmp_path: Path) -> None:
    """Faults count as proven and as healed by what the journal saw, not by having been tried."""
    run = night(tmp_path, "kv", 4, Verdict.INVALID, anomalies=(found("kv: lost write", ISSUE), found("kv: lost write")))
    journal(run, ("starting", "active", "healing", "healed"), ("starting", "unproven", "healing", "healed"))
    journal_of_other = ("starting", "active", "healing", "heal_unproven")
    journal(other := night(tmp_path, "kv", 5), journal_of_other)
    row = row_of_run(run)
    assert row.faults == FaultCounts(injected=2, proven=1, healed=2)
    assert row_of_run(other).faults == FaultCounts(injected=1, proven=1, healed=0)
    assert (row.workload, row.seed, row.word) == ("kv", 4, "INVALID")
    assert [(each.name, each.count) for each in row.anomalies] == [("kv: lost write", 2)]
    assert row.issues == (ISSUE,)
    assert [checker.name for checker in row.blamed] == ["kv"]
    assert row.report == f"kv/{run.path.name}/report.html"
    assert row.command == "splitvote run kv --seed 4"


def test_text_and_markdown_tell_the_same(tmp_path: Path) -> None:
    """Verdict, seed, faults, what was found, the known issue, the page and the command are in both."""
    run = night(tmp_path, "kv", 4, Verdict.INVALID, anomalies=(found("kv: lost write", ISSUE),))
    journal(run, ("starting", "active", "healing", "healed"))
    rows = [row_of_run(run)]
    for told in (verdict_text(rows, tmp_path), verdict_markdown(rows)):
        for what in ("INVALID", "seed 4", "1, 1 proven, 1 healed", "kv: lost write", ISSUE, "told why"):
            assert what in told
        assert f"kv/{run.path.name}/report.html" in told
        assert "splitvote run kv --seed 4" in told


def row(word: str, verdict: Verdict | None, failure: str | None = None) -> VerdictRow:
    return VerdictRow(workload=word, seed=1, verdict=verdict, failure=failure)


def test_the_worst_comes_first(tmp_path: Path) -> None:
    """INVALID, our own failure, what nobody judged, UNKNOWN, a missed level, VALID."""
    rows = [
        row("f", Verdict.VALID),
        row("e", Verdict.SLO_MISSED),
        row("d", Verdict.UNKNOWN),
        row("c", None),
        row("b", Verdict.VALID, "no space left"),
        row("a", Verdict.INVALID, "no space left"),
    ]
    first, *lines = verdict_text(rows, tmp_path).splitlines()
    assert first == "6 runs: 1 INVALID, 1 FAILED, 1 NOT JUDGED, 1 UNKNOWN, 1 SLO_MISSED, 1 VALID"
    assert re.findall(r" ([a-f])  seed", "\n".join(lines)) == list("abcdef")
    table = verdict_markdown(rows)
    assert re.findall(r"\| ([a-f]) \|", table) == list("abcdef")


def test_a_failure_is_told_beside_the_verdict(tmp_path: Path) -> None:
    """An INVALID of a run whose harness failed keeps both words."""
    told = verdict_text([row("kv", Verdict.INVALID, "OSError: no space left")], tmp_path)
    assert "INVALID" in told
    assert "our own side: OSError: no space left" in told


def test_every_checker_has_its_place(tmp_path: Path) -> None:
    """A table of checkers by runs: a mark each, none where a run has no such checker."""
    rows = [row_of_run(night(tmp_path, "kv", 1)), row("never began", None, "no etcd")]
    table = verdict_markdown(rows)
    assert "| run | kv | liveness | stats |" in table
    assert "| kv, seed 1 | ✓ | ✓ | ✓ |" in table
    assert "| never began, seed 1 |  |  |  |" in table


@pytest.mark.parametrize("value", [*HOSTILE, "a | b", "[a](http://a.b)", "line\nbreak"])
def test_values_of_the_system_are_no_markup(tmp_path: Path, value: str) -> None:
    """Whatever an anomaly or an error is called, the table keeps its shape and nothing is a link or an element."""
    run = night(tmp_path, "kv", 4, Verdict.INVALID, anomalies=(found(value, value),))
    table = verdict_markdown([row_of_run(run), row(value, None, value)])
    assert not re.search(r"<\w", table)
    assert not re.search(r"(?<!\\)\]\(", table)
    runs = table.split("\n\n")[1].splitlines()
    assert [len(line.split("|")) for line in runs] == [10] * 4


def test_a_summary_is_bounded() -> None:
    """Thousands of runs do not make a page that is dropped whole; the worst are kept."""
    many = [row(f"w{number}", Verdict.VALID) for number in range(9_000)]
    table = verdict_markdown([*many, row("bad", Verdict.INVALID)])
    assert len(table.encode()) <= MOST_BYTES
    assert "INVALID | bad" in table
    assert "the rest has no room here" in table


def test_damaged_files_are_told(tmp_path: Path) -> None:
    """A run whose files cannot be read failed on our own side, in words."""
    run = night(tmp_path, "kv", 4)
    run.results.write_text("{")
    assert row_of_run(run).word == "FAILED"
    assert "results.json cannot be read" in str(row_of_run(run).failure)
    other = night(tmp_path, "kv", 5)
    other.faults.write_text("{}\n{}\n")
    assert row_of_run(other).word == "FAILED"


def test_the_command_prints_or_appends(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`summary STORE` is for terminals, --markdown prints, --append adds to what a job has said already."""
    store, output = tmp_path / "store", tmp_path / "summary.md"
    night(store, "kv", 1)
    night(store, "watch", 2, Verdict.UNKNOWN)
    output.write_text("# before\n")
    code, text, _ = splitvote(capfd, "summary", str(store))
    assert (code, text.splitlines()[0]) == (0, "2 runs: 1 UNKNOWN, 1 VALID")
    assert str(store / "watch") in text
    assert splitvote(capfd, "summary", str(store), "--markdown")[1].startswith("## 2 runs: 1 UNKNOWN, 1 VALID\n")
    assert splitvote(capfd, "summary", str(store), "--append", str(output))[1] == f"{output}\n"
    assert output.read_text().startswith("# before\n\n## 2 runs")
    code, _, complaint = splitvote(capfd, "summary", str(store), "--latest-night")
    assert code == 64
    assert "knows of no night" in complaint
