"""The near-linear engine: each rule by a smallest history that breaks it, and the traps of failed compare-and-sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from splitvote.checkers.linearizability import (
    FAILED,
    UNKNOWN_OUTPUT,
    CheckResult,
    Operation,
    check_columns,
    models,
)
from splitvote.checkers.linearizability.columns import CAS, READ, WRITE, from_problem, from_register, to_problem
from splitvote.checkers.linearizability.engines import ZONES_FROM, decide, locate
from splitvote.checkers.linearizability.guided import decide_columns
from splitvote.checkers.linearizability.problem import encode
from splitvote.checkers.linearizability.search import search
from splitvote.checkers.linearizability.zones import ZonesOutcome, decide_by_zones
from splitvote.harness.result import Budget


def read(seen: Any, call: float, return_: float | None) -> Operation:
    return Operation(0, ("read", None), call, seen, return_)


def write(value: Any, call: float, return_: float | None = None) -> Operation:
    return Operation(0, ("write", value), call, UNKNOWN_OUTPUT if return_ is None else None, return_)


def cas(old: Any, new: Any, call: float, return_: float | None = None, *, failed: bool = False) -> Operation:
    answer = FAILED if failed else UNKNOWN_OUTPUT if return_ is None else None
    return Operation(0, ("cas", (old, new)), call, answer, return_)


def zones(*history: Operation) -> ZonesOutcome:
    return decide_by_zones(from_problem(encode(models.cas_register(), history)))


ILLEGAL = {
    "a value was read that nobody wrote": [read(7, 0, 1)],
    "a compare-and-set saw a value that nobody wrote": [cas(7, 8, 0, 1)],
    "two compare-and-sets took the same value": [write(1, 0, 1), cas(1, 2, 2, 9), cas(1, 3, 2, 9)],
    "a value was read before its write was called": [read(1, 0, 1), write(1, 2, 3)],
    "two values were held at the same time": [
        write(1, 0, 1),
        write(2, 2, 3),
        read(1, 4, 5),
        read(2, 6, 7),
    ],
    "two chains of values were held at the same time": [
        write(1, 0, 1),
        cas(1, 2, 2, 9),
        write(3, 3, 4),
        read(2, 8, 9),
        read(3, 10, 11),
    ],
    "compare-and-sets form a circle": [cas(1, 2, 0, 9), cas(2, 1, 0, 9)],
    "a value was seen after compare-and-sets had replaced it": [write(1, 0, 1), cas(1, 2, 2, 3), read(1, 4, 5)],
    "a value was written and gone while another was held": [
        write(1, 0, 2),
        write(2, 3, 4),
        read(1, 6, 7),
    ],
    "a compare-and-set failed while its value was held": [
        write(1, 0, 1),
        cas(1, 5, 2, 3, failed=True),
        read(1, 4, 5),
    ],
}


@pytest.mark.parametrize("why", ILLEGAL)
def test_each_rule_names_what_breaks_it(why: str) -> None:
    """And the rows it names are a bad history by themselves."""
    history = ILLEGAL[why]
    outcome = zones(*history)
    assert outcome.result is CheckResult.ILLEGAL
    assert outcome.why == why
    alone = [history[row] for row in outcome.evidence]
    assert search(encode(models.cas_register(), alone)).result is CheckResult.ILLEGAL


def test_circles_of_a_power_of_two_are_circles() -> None:
    """Pointer doubling leads each member of such a circle back to itself."""
    for length in (2, 3, 4, 8):
        circle = [cas(at, (at + 1) % length, 0, 9) for at in range(length)]
        assert zones(*circle).why == "compare-and-sets form a circle"


def test_comparing_and_setting_a_value_to_itself_is_an_observation() -> None:
    assert zones(write(1, 0, 1), cas(1, 1, 2, 3), read(1, 4, 5)).result is CheckResult.OK
    assert zones(write(1, 0, 1), write(2, 2, 3), cas(1, 1, 4, 5)).result is CheckResult.ILLEGAL


def test_a_crashed_cas_is_needed_if_what_it_wrote_was_seen() -> None:
    history = [write(1, 0, 1), cas(1, 2, 2), read(2, 3, 4)]
    assert zones(*history).result is CheckResult.OK
    assert zones(*history, read(1, 5, 6)).result is CheckResult.ILLEGAL


def test_crashed_writes_that_nobody_saw_are_left_out() -> None:
    outcome = zones(write(5, 0), write(1, 1, 2), read(1, 3, 4))
    assert outcome.result is CheckResult.OK
    assert outcome.order is not None
    assert outcome.order.tolist() == [1, 2]


def test_the_order_has_failures_in_their_place() -> None:
    outcome = zones(write(1, 0, 1), cas(2, 3, 2, 9, failed=True), write(2, 4, 5), read(2, 6, 7))
    assert outcome.result is CheckResult.OK
    assert outcome.order is not None
    assert outcome.order.tolist().index(1) < outcome.order.tolist().index(2)


@pytest.mark.parametrize(
    "history",
    [
        [write(1, 0, 1), write(1, 2, 3)],
        [write(None, 0, 1)],
        [write(1, 0, 1), cas(None, 1, 2, 3)],
    ],
    ids=["written twice", "the first value written", "written by cas again"],
)
def test_values_that_are_not_unique_are_left_to_the_search(history: list[Operation]) -> None:
    outcome = zones(*history)
    assert outcome.result is None
    assert "written" in outcome.why
    assert decide_columns(from_problem(encode(models.cas_register(), history)), Budget(), search).result is None


def test_failures_respect_each_others_order() -> None:
    """One denies 1 after another has denied 2: if both writes are concurrent, the first write must come between."""
    writes = [write(1, 0, 20), write(2, 0, 20)]
    denials = [cas(None, 9, 1, 2, failed=True), cas(1, 9, 3, 4, failed=True), cas(2, 9, 5, 6, failed=True)]
    history = [*writes, *denials]
    expected = search(encode(models.cas_register(), history)).result
    found = decide_columns(from_problem(encode(models.cas_register(), history)), Budget(), search)
    assert found.result is expected


def test_a_crashed_operation_that_nobody_read_explains_a_failure() -> None:
    """Zones leave it out, so the search has to put it back."""
    history = [write(1, 0, 1), write(9, 2), cas(1, 2, 3, 4, failed=True)]
    columns = from_problem(encode(models.cas_register(), history))
    assert decide_by_zones(columns).result is None
    outcome = decide_columns(columns, Budget(), search)
    assert (outcome.result, outcome.searched) == (CheckResult.OK, True)
    assert sorted(outcome.linearize()) == [0, 1, 2]


def test_with_nothing_to_put_back_the_failure_is_illegal() -> None:
    history = [write(1, 0, 1), cas(1, 2, 3, 4, failed=True)]
    outcome = decide_columns(from_problem(encode(models.cas_register(), history)), Budget(), search)
    assert outcome.result is CheckResult.ILLEGAL
    assert outcome.stuck_at == 3


def arrays(*rows: tuple[int, int, int, int, int, int]) -> Any:
    """Rows of f, a, b, output, call, return."""
    return from_register(*np.array(rows, np.int64).T)


def test_arrays_with_values_far_apart_are_numbered_by_sorting() -> None:
    far = 10**15
    columns = arrays((WRITE, far, -1, -1, 0, 1), (READ, -1, -1, far, 2, 3))
    assert columns.values == 2
    assert check_columns(columns) is CheckResult.OK
    assert check_columns(arrays((WRITE, far, -1, -1, 0, 1), (READ, -1, -1, far + 1, 2, 3))) is CheckResult.ILLEGAL


def test_arrays_with_values_written_twice_go_to_the_search() -> None:
    rows = [(WRITE, 1, -1, -1, 0, 1), (WRITE, 2, -1, -1, 2, 3), (WRITE, 1, -1, -1, 4, 5), (READ, -1, -1, 1, 6, 7)]
    assert check_columns(arrays(*rows)) is CheckResult.OK
    assert check_columns(arrays(*rows[:2], rows[3])) is CheckResult.ILLEGAL


def test_arrays_of_nothing_are_linearizable() -> None:
    none = np.array([], np.int64)
    assert check_columns(from_register(none, none, none, none, none, none)) is CheckResult.OK


def test_columns_and_problems_turn_into_each_other() -> None:
    rows = [(WRITE, 1, -1, -1, 0, 5), (CAS, 1, 2, 1, 3, 9), (CAS, 4, 5, 0, 4, 8), (READ, -1, -1, 2, 10, -1)]
    columns = arrays(*rows)
    problem = to_problem(columns, np.arange(4))
    again = from_problem(problem)
    assert problem.events == [0, 1, 2, ~0, ~2, ~1]  # the read that never returned constrains nothing
    assert again.test.tolist() == [*columns.test.tolist()[:3], 0]


def test_a_long_history_is_decided_by_zones_and_its_prefix_found() -> None:
    """Hundreds of good operations, then a stale read, then more good ones."""
    history = []
    for value in range(ZONES_FROM):
        history += [write(value, 10 * value, 10 * value + 1), read(value, 10 * value + 2, 10 * value + 3)]
    history[601] = history[601]._replace(output=298)
    decision = decide(models.register(), history, Budget())
    assert (decision.engine, decision.result, decision.furthest) == ("zones", CheckResult.ILLEGAL, None)
    assert set(decision.evidence) <= {596, 597, 598, 599, 600, 601}
    located = locate(decision, Budget())
    assert located.furthest == 1203
    assert located.linearize() == list(range(601))


def test_a_long_good_history_comes_with_its_order() -> None:
    history = []
    for value in range(ZONES_FROM):
        history += [write(value, 10 * value, 10 * value + 12), read(value, 10 * value + 5, 10 * value + 9)]
    decision = decide(models.register(), history, Budget())
    assert (decision.engine, decision.result) == ("zones", CheckResult.OK)
    assert sorted(decision.linearize()) == list(range(2 * ZONES_FROM))
