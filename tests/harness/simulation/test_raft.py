"""Raft's safety properties under chaos, over many seeds; and that the chaos is hard enough to see planted bugs."""

from __future__ import annotations

import pytest

from splitvote.harness.simulation import leader
from splitvote.harness.simulation.mutants import Mutants
from tests.harness.simulation.chaos import Chaos, UnsafeError

STEPS = 4_000


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_safety_properties_hold(size: int) -> None:
    """The four of figure 3.2 and linearizable ReadIndex; and the cluster gets on meanwhile."""
    leaders = committed = reads = 0
    for seed in range(20):
        chaos = Chaos(seed, size=size)
        chaos.run(STEPS)
        leaders += len(chaos.leaders)
        committed += chaos.newest_committed
        reads += chaos.reads
    assert leaders > 20
    assert committed > 300
    assert reads > 100


def test_they_hold_while_members_change() -> None:
    """One at a time, under the same chaos."""
    changes = 0
    for seed in range(25):
        chaos = Chaos(seed, size=3, changes_members=True)
        chaos.run(STEPS)
        changes += sum(member.conf_state.voters != (11, 12, 13) for member in chaos.members.values())
    assert changes > 8


def test_they_hold_when_entries_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs differ in more places then: this is where Raft's figure 8 lives."""
    monkeypatch.setattr(leader, "MOST_ENTRIES_A_MESSAGE", 1)
    for seed in range(20):
        Chaos(seed, size=5).run(STEPS)


@pytest.mark.parametrize(
    ("mutant", "property_"),
    [("two-votes-in-one-term", "election safety"), ("read-index-before-first-commit", "linearizable reads")],
)
def test_the_chaos_sees_planted_bugs(mutant: str, property_: str) -> None:
    """Some seed of a few must find each: a test that cannot fail proves nothing."""
    seen: list[str] = []
    for seed in range(200):
        try:
            Chaos(seed, size=3, mutants=Mutants({mutant})).run(STEPS)
        except UnsafeError as unsafe:
            seen.append(str(unsafe))
        except AssertionError:
            continue  # raft's own guards may be first
        if any(found.startswith(property_) for found in seen):
            return
    pytest.fail(f"no seed saw {mutant} break {property_}; seen: {seen}")
