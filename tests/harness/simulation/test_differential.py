"""The simulated etcd and a real one answer the same requests alike, without faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.simulation.differential import compare, real_member


@pytest.mark.etcd
def test_random_requests_are_answered_alike(etcd_binary: Callable[[str], Path]) -> None:
    """Every answer and error, revisions and versions, what watches are told; `make fuzz` compares 10,000 and more."""
    with real_member(etcd_binary("3.5.30")) as endpoint:
        counts = asyncio.run(compare(endpoint, operations=3000, seed=5))
    assert counts["answered"] > 2400
    assert counts["refused"] > 200
    assert counts["events"] > 2000
    assert counts["compacted watches"] > 1
