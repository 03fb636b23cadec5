"""First in, first out: elements that were overtaken, and "empty" answers of queues that were not."""

from __future__ import annotations

import pytest

from splitvote.checkers.fifo import FifoChecker
from splitvote.harness.result import Verdict
from tests.checkers.fuzz_library import fuzz
from tests.checkers.library_histories import history, judge, only

IN_1 = "0 invoke enqueue 1\n0 ok enqueue\n"
TWO_IN = IN_1 + "0 invoke enqueue 2\n0 ok enqueue\n"
TAKE_2 = "1 invoke dequeue\n1 ok dequeue 2\n"


def checked(text: str) -> tuple[Verdict, list[str], list[int]]:
    """The verdict, the anomalies' names, and the records of the first."""
    result = judge(FifoChecker(), text)
    records = [op.index for op in result.anomalies[0].ops] if result.anomalies else []
    if result.anomalies:
        assert judge(FifoChecker(), only(history(text), result)).verdict is Verdict.INVALID
    return result.verdict, [anomaly.name for anomaly in result.anomalies], records


@pytest.mark.parametrize(
    "text",
    [
        TWO_IN + "1 invoke dequeue\n1 ok dequeue 1\n" + TAKE_2 + "1 invoke dequeue\n1 ok dequeue null",
        "0 invoke enqueue 1\n1 invoke enqueue 2\n0 ok enqueue\n1 ok enqueue\n" + TAKE_2,
        TWO_IN + "1 invoke dequeue\n2 invoke dequeue\n1 ok dequeue 2\n2 ok dequeue 1",
        TWO_IN + "2 invoke dequeue\n2 info dequeue 1\n" + TAKE_2,
        TWO_IN + "2 invoke dequeue\n2 info dequeue\n" + TAKE_2,
        TWO_IN + "2 invoke drain\n" + TAKE_2,
        "0 invoke enqueue 1\n0 info enqueue\n2 invoke enqueue 2\n2 ok enqueue\n" + TAKE_2,
        TAKE_2 + "1 invoke dequeue\n1 ok dequeue null\n" + IN_1,
        TAKE_2 + "0 invoke enqueue 1\n1 invoke dequeue\n0 ok enqueue\n1 ok dequeue null",
        TAKE_2 + IN_1 + "1 invoke dequeue\n2 invoke dequeue\n1 ok dequeue null\n2 ok dequeue 1",
    ],
    ids=[
        "in order", "put in at once", "taken at once", "taken by a crash that names it", "by one that names nothing",
        "by an open drain", "a crashed enqueue", "before it", "in the meantime", "taken in the meantime",
    ],
)  # fmt: skip
def test_what_some_order_explains(text: str) -> None:
    assert checked(text) == (Verdict.VALID, [], [])


@pytest.mark.parametrize(
    ("text", "name", "records"),
    [
        (TWO_IN + TAKE_2, "fifo: out of order", [0, 1, 2, 3, 4, 5]),
        (TWO_IN + TAKE_2 + "1 invoke dequeue\n1 ok dequeue 1", "fifo: out of order", [0, 1, 2, 3, 4, 5, 6, 7]),
        (TWO_IN + "2 invoke dequeue\n2 info dequeue 7\n" + TAKE_2, "fifo: out of order", [0, 1, 2, 3, 6, 7]),
        (TWO_IN + TAKE_2 + "2 invoke dequeue\n2 info dequeue 1\n", "fifo: out of order", [0, 1, 2, 3, 4, 5]),
        (IN_1 + "1 invoke dequeue\n1 ok dequeue null", "fifo: not empty", [0, 1, 2, 3]),
        (TWO_IN + "1 invoke drain\n1 ok drain [2]", "fifo: out of order", [0, 1, 2, 3, 4, 5]),
    ],
    ids=["never", "later", "a crash of another", "a crash too late", "not empty", "drained"],
)
def test_what_no_order_explains(text: str, name: str, records: list[int]) -> None:
    assert checked(text) == (Verdict.INVALID, [name], records)


def test_one_element_after_another_keeps_a_queue_from_being_empty() -> None:
    """Each was there for a part of the time only; with a moment between them, the answer would be right."""
    text = """
    0 invoke enqueue 1
    0 ok enqueue
    1 invoke dequeue
    0 invoke enqueue 2
    0 ok enqueue
    2 invoke dequeue
    2 ok dequeue 1
    1 ok dequeue null
    """
    assert checked(text) == (Verdict.INVALID, ["fifo: not empty"], [0, 1, 2, 3, 4, 5, 6, 7])
    lines = text.splitlines()
    gap = "\n".join([*lines[:5], *lines[6:8], lines[5], lines[8]])
    assert checked(gap)[0] is Verdict.VALID


def test_the_story_says_who_and_when() -> None:
    result = judge(FifoChecker(), TWO_IN + TAKE_2)
    assert result.reason == "1 element overtaken: 1"
    assert result.anomalies[0].story == (
        "Process 0's enqueue of 1 (record 0, ok at 1) was acknowledged before process 0's enqueue of 2 (record 2, ok "
        "at 3) began, but 2 came out first, by process 1's dequeue (record 4, ok at 5); nobody ever began to take 1."
    )


def test_an_element_whose_first_enqueue_failed_has_its_place_by_the_other() -> None:
    failed = "1 invoke enqueue 2\n1 fail enqueue\n"
    assert checked(failed + TWO_IN + TAKE_2)[:2] == (Verdict.INVALID, ["fifo: out of order"])


def test_agrees_with_brute_force() -> None:
    found = fuzz("fifo", histories=600, seed=13)
    assert min(found[Verdict.VALID], found[Verdict.INVALID]) >= 90
