"""Clusters in network namespaces, on real etcd: links that the kernel cuts, packets it loses, and nothing left of it.

As root and as an ordinary user would have it, where this machine allows either.
"""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from splitvote.harness.cluster import CLIENT, Links, LinkShape, Pair, ProcessState
from splitvote.harness.clusters.leftovers import DESCRIPTION, heal_leftovers
from splitvote.harness.clusters.local import LocalCluster
from splitvote.harness.clusters.network import namespaces, netns
from splitvote.harness.clusters.network.netns import Means, NamespaceNetwork, means
from splitvote.harness.clusters.processes import Children, wait_state
from splitvote.harness.clusters.readiness import READY_KEY
from splitvote.harness.errors import ConfigError, EnvironmentFailure, NemesisError
from splitvote.harness.etcd.daemon import Etcd
from splitvote.nemesis import parse_faults
from tests.harness.clusters.test_local import (
    STEADY,
    a_leader,
    all_serve,
    around,
    having,
    isolate_the_leader,
    keys,
    only_unready,
    put,
    until,
)

pytestmark = pytest.mark.etcd

BOUND_S = 300.0
STOCK = "3.5.16"
Scene = Callable[[LocalCluster], Awaitable[None]]


def namespaces_of(directory: Path) -> set[str]:
    """The network namespaces that the processes of a cluster are in, but ours."""
    description = DESCRIPTION.read(directory)
    assert description is not None
    found = {os.readlink(f"/proc/{process.pid}/ns/net") for process in description.processes().values()}
    return found - {os.readlink("/proc/self/ns/net")}


