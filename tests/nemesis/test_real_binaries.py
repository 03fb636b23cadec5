"""Other binaries on real members: another version, rolled out and back; one with failpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from splitvote.harness.clusters.local import LocalCluster
from splitvote.harness.errors import ConfigError, NemesisError
from splitvote.harness.machine import Failpoints
from splitvote.nemesis import FAMILIES, Journal, Nemesis, Site
from tests.nemesis.insisting import HEAL_BOUND_S, start_and_stop

GOFAIL_ETCD = Path(__file__).with_name("gofail_etcd.py")


def prove(cluster: LocalCluster, family: str) -> None:
    """Each kind of a family once, and its end."""

    async def run() -> None:
        async with cluster:
            loop = asyncio.get_running_loop()
            path = cluster.directory / "faults.jsonl"
            journal = Journal(path)
            faults = {family: FAMILIES[family].faults}
            nemesis = Nemesis(Site(cluster), faults, journal, now_ns=lambda: int(loop.time() * 1e9))
            try:
                for fault in FAMILIES[family].faults:
                    request = {"kind": fault.name, "select": fault.selections[0], "pick": 3}
                    await start_and_stop(nemesis, path, family, request)
            finally:
                await nemesis.heal(HEAL_BOUND_S)
                nemesis.close()

    asyncio.run(run())


@pytest.mark.etcd
def test_members_are_moved_to_another_version_and_back(etcd_binary: Callable[[str], Path], tmp_path: Path) -> None:
    old, new = etcd_binary("3.5.16"), etcd_binary("3.5.30")
    cluster = LocalCluster(directory=tmp_path, nodes=3, etcd=old, etcd_others=[new])
    prove(cluster, "version")
    assert set(cluster.versions.values()) == {"3.5.16"}


@pytest.mark.etcd
@pytest.mark.parametrize(("other", "words"), [("3.4.23", "patch releases only"), ("3.5.30", "take another")])
def test_versions_that_cannot_be_gone_back_from_are_refused(
    other: str, words: str, etcd_binary: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        LocalCluster(directory=tmp_path, etcd=etcd_binary("3.5.30"), etcd_others=[etcd_binary(other)])


@pytest.mark.etcd
def test_points_to_fail_at_are_switched_on_and_off(
    etcd_binary: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a stand-in that serves gofail's endpoint beside a real etcd."""
    monkeypatch.setenv("REAL_ETCD", str(etcd_binary("3.5.30")))
    prove(LocalCluster(directory=tmp_path, nodes=3, etcd=GOFAIL_ETCD), "failpoint")


@pytest.mark.etcd
def test_points_and_terms_that_there_are_not_are_told(
    etcd_binary: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REAL_ETCD", str(etcd_binary("3.5.30")))

    async def run() -> None:
        async with LocalCluster(directory=tmp_path, nodes=1, etcd=GOFAIL_ETCD) as cluster:
            points = cluster.capability(Failpoints)
            assert points is not None
            assert await points.known("n1") == {"raftBeforeSave": "", "beforeCommit": ""}
            await points.enable("n1", "beforeCommit", "sleep(10)")
            assert (await points.known("n1"))["beforeCommit"] == "sleep(10)"
            await points.disable("n1", "beforeCommit")
            await points.disable("n1", "beforeCommit")
            with pytest.raises(NemesisError, match="nowhere"):
                await points.enable("n1", "nowhere", "panic")

    asyncio.run(run())


@pytest.mark.etcd
def test_a_stock_binary_has_no_points(etcd_binary: Callable[[str], Path], tmp_path: Path) -> None:
    assert LocalCluster(directory=tmp_path, etcd=etcd_binary("3.5.30")).capability(Failpoints) is None
