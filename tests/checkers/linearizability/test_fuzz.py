"""A bounded slice of the fuzz; `make fuzz` runs the whole of it."""

from __future__ import annotations

import pytest

from tests.checkers.linearizability.fuzz import ENGINES, SYSTEMS, assert_varied, fuzz
from tests.checkers.linearizability.systems import System


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_every_engine_agrees_with_the_brute_force(system: System) -> None:
    """On random histories, of which at least a quarter are good, a quarter bad, and a fifth have crashed operations."""
    tally = fuzz(system, 250, seed=20)
    assert tally["histories"] == 250
    assert_varied(system, tally)


def test_the_fuzz_reaches_every_engine() -> None:
    """Each engine decides a good part of the histories it is made for."""
    unique = fuzz(next(system for system in SYSTEMS if system.name == "cas-register"), 100, seed=21)
    etcd = fuzz(next(system for system in SYSTEMS if system.name == "etcd"), 100, seed=21)
    reached = unique + etcd
    assert all(reached[name] >= 10 for name in ENGINES if name != "search (C)")
    assert unique["zones"] >= 80
