"""Set: acknowledged elements must be in the final read, and nothing that nobody added."""

from __future__ import annotations

import pytest

from splitvote.checkers.sets import SetChecker
from splitvote.harness.result import Verdict
from tests.checkers.fuzz_library import fuzz
from tests.checkers.library_histories import history, judge, only
from tests.checkers.library_systems import SetSystem, verdicts

GOOD = """
0 invoke add 1
1 invoke add 2
0 ok add
2 invoke add 3
1 info add
2 fail add
0 invoke add 4
0 info add
0 invoke read
0 ok read [2, 1]
"""


def test_good_history_with_recovered_element() -> None:
    """A crashed add may or may not be there; a failed one is not."""
    result = judge(SetChecker(), GOOD)
    assert result.verdict is Verdict.VALID
    assert result.evidence["recovered"] == [2]
    assert result.stats == {
        "attempted": 4, "acknowledged": 1, "read": 2, "lost": 0, "unexpected": 0, "recovered": 1,
    }  # fmt: skip


def test_lost_element_is_named_with_its_add_and_the_read() -> None:
    text = GOOD.replace("ok read [2, 1]", "ok read [2]")
    result = judge(SetChecker(), text)
    assert result.verdict is Verdict.INVALID
    assert result.reason == "1 acknowledged element lost: 1"
    (anomaly,) = result.anomalies
    assert anomaly.name == "set: lost"
    assert "process 0's add of 1 (record 0, ok at 2)" in anomaly.story
    assert [op.index for op in anomaly.ops] == [0, 2, 8, 9]
    assert judge(SetChecker(), only(history(text), result)).verdict is Verdict.INVALID


@pytest.mark.parametrize(
    ("read", "value", "words"),
    [
        ("[1, 3]", 3, "every add of it before had failed: process 2's add of 3"),
        ("[1, 9]", 9, "nobody ever added it"),
    ],
)
def test_unexpected_elements(read: str, value: int, words: str) -> None:
    result = judge(SetChecker(), GOOD.replace("[2, 1]", read))
    assert result.verdict is Verdict.INVALID
    assert result.reason == f"1 unexpected element: {value}"
    assert words in result.anomalies[0].story


def test_an_element_from_the_future() -> None:
    result = judge(SetChecker(), "0 invoke read\n0 ok read [5]\n1 invoke add 5\n1 ok add")
    assert result.verdict is Verdict.INVALID
    assert "its first add came later" in result.anomalies[0].story


def test_adds_concurrent_with_the_final_read_need_not_be_seen() -> None:
    text = "0 invoke read\n1 invoke add 1\n1 ok add\n0 ok read {}"
    assert judge(SetChecker(), text.format("[]")).verdict is Verdict.VALID
    assert judge(SetChecker(), text.format("[1]")).verdict is Verdict.VALID


def test_only_the_last_read_is_judged() -> None:
    text = "0 invoke add 1\n0 ok add\n0 invoke read\n0 ok read []\n0 invoke read\n0 ok read [1]"
    assert judge(SetChecker(), text).verdict is Verdict.VALID


def test_a_set_that_was_never_read_is_unknown() -> None:
    result = judge(SetChecker(), "0 invoke add 1\n0 ok add\n0 invoke read\n0 fail read")
    assert (result.verdict, result.reason) == (Verdict.UNKNOWN, "the set was never read: no read ended ok")


def test_elements_may_be_lists() -> None:
    assert (
        judge(SetChecker(), "0 invoke add [1, 2]\n0 ok add\n0 invoke read\n0 ok read [[1, 2]]").verdict is Verdict.VALID
    )


def test_healthy_systems_are_never_accused() -> None:
    found = verdicts(SetChecker(), lambda: SetSystem(None), final=("read", None))
    assert found == {Verdict.VALID: 40}


@pytest.mark.parametrize(("bug", "fails_happen"), [("lost", False), ("phantom", False), (None, True)])
def test_seeded_bugs_are_found(bug: str | None, fails_happen: bool) -> None:
    found = verdicts(SetChecker(), lambda: SetSystem(bug), final=("read", None), fails_happen=fails_happen)
    assert found[Verdict.INVALID] >= 20


def test_agrees_with_brute_force() -> None:
    found = fuzz("set", histories=400, seed=11)
    assert min(found[Verdict.VALID], found[Verdict.INVALID]) >= 80
