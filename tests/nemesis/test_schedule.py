"""Schedules: a function of the seed, no family starving, calm between faults, one fault at a time unless asked."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitvote.harness.errors import ConfigError
from splitvote.harness.generator import GeneratorLike, clients, nemesis, repeat
from splitvote.harness.generator.simulation import invocations, simulate
from splitvote.harness.op import Op
from splitvote.nemesis import Choice, Turn, one_at_a_time, overlapping, parse_faults, timeline, turns
from tests.nemesis.fake_cluster import FakeCluster

S = 1_000_000_000
seeds = st.integers(min_value=0, max_value=2**63 - 1)


def choices(spec: str = "kill,pause,partition", nodes: int = 5) -> list[Choice]:
    return list(parse_faults(spec, FakeCluster(nodes)).faults.values())


def first(count: int, seed: int, spec: str = "kill,pause,partition") -> list[Turn]:
    return list(islice(turns(choices(spec), seed), count))


def played(schedule: GeneratorLike, seed: int = 0, client_ops: int = 0) -> list[Op]:
    """The nemesis's operations when a start takes 1 s and a stop 2 s, beside so many client operations."""

    def respond(op: Op, ctx: Any) -> Any:
        return ("info", S if op.f.startswith("start") else 2 * S) if op.f.startswith("st") else ("ok", 10)

    beside = repeat(client_ops, {"f": "read"}) if client_ops else None
    history = simulate(clients(beside, schedule) if beside else nemesis(schedule), respond, concurrency=2, seed=seed)
    return [op for op in invocations(history) if op.f != "read"]


@given(seeds)
def test_the_same_seed_makes_the_same_turns(seed: int) -> None:
    assert first(20, seed) == first(20, seed)
    assert first(20, seed) != first(20, seed + 1)


def test_what_clients_do_makes_no_difference() -> None:
    alone = played(one_at_a_time(turns(choices(), 5), 100))
    beside = played(one_at_a_time(turns(choices(), 5), 100), seed=9, client_ops=500)
    assert [(op.f, op.value, op.time_ns) for op in alone] == [(op.f, op.value, op.time_ns) for op in beside]


@given(seeds)
def test_in_two_minutes_each_family_comes_several_times_at_different_targets(seed: int) -> None:
    rows = timeline(turns(choices(), seed), 120)
    times = Counter(turn.fault for _, _, turn in rows)
    assert min(times[family] for family in ("kill", "pause", "partition")) >= 2
    for family in times:
        kinds = [turn.kind for _, _, turn in rows if turn.fault == family]
        assert len(set(kinds)) == len(kinds)


@given(seeds)
def test_faults_are_held_long_enough_to_bite_and_followed_by_calm(seed: int) -> None:
    for turn in first(50, seed, "kill,pause,partition,packet"):
        assert 3.0 <= turn.hold_s <= 10.0
        assert 1.5 <= turn.calm_s <= 3.5


def test_every_way_to_be_hurt_comes_before_any_comes_twice() -> None:
    kinds = [turn.kind for turn in first(5, 3, "kill")]
    assert sorted(kinds) == ["all", "majority", "minority", "one", "primaries"]
    partitions = [turn.request.kind for turn in first(9, 3, "partition")]
    assert len(set(partitions)) == 9


def test_a_narrowed_entry_stays_narrow() -> None:
    assert {turn.kind for turn in first(10, 1, "kill:primaries")} == {"primaries"}
    assert {(turn.kind, turn.request.targets) for turn in first(10, 1, "pause:n1+n2")} == {("n1+n2", ("n1", "n2"))}
    assert {turn.kind for turn in first(10, 1, "partition:bridge")} == {"bridge"}
    assert {turn.kind for turn in first(20, 1, "partition:one_way_in")} == {"one_way_in:one", "one_way_in:primaries"}


def test_one_at_a_time_alternates_starts_and_stops_and_ends_in_time() -> None:
    ops = played(one_at_a_time(turns(choices(), 11), 120))
    assert all(op.time_ns < 120 * S for op in ops)
    for begin, end in zip(ops[::2], ops[1::2], strict=False):
        assert begin.f.removeprefix("start-") == end.f.removeprefix("stop-")


def test_the_timeline_is_what_happens_when_proofs_take_what_it_takes_them_to() -> None:
    ops = played(one_at_a_time(turns(choices(), 4), 120))
    rows = timeline(turns(choices(), 4), 120)
    assert [op.time_ns / S for op in ops[::2]] == pytest.approx([start_s for start_s, _, _ in rows], abs=0.02)
    assert [op.value["pick"] for op in ops[::2]] == [turn.pick for _, _, turn in rows]


def test_overlapping_families_overlap_but_never_with_themselves() -> None:
    ops = played(overlapping(turns(choices(), 2), 120))
    active: set[str] = set()
    most = 0
    for op in ops:
        verb, _, family = op.f.partition("-")
        if verb == "start":
            assert family not in active
            active.add(family)
        else:
            active.remove(family)
        most = max(most, len(active))
    assert most >= 2
    assert {op.f for op in ops} == {
        f"{verb}-{name}" for verb in ("start", "stop") for name in ("kill", "pause", "partition")
    }


def test_no_choices_no_turns() -> None:
    assert timeline(turns([], 1), 60) == []
    assert played(one_at_a_time(turns([], 1), 60)) == []
    assert played(overlapping(turns([], 1), 60)) == []


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="--interval 0"):
        turns(choices(), 1, interval_s=0)
