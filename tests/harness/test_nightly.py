"""Nights: the same runs from the same seed, everything accounted for, and INVALID before all else."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from splitvote.harness.nightly.ledger import Attempt, conclude, read_all_ledgers, read_latest
from splitvote.harness.nightly.night import MOST_FAILURES, Night, exit_code, stops_early
from splitvote.harness.nightly.plan import BESIDE_LOAD_S, LONGEST_S, SHORTEST_S, Wish, planned_runs, seed_of
from splitvote.harness.nightly.verdicts import rows_of_night, rows_of_store
from splitvote.harness.result import Result, Verdict
from splitvote.harness.store import Results, RunDirectory, remove_run
from tests.harness.test_cli import splitvote

VALID, INVALID, UNKNOWN, SLO_MISSED = Verdict.VALID, Verdict.INVALID, Verdict.UNKNOWN, Verdict.SLO_MISSED


def wish(store: Path, *workloads: str, seed: int = 7, budget_s: float = 1.0, time_s: float | None = None) -> Wish:
    return Wish(
        seed=seed,
        workloads=workloads or ("kv", "register", "append"),
        budget_s=budget_s,
        time_s=time_s,
        run_options=("--cluster", "sim"),
        store=store,
    )


# Which runs.


def test_a_seed_gives_the_same_runs_and_another_gives_others(tmp_path: Path) -> None:
    """The plan is a function of the seed; no two runs of a night, and no two nights, share a seed."""
    first = list(islice(planned_runs(wish(tmp_path)), 30))
    assert first == list(islice(planned_runs(wish(tmp_path)), 30))
    others = list(islice(planned_runs(wish(tmp_path, seed=8)), 30))
    assert len({run.seed for run in first + others}) == 60
    assert all(0 <= run.seed < 2**31 for run in first)


def test_a_workloads_seeds_do_not_depend_on_the_other_workloads(tmp_path: Path) -> None:
    """Leaving workloads out repeats those that are left."""
    alone = [run.seed for run in islice(planned_runs(wish(tmp_path, "register")), 4)]
    among = [run.seed for run in islice(planned_runs(wish(tmp_path)), 12) if run.workload == "register"]
    assert alone == among == [seed_of(7, "register", turn) for turn in range(4)]


def test_a_runs_command_is_whole(tmp_path: Path) -> None:
    """What is printed is what is run: workload, seed, length, the shared options, the store."""
    run = next(planned_runs(wish(tmp_path, "kv", time_s=40)))
    shared = ("--cluster", "sim", "--store", str(tmp_path))
    assert run.command == ("run", "kv", "--seed", str(run.seed), "--time", "40", *shared)


@pytest.mark.parametrize(
    ("budget_s", "load_s"),
    [(3 * (60 + BESIDE_LOAD_S), 60.0), (1.0, SHORTEST_S), (36_000.0, LONGEST_S)],
    ids=["shared among the workloads", "never too short", "never so long that few schedules are seen"],
)
def test_the_budget_is_shared(tmp_path: Path, budget_s: float, load_s: float) -> None:
    """Each workload is to be run once within the budget."""
    assert wish(tmp_path, budget_s=budget_s).load_s == load_s


# What a run came to.


def results(verdict: Verdict, failure: str | None = None, *, interrupted: bool = False) -> Results:
    return Results(verdict, (Result("kv", verdict, "why"),), failure=failure, interrupted=interrupted)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_run_that_ends_as_it_should_has_its_verdict(verdict: Verdict) -> None:
    """Nothing failed where exit code and verdict agree."""
    assert conclude(verdict.exit_code, results(verdict)) == (verdict, None)


def test_an_exit_code_alone_is_no_verdict() -> None:
    """Python ends with 1 when it cannot even begin: no INVALID without results that say so."""
    assert conclude(1, None, "ModuleNotFoundError: x") == (None, "no verdict (exit 1): ModuleNotFoundError: x")
    assert conclude(-9, None) == (None, "no verdict (ended by signal 9)")


def test_exit_code_and_verdict_that_do_not_agree_are_our_failure() -> None:
    """Neither hides the other: the verdict stands, and the failure is told."""
    assert conclude(3, results(VALID)) == (VALID, "exit 3 beside the verdict VALID")
    assert conclude(0, results(INVALID)) == (INVALID, "exit 0 beside the verdict INVALID")
    assert conclude(3, results(INVALID, "OSError: gone")) == (INVALID, "OSError: gone")
    assert conclude(-9, results(VALID, interrupted=True)) == (VALID, "ended by signal 9 beside the verdict VALID")
    assert conclude(2, results(VALID, interrupted=True)) == (VALID, None)


def attempt(verdict: Verdict | None = VALID, failure: str | None = None, code: int | None = None) -> Attempt:
    ended = code if code is not None else 3 if verdict is None or failure is not None else verdict.exit_code
    return Attempt(0, "kv", 1, ("splitvote", "run"), ended, verdict=verdict, failure=failure)


@pytest.mark.parametrize(
    ("attempts", "code"),
    [
        ([attempt(), attempt()], 0),
        ([attempt(), attempt(SLO_MISSED)], 4),
        ([attempt(SLO_MISSED), attempt(UNKNOWN), attempt()], 2),
        ([attempt(UNKNOWN), attempt(None, "no etcd")], 3),
        ([attempt(VALID, "the report could not be written")], 3),
        ([attempt(None, "refused", 64), attempt(UNKNOWN)], 64),
        ([attempt(None, "no etcd"), attempt(INVALID), attempt(UNKNOWN)], 1),
        ([attempt(None, "refused", 64), attempt(INVALID)], 1),
        ([attempt(INVALID, "OSError: gone"), attempt()], 1),
        ([], 3),
    ],
)
def test_invalid_goes_before_our_own_failure_and_that_before_unknown(attempts: list[Attempt], code: int) -> None:
    """A night's exit code is that of the gravest; a night of no run proves nothing."""
    assert exit_code(attempts) == exit_code(attempts[::-1]) == code


