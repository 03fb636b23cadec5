"""What faults cost, as the stats checker counts it: by family, time to recover, windows without success."""

from __future__ import annotations

from msgspec.structs import replace

from splitvote.checkers.stats import StatsChecker
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import FaultRecord, Recording
from splitvote.harness.result import Budget, Verdict

S = 1_000_000_000


def operations(*times_s: float, waiting: tuple[tuple[float, float], ...] = ()) -> History:
    """An ok operation of 1 ms at each of these times; while ``waiting`` one is open that ends as info."""
    records: list[Op] = []
    for start_s in times_s:
        records += [Op(0, int(start_s * S), 0, "invoke", "put"), Op(0, int(start_s * S) + 1_000_000, 0, "ok", "put")]
    for process, (start_s, end_s) in enumerate(waiting, 1):
        ends = ((start_s, "invoke"), (end_s, "info"))
        records += [Op(0, int(at_s * S), process, type_, "put") for at_s, type_ in ends]  # type: ignore[arg-type]
    records.sort(key=lambda op: op.time_ns)
    return History(replace(op, index=index) for index, op in enumerate(records))


def fault(
    number: int, family: str, start_s: float, end_s: float, *, is_proven: bool = True, takes_quorum: bool = False
) -> list[FaultRecord]:
    phases = {"starting": start_s, "active" if is_proven else "unproven": start_s, "healing": end_s, "healed": end_s}
    return [
        FaultRecord(number, family, family, phase, int(time_s * S), affects_quorum=takes_quorum)  # type: ignore[arg-type]
        for phase, time_s in phases.items()
    ]


def test_faults_are_counted_by_family_with_what_they_cost() -> None:
    """Injected and proven apart; recovery from the start of healing to the first answer; windows outside the plan."""
    faults = [*fault(0, "kill", 2, 5), *fault(1, "kill", 6, 7, is_proven=False), *fault(2, "pause", 8, 11)]
    history = operations(0, 1, 1.9, 5.2, 5.9, 6.5, 7.1, 7.9, 11.004, waiting=((2.1, 5.1), (8.5, 10.9)))
    result = StatsChecker().check(Recording(history, faults=tuple(faults)), Budget())
    assert result.verdict is Verdict.VALID
    assert result.stats["faults"] == {"kill": {"injected": 2, "proven": 1}, "pause": {"injected": 1, "proven": 1}}
    assert result.stats["recovery_ms"] == {"p50": 101.0, "p95": 101.0, "p99": 101.0, "max": 201.0}
    assert result.stats["unavailable"] == {"windows": 2, "longest_ms": 3101.0}


def test_windows_in_which_the_plan_took_the_quorum_do_not_count() -> None:
    """Nobody can be served then, so nothing was unavailable that should have been there."""
    history = operations(0, 1, 1.9, 5.2, waiting=((2.1, 5.1),))
    for takes_quorum, windows in ((True, 0), (False, 1)):
        faults = tuple(fault(0, "kill", 2, 5, takes_quorum=takes_quorum))
        stats = StatsChecker().check(Recording(history, faults=faults), Budget()).stats
        assert stats["unavailable"]["windows"] == windows


def test_nothing_recorded_costs_nothing() -> None:
    """An empty history has figures, and no recovery to speak of."""
    stats = StatsChecker().check(Recording(History()), Budget()).stats
    assert (stats["faults"], stats["recovery_ms"], stats["unavailable"]["windows"]) == ({}, {}, 0)
