"""mix, any_of, flip_flop."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitvote.harness.generator import (
    NOTHING,
    Context,
    GeneratorError,
    Pending,
    any_of,
    clients,
    delay,
    flip_flop,
    lift,
    limit,
    mix,
    nemesis,
    repeat,
    sleep,
    until_ok,
)
from splitvote.harness.generator.simulation import invocations, perfect, quick, simulate

QUICK = settings(deadline=None, max_examples=40)
SECOND = 10**9
A, B, C = (repeat({"f": f}) for f in "abc")


def fs(gen, **options):
    return [op.f for op in invocations(quick(gen, **options))]


@pytest.mark.parametrize("weights", [None, [1, 1, 1], [5, 3, 2], [1, 98, 1]])
@pytest.mark.parametrize("seed", [1, 2])
def test_mix_chooses_by_weight(weights, seed):
    total = 6_000
    counts = Counter(fs(limit(total, mix([A, B, C], weights)), seed=seed))
    shares = weights or [1, 1, 1]
    for f, share in zip("abc", shares, strict=True):
        expected = total * share / sum(shares)
        assert abs(counts[f] - expected) < 5 * expected**0.5 + 1


def test_a_mix_within_a_mix_chooses_independently():
    """All four pairs of (outer, inner) choices, and of consecutive choices, are equally likely."""
    inner_ab, inner_cd = mix([A, B]), mix([C, repeat({"f": "d"})])
    chosen = fs(limit(8_000, mix([inner_ab, inner_cd])), seed=3)
    singles, pairs = Counter(chosen), Counter(itertools.pairwise(chosen))
    assert all(abs(singles[f] - 2_000) < 220 for f in "abcd"), singles
    assert all(abs(pairs[f, g] - 500) < 110 for f in "abcd" for g in "abcd"), pairs


def test_a_function_in_a_mix_draws_independently_of_the_mix():
    def draws(ctx):
        return {"f": "w", "value": ctx.below(2)}

    gen = limit(4_000, mix([draws, lambda ctx: {"f": "x", "value": ctx.below(2)}]))
    counts = Counter((op.f, op.value) for op in invocations(quick(gen)))
    assert all(abs(count - 1_000) < 150 for count in counts.values())
    assert len(counts) == 4


@QUICK
@given(st.lists(st.integers(0, 6), max_size=6), st.integers(0, 99))
def test_mix_uses_up_all_and_each_in_its_own_order(lengths, seed):
    gens = [[{"f": str(i), "value": n} for n in range(length)] for i, length in enumerate(lengths)]
    ops = invocations(quick(mix(gens), seed=seed))
    for i, length in enumerate(lengths):
        assert [op.value for op in ops if op.f == str(i)] == list(range(length))
    assert len(ops) == sum(lengths)


@QUICK
@given(st.integers(0, 99))
def test_weights_keep_to_their_generators_when_others_run_out(seed):
    gen = mix([limit(1, A), B, limit(1, C), repeat({"f": "d"})], [1, 30, 1, 10])
    counts = Counter(fs(limit(1_000, gen), seed=seed))
    assert counts["a"] == counts["c"] == 1
    assert 650 < counts["b"] < 840


def test_a_pending_choice_is_waited_for_so_that_waiting_changes_no_odds():
    slow = repeat([sleep(1), {"f": "slow"}])
    counts = Counter(fs(limit(400, mix([slow, A])), seed=1))
    assert 150 < counts["slow"] < 250


def test_mix_checks_its_weights():
    for weights in ([1], [1, 0], [1, -1], [1, 1.5]):
        with pytest.raises(GeneratorError, match="weights"):
            mix([A, B], weights)
    assert mix([]) is NOTHING


def test_any_of_gives_what_can_go_first():
    gen = any_of(delay(3, [{"f": "a"}] * 3), [sleep(1), {"f": "b"}], [sleep(4), {"f": "c"}])
    ops = invocations(perfect(gen))
    assert [(op.f, op.time_ns // SECOND) for op in ops] == [("a", 0), ("b", 1), ("a", 3), ("c", 4), ("a", 6)]


def test_any_of_takes_the_soonest_of_ops_in_the_future():
    gen = any_of({"f": "late", "time_ns": 90}, {"f": "soon", "time_ns": 50})
    op, after = gen.op(Context.start(2))
    assert (op.f, op.time_ns) == ("soon", 50)
    assert after.op(Context.start(2))[0].f == "late"


def test_any_of_prefers_a_wake_time_to_a_later_op():
    gen = any_of({"f": "late", "time_ns": 90}, [sleep(50e-9), {"f": "soon"}])
    answer, gen = gen.op(Context.start(2))
    assert answer == Pending(50)
    assert gen.op(Context.start(2).at(50))[0].f == "soon"


def test_any_of_gives_those_that_can_go_at_once_equal_chances():
    counts = Counter(fs(limit(3_000, any_of(A, B, C))))
    assert all(850 < count < 1_150 for count in counts.values())


def test_any_of_leaves_out_the_exhausted():
    assert sorted(fs(any_of([{"f": "a"}], None, [{"f": "b"}, {"f": "c"}]))) == ["a", "b", "c"]
    assert any_of() is NOTHING
    assert any_of(None, A) is A


def test_any_of_clients_and_nemesis_asks_only_one_of_them_for_an_op():
    asked = Counter()

    def count(f):
        def gen(ctx):
            asked[f] += 1
            return {"f": f}

        return gen

    gen = any_of(clients(limit(500, count("c"))), nemesis(limit(20, count("n"))))
    ops = invocations(perfect(gen, concurrency=5))
    assert Counter(op.f for op in ops) == {"c": 500, "n": 20}
    assert asked.total() <= 520


def test_flip_flop_alternates_until_one_is_exhausted():
    assert fs(flip_flop(A, [{"f": "b"}, {"f": "c"}])) == ["a", "b", "a", "c", "a"]
    assert fs(limit(5, flip_flop(A, B, C))) == ["a", "b", "c", "a", "b"]
    assert flip_flop() is NOTHING


@pytest.mark.parametrize("build", [mix, lambda gens: any_of(*gens), lambda gens: flip_flop(*gens)])
def test_all_choices_learn_of_updates(build):
    gens = [until_ok(repeat({"f": f})) for f in "ab"]
    history = simulate(clients(limit(1_000, build(gens))), lambda op, ctx: ("ok", 10), concurrency=1)
    assert len(invocations(history)) == 2


def test_choices_answer_the_same_when_asked_twice():
    ctx = Context.start(5, 8)
    for gen in (mix([A, B, C]), any_of(A, B), flip_flop(A, B)):
        assert gen.op(ctx) == gen.op(ctx)
        assert lift(gen) is gen
