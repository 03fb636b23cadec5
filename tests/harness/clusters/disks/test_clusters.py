"""Real members on disks that can be broken: what they promised they have, unless they promise too much."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.cluster import Process, ProcessState
from splitvote.harness.clusters.disks.fuse import problem
from splitvote.harness.clusters.disks.mounts import AS_USER, TYPE
from splitvote.harness.clusters.leftovers import DESCRIPTION, heal_leftovers
from splitvote.harness.clusters.local import LocalCluster
from splitvote.harness.clusters.network.loopback import LoopbackNetwork
from splitvote.harness.clusters.network.netns import NamespaceNetwork, means
from splitvote.harness.clusters.processes import wait_state
from splitvote.harness.errors import EnvironmentFailure
from splitvote.harness.etcd.methods import RANGE
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.machine import Disk
from tests.harness.clusters.test_local import PATIENT, all_serve, having, put

pytestmark = pytest.mark.etcd

BOUND_S = 90.0
STOCK = "3.5.30"
NETWORKS: dict[str, Callable[..., Any]] = {
    "local": LoopbackNetwork,
    "netns": NamespaceNetwork,
    "netns of a user": functools.partial(NamespaceNetwork, kind=AS_USER),
}

HARNESS = """
import asyncio, sys
from pathlib import Path
from splitvote.harness.machine import Disk, DiskShape
from splitvote.harness.clusters.local import LocalCluster
from tests.harness.clusters.test_local import put

async def main():
    cluster = LocalCluster(directory=Path(sys.argv[1]), nodes=3, etcd=sys.argv[2], demands=(Disk,))
    await cluster.up()
    await put(cluster, "n1", key=b"promised")
    await cluster.capability(Disk).impair("n1", DiskShape("freeze"))
    await cluster.capability(Disk).impair("n2", DiskShape("slow_fsync", 500.0))
    print("hurt", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def needs(kind: str | None = None, *, network: str = "local") -> None:
    if (missing := problem(kind)) is not None:
        pytest.skip(missing)
    if network != "local" and (problems := means(AS_USER if "user" in network else None).problems):
        pytest.skip("; ".join(problems))


def run_on(
    directory: Path,
    etcd: Path,
    scene: Callable[[LocalCluster, Disk, Process], Awaitable[None]],
    *,
    nodes: int,
    network: Callable[..., Any] = LoopbackNetwork,
    etcd_args: Sequence[str] = (),
) -> None:
    async def run() -> None:
        async with asyncio.timeout(BOUND_S):
            async with LocalCluster(
                directory=directory, nodes=nodes, etcd=etcd, network=network, demands=(Disk,), etcd_args=etcd_args
            ) as cluster:
                await scene(cluster, having(cluster, Disk), having(cluster, Process))

    asyncio.run(run())


async def has(cluster: LocalCluster, node: str, key: bytes) -> bool:
    """Whether a member itself holds a key."""
    connections = cluster.connections(PATIENT)
    try:
        return (
            await connections[node].unary(RANGE, pb.RangeRequest(key=key, serializable=True), timeout_s=10.0)
        ).count > 0
    finally:
        await connections.close()


async def lose_all_power(cluster: LocalCluster, disk: Disk, process: Process) -> None:
    """Every node's at once; then all are started."""
    await asyncio.gather(*(disk.lose_power(node) for node in cluster.nodes))
    assert [await process.state(node) for node in cluster.nodes] == [ProcessState.STOPPED] * len(cluster.nodes)
    await asyncio.gather(*(process.start(node) for node in cluster.nodes))
    await all_serve(cluster)


@pytest.mark.parametrize("network", NETWORKS)
def test_what_was_acknowledged_outlives_the_power_of_all(
    network: str, tmp_path: Path, etcd_binary: Callable[[str], Path]
) -> None:
    """Written, lost and started twice; and a member that is wiped is not given back what it lost."""
    needs(network=network)

    async def scene(cluster: LocalCluster, disk: Disk, process: Process) -> None:
        for key in (b"first", b"second"):
            await put(cluster, "n1", key=key)
            await lose_all_power(cluster, disk, process)
            assert [await has(cluster, node, key) for node in cluster.nodes] == [True] * 3
        assert (await disk.probe("n2")).error is None
        await process.kill("n3")
        await process.wipe("n3")
        assert not cluster._members["n3"].has_data
        await disk.lose_power("n3")
        assert not cluster._members["n3"].has_data

    run_on(tmp_path, etcd_binary(STOCK), scene, nodes=3, network=NETWORKS[network])


def test_a_member_that_does_not_sync_loses_what_it_acknowledged(
    tmp_path: Path, etcd_binary: Callable[[str], Path]
) -> None:
    """The bug that a loss of power is for; what it had when it came up is there."""
    needs()

    async def scene(cluster: LocalCluster, disk: Disk, process: Process) -> None:
        await put(cluster, "n1", key=b"acknowledged")
        await lose_all_power(cluster, disk, process)
        assert not await has(cluster, "n1", b"acknowledged")

    run_on(tmp_path, etcd_binary(STOCK), scene, nodes=1, etcd_args=("--unsafe-no-fsync",))


def test_nothing_is_left_of_a_harness_that_is_killed_while_disks_hang(
    tmp_path: Path, etcd_binary: Callable[[str], Path]
) -> None:
    """No process and no mount; what was acknowledged is there when the cluster comes up again, on ordinary disks."""
    needs()
    command = [sys.executable, "-c", HARNESS, str(tmp_path), str(etcd_binary(STOCK))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as harness:
        try:
            assert harness.stdout is not None
            assert harness.stdout.readline() == "hurt\n"
            description = DESCRIPTION.read(tmp_path)
            assert description is not None
        finally:
            harness.kill()
    names = [f"disk of n{number}" for number in (1, 2, 3)]
    assert list(description.processes()) == ["n1", "n2", "n3", "link proxy", *names]
    for process in description.processes().values():
        assert asyncio.run(wait_state(process.pid, ProcessState.STOPPED, timeout_s=BOUND_S))
    (line,) = asyncio.run(heal_leftovers(tmp_path))
    assert "removed" in line
    assert not list(tmp_path.glob("disks-*"))
    assert asyncio.run(heal_leftovers(tmp_path)) == []
    assert TYPE not in Path("/proc/self/mounts").read_text()

    async def come_back() -> None:
        async with LocalCluster(directory=tmp_path, nodes=3, etcd=etcd_binary(STOCK)) as cluster:
            assert [await has(cluster, node, b"promised") for node in cluster.nodes] == [True] * 3

    asyncio.run(come_back())


def test_a_disk_that_is_gone_is_our_failure_not_the_clusters(
    tmp_path: Path, etcd_binary: Callable[[str], Path]
) -> None:
    needs()

    async def scene(cluster: LocalCluster, disk: Disk, process: Process) -> None:
        description = DESCRIPTION.read(tmp_path)
        assert description is not None
        os.kill(description.disks["n1"].pid, signal.SIGKILL)
        assert await wait_state(description.disks["n1"].pid, ProcessState.STOPPED, timeout_s=BOUND_S)

    with pytest.raises(EnvironmentFailure, match="the disk of n1 ended while the cluster was up"):
        run_on(tmp_path, etcd_binary(STOCK), scene, nodes=1)
