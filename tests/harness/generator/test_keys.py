"""sequential_keys and concurrent_keys."""

from __future__ import annotations

import itertools
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitvote.harness.generator import (
    GeneratorError,
    clients,
    concurrent_keys,
    each_thread,
    lift,
    limit,
    mix,
    nemesis,
    repeat,
    sequential_keys,
    synchronize,
    until_ok,
)
from splitvote.harness.generator.simulation import imperfect, invocations, perfect, quick, simulate
from splitvote.harness.op import NEMESIS

QUICK = settings(deadline=None, max_examples=40)
READS = repeat({"f": "read"})


def numbered(n):
    return [{"f": "n", "value": i} for i in range(n)]


@QUICK
@given(st.integers(0, 12), st.integers(1, 5), st.integers(0, 99))
def test_sequential_keys_are_gone_through_in_order(keys, per_key, seed):
    names = [f"k{i}" for i in range(keys)]
    ops = invocations(imperfect(sequential_keys(names, lambda key: numbered(per_key)), seed=seed, outcomes="random"))
    assert [(op.key, op.value) for op in ops] == [(name, i) for name in names for i in range(per_key)]


@QUICK
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 20), st.integers(1, 8), st.integers(0, 99))
def test_concurrent_keys(group, groups, keys, per_key, seed):
    """Every key gets all its ops, from one group of threads; each group takes its keys in order."""
    concurrency = group * groups
    gen = concurrent_keys(group, range(keys), lambda key: limit(per_key, mix([READS, repeat({"f": "write"})])))
    history = imperfect(gen, concurrency=concurrency, seed=seed, outcomes="random")
    ops = invocations(history)
    groups_of, order = defaultdict(set), defaultdict(list)
    for op in ops:
        place = op.process % concurrency // group
        groups_of[op.key].add(place)
        order[place].append(op.key)
    assert sorted(groups_of) == list(range(keys))
    assert all(len(found) == 1 for found in groups_of.values())
    assert all(taken == sorted(taken) for taken in order.values())
    assert all(len([op for op in ops if op.key == key]) == per_key for key in range(keys))
    starts = list(dict.fromkeys(op.key for op in ops))
    assert starts == sorted(starts) or len(set(starts)) == len(starts)


def test_keys_are_handed_out_in_order_of_need():
    ops = invocations(perfect(concurrent_keys(2, range(30), lambda key: limit(20, READS)), concurrency=6))
    first_seen = list(dict.fromkeys(op.key for op in ops))
    assert sorted(first_seen) == list(range(30))
    assert all(abs(key - place) <= 3 for place, key in enumerate(first_seen))


def test_keys_may_be_a_function_without_end():
    ops = invocations(
        quick(limit(100, concurrent_keys(1, lambda i: f"key-{i}", lambda key: numbered(5))), concurrency=4)
    )
    assert {op.key for op in ops} >= {f"key-{i}" for i in range(19)}
    ops = invocations(quick(limit(12, sequential_keys(lambda i: i, lambda key: numbered(5)))))
    assert [op.key for op in ops] == [0] * 5 + [1] * 5 + [2] * 2


@pytest.mark.parametrize("build", [sequential_keys, lambda keys, of: concurrent_keys(2, keys, of)])
def test_a_function_of_keys_may_end_them(build):
    ops = invocations(quick(build(lambda i: i if i < 4 else None, lambda key: numbered(3))))
    assert sorted({op.key for op in ops}) == [0, 1, 2, 3]


@pytest.mark.parametrize("build", [sequential_keys, lambda keys, of: concurrent_keys(2, keys, of)])
def test_keys_without_ops_are_passed_over(build):
    ops = invocations(quick(build(range(40), lambda key: numbered(3) if key % 10 == 0 else None)))
    assert sorted({op.key for op in ops}) == [0, 10, 20, 30]


@pytest.mark.parametrize("build", [sequential_keys, lambda keys, of: concurrent_keys(2, keys, of)])
def test_keys_that_never_have_ops_are_an_error_not_a_loop(build):
    with pytest.raises(GeneratorError, match=r"1000 .*in a row were empty"):
        quick(build(lambda i: i, lambda key: []))


def test_the_nemesis_has_no_keys():
    gen = concurrent_keys(2, range(5), lambda key: numbered(5))
    assert NEMESIS not in {op.process for op in quick(gen)}
    ops = quick(clients(gen, {"f": "kill"}))
    assert [op.key for op in ops if op.process == NEMESIS] == [None, None]


def test_a_key_may_have_its_own_phases_and_threads():
    """The write of a key's second phase comes only when its four reads have completed, whatever other keys do."""

    def of_key(key):
        return [each_thread({"f": "read"}), synchronize({"f": "write"})]

    history = imperfect(concurrent_keys(4, range(12), of_key), concurrency=8, outcomes="random", latency_ns=1_000)
    for key in range(12):
        records = [(op.f, op.type == "invoke") for op in history if op.key == key]
        assert records == [*sorted(records[:8], key=lambda _: 0), ("write", True), ("write", False)]
        assert {f for f, _ in records[:8]} == {"read"}
        assert sum(is_invoke for _, is_invoke in records[:8]) == 4


def test_updates_reach_the_key_they_are_about():
    def respond(op, ctx):
        return ("ok" if op.value == op.key + 3 else "fail"), 10

    gen = concurrent_keys(1, range(6), lambda key: until_ok(numbered(100)))
    ops = invocations(simulate(gen, respond, concurrency=3))
    for key in range(6):
        assert [op.value for op in ops if op.key == key] == list(range(key + 4))
    ops = invocations(
        simulate(clients(sequential_keys(range(3), lambda key: until_ok(numbered(100)))), respond, concurrency=1)
    )
    assert [op.key for op in ops] == [0] * 4 + [1] * 5 + [2] * 6


def test_a_key_does_not_learn_of_the_last_key_s_ops_that_are_still_open():
    heard = []

    class Listener:
        observes = True

        def __init__(self, key):
            self.key = key

        def op(self, ctx):
            return lift(READS).op(ctx)[0], self

        def update(self, ctx, event):
            heard.append((self.key, event.key))
            return self

    imperfect(concurrent_keys(3, range(9), lambda key: limit(4, Listener(key))), concurrency=3, outcomes="random")
    assert len(heard) > 30
    assert all(key == of_event for key, of_event in heard)


def test_threads_left_over_are_refused_with_what_to_do():
    with pytest.raises(GeneratorError, match=r"has 10 threads, of which only 9.*multiple of 3"):
        quick(concurrent_keys(3, range(5), lambda key: READS), concurrency=10)


@pytest.mark.parametrize("keys", [itertools.count(), iter([1, 2]), {1, 2}, 5])
def test_keys_that_are_no_value_are_refused(keys):
    for build in (lambda: sequential_keys(keys, READS.op), lambda: concurrent_keys(2, keys, READS.op)):
        with pytest.raises(GeneratorError, match="give a list, a tuple, a range, or a function"):
            build()


def test_the_group_size_is_checked():
    with pytest.raises(GeneratorError, match="number of threads"):
        concurrent_keys(0, range(3), lambda key: READS)


def test_within_the_nemesis_there_is_nobody_for_keys():
    with pytest.raises(GeneratorError, match="none qualifies"):
        quick(nemesis(concurrent_keys(1, range(3), lambda key: READS)))
