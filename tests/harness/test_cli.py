"""The command line: bad input is one clear line and exit 64, histories are judged, nothing ends in a traceback."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from splitvote.harness.cli import main
from splitvote.harness.history import HistoryWriter
from splitvote.harness.op import Op
from splitvote.harness.recording import FinalState, MemberReading, RunConfig
from splitvote.harness.store import RunDirectory, create_run, load_results


def splitvote(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command; returns (exit code, stdout, stderr)."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def write_history(path: Path, *records: Op) -> Path:
    writer = HistoryWriter(path)
    for index, record in enumerate(records):
        writer.append(msgspec.structs.replace(record, index=index, time_ns=index * 1_000_000))
    writer.close()
    return path


def operation(process: int, f: str, asked: object, seen: object = None, outcome: str = "ok") -> tuple[Op, Op]:
    invoke = Op(process=process, type="invoke", f=f, key=0, value=asked)
    return invoke, invoke.completed(outcome, value=asked if seen is None else seen)  # type: ignore[arg-type]


GOOD = [*operation(0, "write", 1), *operation(1, "read", None, 1)]
LOST = [*operation(0, "write", 1), *operation(0, "write", 2), *operation(1, "read", None, 1)]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["rnu"], "unknown command 'rnu'; did you mean 'run'?"),
        (["run", "registr"], "did you mean 'register'?"),
        (["run", "register", "--nodes", "0"], "'--nodes': 0 is not in the range 1<=x<=9"),
        (["run", "register", "--cluster", "loca"], "did you mean 'local'?"),
        (["run", "register", "--rate", "-3"], "'--rate'"),
        (["run", "register", "--etcd", "/no/such/etcd"], "/no/such/etcd"),
        (["run", "register", "--etcd", "/bin/true"], "/bin/true"),
        (["run", "register", "--etcd", "n9=/bin/true"], "n9"),
        (["run", "register", "--faults", "kil", "--dry-run"], "did you mean 'kill'?"),
        (["run", "register", "--config", "/no/such.toml"], "/no/such.toml"),
        (["check", "/no/such/run"], "/no/such/run does not exist"),
        (["list", "nothing"], "unknown list 'nothing'"),
    ],
)
def test_bad_input_is_one_line_and_exit_64(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    store = ["--store", str(tmp_path)] if arguments[0] == "run" else []
    code, _, err = splitvote(capfd, *arguments, *store)
    assert code == 64
    assert complaint in err
    assert err.startswith("splitvote: ")
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "register").exists()


def test_a_config_file_sets_options_and_a_misspelt_entry_is_named(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "nightly.toml"
    config.write_text("nodes = 12\n")
    assert "12 is not in the range" in splitvote(capfd, "run", "register", "--config", str(config))[2]
    config.write_text("raet = 3\n")
    code, _, err = splitvote(capfd, "run", "register", "--config", str(config))
    assert (code, "did you mean 'rate'?" in err) == (64, True)


def test_a_good_history_is_valid_and_exits_0(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_history(tmp_path / "some.jsonl", *GOOD)
    code, out, _ = splitvote(capfd, "check", str(path), "--model", "cas-register")
    assert (code, out.splitlines()[0]) == (0, "verdict: VALID")


def test_a_lost_write_is_invalid_exits_1_and_is_told_in_words(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = write_history(tmp_path / "some.jsonl", *LOST)
    code, out, _ = splitvote(capfd, "check", str(path), "--workload", "register")
    assert code == 1
    assert "verdict: INVALID" in out
    assert "process 1 read 1" in out


def test_a_foreign_history_gets_a_report_of_its_own(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_history(tmp_path / "some.jsonl", *LOST)
    page = tmp_path / "page.html"
    code, out, _ = splitvote(capfd, "check", str(path), "--model", "cas-register", "--html", str(page))
    assert code == 1
    assert f"report: {page}" in out
    assert "check/some.jsonl" in page.read_text()


def test_options_reach_the_model_and_unknown_ones_are_named(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    invoke = Op(process=0, type="invoke", f="txn", value=[["r", "x", None]])
    path = write_history(tmp_path / "some.jsonl", invoke, invoke.completed("ok", value=[["r", "x", 5]]))
    judged = ["check", str(path), "--model", "multi-register"]
    assert splitvote(capfd, *judged)[0] == 1
    assert splitvote(capfd, *judged, "--option", 'initial={"x": 5}')[0] == 0
    code, _, err = splitvote(capfd, *judged, "--option", "initail=1")
    assert (code, "initail" in err) == (64, True)
    assert "write NAME=VALUE" in splitvote(capfd, *judged, "--option", "nonsense")[2]


def test_json_is_the_results_schema(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_history(tmp_path / "some.jsonl", *LOST)
    _, out, _ = splitvote(capfd, "check", str(path), "--model", "cas-register", "--json")
    found = msgspec.json.decode(out)
    assert found["verdict"] == "INVALID"
    assert found["results"][0]["anomalies"][0]["name"] == "nonlinearizable"


def test_a_foreign_history_needs_a_model_and_a_misspelt_one_is_suggested(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = write_history(tmp_path / "some.jsonl", *GOOD)
    assert "say how to judge it" in splitvote(capfd, "check", str(path))[2]
    assert "did you mean 'cas-register'?" in splitvote(capfd, "check", str(path), "--model", "cas-registre")[2]


def test_garbage_in_a_history_names_the_line(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_history(tmp_path / "some.jsonl", *GOOD)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "garbage\n", *lines[1:]]))
    code, _, err = splitvote(capfd, "check", str(path), "--format", "jsonl", "--model", "cas-register")
    assert code == 64
    assert "some.jsonl:2: not a record" in err


def stored_run(tmp_path: Path, records: list[Op]) -> RunDirectory:
    run = create_run(tmp_path, "register", 7)
    config = RunConfig(
        workload="register", seed=7, cluster="local", nodes=("n1",), splitvote_version="1", started_at="now", rate=10
    )
    run.write_json(run.config, config)
    write_history(run.history, *records)
    return run


def test_a_killed_run_is_judged_as_far_as_it_came_and_its_results_are_kept(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = stored_run(tmp_path, GOOD)
    code, out, _ = splitvote(capfd, "check", str(run.path))
    assert code == 2
    assert "the run ended before" in out
    results = load_results(run.path)
    assert results is not None
    before = run.results.read_bytes()
    assert splitvote(capfd, "check", str(run.path))[0] == 2
    assert run.results.read_bytes() == before


def test_a_run_whose_members_disagree_is_invalid(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = stored_run(tmp_path, GOOD)
    members = {"n1": MemberReading(revision=5, applied_index=9), "n2": MemberReading(revision=6, applied_index=9)}
    run.write_json(run.final, FinalState(recovered=True, settled=True, members=members))
    code, out, _ = splitvote(capfd, "check", str(run.path))
    assert code == 1
    assert "n1: 5; n2: 6" in out


def test_list_names_workloads_faults_clusters_and_models(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = splitvote(capfd, "list")
    assert code == 0
    assert all(name in out for name in ("register", "kill", "partition", "local", "cas-register", "bank"))


def test_a_crash_of_our_own_is_no_verdict(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would exit with 1, which is INVALID's code."""

    def crash(*_: object) -> None:
        raise ZeroDivisionError("as a defect would")

    monkeypatch.setattr("splitvote.harness.listing.listing", crash)
    code, _, err = splitvote(capfd, "list")
    assert code == 3
    assert "splitvote: crashed: ZeroDivisionError: as a defect would" in err


