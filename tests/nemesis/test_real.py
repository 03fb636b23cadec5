"""Every fault once, on five real etcd members under a light write load: proven, ended, proven ended, healthy again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.clusters.local import LocalCluster
from splitvote.harness.clusters.network.loopback import LoopbackNetwork
from splitvote.harness.clusters.network.netns import NamespaceNetwork, means
from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.daemon import ServerOptions
from splitvote.harness.etcd.methods import PUT
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import NEMESIS, Op
from splitvote.nemesis import FAMILIES, Fault, Journal, Nemesis, Site, read_faults
from tests.nemesis.insisting import ATTEMPTS, HEAL_BOUND_S, start_and_stop

WRITE_EVERY_S = 0.02
SNAPSHOT_COUNT = 40
"""Snapshots are made all the time, so that there are some to be damaged."""


async def write_lightly(cluster: LocalCluster) -> None:
    """Puts on every member in turn, whatever becomes of them."""
    connections = cluster.connections()
    number = 0
    try:
        while True:
            number += 1
            node = cluster.nodes[number % len(cluster.nodes)]
            request = pb.PutRequest(key=b"key%d" % (number % 20), value=b"%d" % number)
            with suppress(TransportError):
                await connections[node].unary(PUT, request, timeout_s=0.3)
            await asyncio.sleep(WRITE_EVERY_S)
    finally:
        await connections.close()


@asynccontextmanager
async def nemesis_on(
    directory: Path, etcd: Path, faults: tuple[Fault, ...], network: Callable[..., Any] = LoopbackNetwork
) -> AsyncIterator[Nemesis]:
    """A nemesis that may start those of these faults that its cluster can do, while that is written to."""
    families = [FAMILIES[name] for name in dict.fromkeys(fault.family for fault in faults)]
    async with LocalCluster(
        directory=directory,
        nodes=5,
        etcd=etcd,
        network=network,
        options=ServerOptions(snapshot_count=SNAPSHOT_COUNT),
        demands=[kind for family in families for kind in family.demands],
    ) as cluster:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        nemesis = Nemesis(
            Site(cluster),
            {
                family: tuple(fault for fault in faults if fault.family == family and fault.lacks(cluster) is None)
                for family in FAMILIES
            },
            Journal(directory / "faults.jsonl"),
            now_ns=lambda: int((loop.time() - start_s) * 1e9),
        )
        load = asyncio.create_task(write_lightly(cluster))
        try:
            await nemesis.setup()
            yield nemesis
        finally:
            await nemesis.heal(HEAL_BOUND_S)
            nemesis.close()
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)


NETWORKS: dict[str, Callable[..., Any]] = {"local": LoopbackNetwork, "netns": NamespaceNetwork}


@pytest.mark.etcd
@pytest.mark.parametrize(
    ("network", "family", "kinds"),
    [
        *(("local", family, each.kinds) for family, each in FAMILIES.items()),
        ("netns", "partition", ("primaries", "one_way_out", "client")),
        ("netns", "packet", FAMILIES["packet"].kinds),
        ("netns", "disk", ("power_loss", "freeze")),
    ],
)
def test_every_fault_is_proven_and_its_end_too(
    network: str, family: str, kinds: Sequence[str], etcd_binary: Callable[[str], Path], tmp_path: Path
) -> None:
    """Of those that the cluster can do; on the second network those that are the network's own."""
    if network == "netns" and (problems := means().problems):
        pytest.skip("; ".join(problems))
    binary = etcd_binary("3.5.30")
    probe = LocalCluster(directory=tmp_path, nodes=5, etcd=binary, network=NETWORKS[network])
    lacks = {fault.name: fault.lacks(probe) for fault in FAMILIES[family].faults if fault.name in kinds}
    faults = tuple(fault for fault in FAMILIES[family].faults if lacks.get(fault.name, "") is None)
    if not faults:
        pytest.skip("; ".join(reason for reason in dict.fromkeys(lacks.values()) if reason))

    async def run() -> None:
        async with nemesis_on(tmp_path, binary, faults, NETWORKS[network]) as nemesis:
            for fault in faults:
                selections = fault.selections if len(faults) == 1 else fault.selections[:1]
                for pick, select in enumerate(selections or ("one",)):
                    request = {"kind": fault.name, "select": select, "pick": pick}
                    records = await start_and_stop(nemesis, tmp_path / "faults.jsonl", family, request)
                    assert {record.fault for record in records} == {fault.name}

    asyncio.run(run())


@pytest.mark.etcd
def test_faults_that_overlap_are_all_undone_by_the_final_heal(
    etcd_binary: Callable[[str], Path], tmp_path: Path
) -> None:
    async def start_all(nemesis: Nemesis) -> None:
        for family, kind, target in (
            ("packet", "delay", "n1"),
            ("partition", "one_way_in", "n2"),
            ("kill", "kill", "n3"),
            ("pause", "pause", "n4"),
        ):
            value = {"kind": kind, "targets": [target]}
            await nemesis.invoke(Op(process=NEMESIS, type="info", f=f"start-{family}", value=value))

    async def run() -> None:
        faults = tuple(fault for name in ("kill", "pause", "partition", "packet") for fault in FAMILIES[name].faults)
        async with nemesis_on(tmp_path, etcd_binary("3.5.30"), faults) as nemesis:
            for _ in range(ATTEMPTS):
                earlier = len(read_faults(tmp_path / "faults.jsonl"))
                await start_all(nemesis)
                report = await nemesis.heal(HEAL_BOUND_S)
                records = read_faults(tmp_path / "faults.jsonl")[earlier:]
                if [record.phase for record in records[:8]] == ["starting", "active"] * 4:
                    break
            assert [record.phase for record in records[:8]] == ["starting", "active"] * 4
            assert [record.affects_quorum for record in records[:8:2]] == [False, False, False, True]
            assert report.recovery_ms is not None
            assert [record.phase for record in report.records] == ["healed"] * 4

    asyncio.run(run())
