"""The local cluster, on real etcd: up, hurt through every capability, healed, and gone without a trace."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from splitvote.harness.cluster import (
    Admin,
    Data,
    Health,
    LinkCounter,
    Links,
    LinkShape,
    Logs,
    Pair,
    Process,
    ProcessState,
    Roles,
)
from splitvote.harness.clusters.leftovers import DESCRIPTION, heal_leftovers
from splitvote.harness.clusters.local import LocalCluster
from splitvote.harness.clusters.network import loopback
from splitvote.harness.clusters.ports import HeldPort
from splitvote.harness.clusters.processes import state_of
from splitvote.harness.clusters.readiness import READY_KEY
from splitvote.harness.errors import ConfigError, EnvironmentFailure, NemesisError, TransportError
from splitvote.harness.etcd.connection import ConnectionOptions
from splitvote.harness.etcd.daemon import ServerOptions
from splitvote.harness.etcd.methods import PUT, RANGE
from splitvote.harness.etcd.stubs import rpc_pb2 as pb

pytestmark = pytest.mark.etcd

C = TypeVar("C")
T = TypeVar("T")
STOCK = "3.5.16"
BOUND_S = 240.0
STEADY = ServerOptions(heartbeat_ms=50, election_ms=1000)
"""Many heartbeats to an election timeout, so that few elections are held for a slow machine's sake."""

PATIENT = ConnectionOptions(connect_timeout_ms=20_000)


def having(cluster: LocalCluster, kind: type[C]) -> C:
    capability = cluster.capability(kind)
    assert capability is not None
    assert isinstance(capability, kind)
    return capability


async def until(condition: Callable[[], Awaitable[T]]) -> T:
    """What the condition gives once that is true, within a bound."""
    async with asyncio.timeout(BOUND_S):
        while not (found := await condition()):  # noqa: ASYNC110 (a cluster tells nobody when it is ready)
            await asyncio.sleep(0.02)
    return found


async def all_serve(cluster: LocalCluster) -> None:
    health = having(cluster, Health)

    async def nobody_is_unready() -> bool:
        return not await health.unready(cluster.nodes)

    await until(nobody_is_unready)


async def a_leader(cluster: LocalCluster, *, other_than: str | None = None) -> str:
    """A leader that leads by its own word, not only by what members say that have not noticed."""
    roles = having(cluster, Roles)

    async def somebody() -> str | None:
        leader = await roles.leader()
        return leader if leader in cluster.nodes and leader != other_than else None

    leader = await until(somebody)
    assert leader is not None
    return leader


async def put(cluster: LocalCluster, node: str, *, key: bytes = b"k") -> int:
    """Put until it is acknowledged: a slow machine's members may be at an election when they are asked."""
    connections = cluster.connections(PATIENT)

    async def acknowledged() -> int | None:
        try:
            return (await connections[node].unary(PUT, pb.PutRequest(key=key), timeout_s=10.0)).header.revision
        except TransportError:
            return None

    try:
        return await until(acknowledged) or 0
    finally:
        await connections.close()


async def keys(cluster: LocalCluster, node: str) -> set[bytes]:
    """All keys that there are, by a linearizable read."""
    connections = cluster.connections(PATIENT)
    everything = pb.RangeRequest(key=b"\0", range_end=b"\0", keys_only=True)

    async def read() -> set[bytes] | None:
        try:
            return {kv.key for kv in (await connections[node].unary(RANGE, everything, timeout_s=10.0)).kvs}
        except TransportError:
            return None

    try:
        return await until(read) or set()
    finally:
        await connections.close()


def around(node: str, others: Iterable[str]) -> list[Pair]:
    """All links of a node, both ways."""
    return [pair for other in others if other != node for pair in ((node, other), (other, node))]


class Isolated(NamedTuple):
    """A leader that nobody hears, who leads in its stead, and the links' counters since."""

    leader: str
    successor: str
    before: Mapping[Pair, LinkCounter]
    after: Mapping[Pair, LinkCounter]


async def only_unready(cluster: LocalCluster, node: str, *, read_timeout_s: float) -> None:
    """All others come to serve, however slow the machine, while this one never does."""

    async def all_others_serve() -> bool:
        unready = list(await having(cluster, Health).unready(cluster.nodes, timeout_s=read_timeout_s))
        assert node in unready
        return unready == [node]

    await until(all_others_serve)