def inhabited(wanted: set[str]) -> set[str]:
    """Those of these namespaces that some process is in."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/ns/net"):
        with suppress(OSError):
            found.add(os.readlink(place))
    return found & wanted


def needs(kind: str | None, *, packet_filter: str | None = None) -> Means:
    found = means(kind)
    if found.problems:
        pytest.skip("; ".join(found.problems))
    if packet_filter is not None and packet_filter not in found.filters:
        pytest.skip(f"no {packet_filter}: {found.failures.get(f'filters:{packet_filter}')}")
    return found


@pytest.fixture
def on_cluster(tmp_path: Path, etcd_binary: Callable[[str], Path]) -> Callable[..., None]:
    """Plays a scene on a fresh cluster, within a bound; no process of it may be left."""

    def play(scene: Scene, *, nodes: int = 3, kind: str | None = None, packet_filter: str | None = None) -> None:
        needs(kind, packet_filter=packet_filter)
        network = functools.partial(NamespaceNetwork, kind=kind, packet_filter=packet_filter)

        async def bounded() -> None:
            cluster = LocalCluster(
                directory=tmp_path, nodes=nodes, etcd=etcd_binary(STOCK), options=STEADY, network=network
            )
            async with asyncio.timeout(BOUND_S):
                async with cluster:
                    description = DESCRIPTION.read(tmp_path)
                    await scene(cluster)
                assert description is not None
                assert {"namespaces", "client gate"} <= set(description.processes())
                assert [name for name, process in description.processes().items() if process.is_alive()] == []
                await cluster.down()

        asyncio.run(bounded())

    return play


async def lost(links: Links, pair: Pair, least_bytes: int) -> float:
    """The share lost over a link from now on, once so much was offered to it."""
    before = (await links.counters())[pair]
    while True:
        now = (await links.counters())[pair]
        offered = now.offered_bytes - before.offered_bytes
        if offered >= least_bytes:
            return 1 - (now.delivered_bytes - before.delivered_bytes) / offered
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(("kind", "packet_filter"), [(None, "nft"), ("user", "nft"), ("user", "iptables")])
def test_links_are_cut_one_way_and_both(on_cluster, kind: str | None, packet_filter: str) -> None:
    """An isolated leader is replaced; a leader that one follower does not hear leads on; both are mended."""

    async def scene(cluster: LocalCluster) -> None:
        assert cluster.name == "netns"
        links = having(cluster, Links)
        await isolate_the_leader(cluster, read_timeout_s=0.5)
        await links.heal()
        await all_serve(cluster)

        leader = await a_leader(cluster)
        deaf, heard = next((leader, node) for node in cluster.nodes if node != leader), None
        await links.cut([deaf])
        before = await links.counters()

        async def is_heard() -> bool:
            return (await links.counters())[deaf[::-1]].delivered_bytes > before[deaf[::-1]].delivered_bytes

        await until(is_heard)
        heard = (await links.counters())[deaf]
        assert heard.delivered_bytes == before[deaf].delivered_bytes
        await links.heal([deaf])
        await all_serve(cluster)

    on_cluster(scene, kind=kind, packet_filter=packet_filter)


def test_clients_are_cut_off_from_a_node_that_leads_on(on_cluster) -> None:
    async def scene(cluster: LocalCluster) -> None:
        assert "client" in having(cluster, Links).supports
        for _ in range(5):  # on a slow machine members hold elections of their own accord
            if await leads_on_without_clients(cluster):
                return
        raise AssertionError("who is cut off from clients always loses the lead")

    on_cluster(scene)


async def leads_on_without_clients(cluster: LocalCluster) -> bool:
    links = having(cluster, Links)
    leader = await a_leader(cluster)
    apart = [(CLIENT, leader), (leader, CLIENT)]
    await links.cut(apart)
    await only_unready(cluster, leader, read_timeout_s=0.5)
    leads_on = await a_leader(cluster) == leader
    await put(cluster, next(node for node in cluster.nodes if node != leader))
    await links.heal(apart)
    await all_serve(cluster)
    return leads_on


@pytest.mark.parametrize("packet_filter", ["nft", "iptables"])
def test_packets_are_lost_in_the_share_asked_for_and_then_no_more(on_cluster, packet_filter: str) -> None:
    async def scene(cluster: LocalCluster) -> None:
        links = having(cluster, Links)
        leader = await a_leader(cluster)
        follower = next(node for node in cluster.nodes if node != leader)
        await links.shape([(leader, follower)], LinkShape(loss=0.2))
        # Clients write, so that there is something to be lost.
        writing = asyncio.create_task(write_on(cluster, leader))
        assert 0.08 < await lost(links, (leader, follower), 200_000) < 0.4
        await links.heal()
        async with asyncio.timeout(BOUND_S):  # what was under way at the beginning of a look counts as lost in it
            while await lost(links, (leader, follower), 60_000) > 0.01:
                pass
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await all_serve(cluster)

    on_cluster(scene, packet_filter=packet_filter)


async def write_on(cluster: LocalCluster, node: str) -> None:
    while True:
        await put(cluster, node)


def test_a_rate_holds_packets_back_and_a_heal_sends_them(on_cluster) -> None:
    found = needs(None)
    if "htb" not in found.qdiscs:
        pytest.skip(found.failures["qdiscs:htb"])

    async def scene(cluster: LocalCluster) -> None:
        links = having(cluster, Links)
        clock = asyncio.get_running_loop().time
        leader = await a_leader(cluster)
        pair = (leader, next(node for node in cluster.nodes if node != leader))
        for rate_bytes_s in (5000.0, 10_000.0):
            await links.shape([pair], LinkShape(rate_bytes_s=rate_bytes_s))
            started_s, before = clock(), (await links.counters())[pair]
            writing = asyncio.create_task(write_on(cluster, leader))
            await lost(links, pair, 15_000)
            delivered = (await links.counters())[pair].delivered_bytes - before.delivered_bytes
            passed_s = clock() - started_s
            assert delivered <= rate_bytes_s * passed_s + 4_000
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await links.heal()
            await all_serve(cluster)
        while await lost(links, pair, 20_000) > 0.0:  # what is under way at a look's end counts as lost in it
            pass

    on_cluster(scene)


def test_what_the_kernel_cannot_do_is_refused_naming_what_is_missing(tmp_path: Path) -> None:
    needs(None)
    network = NamespaceNetwork(("n1", "n2"), Children())
    links = network.links
    assert links is not None
    with pytest.raises(NemesisError, match="bring the cluster up first"):
        asyncio.run(links.cut([("n1", "n2")]))
    with pytest.raises(NemesisError, match="shares are between 0 and 1"):
        asyncio.run(links.shape([("n1", "n2")], LinkShape(loss=1.5)))
    if "netem" not in means().qdiscs:
        assert "delay" not in links.supports
        with pytest.raises(NemesisError, match=r"cannot do delay here .*no netem"):
            asyncio.run(links.shape([("n1", "n2")], LinkShape(delay_ms=5)))


def test_faults_of_links_that_cannot_be_are_refused_with_the_reason_and_who_has_them(tmp_path: Path) -> None:
    """Before anything runs, and whatever the binary is."""
    binary = Etcd(Path(sys.executable), "3.5.0", (3, 5, 0))
    local = LocalCluster(directory=tmp_path, etcd=binary)
    with pytest.raises(ConfigError, match="clients talk to the members directly; --cluster netns"):
        parse_faults("partition:client", local)
    with pytest.raises(ConfigError, match="not packets; --cluster netns"):
        parse_faults("packet:loss", local)
    needs(None)
    netns_cluster = LocalCluster(directory=tmp_path, etcd=binary, network=NamespaceNetwork)
    assert {fault.name for fault in parse_faults("packet", netns_cluster).faults["packet"].faults} >= {"loss"}
    if "netem" not in means().qdiscs:
        with pytest.raises(ConfigError, match="this kernel has no netem"):
            parse_faults("packet:delay", netns_cluster)


def test_delays_are_the_kernels_where_it_has_netem(on_cluster) -> None:
    found = needs(None)
    if "netem" not in found.qdiscs:
        pytest.skip(found.failures["qdiscs:netem"])

    async def scene(cluster: LocalCluster) -> None:
        links, clock = having(cluster, Links), asyncio.get_running_loop().time
        leader = await a_leader(cluster)
        await links.shape(around(leader, cluster.nodes), LinkShape(delay_ms=60, jitter_ms=5))
        started_s = clock()
        await put(cluster, leader)
        assert clock() - started_s >= 0.1
        await links.heal()
        await all_serve(cluster)

    on_cluster(scene)


@pytest.mark.parametrize("kind", [None, "user"])
def test_there_is_no_way_out_and_no_trace(on_cluster, tmp_path: Path, kind: str | None) -> None:
    """No route but to each other, no interface of ours outside, no namespace afterwards."""
    made = set()

    async def scene(cluster: LocalCluster) -> None:
        made.update(namespaces_of(tmp_path))
        assert len(made) == len(cluster.nodes) + 1, "one a node, and the hub"
        network = cluster._network
        assert isinstance(network, NamespaceNetwork)
        look = [(["ip", "route", "show", "table", "all", "type", "unicast"], ""), (["ip", "-br", "link"], "")]
        for name, (routes, links) in (await network._run(dict.fromkeys((*cluster.nodes, CLIENT), look))).items():
            assert {route.split()[0] for route in routes.splitlines()} <= {"198.18.0.0/24", "fe80::/64"}
            expected = (
                {"lo", "eth0"} if name != CLIENT else {"lo", "bridge0", *(f"to-{node}" for node in cluster.nodes)}
            )
            assert {link.split()[0].partition("@")[0] for link in links.splitlines()} == expected
        assert not {"bridge0", "to-n1"} & set(os.listdir("/sys/class/net"))

    on_cluster(scene, kind=kind)
    assert not inhabited(made)


def test_one_node_has_clients_to_be_cut_off_from(on_cluster) -> None:
    async def scene(cluster: LocalCluster) -> None:
        await put(cluster, "n1")
        assert set(await having(cluster, Links).counters()) == {(CLIENT, "n1"), ("n1", CLIENT)}

    on_cluster(scene, nodes=1)


def test_it_comes_up_again_with_its_data_and_two_do_not_meet(
    tmp_path: Path, etcd_binary: Callable[[str], Path]
) -> None:
    """Clusters share their addresses, each in namespaces of its own."""
    needs(None)

    async def scene() -> None:
        one, other = (
            LocalCluster(
                directory=tmp_path / name, nodes=3, etcd=etcd_binary(STOCK), options=STEADY, network=NamespaceNetwork
            )
            for name in "ab"
        )
        async with one, other:
            revision = await put(one, "n1", key=b"one")
            await put(other, "n1", key=b"other")
            assert await keys(one, "n2") == {READY_KEY, b"one"}
            assert await keys(other, "n2") == {READY_KEY, b"other"}
        async with one:
            assert await put(one, "n3") > revision
            assert b"one" in await keys(one, "n1")

    asyncio.run(scene())


def test_a_gate_that_is_gone_is_our_failure_not_the_clusters(
    tmp_path: Path, etcd_binary: Callable[[str], Path]
) -> None:
    """Clients would else be taken to have seen a cluster that serves nobody."""
    needs(None)

    async def scene() -> None:
        cluster = LocalCluster(
            directory=tmp_path, nodes=1, etcd=etcd_binary(STOCK), options=STEADY, network=NamespaceNetwork
        )
        await cluster.up()
        network = cluster._network
        assert isinstance(network, NamespaceNetwork)
        assert network._gate is not None
        network._gate.kill()
        network._gate.wait()
        with pytest.raises(EnvironmentFailure, match="the client gate ended while the cluster was up"):
            await cluster.down()
        await cluster.down()

    asyncio.run(scene())


HARNESS = """
import asyncio, sys
from pathlib import Path
from splitvote.harness.cluster import CLIENT, Links, LinkShape, Process
from splitvote.harness.clusters.local import LocalCluster
from splitvote.harness.clusters.network.netns import NamespaceNetwork

