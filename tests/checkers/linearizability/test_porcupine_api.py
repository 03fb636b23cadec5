"""The API that Porcupine's users know: operations, events, verbose answers, partial linearizations, annotations."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from splitvote.checkers.linearizability import (
    Annotation,
    CheckResult,
    Event,
    Operation,
    check_events,
    check_events_verbose,
    check_operations,
    check_operations_verbose,
    models,
    operations_of_events,
)
from splitvote.checkers.linearizability.engines import Share, decide_many
from splitvote.harness.result import Budget, BudgetExceeded
from tests.checkers.linearizability.test_search import hard_history

STALE = [
    Operation(0, ("write", 1), 0, None, 1),
    Operation(1, ("write", 2), 2, None, 3),
    Operation(2, ("read", None), 4, 1, 5),
]


def test_events_are_paired_by_their_ids() -> None:
    events = [
        Event(0, "call", ("write", 1), 7),
        Event(1, "call", ("read", None), 8),
        Event(1, "return", 1, 8),
        Event(0, "return", None, 7),
    ]
    assert check_events(models.register(), events) is CheckResult.OK
    assert check_events(
        models.register(), [*events, Event(2, "call", ("read", None), 9), Event(2, "return", 5, 9)]
    ) is (CheckResult.ILLEGAL)
    assert [operation.return_ for operation in operations_of_events(events[:3])] == [None, 2]


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([Event(0, "return", 1, 3)], "id 3, which has no open call"),
        ([Event(0, "call", 1, 3), Event(0, "call", 1, 3)], "id 3 is called a second time"),
        ([Event(0, "call", 1, 3), Event(0, "return", 1, 3), Event(0, "return", 1, 3)], "has no open call"),
    ],
)
def test_events_that_do_not_pair_are_refused(events: list[Event], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_events(models.register(), events)


def test_a_timeout_gives_unknown() -> None:
    assert check_operations(models.register(), hard_history(), timeout_s=0.0) is CheckResult.UNKNOWN


def test_a_verbose_check_of_a_good_history_has_its_whole_order() -> None:
    result, info = check_operations_verbose(models.register(), STALE[:2])
    assert result is CheckResult.OK
    assert info.partial_linearizations() == [[[0, 1]]]


def test_a_verbose_check_of_a_bad_history_has_partial_orders_for_each_operation() -> None:
    """The read of 1 is in none: before the second write it is not called, after it it is wrong."""
    result, info = check_operations_verbose(models.register(), STALE)
    assert result is CheckResult.ILLEGAL
    (part,) = info.parts
    assert part.longest == [0, 1]
    assert part.by_operation == [[0, 1], [0, 1], []]


def test_the_longest_order_with_an_operation_may_not_be_the_longest() -> None:
    """Two concurrent writes, either of which may come last; only one of the orders goes on."""
    history = [
        Operation(0, ("write", 1), 0, None, 9),
        Operation(1, ("write", 2), 0, None, 9),
        Operation(2, ("cas", (1, 3)), 0, None, 9),
        Operation(3, ("read", None), 10, 2, 11),
        Operation(3, ("read", None), 12, 7, 13),
    ]
    _, info = check_operations_verbose(models.cas_register(), history)
    (part,) = info.parts
    assert part.longest[-1] == 3
    assert len(part.longest) == 4
    assert all(number in order for number, order in enumerate(part.by_operation) if number != 4)


def test_partitions_are_reported_apart() -> None:
    history = [
        Operation(0, ("put", "a", "x"), 0, None, 1),
        Operation(0, ("put", "b", "y"), 0, None, 1),
        Operation(0, ("get", "b", None), 2, "z", 3),
    ]
    result, info = check_operations_verbose(models.kv(), history)
    assert result is CheckResult.ILLEGAL
    assert [part.result for part in info.parts] == [CheckResult.OK, CheckResult.ILLEGAL]
    assert len(info.engines) == 2


def test_info_is_json_with_annotations() -> None:
    _, info = check_events_verbose(models.register(), [Event(4, "call", ("write", 1), 0)])
    info.add_annotations([Annotation(0, 5, "partition", tag="nemesis", details="n1 | n2, n3", color="#c33")])
    drawn = json.loads(json.dumps(info.to_json()))
    assert drawn["parts"][0]["operations"] == [
        {"client": 4, "call": 0, "return": None, "what": "wrote 1 (no answer)"},
    ]
    assert drawn["annotations"][0]["tag"] == "nemesis"


def test_one_hard_history_does_not_starve_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitvote.checkers.linearizability.engines.FIRST_SHARE", 300)
    budget = Budget(max_steps=2_000)
    decisions = decide_many(models.register(), [hard_history(), STALE], budget)
    assert [decision.result for decision in decisions] == [CheckResult.UNKNOWN, CheckResult.ILLEGAL]


def test_a_share_is_bounded_by_itself_and_by_the_whole() -> None:
    whole = Budget(max_steps=100)
    with pytest.raises(BudgetExceeded, match="bound 10"):
        Share(whole, 10).check(11)
    with pytest.raises(BudgetExceeded, match="bound 100"):
        Share(whole, 1000).check(95)
    assert Share(Budget(time_s=5.0), 10).remaining_s is not None


def test_importing_the_package_imports_no_numpy() -> None:
    """`splitvote --help` must stay quick."""
    code = "import sys, splitvote.checkers.linearizability; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=600).returncode == 0
