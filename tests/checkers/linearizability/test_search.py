"""The windowed search: known verdicts, its reasons to stop, budgets, and the C twin."""

from __future__ import annotations

import random
from typing import Any

import pytest

from splitvote.checkers.linearizability import FAILED, UNKNOWN_OUTPUT, CheckResult, Model, Operation, models
from splitvote.checkers.linearizability import compiled as c_engine
from splitvote.checkers.linearizability.compiled import engine_available, search_compiled
from splitvote.checkers.linearizability.problem import encode
from splitvote.checkers.linearizability.search import search
from splitvote.checkers.linearizability.witness import replay
from splitvote.harness.result import Budget
from tests.checkers.linearizability.histories import record
from tests.checkers.linearizability.systems import SMALL_SYSTEMS

needs_c = pytest.mark.skipif(not engine_available(), reason="the C search was not built")


def op(asked: Any, call: float, answer: Any = None, return_: float | None = None, client: int = 0) -> Operation:
    return Operation(client, asked, call, UNKNOWN_OUTPUT if return_ is None else answer, return_)


def result(history: list[Operation], model: Model | None = None) -> CheckResult:
    return search(encode(model or models.cas_register(), history)).result


def test_an_empty_history_is_linearizable() -> None:
    assert result([]) is CheckResult.OK


def test_a_stale_read_is_illegal() -> None:
    history = [op(("write", 1), 0, None, 1), op(("write", 2), 2, None, 3), op(("read", None), 4, 1, 5)]
    assert result(history) is CheckResult.ILLEGAL


def test_a_read_may_see_either_of_two_concurrent_writes() -> None:
    for seen in (1, 2):
        history = [op(("write", 1), 0, None, 3), op(("write", 2), 1, None, 4), op(("read", None), 5, seen, 6)]
        assert result(history) is CheckResult.OK


def test_two_reads_may_not_see_two_writes_in_opposite_orders() -> None:
    writes = [op(("write", 1), 0, None, 9), op(("write", 2), 0, None, 9)]
    reads = [op(("read", None), 1, 1, 2), op(("read", None), 3, 2, 4), op(("read", None), 5, 1, 6)]
    assert result(writes + reads) is CheckResult.ILLEGAL


def test_at_equal_times_a_call_comes_before_a_return() -> None:
    """Intervals are closed: a read called when a write returns may miss it."""
    assert result([op(("write", 1), 0, None, 5), op(("read", None), 5, None, 6)]) is CheckResult.OK
    assert result([op(("write", 1), 0, None, 5), op(("read", None), 6, None, 7)]) is CheckResult.ILLEGAL


def test_an_instant_operation_is_not_called_after_its_return() -> None:
    assert result([op(("write", 1), 3, None, 3), op(("read", None), 4, 1, 4)]) is CheckResult.OK


def test_writing_the_present_value_may_matter_later() -> None:
    """A self-loop is not a read: the second write of 1 must wait until 2 is overwritten."""
    history = [
        op(("write", 1), 0, None, 1),
        op(("write", 1), 2, None, 9),
        op(("write", 2), 3, None, 4),
        op(("read", None), 5, 1, 6),
    ]
    assert result(history) is CheckResult.OK


def test_a_crashed_write_may_come_at_any_time_or_never() -> None:
    crashed = op(("write", 7), 0)
    late = [op(("write", 1), 1, None, 2), op(("read", None), 3, 1, 4), op(("read", None), 5, 7, 6)]
    assert result([crashed, *late]) is CheckResult.OK
    assert result([crashed, *late[:2]]) is CheckResult.OK
    assert result([crashed, *late, op(("read", None), 7, 1, 8)]) is CheckResult.ILLEGAL


def test_a_crashed_write_does_not_come_before_its_call() -> None:
    assert result([op(("read", None), 0, 7, 1), op(("write", 7), 2)]) is CheckResult.ILLEGAL


def test_a_crashed_operation_that_nobody_read_explains_a_failed_cas() -> None:
    failed = op(("cas", (1, 2)), 3, FAILED, 4)
    assert result([op(("write", 1), 0, None, 1), failed]) is CheckResult.ILLEGAL
    assert result([op(("write", 1), 0, None, 1), op(("write", 9), 2), failed]) is CheckResult.OK


def test_crashed_operations_may_be_needed_in_a_row() -> None:
    """None -> 5 -> 6 by two operations that nobody saw."""
    history = [op(("write", 5), 0), op(("cas", (5, 6)), 1), op(("read", None), 2, 6, 3)]
    assert result(history) is CheckResult.OK


def test_an_operation_that_returns_before_its_call_is_refused() -> None:
    with pytest.raises(ValueError, match="returns before it is called"):
        encode(models.register(), [op(("write", 1), 5, None, 4)])


def test_unhashable_outputs_are_judged_all_the_same() -> None:
    model = Model(init=int, step=lambda state, asked, answer: (answer == [state], state + asked))
    history = [Operation(0, 1, 0, [0], 1), Operation(0, 1, 2, [1], 3)]
    assert result(history, model) is CheckResult.OK
    assert result(history[::-1], model) is CheckResult.OK
    assert result([history[1]], model) is CheckResult.ILLEGAL


def test_states_may_bring_their_own_equality() -> None:
    """Lists as states, compared without regard to order."""
    model = Model(
        init=list,
        step=lambda state, asked, answer: (answer in (None, len(state)), [*state, asked]),
        equal=lambda a, b: sorted(a) == sorted(b),
        hash=lambda state: hash(tuple(sorted(state))),
    )
    history = [Operation(0, 1, 0, None, 9), Operation(1, 2, 0, None, 9), Operation(2, 3, 0, 2, 9)]
    assert result(history, model) is CheckResult.OK


