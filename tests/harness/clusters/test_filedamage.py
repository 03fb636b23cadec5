"""Damage to members' files: who runs is left alone, and snapshots are promised only where there will be some."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from splitvote.harness.clusters.filedamage import LocalDamage, snapshot_count
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import DAMAGES


def damage_in(data: Path, *, running: Sequence[str] = (), count: int | None = None) -> tuple[LocalDamage, list[str]]:
    settled: list[str] = []

    async def settle(nodes: Sequence[str]) -> None:
        settled.extend(nodes)

    return LocalDamage(lambda node: data, lambda node: node in running, settle=settle, snapshot_count=count), settled


def test_a_file_is_damaged_once_its_disk_has_settled(tmp_path: Path) -> None:
    """Or a loss of power would take the damage back, or more than that."""
    wal = tmp_path / "member" / "wal"
    wal.mkdir(parents=True)
    (wal / "0.wal").write_bytes(b"records")
    damage, settled = damage_in(tmp_path)
    assert asyncio.run(damage.damageable("n1")) == {"wal_bit_flip", "wal_truncate", "wal_loss"}
    assert asyncio.run(damage.damage("n1", "wal_loss", 3)) == {"file": "0.wal", "size_bytes": 7}
    assert settled == ["n1"]
    with pytest.raises(NemesisError, match="cannot damage n1: wal_loss: there is no file"):
        asyncio.run(damage.damage("n1", "wal_loss", 3))


def test_a_node_that_runs_is_not_damaged(tmp_path: Path) -> None:
    damage, settled = damage_in(tmp_path, running=["n1"])
    with pytest.raises(NemesisError, match="n1 runs"):
        asyncio.run(damage.damage("n1", "wal_loss", 3))
    assert not settled


@pytest.mark.parametrize(("count", "refused"), [(None, 2), (100_000, 2), (100, 0)])
def test_snapshots_are_refused_where_there_will_be_none(tmp_path: Path, count: int | None, refused: int) -> None:
    """Since every start would find nothing to do; logs there always are."""
    damage, _ = damage_in(tmp_path, count=count)
    refusals = {kind for kind in DAMAGES if damage.refusal(kind) is not None}
    assert len(refusals) == refused
    assert all(kind.startswith("snapshot") for kind in refusals)


def test_the_last_flag_says_when_snapshots_are_made() -> None:
    assert snapshot_count([], None) is None
    assert snapshot_count(["--snapshot-count-of-others=3"], 40) == 40
    assert snapshot_count(["--snapshot-count=100", "-snapshot-count=50", "--quota=1"], 40) == 50
