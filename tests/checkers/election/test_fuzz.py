"""The election checker against the oracle, on small worlds: sound ones, damaged ones, and ones with holes."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from splitvote.checkers.election import ElectionChecker
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict
from tests.checkers.election.corruption import corrupted
from tests.checkers.election.judge import broken_rules
from tests.checkers.election.world import recording_of, world_of

SOUND = range(700)
DAMAGED = range(10_000, 11_300)


def check(recording: Recording) -> Result:
    return ElectionChecker().check(recording, Budget())


def test_sound_histories_are_valid_and_something_happens_in_them() -> None:
    """No false alarm: overlapping operations, lost answers, late effects, expiring leases, wins that came too late."""
    happened: Counter[str] = Counter()
    for seed in SOUND:
        recording = world_of(seed, turns=150).recording()
        result = check(recording)
        assert (result.verdict, result.reason) == (Verdict.VALID, None), f"seed {seed}"
        assert broken_rules(recording) == set(), f"seed {seed}"
        for what in ("campaigns_won", "leadership_changes", "won_after_deletion", "observed_again"):
            happened[what] += result.stats.get(what, 0)
        happened.update(f"{op.f} {op.type}" for op in recording.history)
    assert min(happened.values()) >= 20, happened


def test_damaged_histories_break_the_rules_that_the_oracle_says() -> None:
    """One field of one record: the very same rules by name, and every rule that a field can break is broken."""
    verdicts: Counter[Verdict] = Counter()
    names: Counter[str] = Counter()
    for seed in DAMAGED:
        world = world_of(seed, turns=150)
        recording = recording_of(*corrupted(world.records, world.told, random.Random(seed)))
        result = check(recording)
        found = {anomaly.name for anomaly in result.anomalies}
        assert found == broken_rules(recording), f"seed {seed}"
        verdicts[result.verdict] += 1
        names.update(found)
    assert min(verdicts[Verdict.VALID], verdicts[Verdict.INVALID]) >= 0.15 * len(DAMAGED), verdicts
    assert len(names) == 19, sorted(names)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_holes_in_a_sound_history_are_never_an_alarm(share: float) -> None:
    for seed in range(250):
        world, dice = world_of(seed, turns=150), random.Random(seed)
        told = {revision: events for revision, events in world.told.items() if revision == 1 or dice.random() > share}
        is_ended = dice.random() < 0.5
        result = check(recording_of(world.records, told, newest=world.revision, is_ended=is_ended))
        assert result.verdict in (Verdict.VALID, Verdict.UNKNOWN), f"seed {seed}: {result.reason}"
