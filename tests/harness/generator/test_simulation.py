"""The simulators themselves: quick, perfect, imperfect."""

from __future__ import annotations

import pytest

from splitvote.harness.generator import GeneratorError, clients, limit, repeat, sleep, synchronize
from splitvote.harness.generator.simulation import imperfect, invocations, perfect, quick, simulate
from splitvote.harness.history import History
from splitvote.harness.op import NEMESIS

READS = repeat({"f": "read"})


def test_quick_completes_every_op_at_once():
    history = quick(clients(limit(4, READS)), concurrency=2)
    assert [op.type for op in history] == ["invoke", "ok"] * 4
    assert {op.time_ns for op in history} == {0}
    assert [op.index for op in history] == list(range(8))


def test_perfect_takes_its_time_for_each_op():
    history = perfect(clients(limit(4, READS)), concurrency=2, latency_ns=7)
    assert [(op.time_ns, op.type) for op in history] == [
        (0, "invoke"),
        (0, "invoke"),
        (7, "ok"),
        (7, "ok"),
        (7, "invoke"),
        (7, "invoke"),
        (14, "ok"),
        (14, "ok"),
    ]


def test_imperfect_rotates_through_the_outcomes_and_renumbers_crashed_processes():
    history = imperfect(clients(limit(9, READS)), concurrency=1)
    assert [op.type for op in history[1::2]] == ["info", "fail", "ok"] * 3
    assert [op.process for op in history[::2]] == [0, 1, 1, 1, 2, 2, 2, 3, 3]


def test_imperfect_at_random_depends_on_the_seed_only():
    def run(seed):
        return imperfect(clients(limit(60, READS)), outcomes="random", seed=seed)

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert {op.type for op in run(1)} == {"invoke", "ok", "fail", "info"}


@pytest.mark.parametrize("run", [quick, perfect, imperfect])
def test_simulated_histories_pair_up(run):
    history = History(run(clients(limit(50, READS), [{"f": "kill"}, {"f": "heal"}])))
    assert len(history.operations) == 50
    assert all(operation.completion is not None for operation in history.operations)
    assert [op.type for op in history.nemesis] == ["info"] * 4
    assert [op.f for op in invocations(history) if op.process == NEMESIS] == ["kill", "heal"]


def test_an_endless_generator_is_cut_off_where_asked():
    assert len(invocations(perfect(READS, max_ops=25))) == 25


def test_an_op_in_the_future_is_dropped_for_what_a_completion_makes_possible():
    def react(ctx):
        if ctx.counter == 0:
            return {"f": "first"}
        if ctx.counter > 3:
            return None
        return {"f": "now"} if ctx.time_ns >= 10 else {"f": "later", "time_ns": 10**9}

    ops = invocations(perfect(react, concurrency=2))
    assert [(op.f, op.time_ns) for op in ops] == [("first", 0), ("now", 10), ("now", 10), ("now", 10)]


def test_waiting_for_what_never_happens_is_an_error():
    class Never:
        observes = False

        def op(self, ctx):
            from splitvote.harness.generator import PENDING

            return PENDING, self

        def update(self, ctx, event):
            return self

    with pytest.raises(GeneratorError, match="waits forever"):
        perfect(clients([{"f": "a"}, synchronize(Never())]))


def test_an_op_that_is_always_in_the_future_is_an_error():
    with pytest.raises(GeneratorError, match="put off its next op 100000 times"):
        quick(lambda ctx: {"f": "later", "time_ns": ctx.time_ns + 1})


def test_malformed_ops_are_named():
    class Wrong:
        observes = False

        def op(self, ctx):
            return {"f": "read"}, self

        def update(self, ctx, event):
            return self

    with pytest.raises(GeneratorError, match="a dict is no Op"):
        quick(Wrong())


def test_respond_decides():
    history = simulate(clients(limit(2, READS)), lambda op, ctx: ("fail", 5 * ctx.counter), concurrency=1)
    assert [(op.type, op.time_ns) for op in history] == [("invoke", 0), ("fail", 5), ("invoke", 5), ("fail", 15)]


def test_time_passes_when_nothing_is_open():
    assert [op.time_ns for op in quick([sleep(1), {"f": "a"}])] == [10**9] * 2
