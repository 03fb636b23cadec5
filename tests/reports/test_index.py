"""The index of a store: what it says of each run, whatever state its files are in, and that it reads them once."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.errors import ConfigError, EnvironmentFailure
from splitvote.harness.result import Result, Verdict
from splitvote.reports.index import page, scanning, write_index, write_zip
from splitvote.reports.index.entries import RunEntry
from splitvote.reports.index.scanning import CACHE, Scanner
from tests.reports.nightly_stores import ISSUE, hostile, lost_write, night, nights, results_of


def entry_of(store: Path, test: str) -> RunEntry:
    return next(listed.entry for listed in Scanner(store).scan().runs if listed.entry.test == test)


def test_an_entry_says_what_was_run_and_what_was_found(tmp_path: Path) -> None:
    """Verdict, anomalies by name, known issues, faults injected and proven, latency, recovery, versions, command."""
    night(tmp_path, "kv", 3, Verdict.INVALID, anomalies=(lost_write(known=True), lost_write()), version="etcd 3.5.1")
    entry = entry_of(tmp_path, "kv")
    assert (entry.verdict, entry.expected, entry.seed, entry.versions) == (Verdict.INVALID, "safe", 3, ("etcd 3.5.1",))
    assert [(anomaly.title, anomaly.count) for anomaly in entry.anomalies] == [("Lost write", 2)]
    assert entry.issues == (ISSUE,)
    assert entry.faults == {"kill": (4, 3), "pause": (2, 2)}
    assert (entry.latency_ms["p99"], entry.recovery_ms["max"], entry.unavailable["windows"]) == (20.0, 400.0, 1)
    assert entry.command == "splitvote run kv --seed 3"
    assert (entry.checkers[0].name, entry.checkers[0].reason) == ("kv", "told why")
    assert entry.problem is None


def test_runs_are_listed_newest_first_with_the_files_that_are_there(tmp_path: Path) -> None:
    """The newest run leads; a link is offered only to what exists; `latest` is no run of its own."""
    nights(tmp_path)
    listed = Scanner(tmp_path).scan().runs
    assert len(listed) == 3 * 9 + 2
    starts = [run.entry.started_ms or 0 for run in listed]
    assert starts == sorted(starts, reverse=True)
    assert next(run.files for run in listed if run.entry.test == "kv") == ("report.html", "results.json", "logs")
    assert next(run.files for run in listed if run.entry.test == "unjudged") == ()


def test_results_from_before_faults_were_counted_say_how_many_were_proven(tmp_path: Path) -> None:
    """Old results.json: the vacuity gate's count serves, with the number injected unknown."""
    vacuity = Result("vacuity", Verdict.VALID, stats={"proven_faults": {"kill": 3}})
    night(tmp_path, "kv", 1, results={"results": (vacuity,)})
    assert entry_of(tmp_path, "kv").faults == {"kill": (-1, 3)}


@pytest.mark.parametrize(
    ("damage", "verdict", "said"),
    [
        (lambda run: run.results.unlink(), None, None),
        (lambda run: run.results.write_bytes(b"\xff\xfe"), None, "results.json cannot be read"),
        (lambda run: run.results.write_text('{"verdict": "SPLENDID", "results": []}'), None, "SPLENDID"),
        (lambda run: run.config.write_text("{"), Verdict.VALID, "config.json cannot be read"),
        (
            lambda run: run.results.write_text('{"verdict": "VALID", "results": [], "schema": 99}'),
            Verdict.VALID,
            "schema 99",
        ),
    ],
)
def test_damage_is_told_and_never_taken_for_a_verdict(
    tmp_path: Path, damage: Any, verdict: Verdict | None, said: str | None
) -> None:
    """A file that cannot be read leaves its part out, and the entry says so; other runs are not touched by it."""
    damage(night(tmp_path, "bad", 1))
    night(tmp_path, "good", 2)
    entry = entry_of(tmp_path, "bad")
    assert entry.verdict == verdict
    assert (entry.problem is None) == (said is None)
    assert (said or "") in (entry.problem or "")
    assert entry.started_ms == entry_of(tmp_path, "good").started_ms - 86_400_000  # type: ignore[operator]
    assert entry_of(tmp_path, "good").verdict is Verdict.VALID