async def isolate_the_leader(cluster: LocalCluster, *, read_timeout_s: float) -> Isolated:
    """Cut a leader off: another leads and takes writes, it alone serves nothing, and nothing goes over its links."""
    links = having(cluster, Links)
    leader = await a_leader(cluster)
    cut = around(leader, cluster.nodes)
    await links.cut(cut)
    before = await links.counters()
    successor = await a_leader(cluster, other_than=leader)
    await put(cluster, successor)
    await only_unready(cluster, leader, read_timeout_s=read_timeout_s)
    after = await links.counters()
    assert all(after[pair].delivered_bytes == before[pair].delivered_bytes for pair in cut)
    assert any(after[pair].offered_bytes > before[pair].offered_bytes for pair in cut)
    return Isolated(leader, successor, before, after)


@pytest.fixture
def on_cluster(
    tmp_path: Path, etcd_binary: Callable[[str], Path]
) -> Callable[[Callable[[LocalCluster], Awaitable[None]]], None]:
    """Plays a scene on a fresh cluster, within a bound; nothing may be left of it."""

    def play(scene: Callable[[LocalCluster], Awaitable[None]], *, nodes: int = 3) -> None:
        async def bounded() -> None:
            cluster = LocalCluster(directory=tmp_path, nodes=nodes, etcd=etcd_binary(STOCK), options=STEADY)
            async with asyncio.timeout(BOUND_S):
                async with cluster:
                    description = DESCRIPTION.read(tmp_path)
                    await scene(cluster)
                assert description is not None
                assert [name for name, process in description.processes().items() if process.is_alive()] == []
                await cluster.down()

        asyncio.run(bounded())

    return play


@pytest.mark.parametrize("version", ["3.4.23", "3.5.1", "3.5.30"])
def test_five_nodes_come_up_and_serve(tmp_path: Path, etcd_binary: Callable[[str], Path], version: str) -> None:
    """Of every stock version; the data of an earlier life is gone on with."""

    async def scene() -> None:
        cluster = LocalCluster(directory=tmp_path, etcd=etcd_binary(version), options=STEADY)
        assert cluster.name == "local"
        assert cluster.nodes == ("n1", "n2", "n3", "n4", "n5")
        assert cluster.versions == dict.fromkeys(cluster.nodes, version)
        revisions = []
        for _ in range(2):
            async with cluster:
                await cluster.up()
                assert len(set(cluster.endpoints.values())) == 5
                await all_serve(cluster)
                if not revisions:
                    assert await keys(cluster, "n1") == {READY_KEY}, "nothing else is written"
                revisions.append(await put(cluster, "n3"))
                for node in cluster.nodes:
                    assert await having(cluster, Process).state(node) is ProcessState.RUNNING
                    assert having(cluster, Logs).log_path(node).stat().st_size > 0
            assert await having(cluster, Process).state("n1") is ProcessState.STOPPED
        assert revisions[1] > revisions[0]

    asyncio.run(scene())


def test_one_node_needs_no_links(on_cluster) -> None:
    async def scene(cluster: LocalCluster) -> None:
        await put(cluster, "n1")
        assert await keys(cluster, "n1") == {READY_KEY, b"k"}
        assert cluster.capability(Links) is None
        assert not (cluster.directory / "logs" / "linkproxy.log").exists()

    on_cluster(scene, nodes=1)


def test_members_of_several_versions_serve_together(tmp_path: Path, etcd_binary: Callable[[str], Path]) -> None:
    async def scene() -> None:
        cluster = LocalCluster(
            directory=tmp_path,
            nodes=3,
            etcd=etcd_binary("3.5.16"),
            etcd_by_node={"n2": etcd_binary("3.5.30")},
            options=STEADY,
        )
        assert cluster.versions == {"n1": "3.5.16", "n2": "3.5.30", "n3": "3.5.16"}
        async with cluster:
            await all_serve(cluster)

    asyncio.run(scene())


