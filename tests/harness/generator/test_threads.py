"""Who does it: clients, nemesis, on_threads, each_thread, each_process, reserve."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitvote.harness.generator import (
    PENDING,
    Context,
    GeneratorError,
    Pending,
    any_of,
    clients,
    delay,
    each_process,
    each_thread,
    lift,
    limit,
    nemesis,
    on_threads,
    repeat,
    reserve,
    sleep,
    stagger,
    synchronize,
    until_ok,
)
from splitvote.harness.generator.simulation import imperfect, invocations, perfect, quick, simulate
from splitvote.harness.op import NEMESIS

QUICK = settings(deadline=None, max_examples=40)
SECOND = 10**9
READS = repeat({"f": "read"})


def by_thread(history, concurrency):
    found = defaultdict(list)
    for op in invocations(history):
        found[concurrency if op.process == NEMESIS else op.process % concurrency].append(op)
    return found


def test_clients_and_nemesis_keep_to_their_threads():
    assert NEMESIS not in {op.process for op in quick(clients(limit(50, READS)))}
    assert {op.process for op in quick(nemesis(limit(5, READS)))} == {NEMESIS}


def test_the_nemesis_ops_are_info_and_the_clients_are_invokes():
    history = quick(clients(limit(3, READS), limit(2, repeat({"f": "kill"}))))
    assert {op.type for op in history if op.f == "kill"} == {"info"}
    assert {op.type for op in history if op.f == "read"} == {"invoke", "ok"}


@pytest.mark.parametrize(
    "gen",
    [
        clients(limit(40, READS), [{"f": "kill"}] * 3),
        nemesis([{"f": "kill"}] * 3, limit(40, READS)),
        any_of(nemesis([{"f": "kill"}] * 3), clients(limit(40, READS))),
        any_of(clients(limit(20, READS)), nemesis([{"f": "kill"}] * 3), clients(limit(20, READS))),
    ],
)
def test_clients_beside_a_nemesis(gen):
    ops = invocations(imperfect(gen))
    assert Counter((op.f, op.process == NEMESIS) for op in ops) == {("read", False): 40, ("kill", True): 3}


def test_a_busy_nemesis_does_not_hold_up_clients_nor_they_it():
    def respond(op, ctx):
        return "ok", SECOND

    gen = clients(limit(10, READS), [{"f": "kill"}] * 4)
    history = simulate(gen, respond, concurrency=2)
    assert [op.time_ns for op in invocations(history) if op.f == "kill"] == [0, SECOND, 2 * SECOND, 3 * SECOND]
    assert [op.time_ns for op in invocations(history) if op.f == "read"] == [i // 2 * SECOND for i in range(10)]


def test_on_threads_takes_a_predicate_or_a_collection():
    even = quick(on_threads(lambda thread: thread % 2 == 0, limit(40, READS)), concurrency=5)
    assert {op.process for op in even} == {0, 2, 4}
    assert {op.process for op in quick(on_threads({1, 3}, limit(40, READS)))} == {1, 3}


@pytest.mark.parametrize("gen", [on_threads([], READS), clients(nemesis(READS)), on_threads([50], READS)])
def test_a_selection_without_a_thread_is_refused(gen):
    with pytest.raises(GeneratorError, match="none qualifies"):
        quick(gen)


def test_clients_and_nemesis_within_the_nemesis_are_refused():
    with pytest.raises(GeneratorError, match="inside another"):
        quick(nemesis(clients(READS, READS)))


def test_what_is_wrapped_learns_only_of_its_own_threads():
    seen = []

    class Listener:
        observes = True

        def op(self, ctx):
            return lift({"f": "heard"}).op(ctx)[0], self

        def update(self, ctx, event):
            seen.append((event.f, ctx.threads.bit_count()))
            return self

    gen = any_of(on_threads([0, 1], limit(10, Listener())), on_threads([2], limit(10, READS)))
    quick(gen, concurrency=3)
    assert Counter(seen) == {("heard", 2): 18}  # with the tenth op the limit is used up, and nobody listens


@QUICK
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 99))
def test_each_thread_gives_every_thread_its_own_copy(concurrency, n, seed):
    gen = clients(each_thread([{"f": "step", "value": i} for i in range(n)]))
    history = imperfect(gen, concurrency=concurrency, seed=seed, outcomes="random")
    threads = by_thread(history, concurrency)
    assert threads.keys() == set(range(concurrency))
    assert all([op.value for op in ops] == list(range(n)) for ops in threads.values())


def test_each_thread_covers_the_nemesis_when_not_within_clients():
    assert {op.process for op in quick(each_thread({"f": "x"}), concurrency=2)} == {0, 1, NEMESIS}


def test_each_thread_keeps_a_pace_for_every_thread():
    history = perfect(clients(each_thread(limit(3, delay(1, READS)))), concurrency=4)
    for ops in by_thread(history, 4).values():
        assert [op.time_ns for op in ops] == [0, SECOND, 2 * SECOND]


def test_threads_that_draw_while_asked_at_one_moment_draw_apart():
    def nap(ctx):
        return [sleep(ctx.unit()), {"f": "up"}]

    ops = invocations(perfect(clients(limit(50, each_thread(nap))), concurrency=50))
    assert len({op.time_ns for op in ops}) > 40


def test_each_thread_passes_updates_to_the_thread_they_are_about():
    def respond(op, ctx):
        return ("ok" if op.process == 1 or ctx.counter > 40 else "fail"), 10

    history = simulate(clients(each_thread(until_ok(READS))), respond, concurrency=3)
    counts = {thread: len(ops) for thread, ops in by_thread(history, 3).items()}
    assert counts[1] == 1
    assert counts[0] + counts[2] > 35


@QUICK
@given(st.integers(1, 20), st.integers(0, 99))
def test_each_process_starts_a_new_copy_for_each_process(concurrency, seed):
    gen = clients(limit(120, each_process([{"f": "step", "value": i} for i in range(3)])))
    history = imperfect(gen, concurrency=concurrency, seed=seed, outcomes="random")
    processes = defaultdict(list)
    for op in invocations(history):
        processes[op.process].append(op.value)
    assert processes.keys() >= set(range(concurrency))
    assert all(values == list(range(len(values))) for values in processes.values())


def test_each_process_ends_when_the_present_processes_are_done():
    history = perfect(clients(each_process([{"f": "a"}, {"f": "b"}])), concurrency=3)
    assert len(invocations(history)) == 6


def test_each_process_serves_the_process_after_a_crash_of_someone_else():
    def respond(op, ctx):
        return ("info" if op.f == "crash" else "ok"), 10

    gen = clients(any_of(each_process({"f": "hello"}), [sleep(1), {"f": "crash"}, sleep(1), {"f": "end"}]))
    history = simulate(gen, respond, concurrency=3)
    assert Counter(op.f for op in invocations(history)) == {"hello": 3, "crash": 1, "end": 1}
    gen = clients([limit(3, each_process(READS)), {"f": "crash"}, each_process({"f": "hello"})])
    assert len({op.process for op in invocations(simulate(gen, respond, concurrency=3)) if op.f == "hello"}) == 3


def test_each_process_serves_new_processes_while_others_are_not_done():
    def respond(op, ctx):
        return ("info" if op.f == "crash" else "ok"), 10

    gen = clients(any_of(each_process(limit(3, delay(1, READS))), [sleep(0.5), {"f": "crash"}]))
    history = simulate(gen, respond, concurrency=2)
    reads = Counter(op.process for op in invocations(history) if op.f == "read")
    assert sorted(reads.values()) == [1, 3, 3]
    assert len(reads) == 3


@QUICK
@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=5),
    st.integers(0, 8),
    st.integers(0, 99),
    st.booleans(),
)
def test_reserve_keeps_each_generator_to_its_range(sizes, rest, seed, same_pace):
    kinds = [limit(30, repeat({"f": str(i)})) for i in range(len(sizes))]
    if not same_pace:
        kinds[0] = stagger(1e-7, kinds[0])
    arguments = [argument for pair in zip(sizes, kinds, strict=True) for argument in pair]
    if rest:
        arguments.append(limit(30, repeat({"f": "rest"})))
    concurrency = sum(sizes) + rest
    history = imperfect(clients(reserve(*arguments)), concurrency=concurrency, seed=seed, outcomes="random")
    first = 0
    for i, size in enumerate([*sizes, rest] if rest else sizes):
        name = "rest" if i == len(sizes) else str(i)
        threads = {op.process % concurrency for op in history if op.f == name}
        assert threads <= set(range(first, first + size))
        assert len([op for op in invocations(history) if op.f == name]) == 30
        first += size


@pytest.mark.parametrize("seed", range(6))
def test_the_alarm_of_a_process_that_has_crashed_in_its_sleep_wakes_nobody(seed):
    """Process 0 crashes in another op while its copy sleeps; its thread is busy when the old alarm is due."""

    def respond(op, ctx):
        return ("info" if op.f == "crash" else "ok"), (2 * SECOND if op.f == "slow" else 10)

    napping = each_process([sleep(1), {"f": "up"}])
    gen = clients(any_of(napping, [sleep(0.5), {"f": "crash"}, {"f": "slow"}]))
    ops = invocations(simulate(gen, respond, concurrency=1, seed=seed))
    assert sorted((op.f, op.process) for op in ops) == [("crash", 0), ("slow", 1), ("up", 1)]


def test_reserve_shares_ops_by_the_threads_that_are_free():
    history = quick(clients(limit(4_000, reserve(2, repeat({"f": "few"}), repeat({"f": "many"})))), concurrency=10)
    counts = Counter(op.f for op in invocations(history))
    assert 650 < counts["few"] < 950


def test_without_a_default_the_other_threads_get_nothing():
    history = quick(clients(reserve(2, limit(50, READS))), concurrency=10)
    assert {op.process for op in history} == {0, 1}


@pytest.mark.parametrize(
    ("gen", "message"),
    [
        (lambda: quick(clients(reserve(5, READS, 6, READS)), concurrency=10), "5 . 6 threads are reserved"),
        (lambda: quick(clients(reserve(10, READS, READS)), concurrency=10), "a default besides"),
        (lambda: reserve(0, READS), "reserve"),
        (lambda: reserve(READS, 5), "reserve"),
    ],
)
def test_reserve_counts_its_threads(gen, message):
    with pytest.raises(GeneratorError, match=message):
        gen()


def test_a_group_that_waits_for_all_its_threads_is_asked_when_one_comes_free():
    """The group of threads 0 and 1 is pending with no wake time; only a completion of its own can change that."""

    def respond(op, ctx):
        return "ok", (SECOND if op.process == 1 else 10)

    first = [{"f": "a", "process": 0}, {"f": "a", "process": 1}, synchronize({"f": "b"})]
    gen = clients(reserve(2, first, limit(300, delay(0.01, READS))))
    ops = invocations(simulate(gen, respond, concurrency=4))
    assert [op.time_ns for op in ops if op.f == "b"] == [SECOND]


def test_a_pending_group_is_asked_when_it_has_learnt_of_an_event():
    """Thread 0 was free when its group fell asleep and is free now; what changed is that somebody's op on it was ok."""

    class Waiter:
        observes = True

        def op(self, ctx):
            return PENDING, self

        def update(self, ctx, event):
            return lift({"f": "went"}) if (event.f, event.type) == ("go", "ok") else self

    gen = clients(any_of(reserve(1, Waiter()), on_threads([0], [sleep(1), {"f": "go"}])))
    assert [op.f for op in invocations(perfect(gen, concurrency=2))] == ["go", "went"]


