"""Elements compare and print the same way, whatever JSON made of them."""

from __future__ import annotations

from splitvote.checkers.elements import element, elements, in_order, listed, plural, records_of, told
from tests.checkers.library_histories import history


def test_elements_are_hashable_and_lists_equal_tuples() -> None:
    assert element([1, [2, "a"]]) == element((1, (2, "a"))) == (1, (2, "a"))
    assert hash(element({"a": [1], "b": {2}})) == hash(element({"b": {2}, "a": [1]}))
    assert elements(None) == []
    assert elements([[1], 2]) == [(1,), 2]


def test_order_is_total_and_never_by_hash() -> None:
    assert in_order(["b", 10, (1,), 2, None, "a"]) == [2, 10, "a", "b", (1,), None]


def test_whole_numbers_are_listed_as_ranges() -> None:
    assert listed([3, 1, 2, 7]) == "1-3, 7"
    assert listed([1.5, 2, 3]) == "1.5, 2-3"
    assert listed(["b", "a"]) == "'a', 'b'"
    assert listed(range(0, 40, 2), most=3) == "0, 2, 4 and 17 more"
    assert listed([*range(0, 6, 2), *range(10, 20)], most=2) == "0, 2 and 11 more"
    assert listed([]) == ""


def test_words() -> None:
    first, second = history("0 invoke add 5\n1 invoke read\n1 ok read [5]").operations
    assert told(first) == "process 0's add of 5 (record 0, never answered)"
    assert told(second) == "process 1's read (record 1, ok at 2)"
    assert [op.index for op in records_of(second, first, None, second)] == [0, 1, 2]
    assert [plural(0, "read"), plural(1, "read"), plural(2, "read")] == ["0 reads", "1 read", "2 reads"]