def test_every_capability_is_there(on_cluster) -> None:
    async def scene(cluster: LocalCluster) -> None:
        for kind in (Process, Links, Logs, Data, Roles, Health, Admin):
            assert having(cluster, kind) is having(cluster, kind)
        assert cluster.capability(int) is None
        samples = await having(cluster, Roles).sample()
        assert list(samples) == list(cluster.nodes)
        revision = await put(cluster, "n1")

        async def compacted() -> int | None:
            with suppress(NemesisError):  # of members that are slow
                return await having(cluster, Admin).compact()
            return None

        assert await until(compacted) == revision

    on_cluster(scene)


def test_killed_stopped_and_started(on_cluster) -> None:
    async def scene(cluster: LocalCluster) -> None:
        process = having(cluster, Process)
        for end in (process.kill, process.stop):
            leader = await a_leader(cluster)
            await end(leader)
            await end(leader)
            assert await process.state(leader) is ProcessState.STOPPED
            assert leader in await having(cluster, Health).unready(cluster.nodes, timeout_s=0.2)
            successor = await a_leader(cluster, other_than=leader)
            await put(cluster, successor)
            await process.start(leader)
            await process.start(leader)
            assert await process.state(leader) is ProcessState.RUNNING
            await all_serve(cluster)

    on_cluster(scene)


def test_paused_and_resumed(on_cluster) -> None:
    async def scene(cluster: LocalCluster) -> None:
        process = having(cluster, Process)
        leader = await a_leader(cluster)
        await process.pause(leader)
        await process.pause(leader)
        assert await process.state(leader) is ProcessState.PAUSED
        await process.start(leader)
        assert await process.state(leader) is ProcessState.PAUSED, "it runs, if suspended"
        await put(cluster, await a_leader(cluster, other_than=leader))
        await process.resume(leader)
        await process.resume(leader)
        assert await process.state(leader) is ProcessState.RUNNING
        await all_serve(cluster)

    on_cluster(scene)


def test_a_suspended_member_can_be_stopped_and_killed(on_cluster) -> None:
    async def scene(cluster: LocalCluster) -> None:
        process = having(cluster, Process)
        for end in (process.stop, process.kill):
            await process.pause("n2")
            await end("n2")
            assert await process.state("n2") is ProcessState.STOPPED
            await process.resume("n2")
            assert await process.state("n2") is ProcessState.STOPPED
            with pytest.raises(NemesisError, match="n2 cannot be paused: it does not run"):
                await process.pause("n2")
            await process.start("n2")
            await all_serve(cluster)

    on_cluster(scene)


def test_a_member_that_dies_by_itself_is_stopped_and_can_be_started(on_cluster, tmp_path: Path) -> None:
    """As of a full disk: what becomes of a member is the cluster's affair, not our failure."""

    async def scene(cluster: LocalCluster) -> None:
        process = having(cluster, Process)
        described = DESCRIPTION.read(tmp_path)
        assert described is not None
        record = described.members["n3"].process
        assert record is not None
        os.kill(record.pid, signal.SIGKILL)

        async def is_stopped() -> bool:
            return await process.state("n3") is ProcessState.STOPPED

        await until(is_stopped)
        await process.start("n3")
        await all_serve(cluster)

    on_cluster(scene)


def test_an_isolated_leader_is_replaced_and_comes_back(on_cluster) -> None:
    async def scene(cluster: LocalCluster) -> None:
        links = having(cluster, Links)
        isolated = await isolate_the_leader(cluster, read_timeout_s=0.3)
        leader, successor, before, after = isolated.leader, isolated.successor, isolated.before, isolated.after
        assert any(
            after[successor, other].delivered_bytes > before[successor, other].delivered_bytes
            for other in cluster.nodes
            if other not in (leader, successor)
        )
        await links.heal()
        await all_serve(cluster)

    on_cluster(scene, nodes=5)


def test_a_link_cut_one_way_carries_the_other(on_cluster) -> None:
    """A leader whose word does not reach a follower still hears from it."""

    async def scene(cluster: LocalCluster) -> None:
        links = having(cluster, Links)
        leader = await a_leader(cluster)
        follower = next(node for node in cluster.nodes if node != leader)
        await links.cut([(leader, follower)])
        before = await links.counters()

        async def both_speak_and_one_is_heard() -> bool:
            now = await links.counters()
            assert now[leader, follower].delivered_bytes == before[leader, follower].delivered_bytes
            return (
                now[follower, leader].delivered_bytes > before[follower, leader].delivered_bytes
                and now[leader, follower].offered_bytes > before[leader, follower].offered_bytes
            )

        await until(both_speak_and_one_is_heard)
        await links.heal([(leader, follower)])
        await all_serve(cluster)

    on_cluster(scene)


