"""Long fork: two reads that saw two writes in opposite orders."""

from __future__ import annotations

import pytest

from splitvote.checkers.long_fork import LongForkChecker
from splitvote.harness.result import Verdict
from tests.checkers.fuzz_library import fuzz
from tests.checkers.library_histories import history, judge, only
from tests.checkers.library_systems import ForkSystem, verdicts

WRITES = """
0 invoke txn [["w", "x", 1]]
1 invoke txn [["w", "y", 2]]
0 ok txn
1 ok txn
"""


def reads(*pairs: tuple[object, object]) -> str:
    text = ""
    for process, (x, y) in enumerate(pairs, 2):
        seen = f'[["r", "x", {x}], ["r", "y", {y}]]'
        text += f'{process} invoke txn [["r", "x", null], ["r", "y", null]]\n{process} ok txn {seen}\n'
    return text


@pytest.mark.parametrize(
    "pairs",
    [
        [("null", "null"), (1, "null"), (1, 2)],
        [("null", 2), (1, 2), ("null", "null"), ("null", 2)],
        [(1, 2), (1, 2)],
    ],
)
def test_one_order_explains_all(pairs: list[tuple[object, object]]) -> None:
    """Reads need not go forward in time: long fork is about order only."""
    assert judge(LongForkChecker(), WRITES + reads(*pairs)).verdict is Verdict.VALID


def test_a_fork_is_told_with_both_reads_and_both_writes() -> None:
    text = WRITES + reads(("null", "null"), (1, "null"), (1, 2), ("null", 2))
    result = judge(LongForkChecker(), text)
    assert result.verdict is Verdict.INVALID
    (anomaly,) = result.anomalies
    assert anomaly.name == "long-fork"
    assert "(record 6, ok at 7) saw the write of 'x' but not of 'y'" in anomaly.story
    assert "(record 10, ok at 11) saw the write of 'y' but not of 'x'" in anomaly.story
    assert [op.index for op in anomaly.ops] == [0, 1, 2, 3, 6, 7, 10, 11]
    assert judge(LongForkChecker(), only(history(text), result)).verdict is Verdict.INVALID


def test_the_order_of_the_keys_in_a_read_does_not_matter() -> None:
    text = WRITES + reads((1, "null")) + '9 invoke txn []\n9 ok txn [["r", "y", 2], ["r", "x", null]]'
    assert judge(LongForkChecker(), text).verdict is Verdict.INVALID


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WRITES + reads((1, 3), (1, 2)), "the only write of that key is of 2"),
        (WRITES.replace("1 ok", "1 fail") + reads((1, 2), (1, "null")), "its write failed"),
        (reads((1, "null"), ("null", "null")), "nobody wrote that key"),
        (reads((1, "null"), ("null", "null")) + WRITES.replace("1 ", "7 ").replace('x", 7', 'x", 1'), "came later"),
    ],
)
def test_values_that_nobody_wrote(text: str, words: str) -> None:
    result = judge(LongForkChecker(), text)
    assert (result.verdict, result.anomalies[0].name) == (Verdict.INVALID, "long-fork: unwritten value")
    assert words in result.anomalies[0].story


def test_a_key_written_twice_leaves_nothing_to_conclude() -> None:
    text = WRITES + '0 invoke txn [["w", "x", 9]]\n0 ok txn\n' + reads((1, "null"), ("null", 2))
    result = judge(LongForkChecker(), text)
    assert result.verdict is Verdict.UNKNOWN
    assert "1 key written more than once: 'x'" in str(result.reason)
    assert judge(LongForkChecker(), text.replace("0 ok txn\n2", "0 fail txn\n2")).verdict is Verdict.INVALID


def test_too_few_reads_are_unknown() -> None:
    assert judge(LongForkChecker(), WRITES + reads((1, 2))).verdict is Verdict.UNKNOWN


def test_healthy_systems_are_never_accused() -> None:
    found = verdicts(LongForkChecker(), lambda: ForkSystem(None))
    assert found[Verdict.INVALID] == 0
    assert found[Verdict.VALID] >= 38


@pytest.mark.parametrize("bug", ["fork", "phantom", "fails happen"])
def test_seeded_bugs_are_found(bug: str) -> None:
    found = verdicts(LongForkChecker(), lambda: ForkSystem(bug), operations=150, fails_happen=bug == "fails happen")
    assert found[Verdict.INVALID] >= 15


def test_agrees_with_brute_force() -> None:
    found = fuzz("long-fork", histories=500, seed=17)
    assert min(found[Verdict.VALID], found[Verdict.INVALID]) >= 50
