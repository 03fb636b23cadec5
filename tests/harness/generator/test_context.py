"""What a generator may know: threads, processes, and draws that depend on nothing but seed, counter, path and lane."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitvote.harness.generator import Context
from splitvote.harness.generator.context import bits, mask_of
from splitvote.harness.op import NEMESIS

QUICK = settings(deadline=None, max_examples=40)


def test_at_the_start_thread_i_runs_process_i_and_the_nemesis_has_the_last_thread():
    ctx = Context.start(3, seed=7)
    assert ctx.processes == (0, 1, 2, NEMESIS)
    assert list(bits(ctx.free)) == [0, 1, 2, 3]
    assert list(bits(ctx.clients)) == [0, 1, 2]
    assert ctx.concurrency == ctx.nemesis_thread == 3
    assert ctx.thread_of(NEMESIS) == 3
    assert list(ctx.free_processes()) == [0, 1, 2, NEMESIS]


def test_dispatch_takes_the_thread_and_completion_gives_it_back():
    ctx = Context.start(3).dispatched(1, 50)
    assert (ctx.time_ns, ctx.counter, list(bits(ctx.free))) == (50, 1, [0, 2, 3])
    assert not ctx.all_free
    ctx = ctx.completed(1, 60)
    assert (ctx.time_ns, ctx.counter, ctx.all_free) == (60, 1, True)
    assert ctx.dispatched(NEMESIS, 70).free == ctx.clients


def test_a_crashed_process_is_followed_by_process_plus_concurrency_on_the_same_thread():
    ctx = Context.start(3).dispatched(1, 0).completed(1, 5, crashed=True)
    assert ctx.processes == (0, 4, 2, NEMESIS)
    assert ctx.thread_of(4) == ctx.thread_of(1) == 1
    ctx = ctx.dispatched(4, 6).completed(4, 7, crashed=True)
    assert ctx.processes == (0, 7, 2, NEMESIS)


def test_the_nemesis_keeps_its_process_when_its_action_is_info():
    ctx = Context.start(2).dispatched(NEMESIS, 0).completed(NEMESIS, 5, crashed=True)
    assert ctx.processes == (0, 1, NEMESIS)


def test_restricting_narrows_free_and_all_threads_alike_and_keeps_processes():
    ctx = Context.start(8).dispatched(2, 0).restrict(mask_of([1, 2, 3]), 4)
    assert list(bits(ctx.threads)) == [1, 2, 3]
    assert list(bits(ctx.free)) == [1, 3]
    assert len(ctx.processes) == 9


def test_a_drawn_thread_is_forgotten_when_a_restriction_excludes_it():
    ctx = Context.start(8).routed(mask_of([1, 2, 3]), 0, 2)
    assert ctx.restrict(mask_of([2, 3])).thread == 2
    assert ctx.restrict(mask_of([1])).thread == -1


@QUICK
@given(st.sets(st.integers(0, 1100), min_size=1), st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_a_picked_thread_is_one_of_those_given(threads, seed, counter):
    ctx = Context.start(1, seed)
    ctx = ctx.dispatched(0, 0) if counter % 2 else ctx
    assert ctx.pick_thread(mask_of(threads)) in threads


@pytest.mark.parametrize("threads", [range(10), range(40, 50), [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]])
def test_evenly_spread_threads_are_picked_evenly(threads):
    mask = mask_of(threads)
    picks = Counter(Context.start(30, seed).pick_thread(mask) for seed in range(20_000))
    assert picks.keys() == set(threads)
    assert all(1_700 < picks[thread] < 2_300 for thread in threads), picks


def test_no_thread_is_favoured_over_a_run_in_which_the_free_ones_change():
    picks: Counter[int] = Counter()
    ctx = Context.start(16, 3)
    busy: list[int] = []
    for time_ns in range(40_000):
        thread = ctx.pick_thread(ctx.free & ctx.clients)
        picks[thread] += 1
        ctx = ctx.dispatched(thread, time_ns)
        busy.append(thread)
        if len(busy) > 9:
            ctx = ctx.completed(busy.pop(ctx.below(len(busy), 5)), time_ns)
    assert all(0.85 < picks[thread] / 2_500 < 1.15 for thread in range(16)), picks


@QUICK
@given(st.integers(1, 2**40), st.integers(0, 2**63), st.integers(0, 50))
def test_draws_stay_in_their_bounds(bound, seed, lane):
    ctx = Context.start(2, seed)
    assert 0 <= ctx.below(bound, lane) < bound
    assert 0.0 <= ctx.unit(lane) < 1.0
    assert sorted(ctx.shuffled(range(20), lane)) == list(range(20))
    assert len(set(ctx.sample(range(20), 7, lane))) == 7


def chi_squared(counts: Counter[object], cells: int, total: int) -> float:
    expected = total / cells
    return sum((count - expected) ** 2 for count in counts.values()) / expected + (cells - len(counts)) * expected


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("lanes 0 and 1", lambda ctx: (ctx.below(8), ctx.below(8, 1))),
        ("inner lanes", lambda ctx: (ctx.below(8, -1), ctx.below(8, -1_001))),
        ("neighbouring mixes", lambda ctx: (ctx.below(8, -1_001), ctx.below(8, -1_003))),
        ("parent and child", lambda ctx: (ctx.below(8), ctx.branch(0).below(8))),
        ("siblings", lambda ctx: (ctx.branch(0).below(8), ctx.branch(1).below(8))),
        ("consecutive ops", lambda ctx: (ctx.below(8), ctx.dispatched(0, 0).below(8))),
        ("neighbouring seeds", lambda ctx: (ctx.below(8), Context.start(2, ctx.seed + 1).below(8))),
    ],
)
def test_draws_are_even_and_independent(name, pair):
    """64 cells, 63 degrees of freedom: beyond 120 has a chance of 2 in 100,000."""
    total = 12_800
    counts = Counter(pair(Context.start(2, seed)) for seed in range(total))
    assert chi_squared(counts, 64, total) < 120, name


def test_the_counter_makes_new_draws_and_time_and_completions_do_not():
    ctx = Context.start(2, 9).dispatched(0, 1)
    draws = [ctx.below(1 << 30, lane) for lane in range(3)]
    assert [ctx.at(77).completed(0, 78).below(1 << 30, lane) for lane in range(3)] == draws
    assert [ctx.dispatched(1, 2).below(1 << 30, lane) for lane in range(3)] != draws
