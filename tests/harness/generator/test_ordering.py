"""synchronize, phases, then."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from splitvote.harness.generator import clients, limit, nemesis, phases, repeat, sleep, synchronize, then, until_ok
from splitvote.harness.generator.simulation import imperfect, invocations, perfect, simulate

QUICK = settings(deadline=None, max_examples=40)


@QUICK
@given(st.lists(st.integers(0, 12), max_size=6), st.integers(1, 10), st.integers(0, 99))
def test_phases_never_overlap(lengths, concurrency, seed):
    gen = phases(*(limit(n, repeat({"f": str(i)})) for i, n in enumerate(lengths)))
    history = imperfect(gen, concurrency=concurrency, seed=seed, outcomes="random", latency_ns=1_000)
    seen = [int(op.f) for op in history]
    assert seen == sorted(seen)
    assert [seen.count(i) for i in range(len(lengths))] == [2 * n for n in lengths]


def test_a_plain_sequence_does_overlap():
    history = perfect([limit(3, repeat({"f": "a"})), limit(3, repeat({"f": "b"}))], concurrency=6)
    assert [op.f for op in history[:6]] == ["a", "a", "a", "b", "b", "b"]
    assert all(op.time_ns == 0 for op in history[:6])


def test_then_is_first_and_afterwards_second():
    history = perfect(then(limit(3, repeat({"f": "a"})), {"f": "b"}))
    assert [op.f for op in history] == ["a"] * 6 + ["b"] * 2


def test_phases_within_clients_do_not_wait_for_the_nemesis():
    def respond(op, ctx):
        return "ok", (10**9 if op.f == "kill" else 10)

    gen = clients(phases({"f": "a"}, {"f": "b"}), {"f": "kill"})
    ops = invocations(simulate(gen, respond))
    assert next(op for op in ops if op.f == "b").time_ns == 10
    gen = phases(clients({"f": "a"}, {"f": "kill"}), clients({"f": "b"}))
    ops = invocations(simulate(gen, respond))
    assert next(op for op in ops if op.f == "b").time_ns == 10**9


def test_phases_for_clients_and_nemesis_in_turn():
    gen = phases(clients(limit(4, repeat({"f": "load"}))), nemesis({"f": "kill"}), sleep(1), clients({"f": "check"}))
    ops = invocations(perfect(gen))
    assert [op.f for op in ops] == ["load"] * 4 + ["kill", "check"]
    assert ops[-1].time_ns >= 10**9


def test_what_is_to_come_learns_of_updates_too():
    gen = clients(synchronize(until_ok(repeat({"f": "a"}))))
    assert len(invocations(perfect(gen, concurrency=1))) == 1
