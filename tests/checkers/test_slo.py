"""Service levels: how they are written, what they measure, and that a missed one is SLO_MISSED and never INVALID."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from splitvote.checkers.slo import SloChecker, parse_slo
from splitvote.harness.errors import ConfigError
from splitvote.harness.history import History
from splitvote.harness.op import Op, OpType
from splitvote.harness.recording import FaultPhase, FaultRecord, Recording
from splitvote.harness.result import Budget, Result, Verdict

S = 1_000_000_000


def pair(
    at_s: float, took_s: float, type: OpType = "ok", *, f: str = "get", late_s: float = 0.0, revision: int | None = None
) -> list[Op]:
    """An invocation and its completion; ``late_s`` is how long it had waited for a free client."""
    invoke = Op(time_ns=int(at_s * S), type="invoke", f=f, intended_ns=int((at_s - late_s) * S))
    return [invoke, Op(time_ns=int((at_s + took_s) * S), type=type, f=f, revision=revision)]


def recording(*pairs: list[Op], faults: tuple[FaultRecord, ...] = ()) -> Recording:
    """A history of these operations, each of a process of its own."""
    ops = [replace(op, process=number) for number, each in enumerate(pairs) for op in each]
    ops.sort(key=lambda op: op.time_ns)
    return Recording(History([replace(op, index=place) for place, op in enumerate(ops)]), faults=faults)


def check(slo: str, found: Recording) -> Result:
    return SloChecker([parse_slo(slo)]).check(found, Budget())


def fault(recovery_ms: float) -> tuple[FaultRecord, ...]:
    phases: tuple[FaultPhase, ...] = ("starting", "active", "healing", "healed")
    return tuple(
        FaultRecord(4, "kill", "kill", phase, at_s * S, ("n1",), observed={"recovery_ms": recovery_ms})
        for at_s, phase in enumerate(phases)
    )


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("p99<100ms", 0.1),
        ("p99.9 <= 2 s", 2.0),
        ("max:put<1min", 60.0),
        ("availability>99.5%", 0.995),
        ("throughput>80", 80),
    ],
)
def test_levels_are_read_with_their_units(text: str, bound: float) -> None:
    """A bound is kept in seconds, as a share, or in operations a second."""
    assert parse_slo(text).bound == pytest.approx(bound)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fast", "write such as"),
        ("p99>100ms", "has to be below"),
        ("availability<99%", "has to be above"),
        ("p99<100", "a time"),
        ("availability>101%", "a share"),
        ("latency<1s", "no figure 'latency'"),
        ("recovery:get<1s", "of the whole run"),
    ],
)
def test_what_is_no_level_is_refused_with_the_way_to_write_it(text: str, why: str) -> None:
    """The message quotes what was given."""
    with pytest.raises(ConfigError, match=why) as refused:
        parse_slo(text)
    assert text in str(refused.value)


def test_latency_counts_the_wait_for_a_free_client() -> None:
    """An operation that was quick, but began a second late, took a second: a stalled system must not look fast."""
    late = recording(pair(1.0, 0.001), pair(3.0, 0.001, late_s=1.0))
    assert check("max<500ms", late).verdict is Verdict.SLO_MISSED
    assert check("p50<2ms", late).verdict is Verdict.VALID
    assert "(op 2)" in str(check("max<500ms", late).reason)


def test_one_kind_of_operation_may_be_held_to_a_level() -> None:
    """The slow put is none of the gets' business."""
    mixed = recording(pair(1.0, 0.001), pair(2.0, 3.0, f="put"))
    assert check("max:get<10ms", mixed).verdict is Verdict.VALID
    assert check("max:put<10ms", mixed).verdict is Verdict.SLO_MISSED


def test_a_refusal_by_the_system_is_an_answer() -> None:
    """A comparison that did not hold came with a revision; a refused connection and an unknown outcome did not."""
    refused = pair(2.0, 0.1, "fail", revision=7)
    assert check("availability>=100%", recording(pair(1.0, 0.1), refused)).verdict is Verdict.VALID
    for lost in (pair(3.0, 0.1, "fail"), pair(3.0, 0.1, "info")):
        missed = check("availability>99%", recording(pair(1.0, 0.1), refused, lost))
        assert missed.verdict is Verdict.SLO_MISSED
        assert "66.667 %" in str(missed.reason)


def test_recovery_is_that_of_the_worst_fault_and_names_it() -> None:
    """The nemesis measured 1.5 s after fault 4."""
    run = recording(pair(4.0, 0.1), faults=fault(1500.0))
    missed = check("recovery<1s", run)
    assert missed.verdict is Verdict.SLO_MISSED
    assert missed.reason == "recovery<1s missed: 1.50 s after fault 4, kill n1"
    assert missed.anomalies == ()
    assert check("recovery<2s", run).verdict is Verdict.VALID


def test_unavailable_is_the_longest_window_without_success() -> None:
    """Two tries that fail for 5 s."""
    run = recording(pair(1.0, 0.1), pair(2.0, 4.0, "info"), pair(7.0, 0.1))
    assert check("unavailable<4s", run).verdict is Verdict.SLO_MISSED
    assert check("unavailable<6s", run).verdict is Verdict.VALID


def test_what_cannot_be_measured_is_not_missed() -> None:
    """A run without faults has nothing to recover from, and says so."""
    found = check("recovery<1s", recording(pair(1.0, 0.1)))
    assert found.verdict is Verdict.VALID
    assert found.evidence["slos"][0]["measured"] == "nothing to measure"


def test_every_level_has_its_line() -> None:
    """Met and missed ones alike, for the report."""
    levels = [parse_slo("p50<1s"), parse_slo("throughput>1000")]
    found = SloChecker(levels).check(recording(pair(1.0, 0.1), pair(2.0, 0.1)), Budget())
    assert found.verdict is Verdict.SLO_MISSED
    assert [line["met"] for line in found.evidence["slos"]] == [True, False]
