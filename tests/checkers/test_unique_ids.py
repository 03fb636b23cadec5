"""Unique ids: none is returned twice."""

from __future__ import annotations

from splitvote.checkers.unique_ids import UniqueIdsChecker
from splitvote.harness.result import Verdict
from tests.checkers.fuzz_library import fuzz
from tests.checkers.library_histories import history, judge, only
from tests.checkers.library_systems import IdSystem, verdicts

GOOD = """
0 invoke generate
1 invoke generate
1 ok generate 7
0 ok generate 3
0 invoke generate
0 info generate
"""
BAD = (
    GOOD
    + """
2 invoke generate
2 ok generate 7
2 invoke generate
2 ok generate 7
"""
)


def test_good_history() -> None:
    result = judge(UniqueIdsChecker(), GOOD)
    assert result.verdict is Verdict.VALID
    assert result.stats == {"attempted": 3, "acknowledged": 2, "duplicated": 0}
    assert result.evidence["range"] == [3, 7]


def test_a_duplicate_is_told_with_two_of_its_operations() -> None:
    result = judge(UniqueIdsChecker(), BAD)
    assert (result.verdict, result.reason) == (Verdict.INVALID, "1 id returned more than once: 7")
    assert result.anomalies[0].story == (
        "Id 7 was returned 3 times: by process 1's generate (record 1, ok at 2) and by "
        "process 2's generate (record 6, ok at 7)."
    )
    alone = only(history(BAD), result)
    assert len(alone) == 4
    assert judge(UniqueIdsChecker(), alone).verdict is Verdict.INVALID


def test_ids_may_be_lists_and_text() -> None:
    text = '0 invoke generate\n0 ok generate ["n1", 1]\n0 invoke generate\n0 ok generate "n1"'
    assert judge(UniqueIdsChecker(), text).verdict is Verdict.VALID
    assert judge(UniqueIdsChecker(), text.replace('"n1"\n', '["n1", 1]\n') + text[:0]).evidence["duplicated"] == {}


def test_no_ids_at_all_is_unknown() -> None:
    result = judge(UniqueIdsChecker(), "0 invoke generate\n0 info generate")
    assert (result.verdict, result.reason) == (Verdict.UNKNOWN, "no id was ever returned")


def test_healthy_and_restarting_generators() -> None:
    assert verdicts(UniqueIdsChecker(), lambda: IdSystem(None)) == {Verdict.VALID: 40}
    assert verdicts(UniqueIdsChecker(), lambda: IdSystem("restart"))[Verdict.INVALID] >= 30


def test_agrees_with_brute_force() -> None:
    found = fuzz("unique-ids", histories=400, seed=15)
    assert min(found[Verdict.VALID], found[Verdict.INVALID]) >= 60
