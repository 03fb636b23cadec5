"""time_limit, stagger, delay, rate, sleep, cycle_times."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitvote.harness.generator import (
    Context,
    GeneratorError,
    Pending,
    any_of,
    clients,
    cycle_times,
    delay,
    lift,
    limit,
    nemesis,
    phases,
    rate,
    repeat,
    sleep,
    stagger,
    time_limit,
    until_ok,
)
from splitvote.harness.generator.simulation import imperfect, invocations, perfect, quick, simulate

QUICK = settings(deadline=None, max_examples=40)

SECOND = 10**9
READS = repeat({"f": "read"})


def times(history):
    return [op.time_ns for op in invocations(history)]


def gaps(history):
    return [b - a for a, b in itertools.pairwise(times(history))]


@QUICK
@given(st.floats(0.001, 5), st.floats(0.01, 1), st.integers(0, 99))
def test_time_limit_stops_at_its_deadline_and_not_before(limit_s, mean_s, seed):
    history = perfect(time_limit(limit_s, stagger(mean_s, READS)), seed=seed)
    last = times(history)[-1]
    assert last < limit_s * SECOND
    assert last > (limit_s - 2 * mean_s) * SECOND - 1


def test_time_limit_runs_from_when_it_is_first_asked():
    gen = [sleep(3), time_limit(2, delay(1, READS))]
    assert times(perfect(gen)) == [3 * SECOND, 4 * SECOND]


def test_time_limit_ends_what_would_wait_longer():
    gen = phases(time_limit(2, [{"f": "a"}, sleep(100), {"f": "b"}]), {"f": "after"})
    assert [(op.f, op.time_ns) for op in invocations(perfect(gen))] == [("a", 0), ("after", 2 * SECOND)]


def test_an_op_asked_for_past_the_deadline_is_not_given():
    gen = phases(time_limit(2, {"f": "late", "time_ns": 5 * SECOND}), {"f": "after"})
    assert [(op.f, op.time_ns) for op in invocations(perfect(gen))] == [("after", 2 * SECOND)]


def test_a_time_limit_lets_open_ops_complete():
    history = perfect(clients(time_limit(1, delay(0.4, READS))), latency_ns=3 * SECOND)
    assert [op.type for op in history] == ["invoke"] * 3 + ["ok"] * 3


@QUICK
@given(st.integers(0, 99))
def test_stagger_spaces_ops_by_its_mean(seed):
    spaces = gaps(perfect(limit(1_000, stagger(0.01, READS)), seed=seed))
    assert 0.009 < sum(spaces) / len(spaces) / SECOND < 0.011
    assert max(spaces) <= 0.02 * SECOND + 10


def test_stagger_0_does_not_wait():
    assert set(times(quick(limit(5, stagger(0, READS))))) == {0}


def test_delay_keeps_its_distance_and_does_not_catch_up():
    assert gaps(perfect(limit(5, delay(0.5, READS)))) == [SECOND // 2] * 4
    slow = clients(limit(5, delay(0.5, READS)))
    assert gaps(perfect(slow, concurrency=1, latency_ns=SECOND)) == [SECOND] * 4


@QUICK
@given(st.floats(0.5, 5_000), st.integers(1, 200))
def test_rate_is_even_and_intended_times_are_on_its_grid(ops_per_s, n):
    ops = invocations(perfect(limit(n, rate(ops_per_s, READS)), concurrency=20))
    grid = [int(i * (1e9 / ops_per_s)) for i in range(n)]
    assert [op.intended_ns for op in ops] == grid
    assert all(late >= 0 for late in (op.time_ns - op.intended_ns for op in ops))


def test_rate_catches_up_at_twice_the_rate_and_not_faster():
    """All three threads hang for the first second; then the backlog is worked off at double speed."""

    def respond(op, ctx):
        return "ok", SECOND if op.time_ns < 30_000_000 else 1_000

    history = simulate(clients(limit(400, rate(100, READS))), respond, concurrency=3)
    ops = invocations(history)
    late = [op.time_ns - op.intended_ns for op in ops]
    assert max(late) > 0.9 * SECOND
    assert late[-1] == 0
    spaces = gaps(history)
    assert min(spaces) >= 5_000_000
    caught_up = late.index(0, 10)
    behind = spaces[10 : caught_up - 1]
    assert len(behind) > 50
    assert set(behind) == {5_000_000}


@QUICK
@given(st.floats(1, 1_000), st.integers(1, 8), st.integers(0, 99), st.integers(1, 10**8))
def test_however_late_a_run_is_rate_keeps_half_an_interval_between_ops(ops_per_s, concurrency, seed, latency_ns):
    gen = clients(limit(100, rate(ops_per_s, READS)))
    history = imperfect(gen, concurrency=concurrency, seed=seed, latency_ns=latency_ns, outcomes="random")
    assert min(gaps(history)) >= int(1e9 / ops_per_s / 2)
    intended = [op.intended_ns for op in invocations(history)]
    assert intended == [int(i * (1e9 / ops_per_s)) for i in range(100)]


def test_rate_counts_from_when_it_is_first_asked():
    ops = invocations(perfect([sleep(2), limit(3, rate(1, READS))]))
    assert [op.intended_ns for op in ops] == [2 * SECOND, 3 * SECOND, 4 * SECOND]


def test_while_it_is_too_early_what_is_wrapped_is_not_asked():
    class Asked:
        observes = False
        count = 0

        def op(self, ctx):
            Asked.count += 1
            return lift({"f": "read"}).op(ctx)[0], self

        def update(self, ctx, event):
            return self

    for build in (lambda gen: rate(1, gen), lambda gen: delay(1, gen)):
        ctx = Context.start(4)
        _, gen = build(Asked()).op(ctx)
        before = Asked.count
        for time_ns in range(1, SECOND, SECOND // 10):
            answer, gen = gen.op(ctx.at(time_ns))
            assert answer == Pending(SECOND)
        assert Asked.count == before


@pytest.mark.parametrize("build", [rate, stagger, delay])
def test_the_end_is_not_waited_for(build):
    gen = phases(build(0.1, limit(2, READS)), {"f": "after"})
    ops = invocations(perfect(gen, concurrency=1))
    assert ops[-1].f == "after"
    assert ops[-1].time_ns == ops[-2].time_ns + 10


def test_sleep_makes_a_pause_in_a_sequence():
    history = invocations(perfect([{"f": "a"}, sleep(2), {"f": "b"}]))
    assert [(op.f, op.time_ns) for op in history] == [("a", 0), ("b", 2 * SECOND)]


def test_a_sleep_begins_only_when_a_thread_is_free():
    ctx = Context.start(1).dispatched(0, 5).dispatched(-1, 5)
    gen = sleep(1)
    assert gen.op(ctx) == (Pending(None), gen)
    assert gen.op(ctx.completed(0, 7))[0] == Pending(SECOND + 7)


def test_the_nemesis_sleeps_from_the_end_of_its_action():
    gen = nemesis([{"f": "start"}, sleep(5), {"f": "stop"}])
    history = perfect(gen, latency_ns=SECOND)
    assert [op.time_ns for op in history] == [0, SECOND, 6 * SECOND, 7 * SECOND]


def test_a_sleeping_nemesis_does_not_hold_up_the_clients():
    gen = any_of(clients(limit(50, rate(10, READS))), nemesis([sleep(2.05), {"f": "kill"}]))
    ops = invocations(perfect(gen))
    assert [op.time_ns for op in ops if op.f == "kill"] == [2_050_000_000]
    assert [op.time_ns for op in ops if op.f == "read"] == [i * SECOND // 10 for i in range(50)]


def test_cycle_times_gives_each_its_turn_and_resumes_where_it_was():
    def counting(f):
        return [{"f": f, "value": i} for i in range(100)]

    gen = limit(9, cycle_times(2, delay(1, counting("a")), 1, delay(1, counting("b"))))
    ops = invocations(perfect(gen))
    assert [(op.f, op.value, op.time_ns // SECOND) for op in ops] == [
        ("a", 0, 0),
        ("a", 1, 1),
        ("b", 0, 2),
        ("a", 2, 3),
        ("a", 3, 4),
        ("b", 1, 5),
        ("a", 4, 6),
        ("a", 5, 7),
        ("b", 2, 8),
    ]


def test_cycle_times_gives_no_op_that_would_come_after_its_turn():
    gen = limit(4, cycle_times(1, {"f": "late", "time_ns": 1_500_000_000}, 1, delay(0.4, repeat({"f": "b"}))))
    assert [(op.f, op.time_ns // 10**8) for op in invocations(perfect(gen))] == [
        ("b", 10),
        ("b", 14),
        ("b", 18),
        ("late", 20),
    ]


def test_cycle_times_ends_with_the_first_that_is_exhausted():
    gen = cycle_times(1, [{"f": "a"}], 1, READS)
    assert [op.f for op in invocations(perfect(gen))] == ["a"]


def test_what_is_wrapped_learns_of_updates():
    for build in (
        lambda gen: time_limit(100, gen),
        lambda gen: rate(10, gen),
        lambda gen: delay(0.1, gen),
        lambda gen: stagger(0.1, gen),
        lambda gen: cycle_times(100, gen),
    ):
        history = perfect(clients(build(until_ok(READS))), concurrency=1)
        assert len(invocations(history)) == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: time_limit(-1, READS), "time_limit: -1"),
        (lambda: sleep(float("nan")), "sleep: nan"),
        (lambda: stagger(-0.5, READS), "stagger"),
        (lambda: rate(0, READS), "rate: 0"),
        (lambda: rate(float("nan"), READS), "rate"),
        (lambda: cycle_times(5, READS, 3), "pairs"),
        (lambda: cycle_times(0, READS), "last 0 s"),
    ],
)
def test_durations_and_rates_that_make_no_sense_are_refused(build, message):
    with pytest.raises(GeneratorError, match=message):
        build()