def test_a_pending_group_is_not_asked_again_before_its_time():
    """A thousand sleepers cost one question each, not one per op of the others."""
    asked = Counter()

    class Sleeper:
        observes = False

        def op(self, ctx):
            asked["sleeper"] += 1
            return (Pending(SECOND), self) if ctx.time_ns < SECOND else None

        def update(self, ctx, event):
            return self

    gen = clients(any_of(each_thread(Sleeper()), limit(500, delay(0.001, READS))))
    assert len(invocations(perfect(gen, concurrency=1_000))) == 500
    assert asked["sleeper"] <= 2_000 + 1


@pytest.mark.parametrize("concurrency", [10, 1_000])
def test_an_op_costs_one_question_whatever_the_number_of_threads(concurrency):
    asked = Counter()

    def count(ctx):
        asked["op"] += 1
        return {"f": "read"}

    gen = clients(limit(2_000, reserve(5, each_thread(count), each_thread(count))))
    quick(gen, concurrency=concurrency)
    assert asked["op"] <= 2_000 + 2 * concurrency
    assert asked["op"] < 2_000 + concurrency + 5


def test_groups_answer_the_same_when_asked_twice():
    for gen in (each_thread(READS), reserve(2, READS, READS), each_process(READS)):
        ctx = Context.start(5, 3)
        assert gen.op(ctx) == gen.op(ctx)
