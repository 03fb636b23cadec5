"""A running cluster that is somebody else's, by its endpoints alone, on real etcd: used, cut off, left as it was."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from splitvote.harness.archive import ArchiveRecord, archive_of
from splitvote.harness.cluster import CLIENT, Archivist, Health, Links, Members, Process, Roles
from splitvote.harness.clusters.attached.attached_file import ATTACHED, FILE_NAME
from splitvote.harness.clusters.attached.cluster import AttachedCluster, heal_attached, new_token
from splitvote.harness.clusters.attached.endpoints import Endpoints
from splitvote.harness.clusters.attached.survey import Access, survey
from splitvote.harness.clusters.local import LocalCluster
from splitvote.harness.clusters.processes import ProcessRecord
from splitvote.harness.errors import ConfigError, EnvironmentFailure
from splitvote.harness.etcd.daemon import ServerOptions
from splitvote.harness.etcd.methods import PUT, RANGE
from splitvote.harness.etcd.rpc import Rpc
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.jsonl import JsonLinesWriter, read_all

pytestmark = pytest.mark.etcd

C = TypeVar("C")
BOUND_S = 240.0
CALL_S = 30.0
STEADY = ServerOptions(heartbeat_ms=100, election_ms=2000)

Attach = Callable[[], Awaitable[AttachedCluster]]
Body = Callable[[LocalCluster, Mapping[str, Rpc], Attach], Awaitable[None]]


def having(cluster: AttachedCluster, kind: type[C]) -> C:
    capability = cluster.capability(kind)
    assert capability is not None
    return capability


def on_theirs(etcd: Path, tmp_path: Path, body: Body) -> None:
    """Run a body on a cluster of three with keys of its user's; it is given what attaches to it."""
    numbers = itertools.count(1)

    async def main() -> None:
        theirs = LocalCluster(directory=tmp_path / "theirs", nodes=3, etcd=etcd, options=STEADY)

        async def attach() -> AttachedCluster:
            places = theirs.endpoints
            return AttachedCluster(
                directory=tmp_path / f"run-{next(numbers)}",
                ground=Endpoints(places),
                survey=await survey(places, Access()),
                access=Access(),
                token=new_token(),
            )

        async with asyncio.timeout(BOUND_S), theirs:
            rpcs = theirs.connections()
            try:
                for number in range(5):
                    await put(rpcs["n1"], b"user/%d" % number)
                await body(theirs, rpcs, attach)
            finally:
                await rpcs.close()

    asyncio.run(main())


async def put(rpc: Rpc, key: bytes) -> None:
    await rpc.unary(PUT, pb.PutRequest(key=key, value=b"v"), timeout_s=CALL_S)


async def keys(rpc: Rpc) -> dict[bytes, int]:
    """Every key that is to be seen, with the revision of its last change."""
    answer = await rpc.unary(RANGE, pb.RangeRequest(key=b"\0", range_end=b"\0"), timeout_s=CALL_S)
    return {kv.key: kv.mod_revision for kv in answer.kvs}


def test_it_is_used_below_a_prefix_and_left_as_it_was(etcd_binary: Callable[[str], Path], tmp_path: Path) -> None:
    """Our keys are below the prefix, our archive knows of no others, and in the end the store has the user's alone."""

    async def body(
        theirs: LocalCluster, rpcs: Mapping[str, Rpc], attach: Callable[[], Awaitable[AttachedCluster]]
    ) -> None:
        before = await keys(rpcs["n1"])
        cluster = await attach()
        assert cluster.nodes == ("n1", "n2", "n3")
        assert set(cluster.versions.values()) == {theirs.versions["n1"]}
        assert cluster.capability(Process) is None
        assert cluster.capability(Members) is None
        async with cluster:
            ours = cluster.connections()
            archivist = having(cluster, Archivist)
            writer = JsonLinesWriter[ArchiveRecord](tmp_path / "archive.jsonl")
            archivist.start(writer, lambda: 7)
            for node in ours:
                await put(ours[node], b"register/1")
                await put(rpcs[node], b"user/0")
            assert set(await keys(ours["n2"])) >= {b"register/1"}
            new = set(await keys(rpcs["n1"])) - set(before)
            assert new
            assert all(key.startswith(cluster.prefix.encode()) for key in new)
            assert await archivist.finish(list(ours), timeout_s=CALL_S)
            await archivist.stop()
            writer.close()
            readings = await having(cluster, Health).readings((), timeout_s=CALL_S)
            assert all("register/1" in reading.keys for reading in readings.values())
            assert not any(key.startswith("user") for reading in readings.values() for key in reading.keys)
            await ours.close()
        archive = archive_of(read_all(tmp_path / "archive.jsonl", ArchiveRecord)[0])
        assert [event.key for event in archive.events("register/")] == ["register/1"] * 3
        assert not list(archive.events("user/"))
        assert archive.untold(2, archive.newest) == []
        after = await keys(rpcs["n1"])
        assert after.keys() == before.keys()
        assert {key: at for key, at in after.items() if key != b"user/0"} == {
            key: at for key, at in before.items() if key != b"user/0"
        }
        assert cluster.left_behind is None
        description = ATTACHED.read(cluster.directory)
        assert description is not None
        assert not description.is_open
        assert await heal_attached(cluster.directory) == []

    on_theirs(etcd_binary("3.5.30"), tmp_path, body)