@pytest.mark.parametrize(
    "stats",
    [
        {"total": 3, "by_f": [1], "latency_ms": {"p99": "fast"}, "faults": {"kill": 2}, "recovery_ms": None},
        {"total": {"ok": True}, "faults": [], "unavailable": {"windows": {}}, "check_s": "soon"},
    ],
)
def test_figures_of_another_shape_are_left_out(tmp_path: Path, stats: dict[str, Any]) -> None:
    """Statistics are anybody's JSON: what is no number is not shown."""
    night(tmp_path, "kv", 1, results={"results": (Result("stats", Verdict.VALID, stats=stats),)})
    entry = entry_of(tmp_path, "kv")
    assert (entry.total, entry.latency_ms, entry.problem) == ({}, {}, None)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs whose files were read."""
    seen: list[str] = []
    read_entry = scanning.read_entry

    def noting(directory: Path, test: str, run: str) -> RunEntry:
        seen.append(f"{test}/{run}")
        return read_entry(directory, test, run)

    monkeypatch.setattr(scanning, "read_entry", noting)
    return seen


def test_only_what_changed_is_read_again(tmp_path: Path, reads: list[str]) -> None:
    """A second look, by this process or another, reads nothing; a run judged anew is read, one removed is gone."""
    nights(tmp_path)
    first = Scanner(tmp_path).scan()
    assert len(reads) == 29
    reads.clear()
    scanner = Scanner(tmp_path)
    assert scanner.scan() == first == scanner.scan()
    assert reads == []
    unjudged = next((tmp_path / "unjudged").iterdir())
    (unjudged / "results.json").write_text('{"verdict": "INVALID", "results": []}')
    shutil.rmtree(tmp_path / "steady")
    again = scanner.scan()
    assert reads == [f"unjudged/{unjudged.name}"]
    assert [run.entry.verdict for run in again.runs if run.entry.test == "unjudged"] == [Verdict.INVALID]
    assert len(again.runs) == 20


@pytest.mark.parametrize("kept", [b"", b"{", b'{"format": 999, "runs": {}}', b'{"format": 1, "runs": {"kv/x": 3}}'])
def test_a_damaged_cache_is_read_past(tmp_path: Path, reads: list[str], kept: bytes) -> None:
    """The cache is a convenience: garbage in it costs time and nothing else."""
    night(tmp_path, "kv", 1)
    (tmp_path / CACHE).write_bytes(kept)
    assert len(Scanner(tmp_path).scan().runs) == 1
    assert len(reads) == 1


def test_a_store_in_which_nothing_can_be_written_is_indexed_all_the_same(tmp_path: Path, reads: list[str]) -> None:
    """Where the cache cannot be written, each process reads anew and leaves nothing half-written."""
    night(tmp_path, "kv", 1)
    (tmp_path / CACHE).mkdir()
    assert len(Scanner(tmp_path).scan().runs) == len(Scanner(tmp_path).scan().runs) == 1
    assert len(reads) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"kv", CACHE}


def test_a_folder_whose_name_is_no_text_is_left_out_and_named(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 cannot be linked to; the rest of the index is not lost over them."""
    night(tmp_path, "kv", 1)
    shutil.copytree(tmp_path / "kv", os.fsdecode(os.fsencode(tmp_path) + b"/k\xff"))
    index = Scanner(tmp_path).scan()
    assert [run.entry.test for run in index.runs] == ["kv"]
    assert "left out" in index.problems[0]
    assert "left out" in write_index(tmp_path).path.read_text()


def test_written_pages_are_whole_and_ask_for_nothing(tmp_path: Path) -> None:
    """Two pages in the store, each with all it needs: nothing in them names another file but by a link."""
    written = write_index(nights(tmp_path))
    assert (written.path, written.runs) == (tmp_path / "index.html", 29)
    for name in page.PAGES:
        html = (tmp_path / name).read_text()
        assert "default-src 'none'" in html
        assert not re.search(r"<(link|script|img)[^>]* (src|href)=\"(?!data:)", html)
        assert len(html) < 150_000


def test_hostile_names_and_values_stay_data(tmp_path: Path) -> None:
    """No name of a store, test, run, version, checker or anomaly opens an element or ends one; a small index either."""
    for make in (hostile, lambda store: night(store, "<script><img>", 1).path.parent.parent):
        store = make(tmp_path / f"<img src=x> {make.__name__}")
        write_index(store)
        for name in page.PAGES:
            html = (store / name).read_text()
            assert html.count("<script") == html.count("</script>") == 3
            assert "<img" not in html


def test_no_store_and_no_room_are_one_line(tmp_path: Path) -> None:
    """A store that is none is the user's mistake; a page that cannot be written is told with what can be done."""
    with pytest.raises(ConfigError, match="is no store"):
        write_index(tmp_path / "nowhere")
    (tmp_path / "index.html").mkdir()
    with pytest.raises(EnvironmentFailure, match="splitvote serve"):
        write_index(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"index.html"}


def test_an_empty_store_has_an_index(tmp_path: Path) -> None:
    """Nothing was run yet: the page says so."""
    assert write_index(tmp_path).runs == 0


def test_the_schema_number_is_written(tmp_path: Path) -> None:
    """results.json and config.json say of which schema they are."""
    run = night(tmp_path, "kv", 1)
    assert results_of(run)["schema"] == 1
    assert '"schema": 1' in run.config.read_text()


def test_a_zip_holds_the_run_and_no_link(tmp_path: Path) -> None:
    """Every regular file, under TEST/RUN/; links and unfinished files are left out."""
    import zipfile

    run = night(tmp_path / "store", "kv", 1)
    (tmp_path / "secret").write_text("secret")
    (run.path / "data").mkdir()
    (run.path / "data" / "link").symlink_to(tmp_path / "secret")
    (run.path / ".x.unfinished").write_text("half")
    path = write_zip(run.path, tmp_path / "run.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = sorted(name.removeprefix(f"kv/{run.path.name}/") for name in archive.namelist())
        assert archive.read(f"kv/{run.path.name}/results.json") == run.results.read_bytes()
    assert names == ["config.json", "logs/n1.log", "report.html", "results.json"]
