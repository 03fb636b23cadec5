"""A bounded slice of the fuzz; `python tests/checkers/isolation/fuzz.py` runs the whole of it."""

from __future__ import annotations

from tests.checkers.isolation.fuzz import fuzz, is_varied


def test_the_checkers_agree_with_the_brute_force() -> None:
    """On random histories, of which at least a quarter are good, a quarter bad, and a fifth have crashes."""
    tally, problem = fuzz(900, seed=30)
    assert problem is None, problem
    assert tally["histories"] == 900
    assert is_varied(tally)
