"""Bank: every read shows the accounts that there are, and their total."""

from __future__ import annotations

import json
from typing import Any

import pytest

from splitvote.checkers.bank import BankChecker
from splitvote.harness.result import Verdict
from tests.checkers.fuzz_library import fuzz
from tests.checkers.library_histories import history, judge, only
from tests.checkers.library_systems import BankSystem, verdicts

CHECKER = BankChecker(accounts=[0, 1], total=10)


def read(*values: Any) -> str:
    return "".join(f"0 invoke read\n0 ok read {json.dumps(value)}\n" for value in values)


@pytest.mark.parametrize("value", [{"0": 10, "1": 0}, [4, 6], {"0": 10}])
def test_right_reads(value: Any) -> None:
    """Accounts by name or by order; one that is missing counts as empty."""
    assert judge(CHECKER, read(value)).verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("value", "name", "words"),
    [
        ({"0": 4, "2": 6}, "unexpected account", "shows 1 account that never were: '2'"),
        ({"0": 10, "1": None}, "no balance", "shows no balance of 1 account: '1'"),
        ({"0": 4, "1": 5}, "wrong total", "sums to 9, 1 less than the 10 that there is"),
        ([4, 8], "wrong total", "sums to 12, 2 more than the 10 that there is"),
        ({"0": 11, "1": -1}, "negative balance", "shows negative balances: {'1': -1}"),
        ({}, "wrong total", "sums to 0, 10 less than the 10"),
    ],
)
def test_wrong_reads(value: Any, name: str, words: str) -> None:
    text = read([5, 5], value)
    result = judge(CHECKER, text)
    assert (result.verdict, result.reason) == (Verdict.INVALID, f"1 read with {name}")
    assert result.anomalies[0].name == f"bank: {name}"
    assert words in result.anomalies[0].story
    assert [op.index for op in result.anomalies[0].ops] == [2, 3]
    assert judge(CHECKER, only(history(text), result)).verdict is Verdict.INVALID


def test_negative_balances_may_be_allowed() -> None:
    checker = BankChecker(accounts=[0, 1], total=10, negative_balances="allowed")
    assert judge(checker, read({"0": 11, "1": -1})).verdict is Verdict.VALID


def test_an_unknown_total_is_that_of_the_first_read() -> None:
    result = judge(BankChecker(), read([3, 4], [7, 0], [1, 1]))
    assert result.verdict is Verdict.INVALID
    assert "sums to 2, 5 less than the 7 that process 0's read (record 0, ok at 1) saw" in result.anomalies[0].story
    assert [op.index for op in result.anomalies[0].ops] == [0, 1, 4, 5]


def test_all_problems_are_counted() -> None:
    result = judge(CHECKER, read([5, 6], [5, 5], [11, -1], [1, 1]))
    assert result.reason == "2 reads with wrong total; 1 read with negative balance"
    assert result.stats == {"reads": 4, "wrong_reads": 3}


def test_reads_that_did_not_succeed_are_not_judged() -> None:
    result = judge(CHECKER, "0 invoke read\n0 info read [1, 1]")
    assert result.verdict is Verdict.UNKNOWN


def test_healthy_systems_are_never_accused() -> None:
    checker = BankChecker(accounts=range(3), total=15)
    assert verdicts(checker, lambda: BankSystem(None)) == {Verdict.VALID: 40}


@pytest.mark.parametrize("bug", ["torn", "overdrawn", "invented account"])
def test_seeded_bugs_are_found(bug: str) -> None:
    checker = BankChecker(accounts=range(3), total=15)
    assert verdicts(checker, lambda: BankSystem(bug))[Verdict.INVALID] >= 20


def test_agrees_with_brute_force() -> None:
    found = fuzz("bank", histories=400, seed=16)
    assert min(found[Verdict.VALID], found[Verdict.INVALID]) >= 80
