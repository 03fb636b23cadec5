"""A slice of the kv checker's fuzz; ``make fuzz`` does more of it."""

from __future__ import annotations

from tests.checkers.kv.fuzz import fuzz, is_tame


def test_the_checker_agrees_with_the_brute_force() -> None:
    problems, counts = fuzz(3000, seed=7)
    assert problems == []
    assert not is_tame(counts)
