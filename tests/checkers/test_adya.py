"""Adya's G2: of two guarded inserts under one key, one at most succeeds."""

from __future__ import annotations

from splitvote.checkers.adya import G2Checker
from splitvote.harness.result import Verdict
from tests.checkers.fuzz_library import fuzz
from tests.checkers.library_histories import history, judge, only
from tests.checkers.library_systems import InsertSystem, verdicts

GOOD = """
0 invoke insert [1, null] 10
1 invoke insert [null, 2] 10
0 ok insert
1 fail insert
2 invoke insert [3, null] 11
2 fail insert
3 invoke insert [null, 4] 11
3 info insert
"""


def test_good_history() -> None:
    result = judge(G2Checker(), GOOD)
    assert result.verdict is Verdict.VALID
    assert result.stats == {"keys": 2, "inserted": 1, "illegal": 0, "contested": 1}


def test_two_inserts_under_one_key() -> None:
    text = GOOD.replace("1 fail insert", "1 ok insert")
    result = judge(G2Checker(), text)
    assert (result.verdict, result.reason) == (Verdict.INVALID, "1 key with two inserts: 10")
    (anomaly,) = result.anomalies
    assert (anomaly.name, anomaly.key) == ("G2", 10)
    assert anomaly.story.startswith("Process 0's insert of [1, None] (record 0, ok at 2) and process 1's insert of")
    assert judge(G2Checker(), only(history(text), result)).verdict is Verdict.INVALID


def test_jepsens_own_shape_has_the_key_in_the_value() -> None:
    text = "0 invoke insert [10, [1, null]]\n0 ok insert\n1 invoke insert [{}, [null, 2]]\n1 ok insert"
    assert judge(G2Checker(), text.format(10)).verdict is Verdict.INVALID
    assert judge(G2Checker(), text.format(11)).verdict is Verdict.UNKNOWN


def test_a_crashed_insert_proves_nothing() -> None:
    result = judge(G2Checker(), GOOD.replace("1 fail", "1 info"))
    assert result.verdict is Verdict.UNKNOWN


def test_healthy_systems_and_write_skew() -> None:
    healthy = verdicts(G2Checker(), lambda: InsertSystem(None))
    assert healthy == {Verdict.VALID: 40}
    assert verdicts(G2Checker(), lambda: InsertSystem("skew"))[Verdict.INVALID] >= 35


def test_agrees_with_brute_force() -> None:
    found = fuzz("adya-g2", histories=500, seed=20)
    assert min(found[Verdict.VALID], found[Verdict.INVALID]) >= 40
