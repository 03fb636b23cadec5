"""The lease checker and the oracle agree on thousands of tiny histories, true and spoilt."""

from __future__ import annotations

from tests.checkers.lease.fuzz import fuzz, is_tame


def test_the_checker_agrees_with_the_oracle() -> None:
    problems, counts = fuzz(4_000, seed=7)
    assert problems == []
    assert not is_tame(counts), counts
