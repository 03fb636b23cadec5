"""The checkers every run has: statistics, unlisted errors, logs, liveness, the vacuity gate."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitvote.checkers.liveness import LivenessChecker
from splitvote.checkers.logs import LogPatternChecker
from splitvote.checkers.stats import StatsChecker, quantiles_ms
from splitvote.checkers.unhandled import UnhandledErrorsChecker
from splitvote.checkers.vacuity import VacuityChecker, longest_silence, quorum_lost_intervals
from splitvote.harness.history import History
from splitvote.harness.op import NEMESIS, Op
from splitvote.harness.recording import FaultRecord, FinalState, Recording, RunConfig
from splitvote.harness.result import Budget, Result, Verdict

SECOND = 1_000_000_000


def operation(
    index: int, start_s: float, end_s: float, outcome: str = "ok", f: str = "write", error: str | None = None
) -> list[Op]:
    invoke = Op(index, int(start_s * SECOND), index, "invoke", f, intended_ns=int((start_s - 1) * SECOND))
    return [invoke, Op(index + 1, int(end_s * SECOND), index, outcome, f, error=error)]  # type: ignore[arg-type]


def history(*operations: list[Op]) -> History:
    return History(sorted((op for each in operations for op in each), key=lambda op: op.time_ns))


def test_statistics_count_outcomes_and_measure_from_start_and_from_intent() -> None:
    nemesis = [Op(90, 5, NEMESIS, "info", "kill"), Op(91, 6, NEMESIS, "info", "kill")]
    stats = (
        StatsChecker()
        .check(
            Recording(history(operation(0, 1, 1.002), operation(2, 2, 3, "fail"), operation(4, 3, 4, "info"), nemesis)),
            Budget(),
        )
        .stats
    )
    assert stats["by_f"] == {"write": {"invoked": 3, "ok": 1, "fail": 1, "info": 1}}
    assert stats["latency_ms"]["p50"] == 2.0
    assert stats["latency_from_intent_ms"]["p50"] == 1002.0


def test_quantiles_of_nothing_are_nothing() -> None:
    assert quantiles_ms([]) == {}
    assert quantiles_ms([n * 1_000_000 for n in range(101)]) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}


@pytest.mark.parametrize("error", ["unlisted: UNKNOWN: etcdserver: brand new", "crash: KeyError: 'x'"])
def test_an_error_no_table_knows_is_unknown_and_quoted(error: str) -> None:
    result = UnhandledErrorsChecker().check(Recording(history(operation(0, 1, 2, "info", error=error))), Budget())
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason is not None
    assert error in result.reason


def test_known_errors_are_only_counted() -> None:
    errors = history(operation(0, 1, 2, "info", error="deadline: x"), operation(2, 1, 2, "info", error="deadline: y"))
    result = UnhandledErrorsChecker().check(Recording(errors), Budget())
    assert (result.verdict, result.stats["by_class"]) == (Verdict.VALID, {"deadline": 2})


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("panic: runtime error: index out of range", "log: panic"),
        ("fatal error: concurrent map writes", "log: panic"),
        ('{"level":"fatal","msg":"failed to open WAL"}', "log: fatal"),
        ("WARNING: DATA RACE", "log: data race"),
        ('{"level":"warn","msg":"found data inconsistency with peers"}', "log: corruption"),
    ],
)
def test_lines_no_healthy_member_writes_are_found(tmp_path: Path, line: str, name: str) -> None:
    log = tmp_path / "n2.log"
    log.write_text(f'{{"level":"info","msg":"fine"}}\n{line}\n')
    result = LogPatternChecker().check(Recording(History(), logs={"n2": log}), Budget())
    assert result.verdict is Verdict.INVALID
    assert name in [anomaly.name for anomaly in result.anomalies]
    assert "n2" in result.anomalies[0].story
    assert LogPatternChecker(ignore=(".*",)).check(Recording(History(), logs={"n2": log}), Budget()).anomalies == ()


def test_ordinary_and_missing_and_binary_logs_are_fine(tmp_path: Path) -> None:
    (tmp_path / "n1.log").write_bytes(b'{"level":"warn","msg":"the panic button was not pressed"}\n\xff\xfe\n')
    logs = {"n1": tmp_path / "n1.log", "n2": tmp_path / "missing.log"}
    assert LogPatternChecker().check(Recording(History(), logs=logs), Budget()).verdict is Verdict.VALID


def liveness(final: FinalState | None) -> Result:
    return LivenessChecker().check(Recording(History(), final=final), Budget())


def test_a_cluster_that_does_not_come_back_is_invalid_and_names_who() -> None:
    dead = FinalState(recovered=False, recovery_bound_s=30, not_recovered={"n3": "deadline"})
    result = liveness(dead)
    assert result.verdict is Verdict.INVALID
    assert "n3 (deadline)" in result.anomalies[0].story


def test_our_own_stalls_make_it_unknown() -> None:
    stalled = FinalState(recovered=False, recovery_bound_s=30, stalls_ms=(9_000.0,))
    assert liveness(stalled).verdict is Verdict.UNKNOWN


def test_recovery_is_valid_and_no_observation_unknown() -> None:
    assert liveness(FinalState(recovered=True, recovery_s=1.0)).verdict is Verdict.VALID
    assert liveness(None).verdict is Verdict.UNKNOWN


def vacuity(recorded: History, *faults: FaultRecord, families: tuple[str, ...] = ()) -> Result:
    return VacuityChecker({"write": 2}, families).check(Recording(recorded, faults=faults), Budget())


ENOUGH = [operation(2 * n, n, n + 0.5) for n in range(4)]


def test_enough_success_is_no_complaint() -> None:
    assert vacuity(history(*ENOUGH)).verdict is Verdict.VALID


def test_too_few_successes_and_unproven_families_are_listed() -> None:
    unproven = FaultRecord(1, "kill", "kill", "unproven", SECOND, ("n1",))
    result = vacuity(history(*ENOUGH[:1]), unproven, families=("kill", "pause"))
    assert result.verdict is Verdict.UNKNOWN
    assert result.evidence["missing"] == [
        "write: 1 ok of the 2 needed",
        "faults: no kill was proven to take effect",
        "faults: no pause was proven to take effect",
    ]


def test_what_comes_after_the_load_is_no_silence_and_silence_until_its_end_is() -> None:
    """A fault whose end takes a minute when clients have stopped is not held against the run; one before that is."""
    late = history(operation(0, 1, 2), operation(2, 25, 26), operation(4, 60.1, 60.2), operation(6, 95, 96))
    assert longest_silence(late, (), load_s=55) is None
    assert "between 26.0 s and 60.0 s" in str(longest_silence(late, (), load_s=60))
    assert "between 26.0 s and 60.2 s" in str(longest_silence(late, ()))
    config = RunConfig("register", 1, "local", ("n1",), "0", "", time_s=55.0)
    assert VacuityChecker({}, ()).check(Recording(late, config), Budget()).verdict is Verdict.VALID


def test_a_long_silence_is_vacuous_unless_the_plan_took_the_quorum() -> None:
    silent = history(*ENOUGH, operation(20, 100, 101), operation(22, 101, 102))
    assert "between 3.5 s and 101.0 s" in (vacuity(silent).reason or "")
    lost = [
        FaultRecord(1, "kill", "kill", phase, time_ns * SECOND, affects_quorum=True)
        for phase, time_ns in (("starting", 4), ("active", 5), ("healing", 99), ("healed", 100))
    ]
    assert quorum_lost_intervals(tuple(lost), 0) == [(4 * SECOND, 100 * SECOND)]  # type: ignore[arg-type]
    assert vacuity(silent, *lost).verdict is Verdict.VALID


def test_an_empty_history_is_vacuous() -> None:
    assert "no operation was invoked" in (vacuity(History()).reason or "")