def test_an_interrupted_night_is_not_green_and_hides_no_invalid() -> None:
    """130, unless something was found."""
    assert exit_code([attempt()], is_interrupted=True) == 130
    assert exit_code([attempt(INVALID)], is_interrupted=True) == 1
    cut_short = msgspec.structs.replace(attempt(), interrupted=True)
    assert exit_code([cut_short]) == 130


def test_a_night_whose_surroundings_are_broken_ends_early() -> None:
    """A refusal ends it at once, failures one after another soon; one that passes does not."""
    failed = attempt(None, "no leader")
    assert stops_early([attempt(None, "no such etcd", 64)])
    assert stops_early([failed] * MOST_FAILURES)
    assert not stops_early([*[failed] * (MOST_FAILURES - 1), attempt()])
    assert not stops_early([failed, attempt(), failed])
    assert not stops_early([attempt(INVALID)] * 5)


# Whole nights, of processes that stand for splitvote.


FAKE: str = """
    import os, signal, sys
    from pathlib import Path
    from splitvote.harness.recording import RunConfig
    from splitvote.harness.result import Result, Verdict
    from splitvote.harness.store import Results, RunDirectory, create_run

    def conclude(run, verdict, **more):
        run.write_json(run.results, Results(verdict, (Result("kv", verdict, "told why"),), **more))

    words = sys.argv[1:]
    if words[0] != "run":
        print(*words)
        if words[0] == "check":
            conclude(RunDirectory(Path(words[1])), Verdict.INVALID)
        sys.exit(0)
    behaviour, seed, store = words[1], int(words[3]), Path(words[words.index("--store") + 1])
    if behaviour == "beside":
        other = create_run(store, behaviour, 1)
        other.write_json(other.config, RunConfig(behaviour, 1, "sim", ("n1",), "0", "2026-03-01T02:30:00"))
    if behaviour in ("refused", "beside"):
        print("splitvote: no such etcd", file=sys.stderr)
        sys.exit(64)
    run = create_run(store, behaviour, seed)
    command = ("splitvote", *words)
    run.write_json(run.config, RunConfig(behaviour, seed, "sim", ("n1",), "0", "2026-03-01T02:30:00", command=command))
    if behaviour == "hangs":
        while True:
            signal.pause()
    if behaviour == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "interrupted":
        def on_signal(number, _):
            conclude(run, Verdict.VALID, interrupted=True)
            sys.exit(0)
        signal.signal(signal.SIGINT, on_signal)
        os.kill(os.getppid(), signal.SIGINT)
        while True:
            signal.pause()
    verdict = Verdict(behaviour)
    conclude(run, verdict)
    sys.exit(verdict.exit_code)
"""


