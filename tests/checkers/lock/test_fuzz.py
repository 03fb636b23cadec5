"""A slice of the lock checker's fuzz; the script does more of it."""

from __future__ import annotations

from tests.checkers.lock.fuzz import fuzz, tame


def test_the_checker_names_what_the_oracle_names() -> None:
    problems, counts = fuzz(3000, seed=7)
    assert problems == []
    assert tame(counts) == []
