"""The store: runs are never overwritten, files are whole or absent, retention keeps failures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from splitvote.harness.errors import ConfigError, HistoryError
from splitvote.harness.op import Op
from splitvote.harness.recording import FaultRecord, FinalState, RunConfig
from splitvote.harness.result import Result, Verdict
from splitvote.harness.store import (
    Results,
    RunDirectory,
    create_run,
    load_recording,
    load_results,
    open_run,
    prunable,
    remove_run,
    runs,
)

NOON = datetime(2030, 1, 2, 12, 0, 0, tzinfo=UTC)
CONFIG = RunConfig(
    workload="register", seed=7, cluster="local", nodes=("n1",), splitvote_version="1", started_at="2030-01-02"
)


def make_run(store: Path, seed: int, verdict: Verdict | None) -> RunDirectory:
    run = create_run(store, "register", seed, now=NOON)
    run.write_json(run.config, CONFIG)
    if verdict is not None:
        run.write_json(run.results, Results(verdict, (Result("stats", verdict),)))
    return run


def test_two_runs_of_one_second_and_seed_live_side_by_side(tmp_path: Path) -> None:
    first, second = (create_run(tmp_path, "register", 7, now=NOON) for _ in range(2))
    assert first.path.name == "20300102T120000-7"
    assert second.path != first.path
    assert (tmp_path / "latest").resolve() == second.path.resolve()
    assert (tmp_path / "register" / "latest").resolve() == second.path.resolve()


def test_a_recording_is_read_back_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path, 7, None)
    run.history.write_bytes(b'{"index":0,"time_ns":1,"process":0,"f":"read"}\n')
    fault = FaultRecord(1, "kill", "kill", "starting", 5, ("n1",))
    run.faults.write_bytes(b'{"id":1,"family":"kill","fault":"kill","phase":"starting","time_ns":5,"targets":["n1"]}\n')
    run.write_json(run.final, FinalState(recovered=True))
    (run.logs / "n1.log").write_text("hello\n")
    recording = load_recording(run.path)
    assert list(recording.history) == [Op(0, 1, 0, "invoke", "read")]
    assert recording.config == CONFIG
    assert recording.faults == (fault,)
    assert recording.final == FinalState(recovered=True)
    assert recording.logs["n1"].read_text() == "hello\n"


def test_a_killed_run_is_read_as_far_as_it_came(tmp_path: Path) -> None:
    run = make_run(tmp_path, 7, None)
    recording = load_recording(run.path)
    assert (len(recording.history), recording.final, load_results(run.path)) == (0, None, None)


@pytest.mark.parametrize("inside", ["", "history.jsonl", "report.html"])
def test_a_run_is_found_by_its_directory_or_any_file_in_it(tmp_path: Path, inside: str) -> None:
    run = make_run(tmp_path, 7, None)
    for file in (run.history, run.report):
        file.touch()
    assert open_run(run.path / inside).path == run.path.resolve()


def test_what_is_no_run_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no run: it should hold config\.json"):
        open_run(tmp_path)


def test_a_damaged_json_names_the_file(tmp_path: Path) -> None:
    run = make_run(tmp_path, 7, None)
    run.final.write_text("{")
    with pytest.raises(HistoryError, match=r"final\.json: .*restore the file"):
        load_recording(run.path)


def test_a_store_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="choose a writable folder"):
        create_run(tmp_path / "file", "register", 1)


def test_retention_keeps_the_newest_and_every_failure(tmp_path: Path) -> None:
    verdicts = [Verdict.VALID, Verdict.INVALID, None, Verdict.VALID, Verdict.VALID]
    made = [make_run(tmp_path, seed, verdict) for seed, verdict in enumerate(verdicts)]
    assert [run.path for run in prunable(tmp_path, keep=1, keep_failed=True)] == [made[0].path, made[3].path]
    assert len(prunable(tmp_path, keep=1, keep_failed=False)) == 4
    assert remove_run(made[0]) > 0
    assert [run.path for run in runs(tmp_path)] == [run.path for run in made[1:]]