def test_prune_says_what_would_go_and_removes_old_valid_runs_only(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs = [stored_run(tmp_path, GOOD) for _ in range(3)]
    assert "0 run(s)" in splitvote(capfd, "prune", "--store", str(tmp_path), "--keep", "1")[1]
    assert (
        "2 run(s) would go"
        in splitvote(capfd, "prune", "--store", str(tmp_path), "--keep", "1", "--failed-too", "--dry-run")[1]
    )
    assert all(run.path.exists() for run in runs)
    splitvote(capfd, "prune", "--store", str(tmp_path), "--keep", "1", "--failed-too")
    assert [run.path.exists() for run in runs] == [False, False, True]


def test_help_loads_nothing_heavy() -> None:
    heavy = "numpy, pandas, scipy, grpc, google.protobuf, jinja2, rich, docker, paramiko"
    program = (
        "import sys, splitvote.harness.cli as cli\n"
        "try: cli.main(['--help'])\n"
        f"except SystemExit: print('HEAVY', [name for name in '{heavy}'.split(', ') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "HEAVY []" in ran.stdout


def test_report_writes_a_page_for_a_stored_run(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = stored_run(tmp_path, LOST)
    splitvote(capfd, "check", str(run.path))
    code, out, _ = splitvote(capfd, "report", str(run.path))
    assert code == 0
    assert out.strip() == str(run.report.resolve())
    assert "INVALID" in run.report.read_text()


def test_a_run_directory_is_named_by_time_and_seed(tmp_path: Path) -> None:
    before = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    run = create_run(tmp_path, "register", 99)
    at, _, seed = run.path.name.partition("-")
    assert seed == "99"
    assert before <= at <= time.strftime("%Y%m%dT%H%M%S", time.gmtime())
