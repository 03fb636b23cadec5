"""Set-full: what becomes of every element over all reads."""

from __future__ import annotations

import pytest

from splitvote.checkers.set_full import SetFullChecker
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.result import Verdict
from tests.checkers.fuzz_library import SUBJECTS, fuzz
from tests.checkers.library_histories import history, judge, only
from tests.checkers.library_oracles import set_full_outcomes
from tests.checkers.library_systems import SetSystem, verdicts

STABLE = """
0 invoke add 1
0 ok add
1 invoke read
1 ok read [1]
"""
LOST = (
    STABLE
    + """
1 invoke read
1 ok read []
"""
)
STALE = (
    LOST
    + """
1 invoke read
1 ok read [1]
"""
)


def test_a_stable_element() -> None:
    result = judge(SetFullChecker(), STABLE)
    assert result.verdict is Verdict.VALID
    assert (result.stats["stable"], result.stats["stale"]) == (1, 0)
    assert result.stats["stable_latency_ms"] == {"p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}


def test_a_lost_element_is_told_with_the_add_and_the_read_that_missed_it() -> None:
    result = judge(SetFullChecker(), LOST)
    assert (result.verdict, result.reason) == (Verdict.INVALID, "1 element lost: 1")
    (anomaly,) = result.anomalies
    assert anomaly.story == (
        "Element 1 is lost: process 0's add of 1 (record 0, ok at 1) acknowledged it before process 1's read "
        "(record 4, ok at 5) began, which does not hold it; no later read holds it."
    )
    assert [op.index for op in anomaly.ops] == [0, 1, 4, 5]
    assert judge(SetFullChecker(), only(history(LOST), result)).verdict is Verdict.INVALID
    assert result.stats["lost_latency_ms"]["max"] == 1.0  # known at 1 ms, last seen by a read that began at 2 ms


def test_an_element_known_only_because_it_was_seen_can_be_lost() -> None:
    text = "0 invoke add 1\n1 invoke read\n1 ok read [1]\n0 info add\n2 invoke read\n2 ok read []"
    result = judge(SetFullChecker(), text)
    assert result.verdict is Verdict.INVALID
    assert "had seen it" in result.anomalies[0].story
    assert [op.index for op in result.anomalies[0].ops] == [1, 2, 4, 5]


def test_a_stale_element_is_counted_and_only_invalid_where_linearizability_is_asked() -> None:
    relaxed = judge(SetFullChecker(), STALE)
    assert (relaxed.verdict, relaxed.evidence["stale"]) == (Verdict.VALID, [1])
    assert relaxed.evidence["worst_stale"] == [{"element": 1, "latency_ms": 3.000001, "known": 1, "last_absent": 4}]
    strict = judge(SetFullChecker(linearizable=True), STALE)
    assert (strict.verdict, strict.reason) == (Verdict.INVALID, "1 element stale: 1")
    assert "a later read holds it again" in strict.anomalies[0].story


def test_a_read_that_began_before_the_acknowledgement_may_miss_it() -> None:
    """Never-read: the add may have happened after the read, though it was acknowledged before the read completed."""
    text = "0 invoke add 1\n1 invoke read\n0 ok add\n1 ok read []"
    result = judge(SetFullChecker(linearizable=True), text)
    assert result.verdict is Verdict.UNKNOWN
    assert result.evidence["never_read"] == [1]


def test_duplicates_are_found() -> None:
    """Jepsen's own checker looks for counts below one."""
    result = judge(SetFullChecker(), STABLE.replace("[1]", "[1, 1]"))
    assert (result.verdict, result.reason) == (Verdict.INVALID, "1 element duplicated in one read: 1")
    assert result.anomalies[0].story == "Element 1 is 2 times in process 1's read (record 2, ok at 3)."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 invoke read\n1 ok read [1, 7]", "nobody ever added it"),
        ("1 invoke read\n1 ok read [1, 7]\n0 invoke add 7\n0 ok add\n1 invoke read\n1 ok read [7, 1]", "came later"),
        ("0 invoke add 7\n0 fail add\n1 invoke read\n1 ok read [1, 7]", "every add of it before had failed"),
    ],
)
def test_unexpected_elements(text: str, words: str) -> None:
    result = judge(SetFullChecker(), STABLE + text)
    assert (result.verdict, result.reason) == (Verdict.INVALID, "1 element unexpected: 7")
    assert words in result.anomalies[0].story


def test_a_failed_add_that_is_retried_is_no_phantom() -> None:
    text = "0 invoke add 1\n0 fail add\n0 invoke add 1\n0 ok add\n1 invoke read\n1 ok read [1]"
    assert judge(SetFullChecker(linearizable=True), text).verdict is Verdict.VALID


def test_nothing_read_back_is_unknown() -> None:
    result = judge(SetFullChecker(), "0 invoke add 1\n0 info add")
    assert result.verdict is Verdict.UNKNOWN
    assert "no element was ever read back" in str(result.reason)


def test_elements_may_be_lists() -> None:
    text = "0 invoke add [1]\n0 ok add\n1 invoke read\n1 ok read [[1], [2]]"
    result = judge(SetFullChecker(), text)
    assert result.evidence["unexpected"] == [(2,)]


def test_healthy_systems_are_never_accused() -> None:
    assert verdicts(SetFullChecker(linearizable=True), lambda: SetSystem(None)) == {Verdict.VALID: 40}


@pytest.mark.parametrize("bug", ["lost", "stale", "duplicate", "phantom", "fails happen"])
def test_seeded_bugs_are_found(bug: str) -> None:
    checker = SetFullChecker(linearizable=True)
    found = verdicts(checker, lambda: SetSystem(bug), fails_happen=bug == "fails happen")
    assert found[Verdict.INVALID] >= 15


@pytest.mark.parametrize("name", ["set-full", "set-full linearizable"])
def test_agrees_with_brute_force(name: str) -> None:
    found = fuzz(name, histories=400, seed=12)
    assert min(found[Verdict.VALID], found[Verdict.INVALID]) >= 80


def test_outcomes_agree_with_the_definitions() -> None:
    """Not only the verdict: every element's outcome, over random histories."""
    import random

    for seed in range(300):
        found = SUBJECTS["set-full"].make(random.Random(seed))
        evidence = judge(SetFullChecker(), found).evidence
        outcomes = set_full_outcomes(found)
        for outcome in ("lost", "never-read", "stale"):
            expected = sorted(value for value, each in outcomes.items() if each == outcome)
            assert evidence[outcome.replace("-", "_")] == expected


def test_a_long_history_with_reads_of_everything() -> None:
    """100,000 operations with a read every thousand, and one element lost on the way."""
    ops: list[Op] = []

    def both(f: str, asked: object, answered: object) -> None:
        index = len(ops)
        ops.append(Op(index, index, index % 5, "invoke", f, None, asked))
        ops.append(Op(index + 1, index + 1, index % 5, "ok", f, None, answered))

    held: list[int] = []
    for number in range(100_000):
        if number % 1000 == 999:
            both("read", None, [value for value in held if value != 4242 or number < 60_000])
        else:
            held.append(number)
            both("add", number, number)
    result = judge(SetFullChecker(), History(ops))
    assert result.reason == "1 element lost: 4242"
    assert result.stats["stable"] == 99_899