async def main():
    cluster = LocalCluster(directory=Path(sys.argv[1]), nodes=3, etcd=sys.argv[2], network=NamespaceNetwork)
    await cluster.up()
    links = cluster.capability(Links)
    await cluster.capability(Process).pause("n2")
    await links.cut([("n1", "n3"), (CLIENT, "n1")])
    await links.shape([("n3", "n1")], LinkShape(loss=0.1, rate_bytes_s=5000 if "rate" in links.supports else 0))
    print("hurt", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_nothing_is_left_of_a_killed_harness(tmp_path: Path, etcd_binary: Callable[[str], Path]) -> None:
    """Killed while a member is paused, links are cut, lossy and slow: the namespaces go, and all that was in them."""
    needs(None)
    command = [sys.executable, "-c", HARNESS, str(tmp_path), str(etcd_binary(STOCK))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as harness:
        try:
            assert harness.stdout is not None
            assert harness.stdout.readline() == "hurt\n"
            description = DESCRIPTION.read(tmp_path)
            assert description is not None
            made = namespaces_of(tmp_path)
            assert "still runs" in asyncio.run(heal_leftovers(tmp_path))[0]
        finally:
            harness.kill()
    assert list(description.processes()) == ["n1", "n2", "n3", "namespaces", "client gate"]
    for process in description.processes().values():
        assert asyncio.run(wait_state(process.pid, ProcessState.STOPPED, timeout_s=BOUND_S))
    assert asyncio.run(heal_leftovers(tmp_path)) == []
    assert len(made) == 4
    assert not inhabited(made)


def test_a_machine_that_cannot_is_told_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools that are not installed, and namespaces that an administrator has forbidden."""
    monkeypatch.setattr(namespaces, "TOOLS_PATH", str(tmp_path))
    assert namespaces_problems() == ["no ip and no tc: install iproute2"]
    forbidden = tmp_path / "max_user_namespaces"
    forbidden.write_text("0\n")
    monkeypatch.setattr(namespaces, "_OBSTACLES", ((str(forbidden), "0", "sysctl user.max_user_namespaces=10000"),))
    assert "sysctl user.max_user_namespaces=10000" in namespaces._way_out()
    monkeypatch.setattr(netns, "means", lambda kind=None: Means(problems=("no ip: install iproute2",)))
    with pytest.raises(EnvironmentFailure, match="--cluster netns cannot be had here: no ip: install iproute2"):
        NamespaceNetwork(("n1",), Children())


def namespaces_problems() -> list[str]:
    """What a probe finds to be missing; in a process of its own, since it enters namespaces."""
    code = (
        "import json, sys; from splitvote.harness.clusters.network import namespaces; "
        "namespaces.TOOLS_PATH = sys.argv[1]; print(json.dumps(namespaces.probe(None)['problems']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, namespaces.TOOLS_PATH], capture_output=True, text=True, check=True
    )
    problems: list[str] = msgspec.json.decode(done.stdout)
    return [problem for problem in problems if "install" in problem]
