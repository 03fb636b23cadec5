"""limit, once, repeat, cycle, process_limit, concurrency_limit, until_ok."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitvote.harness.generator import (
    NOTHING,
    GeneratorError,
    clients,
    concurrency_limit,
    cycle,
    each_thread,
    limit,
    once,
    process_limit,
    repeat,
    sleep,
    until_ok,
)
from splitvote.harness.generator.simulation import imperfect, invocations, perfect, quick, simulate

QUICK = settings(deadline=None, max_examples=40)

READ = {"f": "read"}


def numbered(ctx):
    return {"f": "n", "value": ctx.counter}


def fs(gen, **options):
    return [op.f for op in invocations(quick(gen, **options))]


def most_open(history):
    """The most operations open at one time."""
    now = most = 0
    for op in history:
        now += 1 if op.type == "invoke" else -1
        most = max(most, now)
    return most


@QUICK
@given(st.integers(0, 50), st.integers(1, 20))
def test_limit_gives_at_most_n_and_no_fewer_than_there_are(n, concurrency):
    assert len(invocations(imperfect(limit(n, numbered), concurrency=concurrency))) == n
    assert fs(limit(n, [READ] * 5)) == ["read"] * min(n, 5)


def test_limit_0_is_exhausted():
    assert limit(0, READ) is NOTHING


def test_once_is_one():
    assert fs(once(numbered)) == ["n"]


def test_repeat_gives_the_first_op_again_and_again():
    assert fs(repeat(3, [{"f": "a"}, {"f": "b"}])) == ["a"] * 3
    assert fs(limit(4, repeat(READ))) == ["read"] * 4
    assert fs(repeat(0, READ)) == []


def test_repeat_waits_for_what_sleeps_before_the_op_each_time():
    history = invocations(perfect(repeat(3, [sleep(1), READ])))
    assert [op.time_ns for op in history] == [10**9, 2 * 10**9, 3 * 10**9]


def test_cycle_goes_through_all_and_starts_again():
    assert fs(cycle(2, [{"f": "a"}, {"f": "b"}])) == ["a", "b", "a", "b"]
    assert fs(limit(5, cycle([{"f": "a"}, {"f": "b"}]))) == ["a", "b", "a", "b", "a"]


def test_cycle_of_nothing_ends():
    assert fs(cycle([])) == []
    assert fs(cycle(3, lambda: None)) == []


@QUICK
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 99))
def test_process_limit_uses_at_most_n_processes_and_ends_when_they_have_crashed(n, concurrency, seed):
    history = imperfect(
        process_limit(n, clients(limit(500, numbered))), concurrency=concurrency, seed=seed, outcomes="random"
    )
    processes = {op.process for op in history}
    assert len(processes) == n
    crashed = {op.process for op in history if op.type == "info"}
    assert crashed == processes


def test_processes_that_do_not_crash_go_on_within_a_process_limit():
    history = perfect(process_limit(3, clients(limit(60, numbered))), concurrency=10)
    assert len(invocations(history)) == 60
    assert len({op.process for op in history}) == 3


def test_a_process_limit_does_not_wait_for_threads_that_it_has_shut_out():
    history = perfect(process_limit(2, clients(each_thread([READ, READ]))), concurrency=5)
    assert len(invocations(history)) == 4


@QUICK
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_concurrency_limit_keeps_at_most_n_open_and_uses_them(n, concurrency, seed):
    history = imperfect(
        clients(concurrency_limit(n, limit(100, numbered))), concurrency=concurrency, seed=seed, outcomes="random"
    )
    assert len(invocations(history)) == 100
    assert most_open(history) == min(n, concurrency)


def test_until_ok_goes_on_past_failures_and_stops_at_the_first_ok():
    def respond(op, ctx):
        return ("ok" if op.value == 7 else "fail"), 10

    history = simulate(clients(until_ok(numbered)), respond, concurrency=1)
    assert [op.value for op in invocations(history)] == list(range(8))


def test_until_ok_lets_what_is_open_complete():
    history = perfect(clients(until_ok(numbered)), concurrency=5)
    assert len(invocations(history)) == 5
    assert [op.type for op in history[5:]] == ["ok"] * 5


def test_until_ok_looks_at_its_own_ops_only():
    def respond(op, ctx):
        return ("ok" if op.f == "other" or ctx.counter > 20 else "fail"), 10

    gen = clients([limit(3, lambda: {"f": "other"}), until_ok(lambda: {"f": "mine"})])
    mine = [op for op in invocations(simulate(gen, respond, concurrency=3)) if op.f == "mine"]
    assert len(mine) > 15


def test_until_ok_ends_when_what_it_wraps_ends():
    history = simulate(clients(until_ok(limit(4, numbered))), lambda op, ctx: ("fail", 1))
    assert len(invocations(history)) == 4


@pytest.mark.parametrize("build", [limit, repeat, cycle, process_limit, concurrency_limit])
@pytest.mark.parametrize("n", [-1, 1.5, True, "3"])
def test_counts_must_be_whole_and_not_negative(build, n):
    with pytest.raises(GeneratorError, match="count"):
        build(n, READ)


def test_a_concurrency_limit_of_0_would_wait_forever():
    with pytest.raises(GeneratorError, match="wait forever"):
        concurrency_limit(0, READ)


def test_repeat_and_cycle_say_what_they_take():
    with pytest.raises(GeneratorError, match="a count and a generator"):
        repeat(1, READ, READ)  # type: ignore[call-overload]
