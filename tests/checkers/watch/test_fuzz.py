"""A slice of the watch checker's fuzz; ``make fuzz`` does more of it."""

from __future__ import annotations

import pytest

from splitvote.harness.result import Verdict
from tests.checkers.watch.fuzz import fuzz, is_tame


@pytest.fixture(scope="module")
def fuzzed() -> tuple[list[str], dict[str, int]]:
    problems, counts = fuzz(2000, seed=7)
    return problems, counts


def test_the_checker_agrees_with_the_brute_force(fuzzed: tuple[list[str], dict[str, int]]) -> None:
    problems, counts = fuzzed
    assert problems == []
    assert not is_tame(counts)
    assert counts[Verdict.VALID] + counts[Verdict.INVALID] == counts["histories"]


def test_the_fuzz_breaks_every_promise(fuzzed: tuple[list[str], dict[str, int]]) -> None:
    _, counts = fuzzed
    for name in (
        "ordered", "unique", "atomic", "reliable", "resumable", "bookmarkable", "filter", "prev_kv", "is-create",
        "compacted", "start revision", "phantom", "convergence", "lost write",
    ):  # fmt: skip
        assert counts[f"watch: {name}"] > 0, name
