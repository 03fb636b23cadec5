"""Queues: what comes out had gone in, and what went in comes out."""

from __future__ import annotations

import pytest

from splitvote.checkers.queues import QueueChecker, TotalQueueChecker
from splitvote.harness.result import Checker, Verdict
from tests.checkers.fuzz_library import fuzz
from tests.checkers.library_histories import history, judge, only
from tests.checkers.library_systems import QueueSystem, verdicts

GOOD = """
0 invoke enqueue 1
1 invoke dequeue
0 ok enqueue
1 ok dequeue 1
0 invoke enqueue 2
0 info enqueue
2 invoke enqueue 3
2 ok enqueue
1 invoke drain
1 ok drain [3, 2]
1 invoke dequeue
1 ok dequeue null
"""
BOTH = [QueueChecker(), TotalQueueChecker()]


@pytest.mark.parametrize("checker", BOTH, ids=lambda checker: checker.name)
def test_good_history(checker: Checker) -> None:
    """A dequeue may overlap its enqueue; a crashed enqueue may come out; a drain counts as dequeues."""
    assert judge(checker, GOOD).verdict is Verdict.VALID


def test_counts_of_a_good_history() -> None:
    stats = judge(TotalQueueChecker(), GOOD).stats
    assert (stats["attempted"], stats["acknowledged"], stats["dequeued"], stats["recovered"]) == (3, 2, 3, 1)


@pytest.mark.parametrize(
    ("text", "words", "indices"),
    [
        ("1 invoke dequeue\n1 ok dequeue 5", "but nobody had enqueued it", [0, 1]),
        ("1 invoke dequeue\n1 ok dequeue 5\n0 invoke enqueue 5\n0 ok enqueue", "nobody had enqueued it", [0, 1]),
        (
            "0 invoke enqueue 5\n0 fail enqueue\n1 invoke dequeue\n1 ok dequeue 5",
            "every enqueue of it had failed",
            [0, 1, 2, 3],
        ),
        (
            "0 invoke enqueue 5\n0 ok enqueue\n1 invoke dequeue\n1 ok dequeue 5\n2 invoke dequeue\n2 ok dequeue 5",
            "Element 5 came out 2 times, last by process 2's dequeue (record 4, ok at 5), but only 1 enqueue",
            [0, 1, 2, 3, 4, 5],
        ),
    ],
    ids=["never", "later", "failed", "twice"],
)
def test_elements_from_nowhere(text: str, words: str, indices: list[int]) -> None:
    result = judge(QueueChecker(), text)
    assert (result.verdict, result.reason) == (Verdict.INVALID, "1 element came from nowhere: 5")
    assert words in result.anomalies[0].story
    assert [op.index for op in result.anomalies[0].ops] == indices
    assert judge(QueueChecker(), only(history(text), result)).verdict is Verdict.INVALID


def test_an_element_enqueued_twice_may_come_out_twice() -> None:
    steps = [("enqueue", "1"), ("enqueue", "1"), ("drain", "[1, 1]")]
    text = "".join(f"0 invoke {f} {value}\n0 ok {f} {value}\n" for f, value in steps)
    assert judge(QueueChecker(), text).verdict is Verdict.VALID
    assert judge(TotalQueueChecker(), text).verdict is Verdict.VALID


def test_a_lost_element() -> None:
    result = judge(TotalQueueChecker(), "0 invoke enqueue 7\n0 ok enqueue\n0 invoke drain\n0 ok drain []")
    assert (result.verdict, result.reason) == (Verdict.INVALID, "1 acknowledged element never came out: 7")
    assert result.anomalies[0].story == (
        "Element 7 was enqueued 1 time for sure, last by process 0's enqueue of 7 (record 0, ok at 1), "
        "but came out 0 times."
    )


@pytest.mark.parametrize(("lost", "verdict"), [([7], Verdict.UNKNOWN), ([7, 8], Verdict.INVALID)])
def test_a_crashed_dequeue_may_have_taken_one(lost: list[int], verdict: Verdict) -> None:
    """And with it the answer; but one dequeue takes one element only."""
    text = "".join(f"0 invoke enqueue {value}\n0 ok enqueue\n" for value in lost)
    result = judge(TotalQueueChecker(), text + "1 invoke dequeue\n1 info dequeue\n0 invoke drain\n0 ok drain []")
    assert result.verdict is verdict


@pytest.mark.parametrize(("lost", "verdict"), [(7, Verdict.VALID), (8, Verdict.INVALID)])
def test_a_crashed_dequeue_that_names_an_element_may_have_taken_that_one_only(lost: int, verdict: Verdict) -> None:
    text = f"0 invoke enqueue {lost}\n0 ok enqueue\n1 invoke dequeue\n1 info dequeue 7\n0 invoke drain\n0 ok drain []"
    result = judge(TotalQueueChecker(), text)
    assert (result.verdict, result.stats["may_be_taken"]) == (verdict, 1)


def test_a_crashed_drain_may_have_taken_all() -> None:
    text = "0 invoke enqueue 7\n0 ok enqueue\n0 invoke enqueue 8\n0 ok enqueue\n1 invoke drain\n1 info drain"
    result = judge(TotalQueueChecker(), text)
    assert result.verdict is Verdict.UNKNOWN
    assert "1 dequeue of unknown outcome may have taken them" in str(result.reason)


def test_duplicates_are_counted_by_total_queue_and_judged_by_queue() -> None:
    text = "0 invoke enqueue 1\n0 ok enqueue\n0 invoke drain\n0 ok drain [1, 1]"
    result = judge(TotalQueueChecker(), text)
    assert (result.verdict, result.stats["duplicated"]) == (Verdict.VALID, 1)
    assert judge(QueueChecker(), text).verdict is Verdict.INVALID


def test_unexpected_elements_of_total_queue() -> None:
    result = judge(TotalQueueChecker(), "0 invoke enqueue 1\n0 fail enqueue\n0 invoke drain\n0 ok drain [1, 2]")
    assert result.reason == "2 unexpected elements: 1-2"
    assert [anomaly.story.partition("but ")[2] for anomaly in result.anomalies] == [
        "every enqueue of it had failed: process 0's enqueue of 1 (record 0, fail at 1).",
        "nobody enqueued it.",
    ]


@pytest.mark.parametrize("checker", BOTH, ids=lambda checker: checker.name)
def test_healthy_systems_are_never_accused(checker: Checker) -> None:
    found = verdicts(checker, lambda: QueueSystem(None), final=("drain", None))
    assert found[Verdict.INVALID] == 0
    assert found[Verdict.VALID] >= 5


@pytest.mark.parametrize(
    ("checker", "bug", "least"),
    [
        (QueueChecker(), "twice", 30),
        (QueueChecker(), "phantom", 30),
        (QueueChecker(), "fails happen", 20),
        (TotalQueueChecker(), "lost", 15),
        (TotalQueueChecker(), "phantom", 30),
        (TotalQueueChecker(), "fails happen", 20),
    ],
)
def test_seeded_bugs_are_found(checker: Checker, bug: str, least: int) -> None:
    found = verdicts(checker, lambda: QueueSystem(bug), final=("drain", None), fails_happen=bug == "fails happen")
    assert found[Verdict.INVALID] >= least


@pytest.mark.parametrize("name", ["queue", "total-queue"])
def test_agrees_with_brute_force(name: str) -> None:
    found = fuzz(name, histories=400, seed=13)
    assert min(found[Verdict.VALID], found[Verdict.INVALID]) >= 80
