"""map_ops, f_map, filter_ops, on_update, trace, validate."""

from __future__ import annotations

import logging

import pytest
from msgspec.structs import replace

from splitvote.harness.generator import (
    Context,
    GeneratorError,
    Pending,
    any_of,
    clients,
    f_map,
    filter_ops,
    limit,
    map_ops,
    on_update,
    repeat,
    sleep,
    trace,
    until_ok,
    validate,
)
from splitvote.harness.generator.simulation import invocations, perfect, quick, simulate
from splitvote.harness.op import NEMESIS, Op

READS = repeat({"f": "read"})


def numbered(ctx):
    return {"f": "n", "value": ctx.counter}


def test_map_ops_changes_every_op():
    gen = map_ops(lambda op: replace(op, value=op.value * 10), limit(3, numbered))
    assert [op.value for op in invocations(quick(gen))] == [0, 10, 20]


def test_f_map_renames_what_it_knows():
    gen = f_map({"a": "x"}, [{"f": "a"}, {"f": "b"}])
    assert [op.f for op in invocations(quick(gen))] == ["x", "b"]


def test_filter_ops_keeps_what_passes():
    gen = filter_ops(lambda op: op.value % 3 == 0, [{"f": "n", "value": i} for i in range(10)])
    assert [op.value for op in invocations(quick(gen))] == [0, 3, 6, 9]


def test_filter_ops_draws_anew_after_each_op_it_drops():
    gen = limit(50, filter_ops(lambda op: op.value == 7, lambda ctx: {"f": "n", "value": ctx.below(20)}))
    assert [op.value for op in invocations(quick(gen))] == [7] * 50


def test_a_filter_that_keeps_nothing_says_so():
    with pytest.raises(GeneratorError, match="dropped 10000 ops in a row"):
        quick(filter_ops(lambda op: False, READS))
    assert quick(filter_ops(lambda op: False, [{"f": "a"}])) == []


def test_on_update_may_replace_the_generator():
    def stop_at_3(this, ctx, event):
        return None if event.type == "ok" and event.value == 3 else this

    assert len(invocations(perfect(clients(on_update(stop_at_3, numbered)), concurrency=1))) == 4


def test_on_update_may_react_with_anything_that_is_a_generator():
    def retry(this, ctx, event):
        return [{"f": "again", "value": event.value}, this] if event.type == "fail" else this

    def respond(op, ctx):
        return ("fail" if op.f == "n" and op.value == 2 else "ok"), 10

    gen = clients(on_update(retry, [{"f": "n", "value": i} for i in range(4)]))
    ops = invocations(simulate(gen, respond, concurrency=1))
    assert [(op.f, op.value) for op in ops] == [("n", 0), ("n", 1), ("n", 2), ("again", 2), ("n", 3)]


@pytest.mark.parametrize("concurrency", [1, 2, 7])
def test_on_update_waits_for_the_last_completion(concurrency):
    """Every write is read back, the last ones too, though nothing else is left by then."""

    def read_back(this, ctx, event):
        is_written = (event.type, event.f) == ("ok", "write")
        return any_of({"f": "read", "value": event.value}, this) if is_written else this

    writes = [{"f": "write", "value": i} for i in range(6)]
    ops = invocations(perfect(clients(on_update(read_back, writes)), concurrency=concurrency))
    assert sorted(op.value for op in ops if op.f == "read") == list(range(6))


def test_on_update_may_let_what_is_wrapped_learn_of_the_event():
    def pass_on(this, ctx, event):
        return this.updated(ctx, event)

    assert len(invocations(perfect(clients(on_update(pass_on, until_ok(READS))), concurrency=1))) == 1


def test_trace_tells_the_log_and_changes_nothing(caplog):
    plain = [{"f": "a"}, sleep(1), {"f": "b"}]
    with caplog.at_level(logging.INFO, logger="splitvote.generator"):
        assert perfect(trace("mine", plain)) == perfect(plain)
    assert any("mine: op at 0 ns -> Op(" in message for message in caplog.messages)
    assert any("mine: op at 0 ns -> Pending(" in message for message in caplog.messages)
    assert any("mine: update at" in message for message in caplog.messages)
    assert caplog.messages[-1].endswith(("exhausted", ")"))


@pytest.mark.parametrize("wrap", [lambda g: map_ops(lambda op: op, g), lambda g: filter_ops(bool, g), validate])
def test_what_is_wrapped_learns_of_updates(wrap):
    assert len(invocations(perfect(clients(wrap(until_ok(READS))), concurrency=1))) == 1


class Answers:
    """A generator that answers whatever it was made with."""

    observes = False

    def __init__(self, answer):
        self.answer = answer

    def op(self, ctx):
        return self.answer

    def update(self, ctx, event):
        return self


CTX = Context.start(3).dispatched(2, 100).completed(2, 100, crashed=True).dispatched(1, 100)


@pytest.mark.parametrize(
    ("op", "problem"),
    [
        ("read", "a str is no Op"),
        ({"f": "read"}, "a dict is no Op"),
        (Op(f="read", time_ns=100, type="invoke"), "process -2 is no process"),
        (Op(f="read", time_ns=100, process=2), "process 2 is gone; its thread 2 runs process 5"),
        (Op(f="read", time_ns=100, process=1), "process 1 is not free"),
        (Op(f="read", time_ns=99, process=0), r"before now \(100 ns\)"),
        (Op(f="", time_ns=100, process=0), "must be a name"),
        (Op(f="read", time_ns=100, process=0, type="ok"), "type is 'ok' where 'invoke' belongs"),
        (Op(f="kill", time_ns=100, process=NEMESIS), "type is 'invoke' where 'info' belongs"),
        (Pending(100), "not after now"),
    ],
)
def test_validate_names_the_generator_and_what_is_wrong_with_the_op(op, problem):
    gen = validate(Answers((op, READS)), "workloads.mine")
    with pytest.raises(GeneratorError, match=problem) as caught:
        gen.op(CTX)
    assert "generator workloads.mine gave" in str(caught.value)
    assert repr(op) in str(caught.value)


@pytest.mark.parametrize(
    "answer", ["op", (Op(f="read"),), [Op(f="read"), READS], (Pending(), None), (Pending(), {"f": "x"})]
)
def test_validate_checks_the_shape_of_the_answer(answer):
    with pytest.raises(GeneratorError, match=r"an answer is None or a pair|no generator"):
        validate(Answers(answer), "mine").op(CTX)


def test_validate_names_functions_by_themselves():
    gen = validate(numbered)
    assert gen.name.endswith("test_transform.numbered")


def test_validate_minds_the_context():
    outside = Op(f="read", process=0, time_ns=100)
    with pytest.raises(GeneratorError, match="not in this generator's context"):
        validate(Answers((outside, READS)), "mine").op(CTX.restrict(0b110))


def test_validate_lets_good_generators_through():
    gen = [{"f": "a"}, sleep(1), limit(5, numbered)]
    assert quick(validate(gen)) == quick(gen)
    assert validate(None).op(CTX) is None
