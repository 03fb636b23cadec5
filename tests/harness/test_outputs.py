"""What the command line makes of runs for others: JUnit, summaries, exports, zips, the index; and the schema's file."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree as Xml

import msgspec
import pytest

from splitvote.harness.formats import read_any
from splitvote.harness.op import Op
from splitvote.harness.recording import RunConfig
from splitvote.harness.result import Result, Verdict
from splitvote.harness.store import Results, RunDirectory, load_config
from tests.harness.test_cli import GOOD, splitvote, write_history

REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A small stored run that was found INVALID."""
    run = RunDirectory(tmp_path / "store" / "register" / "20260301T023000-5")
    run.path.mkdir(parents=True)
    config = RunConfig("register", 5, "local", ("n1",), "0.1.0", "2026-03-01T02:30:00+00:00")
    run.write_json(run.config, config)
    run.write_json(run.results, Results(Verdict.INVALID, (Result("linearizability", Verdict.INVALID, "lost"),)))
    write_history(run.history, *GOOD)
    return run


def test_a_simulated_run_writes_junit_and_appends_its_summary(tmp_path: Path) -> None:
    """`run` makes both; the XML is green exactly when the exit code is 0; neither file is a setting of the run."""
    junit, summary, store = tmp_path / "junit.xml", tmp_path / "summary.md", tmp_path / "store"
    summary.write_text("# what was there\n")
    setting = ["--cluster", "sim", "--nodes", "3", "--time", "2", "--rate", "50", "--seed", "3"]
    outputs = ["--store", str(store), "--junit", str(junit), "--summary", str(summary)]
    command = [sys.executable, "-m", "splitvote.harness.cli", "run", "register", *setting, *outputs]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode in (0, 2), ended.stdout + ended.stderr
    suite = Xml.parse(junit).getroot()[0]
    assert (suite.attrib["failures"], suite.attrib["errors"] == "0") == ("0", ended.returncode == 0)
    assert {"name": "exit code", "value": str(ended.returncode)} in [item.attrib for item in suite.iter("property")]
    assert summary.read_text().startswith("# what was there\n\n## ")
    assert str(junit) in ended.stdout
    config = load_config(store / "latest")
    assert config is not None
    assert not {"junit", "summary"} & config.options.keys()


def test_report_makes_them_of_a_stored_run(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, run: RunDirectory
) -> None:
    """`report` writes the page and what CI systems read."""
    junit, summary = tmp_path / "junit.xml", tmp_path / "summary.md"
    code, _, _ = splitvote(capfd, "report", str(run.path), "--junit", str(junit), "--summary", str(summary))
    assert code == 0
    assert Xml.parse(junit).getroot().attrib["failures"] == "1"
    assert summary.read_text().startswith("## INVALID")
    assert run.report.exists()


@pytest.mark.parametrize("format_", ["edn", "jsonl"])
def test_an_export_reads_back(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, run: RunDirectory, format_: str
) -> None:
    """A history written in another format is the same history."""
    target = tmp_path / f"out.{format_}"
    assert splitvote(capfd, "export", str(run.path), "--format", format_, "-o", str(target))[0] == 0
    assert [told(op) for op in read_any(target, independent=True)] == [told(op) for op in read_any(run.history)]


def told(op: Op) -> tuple[object, ...]:
    return op.index, op.process, op.type, op.f, op.value, op.key


def test_an_export_may_be_named_after_the_run_or_come_from_a_file(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TEST-RUN.FORMAT in the working directory by default; files from elsewhere are converted as well."""
    monkeypatch.chdir(tmp_path)
    assert splitvote(capfd, "export", str(run.path))[0] == 0
    made = tmp_path / "register-20260301T023000-5.edn"
    assert made.exists()
    assert splitvote(capfd, "export", str(made), "--format", "jsonl", "-o", "again.jsonl")[0] == 0
    assert len(read_any(tmp_path / "again.jsonl")) == len(GOOD)


def test_an_export_never_replaces_the_history(capfd: pytest.CaptureFixture[str], run: RunDirectory) -> None:
    """The run's own history is no place to write to, under whatever name."""
    before = run.history.read_bytes()
    link = run.path / "link.jsonl"
    link.symlink_to("history.jsonl")
    for output in (run.history, link):
        code, _, err = splitvote(capfd, "export", str(run.path), "--format", "jsonl", "-o", str(output))
        assert code == 64
        assert "is the history itself" in err
    assert run.history.read_bytes() == before
    assert splitvote(capfd, "export", str(run.path), "--format", "xml")[0] == 64


def test_zip_and_index(capfd: pytest.CaptureFixture[str], tmp_path: Path, run: RunDirectory) -> None:
    """A zip holds the run; the index lists it; a store that is none is one line and exit 64."""
    target = tmp_path / "run.zip"
    assert splitvote(capfd, "zip", str(run.path), "-o", str(target))[0] == 0
    with zipfile.ZipFile(target) as archive:
        assert "register/20260301T023000-5/history.jsonl" in archive.namelist()
    code, out, _ = splitvote(capfd, "index", str(tmp_path / "store"))
    assert (code, out) == (0, f"{tmp_path / 'store' / 'index.html'} (1 run)\n")
    for command in ("index", "serve"):
        code, _, err = splitvote(capfd, command, str(tmp_path / "nowhere"))
        assert code == 64
        assert "is no store" in err


def test_the_schema_in_the_documentation_is_that_of_the_code() -> None:
    """docs/results.schema.json is what results.json is written by; `python docs/schema.py` writes it anew."""
    written = msgspec.json.decode((REPOSITORY / "docs" / "results.schema.json").read_bytes())
    assert written == msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(Results)))
