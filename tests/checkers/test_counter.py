"""Counter: every read within what had been added for sure and what may have been."""

from __future__ import annotations

import msgspec
import pytest

from splitvote.checkers.counter import CounterChecker, bounded_reads
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.result import Verdict
from tests.checkers.fuzz_library import fuzz
from tests.checkers.library_histories import history, judge, only
from tests.checkers.library_systems import CounterSystem, verdicts

BASE = """
0 invoke add 5
0 ok add
1 invoke add 2
2 invoke add 4
2 fail add
3 invoke read
1 info add
4 invoke add 1
3 ok read {}
4 ok add
"""


@pytest.mark.parametrize("value", [5, 6, 7, 8])
def test_values_within_the_bounds(value: int) -> None:
    """Acknowledged 5; a crashed 2 and a concurrent 1 may count; a failed 4 does not."""
    result = judge(CounterChecker(), BASE.format(value))
    assert result.verdict is Verdict.VALID
    assert [(read.least, read.greatest) for read in bounded_reads(history(BASE.format(value)))] == [(5, 8)]


@pytest.mark.parametrize(
    ("value", "words", "indices"),
    [
        (
            4,
            "returned 4, less than the least possible 5: process 0's add of 5 (record 0, ok at 1) was acknowledged",
            [0, 1, 5, 8],
        ),
        (
            9,
            "returned 9, more than the greatest possible 8: nothing to the contrary was acknowledged",
            [0, 1, 2, 5, 6, 7, 8, 9],
        ),
    ],
)
def test_values_outside_the_bounds(value: int, words: str, indices: list[int]) -> None:
    text = BASE.format(value)
    result = judge(CounterChecker(), text)
    assert (result.verdict, result.reason) == (Verdict.INVALID, f"1 read out of bounds, returning {value}")
    assert words in result.anomalies[0].story
    assert [op.index for op in result.anomalies[0].ops] == indices
    assert judge(CounterChecker(), only(history(text), result)).verdict is Verdict.INVALID
    assert result.stats["farthest_off"] == 1


def test_as_few_acknowledged_adds_as_rule_the_value_out() -> None:
    text = "".join(f"0 invoke add {amount}\n0 ok add\n" for amount in (1, 10, 2, 3)) + "1 invoke read\n1 ok read 4"
    result = judge(CounterChecker(), text)
    assert [op.value for op in result.anomalies[0].ops if op.f == "add" and op.type == "ok"] == [10]


def test_decrements_count_the_other_way_round() -> None:
    text = "0 invoke add -2\n0 ok add\n1 invoke add -1\n2 invoke read\n2 ok read {}\n1 ok add"
    found = {value: judge(CounterChecker(), text.format(value)).verdict for value in (-4, -3, -2, -1)}
    assert [value for value, verdict in found.items() if verdict is Verdict.VALID] == [-3, -2]


def test_an_increment_and_a_decrement_within_one_read() -> None:
    """The decrement was acknowledged before the increment began: the count never rose above its start."""
    text = "2 invoke read\n0 invoke add -1\n0 ok add\n1 invoke add 1\n1 ok add\n2 ok read {}"
    assert judge(CounterChecker(), text.format(0)).verdict is Verdict.VALID
    result = judge(CounterChecker(), text.format(1))
    assert result.verdict is Verdict.INVALID
    assert "at no moment of it" in result.anomalies[0].story
    assert judge(CounterChecker(), only(history(text.format(1)), result)).verdict is Verdict.INVALID


def test_initial_values_and_reads_of_no_number() -> None:
    assert judge(CounterChecker(initial=3), "0 invoke read\n0 ok read 3").verdict is Verdict.VALID
    result = judge(CounterChecker(), "0 invoke read\n0 ok read null")
    assert result.verdict is Verdict.INVALID
    assert "returned None, which is no number" in result.anomalies[0].story


def test_a_counter_that_was_never_read_is_unknown() -> None:
    assert judge(CounterChecker(), "0 invoke add 1\n0 ok add\n1 invoke read\n1 fail read").verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("decrements", [False, True])
def test_healthy_systems_are_never_accused(decrements: bool) -> None:
    assert verdicts(CounterChecker(), lambda: CounterSystem(None, decrements=decrements)) == {Verdict.VALID: 40}


@pytest.mark.parametrize("bug", ["lost", "twice", "stale"])
def test_seeded_bugs_are_found(bug: str) -> None:
    assert verdicts(CounterChecker(), lambda: CounterSystem(bug))[Verdict.INVALID] >= 12


def test_agrees_with_brute_force() -> None:
    found = fuzz("counter", histories=400, seed=14)
    assert min(found[Verdict.VALID], found[Verdict.INVALID]) >= 80


def test_a_long_history() -> None:
    ops: list[Op] = []
    for number in range(50_000):
        index = 2 * number
        is_read = number % 3 == 2
        value = number // 3 * 2 + 2 if is_read else 1
        ops.append(Op(index, index, number % 7, "invoke", "read" if is_read else "add", None, None if is_read else 1))
        ops.append(Op(index + 1, index + 1, number % 7, "ok", "read" if is_read else "add", None, value))
    assert judge(CounterChecker(), History(ops)).verdict is Verdict.VALID
    last = next(place for place in reversed(range(len(ops))) if ops[place].f == "read")
    ops[last] = msgspec.structs.replace(ops[last], value=7)
    assert judge(CounterChecker(), History(ops)).stats["out_of_bounds"] == 1