def test_slow_links_slow_the_writes_and_a_heal_ends_that(on_cluster) -> None:
    """With every link delayed one way, no write can be committed in less."""

    async def scene(cluster: LocalCluster) -> None:
        links = having(cluster, Links)
        leader = await a_leader(cluster)
        clock = asyncio.get_running_loop().time

        async def put_s() -> float:
            started_s = clock()
            await put(cluster, leader)
            return clock() - started_s

        async def is_quick() -> bool:
            return await put_s() < 0.4

        await links.shape(around(leader, cluster.nodes), LinkShape(delay_ms=250, jitter_ms=10))
        assert await put_s() >= 0.4
        await links.heal()
        await until(is_quick)

    on_cluster(scene)


def test_wipe_removes_what_the_harness_made_and_nothing_else(on_cluster, tmp_path: Path) -> None:
    async def scene(cluster: LocalCluster) -> None:
        process = having(cluster, Process)
        data = tmp_path / "data" / "n1"
        with pytest.raises(NemesisError, match="n1 runs: stop it before"):
            await process.wipe("n1")
        await process.kill("n1")
        await process.wipe("n1")
        await process.wipe("n1")
        assert not data.exists()
        data.mkdir()
        (data / "precious").write_text("not ours")
        with pytest.raises(NemesisError, match="was not made by this cluster"):
            await process.wipe("n1")
        with pytest.raises(NemesisError, match=r"cannot start n1: .*File exists"):
            await process.start("n1")
        assert (data / "precious").read_text() == "not ours"

    on_cluster(scene)


def test_kept_data_is_the_data_without_its_empty_space(on_cluster, tmp_path: Path) -> None:
    async def scene(cluster: LocalCluster) -> None:
        await cluster.down()
        data = having(cluster, Data)
        await data.keep_data(tmp_path / "kept")
        await data.keep_data(tmp_path / "data")  # where it is already
        originals = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert any(path.suffix == ".wal" for path in originals)
        for original in originals:
            copy = tmp_path / "kept" / original.relative_to(tmp_path / "data")
            assert copy.read_bytes() == original.read_bytes()
        assert sum(copy.stat().st_blocks * 512 for copy in (tmp_path / "kept").rglob("*.wal")) < 30e6

    on_cluster(scene)


def test_unknown_nodes_are_named(on_cluster) -> None:
    async def scene(cluster: LocalCluster) -> None:
        with pytest.raises(NemesisError, match=r"there is no node 'n9'; nodes are n1, n2, n3"):
            await having(cluster, Process).kill("n9")

    on_cluster(scene)


def test_impossible_clusters_are_refused(tmp_path: Path, etcd_binary: Callable[[str], Path]) -> None:
    for nodes in (0, 10):
        with pytest.raises(ConfigError, match=f"{nodes} nodes: the local cluster has 1 to 9"):
            LocalCluster(directory=tmp_path, nodes=nodes, etcd=etcd_binary(STOCK))
    with pytest.raises(ConfigError, match="no etcd at /bin/true"):
        LocalCluster(directory=tmp_path, etcd="/bin/true")
    with pytest.raises(ConfigError, match="there is no node 'n7' to give an etcd of its own"):
        LocalCluster(directory=tmp_path, etcd=etcd_binary(STOCK), etcd_by_node={"n7": "/bin/true"})
    assert list(tmp_path.iterdir()) == []


def failure_of(cluster: LocalCluster) -> str:
    with pytest.raises(EnvironmentFailure) as caught:
        asyncio.run(cluster.up())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_flags_that_etcd_rejects_are_told_in_its_own_words(tmp_path: Path, etcd_binary: Callable[[str], Path]) -> None:
    cluster = LocalCluster(directory=tmp_path, nodes=3, etcd=etcd_binary(STOCK), etcd_args=["--nonsense=1"])
    assert "flag provided but not defined: -nonsense" in failure_of(cluster)
    assert asyncio.run(heal_leftovers(tmp_path)) == []


