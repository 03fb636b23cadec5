"""Many seeds at once: workers that die, failures that are kept and repeat, what is refused."""

from __future__ import annotations

import shlex
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from splitvote.harness.campaign import RunOptions
from splitvote.harness.cli import main
from splitvote.harness.errors import ConfigError
from splitvote.harness.exploration import Exploration, explore, parse_seeds
from splitvote.harness.result import Verdict
from splitvote.harness.seeds import Pool, replay


def options(store: Path, *, mutants: tuple[str, ...] = (), **fields: object) -> RunOptions:
    return RunOptions(
        **{
            "workload": "register",
            "cluster": "sim",
            "nodes": 3,
            "faults": "kill",
            "time_s": 8.0,
            "rate": 50.0,
            "concurrency": 5,
            "seed": None,
            "etcd_args": (),
            "store": store,
            "ops_per_key": 100,
            "keys": None,
            "avoid": (),
            "workload_options": {},
            "interval_s": 1.5,
            "overlap": False,
            "op_timeout_s": 1.0,
            "check_timeout_s": 60.0,
            "mutants": mutants,
            **fields,
        }  # type: ignore[arg-type]  # the values' types are those of the fields
    )


def test_a_worker_that_dies_takes_only_its_task_along() -> None:
    """The others are done, whatever was under way beside it; an exception is the task's own."""
    deadly, wrong = "__import__('os')._exit(9)", "1 / 0"
    sums = [f"{number} + {number}" for number in range(9)]
    with Pool(eval, jobs=2) as pool:  # a function that workers can import, which a test's own is not
        found = dict(pool.done([*sums[:4], deadly, wrong, *sums[4:]]))
    assert {task: found[task] for task in sums} == {task: 2 * number for number, task in enumerate(sums)}
    assert isinstance(found[deadly], BrokenExecutor)
    assert isinstance(found[wrong], ZeroDivisionError)


def test_seeds_are_a_range_with_both_ends() -> None:
    assert list(parse_seeds("3..5")) == [3, 4, 5]
    assert list(parse_seeds("7")) == [7]
    for wrong in ("5..3", "a..b", "", "1..", "1...3", "0..99999999"):
        with pytest.raises(ConfigError, match="--seeds"):
            parse_seeds(wrong)


def test_what_was_found_repeats_byte_for_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the INVALID seed is kept, with its report; its command makes the same history again."""
    wanted = options(tmp_path / "store", mutants=("lost-update",))
    (outcome,) = explore(wanted, range(1, 20), executor="process", jobs=1, keep="failures", until="first")
    assert outcome.verdict is Verdict.INVALID
    assert outcome.run is not None
    kept = Path(outcome.run)
    assert (kept / "report.html").exists()
    found = Exploration()
    found.note(outcome)
    assert found.exit_code == 1
    words = shlex.split(replay(wanted, outcome.seed))
    with pytest.raises(SystemExit) as left:
        main([*words[1:], "--store", str(tmp_path / "again")])
    assert left.value.code == 1
    capsys.readouterr()
    (again,) = (tmp_path / "again" / "register").glob("2*")
    assert (again / "history.jsonl").read_bytes() == (kept / "history.jsonl").read_bytes()


def test_valid_seeds_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0, a count, and an empty store."""
    words = ["--seeds", "1..2", "--jobs", "2", "--time", "8", "--nodes", "3", "--faults", "kill", "--interval", "1.5"]
    with pytest.raises(SystemExit) as left:
        main(["explore", "register", *words, "--rate", "50", "--store", str(tmp_path / "store")])
    assert left.value.code == 0
    assert "2 seeds: 2 VALID" in capsys.readouterr().out
    assert list((tmp_path / "store").rglob("*")) == []


def test_what_cannot_be_explored_is_refused(tmp_path: Path) -> None:
    """Another cluster, a fault that the simulation lacks, an executor that there is not, a scheduler that is away."""
    for wanted, executor, said in (
        (options(tmp_path, cluster="local"), "process", "seeds are explored on sim"),
        (options(tmp_path, faults="kil"), "process", "did you mean 'kill'"),
        (options(tmp_path), "threads", "give process, or dask:ADDRESS"),
        (options(tmp_path), "dask:127.0.0.1:1", "--executor dask:127.0.0.1:1"),
    ):
        with pytest.raises(ConfigError, match=said):
            list(explore(wanted, range(2), executor=executor, jobs=1, keep="nothing", until="all"))
