"""How users' values become generators, and what the messages say when they cannot."""

from __future__ import annotations

import functools

import pytest

from splitvote.harness.errors import ConfigError
from splitvote.harness.generator import (
    NOTHING,
    PENDING,
    Context,
    GeneratorError,
    Pending,
    is_log,
    lift,
    limit,
    log,
    sleep,
)
from splitvote.harness.generator.simulation import invocations, quick
from splitvote.harness.op import NEMESIS, Op


def fs(gen, **options):
    return [op.f for op in invocations(quick(gen, **options))]


def values(gen, **options):
    return [op.value for op in invocations(quick(gen, **options))]


def test_none_is_exhausted():
    assert lift(None) is NOTHING
    assert NOTHING.op(Context.start(1)) is None


def test_a_dict_is_emitted_once_and_filled_in():
    op, after = lift({"f": "write", "value": [1, 2], "key": "k"}).op(Context.start(2, 1).at(70))
    assert (op.f, op.value, op.key, op.time_ns) == ("write", [1, 2], "k", 70)
    assert op.type == ("info" if op.process == NEMESIS else "invoke")
    assert after.op(Context.start(2)) is None


def test_an_op_is_a_template_as_a_dict_is():
    assert fs([Op(f="a"), {"f": "b"}, Op(f="c")]) == ["a", "b", "c"]


def test_without_a_free_thread_a_template_is_pending():
    ctx = Context.start(1).dispatched(0, 0).dispatched(NEMESIS, 0)
    gen = lift({"f": "read"})
    assert gen.op(ctx) == (PENDING, gen)


def test_a_template_for_a_process_waits_for_it_and_is_dropped_when_the_process_has_crashed():
    gen = lift({"f": "read", "process": 1})
    ctx = Context.start(2)
    assert gen.op(ctx)[0].process == 1
    busy = ctx.dispatched(1, 0)
    assert gen.op(busy)[0] == PENDING
    assert gen.op(busy.completed(1, 5, crashed=True)) is None
    assert lift({"f": "read", "process": 99}).op(ctx) is None


def test_a_template_may_ask_for_a_later_time_but_not_for_a_past_one():
    assert lift({"f": "read", "time_ns": 100}).op(Context.start(1))[0].time_ns == 100
    assert lift({"f": "read", "time_ns": 100}).op(Context.start(1).at(500))[0].time_ns == 500


def test_lists_and_tuples_go_one_after_another_to_any_depth():
    assert fs([{"f": "a"}, ({"f": "b"}, [{"f": "c"}]), None, [], {"f": "d"}]) == ["a", "b", "c", "d"]


def test_a_function_is_called_for_each_op_until_it_returns_none():
    def count_down(ctx):
        return {"f": "write", "value": ctx.counter} if ctx.counter < 3 else None

    assert values(count_down) == [0, 1, 2]


def test_a_function_may_take_nothing_or_be_a_method_or_a_partial():
    class Workload:
        def read(self, ctx):
            return {"f": "read", "value": ctx.concurrency}

    def write(value, ctx):
        return {"f": "write", "value": value}

    assert fs(limit(2, lambda: {"f": "x"})) == ["x", "x"]
    assert values(limit(1, Workload().read), concurrency=4) == [4]
    assert values(limit(1, functools.partial(write, 7))) == [7]
    assert values(limit(1, lambda ctx, value=8: {"f": "write", "value": value})) == [8]


def test_what_a_function_returns_is_used_up_before_the_next_call():
    def pair(ctx):
        return [{"f": "a", "value": ctx.counter}, {"f": "b"}] if ctx.counter < 4 else None

    assert fs(pair) == ["a", "b", "a", "b"]
    assert fs(limit(3, lambda: Op(f="op"))) == ["op"] * 3


def test_a_function_that_never_returns_anything_useful_is_named():
    def nothing():
        return []

    with pytest.raises(GeneratorError, match=r"nothing.*1000 empty generators in a row"):
        quick(nothing)


def test_a_function_is_not_called_when_no_thread_is_free():
    calls = []
    gen = lift(lambda: calls.append(1))
    ctx = Context.start(1).dispatched(0, 0).dispatched(NEMESIS, 0)
    assert gen.op(ctx) == (PENDING, gen)
    assert not calls


def test_an_exception_in_a_function_says_which():
    def broken(ctx):
        raise KeyError("no such thing")

    with pytest.raises(KeyError) as caught:
        quick(broken)
    assert "broken" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"f": "read", "vaule": 3}, r"vaule.*an op has f, value"),
        ({"value": 3}, "has no f"),
        (42, r"not a generator: 42 \(int\)"),
        ("read", "not a generator: 'read'"),
        (iter([{"f": "read"}]), "list_iterator"),
        ([{"f": "read"}, 3], "not a generator: 3"),
        (lambda ctx, other: None, "takes 2 arguments"),
    ],
)
def test_what_is_no_generator_is_refused_with_the_value_in_the_message(value, message):
    with pytest.raises(GeneratorError, match=message) as caught:
        lift(value)
    assert isinstance(caught.value, ConfigError)


def test_log_lines_are_given_to_the_runner_and_leave_no_trace():
    """An operation that happens to be called log is none."""
    gen = lift(log("half way"))
    op, _ = gen.op(Context.start(2))
    assert is_log(op)
    assert op.value == "half way"
    assert not is_log(Op(f="log"))
    assert fs([{"f": "a"}, log("half way"), {"f": "b"}]) == ["a", "b"]


def test_a_generator_is_lifted_to_itself():
    gen = sleep(1)
    assert lift(gen) is gen
    assert gen.op(Context.start(1))[0] == Pending(10**9)