@pytest.fixture
def said() -> list[str]:
    """What a night says."""
    return []


@pytest.fixture
def night(tmp_path: Path, said: list[str]):
    """Make a night whose runs do what their workloads are called."""
    script = tmp_path / "fake.py"
    script.write_text(textwrap.dedent(FAKE))

    def command(words: Sequence[str]) -> Sequence[str]:
        return (sys.executable, str(script), *words)

    def make(*behaviours: str, time_s: float | None = None) -> Night:
        return Night(wish(tmp_path / "store", *behaviours, time_s=time_s), said.append, command)

    return make


def test_every_workload_is_run_once_however_short_the_time(night, tmp_path: Path) -> None:
    """The ledger has a line a run, each with its directory, its command and its verdict."""
    tonight = night("VALID", "UNKNOWN", "SLO_MISSED")
    assert tonight.run() == 2
    assert [each.verdict for each in tonight.attempts] == [VALID, UNKNOWN, SLO_MISSED]
    assert read_latest(tmp_path / "store") == tonight.attempts
    for each in tonight.attempts:
        assert each.run is not None
        assert (tmp_path / "store" / each.run / "results.json").exists()
        assert each.command[:4] == ("splitvote", "run", each.workload, "--seed")


def test_what_a_killed_run_had_recorded_is_healed_judged_and_goes_before_the_failure(
    night, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run that is killed leaves a history; if that shows a violation the night is INVALID."""
    tonight = night("VALID", "killed")
    assert tonight.run() == 1
    killed = tonight.attempts[-1]
    assert (killed.verdict, killed.exit_code) == (INVALID, -9)
    assert killed.failure is not None
    directory = str(tmp_path / "store" / str(killed.run))
    assert capfd.readouterr().out.splitlines() == [f"{word} {directory}" for word in ("heal", "check", "report")]
    assert [row.word for row in rows_of_night(tmp_path / "store")] == ["VALID", "INVALID"]


def test_a_run_that_somebody_else_begins_meanwhile_is_not_taken_for_the_nights(night, tmp_path: Path) -> None:
    """Two may use one store: a run is known by its seed."""
    tonight = night("beside")
    assert tonight.run() == 64
    assert [each.run for each in tonight.attempts] == [None]
    assert len(list(tmp_path.glob("store/beside/2*-1"))) == 1


def test_a_refused_run_ends_the_night_and_stands_in_its_table(night, said: list[str], tmp_path: Path) -> None:
    """The reason is passed on, kept, and told by `summary` though there is no run in the store."""
    tonight = night("refused", "VALID")
    assert tonight.run() == 64
    assert "splitvote: no such etcd" in said
    assert len(tonight.attempts) == 1
    (row,) = rows_of_store(tmp_path / "store")
    assert (row.word, row.report) == ("FAILED", None)
    assert "no such etcd" in str(row.failure)
    assert f"--seed {row.seed}" in row.command


def test_ctrl_c_ends_the_run_early_and_the_night_with_it(night) -> None:
    """The signal is passed on to the run, which ends as it would by itself; no run follows."""
    tonight = night("interrupted", "VALID")
    assert tonight.run() == 130
    assert [(each.workload, each.interrupted, each.failure) for each in tonight.attempts] == [
        ("interrupted", True, None)
    ]


def test_a_run_that_hangs_is_ended(night, said: list[str]) -> None:
    """No run holds a night up for ever: it is told to end, and what it recorded is judged."""
    tonight = night("hangs", time_s=0.5)
    tonight.overdue_s = 0.0
    assert tonight.run() in (1, 3), "whether it had begun to record anything is a matter of speed"
    assert tonight.attempts[0].exit_code == -15
    assert tonight.attempts[0].failure is not None
    assert "not over after 0.5 s: it is ended" in said


def test_what_was_pruned_is_left_out_of_the_store_and_not_of_the_night(night, tmp_path: Path) -> None:
    """A run that is gone has no row among the store's; its night still knows the verdict."""
    store = tmp_path / "store"
    tonight = night("VALID", "UNKNOWN")
    tonight.run()
    remove_run(RunDirectory(store / str(tonight.attempts[0].run)))
    assert [row.word for row in rows_of_store(store)] == ["UNKNOWN"]
    assert [(row.word, row.report is None) for row in rows_of_night(store)] == [("VALID", True), ("UNKNOWN", False)]


def test_nights_share_a_store(night, tmp_path: Path) -> None:
    """Each has its ledger; the store's table has all runs once, the latest night's its own."""
    night("VALID").run()
    later = night("UNKNOWN", "VALID")
    later.wish = replace(later.wish, seed=later.wish.seed + 1)
    later.run()
    assert [len(each) for each in read_all_ledgers(tmp_path / "store")] == [1, 2]
    assert len(rows_of_store(tmp_path / "store")) == 3
    assert [row.word for row in rows_of_night(tmp_path / "store")] == ["UNKNOWN", "VALID"]


# The command line.


def test_the_seed_comes_first_and_a_dry_run_touches_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The night's seed is the first line, then the first runs' commands with theirs."""
    store = tmp_path / "store"
    command = ("nightly", "--dry-run", "--seed", "7", "--budget", "4m", "--cluster", "sim", "--store", str(store))
    code, out, _ = splitvote(capfd, *command)
    assert code == 0
    first, _, *runs = out.splitlines()
    assert first == "seed 7"
    seeds = [seed_of(7, workload, 0) for workload in ("kv+watch+election+lease", "register", "append")]
    assert [f"--seed {seed} " in line for seed, line in zip(seeds, runs, strict=True)] == [True] * 3
    assert all("--faults all --avoid 18667,15247" in line for line in runs)
    assert not store.exists()


def test_nothing_need_be_avoided(capfd: pytest.CaptureFixture[str]) -> None:
    """An empty --avoid, as the second job of the workflow gives it, leaves nothing out."""
    assert "--avoid" not in splitvote(capfd, "nightly", "register", "--dry-run", "--avoid", "")[1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nightly", "registr"], "did you mean 'register'?"),
        (["nightly", "--budget", "soon"], "'soon' is no length of time: write 90, 90s, 20m or 2h"),
        (["nightly", "--budget", "0"], "'0' is no length of time"),
        (["summary", "/no/such/store"], "/no/such/store is no store"),
    ],
)
def test_bad_input_is_one_line_and_exit_64(
    capfd: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    code, _, err = splitvote(capfd, *arguments)
    assert code == 64
    assert complaint in err
    assert len(err.strip().splitlines()) == 1


def test_a_night_in_virtual_time_ends_with_its_verdicts(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A whole night of real runs: seeds first, verdicts last, the command of a run repeats it."""
    summary, store = tmp_path / "summary.md", tmp_path / "store"
    setting = ("--cluster", "sim", "--time", "5", "--budget", "5", "--seed", "3", "--store", str(store))
    shape = ("--faults", "kill", "--rate", "50", "--run-arg=--nodes=3", "--summary", str(summary))
    code, out, _ = splitvote(capfd, "nightly", "register", *setting, *shape)
    (attempt,) = read_latest(store) or [None]
    assert attempt is not None
    assert attempt.verdict is not None
    assert attempt.failure is None
    assert code == attempt.verdict.exit_code
    assert out.startswith("seed 3\n")
    assert f"1 run: 1 {attempt.verdict}" in out.splitlines()
    assert f"## 1 run: 1 {attempt.verdict}" in summary.read_text()
    again, _, _ = splitvote(capfd, *attempt.command[1:])
    histories = [path.read_bytes() for path in sorted(store.glob("register/2*/history.jsonl"))]
    assert again == code
    assert len(histories) == 2
    assert histories[0] == histories[1]