def test_clients_are_cut_off_from_a_node_and_nobody_else_is(etcd_binary: Callable[[str], Path], tmp_path: Path) -> None:
    async def body(
        theirs: LocalCluster, rpcs: Mapping[str, Rpc], attach: Callable[[], Awaitable[AttachedCluster]]
    ) -> None:
        cluster = await attach()
        async with cluster:
            links, health = having(cluster, Links), having(cluster, Health)
            assert links.supports >= {"cut", "client"}
            await links.cut([(CLIENT, "n2"), ("n2", CLIENT)])
            assert set(await health.unready(cluster.nodes, timeout_s=2.0)) == {"n2"}
            await put(rpcs["n2"], b"user/0")  # by another way
            await links.heal()
            async with asyncio.timeout(CALL_S):
                while await health.unready(cluster.nodes, timeout_s=2.0):
                    pass
            samples = await having(cluster, Roles).sample(timeout_s=CALL_S)
            assert {sample.leader for sample in samples.values()} <= set(cluster.nodes)

    on_theirs(etcd_binary("3.5.30"), tmp_path, body)


def test_a_killed_harness_keys_are_removed_by_another(etcd_binary: Callable[[str], Path], tmp_path: Path) -> None:
    async def body(
        theirs: LocalCluster, rpcs: Mapping[str, Rpc], attach: Callable[[], Awaitable[AttachedCluster]]
    ) -> None:
        before = await keys(rpcs["n1"])
        cluster = await attach()
        await cluster.up()
        ours = cluster.connections()
        await put(ours["n1"], b"register/1")
        await ours.close()
        (told,) = await heal_attached(cluster.directory)
        assert "its harness" in told
        assert "still runs" in told
        description = ATTACHED.read(cluster.directory)
        assert description is not None
        (tmp_path / "dead").mkdir()
        dead = msgspec.structs.replace(description, harness=ProcessRecord(1, "never", "nobody"))
        ATTACHED.write(tmp_path / "dead", dead)
        removed, left = await heal_attached(tmp_path / "dead")
        assert removed == f"removed the keys below {cluster.prefix}"
        assert left.endswith("is as it was found")
        assert await keys(rpcs["n1"]) == before
        assert await heal_attached(tmp_path / "dead") == []
        await cluster.down()
        await cluster.down()

    on_theirs(etcd_binary("3.5.30"), tmp_path, body)


def test_what_cannot_be_attached_to_is_refused_and_nothing_is_left(
    etcd_binary: Callable[[str], Path], tmp_path: Path
) -> None:
    """One member given twice; one that nobody answers for; a member that does not serve; keys that are not ours."""

    async def body(
        theirs: LocalCluster, rpcs: Mapping[str, Rpc], attach: Callable[[], Awaitable[AttachedCluster]]
    ) -> None:
        places = theirs.endpoints
        with pytest.raises(ConfigError, match=r"lead to one member \(n1\): give each member's own endpoint once"):
            await survey({"a": places["n1"], "b": places["n1"]}, Access())
        with pytest.raises(EnvironmentFailure, match=r"no etcd answers at 127\.0\.0\.1:1"):
            await survey({"a": places["n1"], "b": "127.0.0.1:1"}, Access())
        assert (await survey({"a": places["n1"]}, Access())).others == ("n2", "n3")

        cluster = await attach()
        await put(rpcs["n1"], cluster.prefix.encode() + b"x")
        before = await keys(rpcs["n1"])
        with pytest.raises(EnvironmentFailure, match="1 keys below"):
            await cluster.up()
        assert await keys(rpcs["n1"]) == before

        cluster = await attach()
        cluster._ready_timeout_s = 1.0
        process = theirs.capability(Process)
        assert process is not None
        await process.kill("n3")
        with pytest.raises(EnvironmentFailure, match=r"not every member serves.*n3"):
            await cluster.up()
        await process.start("n3")

    on_theirs(etcd_binary("3.5.30"), tmp_path, body)


def test_a_description_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("{")
    with pytest.raises(Exception, match=r"cannot read .*attached.json"):
        ATTACHED.read(tmp_path)