def test_a_cluster_without_a_leader_does_not_come_up(tmp_path: Path, etcd_binary: Callable[[str], Path]) -> None:
    """Members that cannot reach each other: here since each believes in members elsewhere."""
    alone = ["--initial-cluster=n1=http://[fe80::1]:2380,n2=http://[fe80::2]:2380,n3=http://[fe80::3]:2380,"]
    alone[0] += "n8=http://[fe80::8]:2380,n9=http://[fe80::9]:2380,na=http://[fe80::a]:2380"
    cluster = LocalCluster(directory=tmp_path, nodes=3, etcd=etcd_binary(STOCK), etcd_args=alone, ready_timeout_s=3)
    failure = failure_of(cluster)
    assert "no write was committed within 3 s" in failure
    assert f"{tmp_path}/logs/n1.log) said: " in failure


def test_data_that_is_not_ours_is_left_alone(tmp_path: Path, etcd_binary: Callable[[str], Path]) -> None:
    (tmp_path / "data" / "n2").mkdir(parents=True)
    failure = failure_of(LocalCluster(directory=tmp_path, nodes=3, etcd=etcd_binary(STOCK)))
    assert f"{tmp_path}/data/n2 exists and is not of our making" in failure


def test_a_directory_that_cannot_be_is_said_so(tmp_path: Path, etcd_binary: Callable[[str], Path]) -> None:
    (tmp_path / "file").write_text("")
    failure = failure_of(LocalCluster(directory=tmp_path / "file", nodes=1, etcd=etcd_binary(STOCK)))
    assert f"cannot use {tmp_path}/file for a cluster" in failure


def test_a_port_that_was_taken_meanwhile_is_replaced(
    tmp_path: Path, etcd_binary: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first two ports found are busy by the time the members want them."""
    thieves = []

    class StolenPort(HeldPort):
        def make_room(self) -> None:
            if len(thieves) < 2:
                self.release()
                thieves.append(socket.create_server(("127.0.0.1", self.number)))
            super().make_room()

    monkeypatch.setattr(loopback, "HeldPort", StolenPort)

    async def scene() -> None:
        async with LocalCluster(directory=tmp_path, nodes=3, etcd=etcd_binary(STOCK), options=STEADY) as cluster:
            taken = {thief.getsockname()[1] for thief in thieves}
            assert len(taken) == 2
            assert not taken & {int(address.rpartition(":")[2]) for address in cluster.endpoints.values()}
            await all_serve(cluster)

    asyncio.run(scene())
    for thief in thieves:
        thief.close()


def test_two_clusters_at_once_do_not_meet(tmp_path: Path, etcd_binary: Callable[[str], Path]) -> None:
    async def scene() -> None:
        clusters = [
            LocalCluster(directory=tmp_path / name, nodes=3, etcd=etcd_binary(STOCK), options=STEADY) for name in "ab"
        ]
        async with clusters[0], clusters[1]:
            for number, cluster in enumerate(clusters):
                await put(cluster, "n1", key=b"of %d" % number)
            for number, cluster in enumerate(clusters):
                assert await keys(cluster, "n2") == {READY_KEY, b"of %d" % number}
            with pytest.raises(EnvironmentFailure, match="in use by this very process"):
                await LocalCluster(directory=tmp_path / "a", nodes=3, etcd=etcd_binary(STOCK)).up()

    asyncio.run(scene())


def test_a_cluster_whose_coming_up_is_cancelled_leaves_nothing(
    tmp_path: Path, etcd_binary: Callable[[str], Path]
) -> None:
    async def scene() -> None:
        cluster = LocalCluster(directory=tmp_path, nodes=3, etcd=etcd_binary(STOCK))
        coming = asyncio.create_task(cluster.up())

        async def somebody_runs() -> bool:
            return await having(cluster, Process).state("n3") is ProcessState.RUNNING

        await until(somebody_runs)
        described = DESCRIPTION.read(tmp_path)
        assert described is not None
        coming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await coming
        pids = [member.process.pid for member in described.members.values() if member.process is not None]
        assert len(pids) >= 2
        assert [state_of(pid) for pid in pids] == [ProcessState.STOPPED] * len(pids)

    asyncio.run(scene())