def test_a_state_that_cannot_be_interned_is_named() -> None:
    model = Model(name="lists", init=list, step=lambda state, *_: (True, state))
    with pytest.raises(TypeError, match=r"model 'lists': state \[\] is not hashable"):
        encode(model, [op(("read", None), 0, 1, 2)])


def test_the_longest_prefix_ends_at_the_return_that_cannot_be() -> None:
    history = [
        op(("write", 1), 0, None, 1),
        op(("write", 2), 2, None, 3),
        op(("read", None), 4, 1, 5),
        op(("write", 3), 6, None, 7),
    ]
    problem = encode(models.register(), history)
    outcome = search(problem)
    assert outcome.furthest == 5
    assert replay(problem, outcome.choices) == [0, 1]


def hard_history() -> list[Operation]:
    """Many writes of few values at once, and then a read that none of them explains."""
    rng = random.Random(3)
    writes = [op(("write", rng.randrange(4)), place, None, 100 + place) for place in range(14)]
    reads = [op(("read", None), 20 + 2 * place, rng.randrange(4), 21 + 2 * place) for place in range(12)]
    return [*writes, *reads, op(("read", None), 90, 9, 91)]


def test_a_spent_budget_gives_unknown_with_the_reason_and_the_prefix() -> None:
    problem = encode(models.register(), hard_history())
    outcome = search(problem, Budget(max_steps=600))
    assert outcome.result is CheckResult.UNKNOWN
    assert "600" in str(outcome.reason)
    assert 0 < outcome.furthest < len(problem.events)
    assert len(replay(problem, outcome.choices)) >= 10


@needs_c
def test_a_spent_budget_ends_the_c_search_too() -> None:
    problem = encode(models.register(), hard_history())
    assert search_compiled(problem, Budget(max_steps=600)) == search(problem, Budget(max_steps=600))


@needs_c
@pytest.mark.parametrize("system", SMALL_SYSTEMS, ids=lambda system: system.name)
def test_c_and_python_take_the_same_steps_on_longer_histories(system: Any) -> None:
    """Verdict, nodes, furthest place and choices, with windows of more than 64 slots among them."""
    rng = random.Random(f"longer {system.name}")
    model = system.model()
    model = model if isinstance(model, Model) else model.to_model()
    for clients in (3, 8):
        problem = encode(model, record(system, rng, count=60, clients=clients, crash=0.03))
        bound = 3_000
        assert search_compiled(problem, Budget(max_steps=bound)) == search(problem, Budget(max_steps=bound))


@needs_c
def test_c_and_python_agree_on_wide_windows_and_many_crashes() -> None:
    """More open operations, and more crashed ones, than a machine word has bits."""
    history = [op(("write", value % 5), value, None, 1000 + value) for value in range(80)]
    history += [op(("write", value % 7), 100 + value) for value in range(90)]
    history += [op(("read", None), 200 + 2 * place, place % 7, 201 + 2 * place) for place in range(60)]
    problem = encode(models.register(), history)
    outcome = search_compiled(problem, Budget(max_steps=5_000))
    assert outcome == search(problem, Budget(max_steps=5_000))


@needs_c
def test_an_error_in_the_model_comes_out_of_the_c_search() -> None:
    def step(state: int, asked: Any, answer: Any) -> tuple[bool, Any]:
        if state == 2:
            raise ZeroDivisionError("the model's own")
        return True, state + 1

    history = [op(("go", None), 2 * place, place, 2 * place + 1) for place in range(5)]
    with pytest.raises(ZeroDivisionError, match="the model's own"):
        search_compiled(encode(Model(init=int, step=step), history))


@needs_c
def test_an_error_in_can_reach_comes_out_of_the_c_search() -> None:
    def can_reach(*_: Any) -> bool:
        raise ZeroDivisionError("the hint's own")

    model = Model(
        init=int,
        step=lambda state, asked, _: (True, state + (asked == "up")),
        read_only=lambda asked, _: asked == "see",
        can_reach=can_reach,
    )
    history = [op("up", 0, None, 9), op("up", 1, None, 8), op("see", 10, None, 11)]
    with pytest.raises(ZeroDivisionError, match="the hint's own"):
        search_compiled(encode(model, history))


@needs_c
@pytest.mark.parametrize(
    ("events", "optional", "classes", "words"),
    [
        ([0, 0, ~0], [False], [0], "fit together"),  # called twice
        ([~0], [False], [0], "fit together"),  # returns uncalled
        ([0], [False], [0], "fit together"),  # never returns, and is not optional
        ([0, ~0], [False], [7], "fit together"),  # no such class
        ([0, ~0, 5], [False], [0], "fit together"),  # no such operation
        ([0, ~0], [], [0], "fit together"),
        ((0, ~0), [False], [0], "lists of integers"),
        ([0, 1 << 40], [False], [0], "32-bit"),
    ],
)
def test_the_c_search_refuses_nonsense(events: Any, optional: Any, classes: Any, words: str) -> None:
    """Instead of reading beyond its arrays."""
    engine = c_engine._search_in_c
    assert engine is not None
    with pytest.raises((ValueError, TypeError, OverflowError), match=words):
        engine(events, optional, classes, [False], 0, None, ([0], [0], [1]), None, None, 256, None)


def test_without_the_c_search_the_python_one_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    from splitvote.checkers.linearizability.engines import decide

    monkeypatch.setattr(c_engine, "_search_in_c", None)
    decision = decide(models.register(), [op(("write", 1), 0, None, 1)], Budget())
    assert (decision.engine, decision.result) == ("search (Python)", CheckResult.OK)
    with pytest.raises(RuntimeError, match="not built"):
        search_compiled(encode(models.register(), []))
