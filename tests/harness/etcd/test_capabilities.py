"""Roles, Health and Admin against three real members, some of them paused, killed or never started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from splitvote.harness.cluster import Admin, Health, Roles
from splitvote.harness.errors import NemesisError
from splitvote.harness.etcd import capabilities
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.bindings.register import RegisterBinding
from splitvote.harness.etcd.capabilities import EtcdAdmin, EtcdHealth, EtcdRoles
from splitvote.harness.etcd.connection import Connections
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op

pytestmark = pytest.mark.etcd

NODES = ["n1", "n2", "n3"]
BOUND_S = 120.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What all members that run are asked is waited for, however slow the machine."""
    for call in (EtcdRoles.sample, EtcdHealth.unready, EtcdHealth.readings, EtcdAdmin.defragment):
        monkeypatch.setitem(call.__kwdefaults__, "timeout_s", BOUND_S)  # type: ignore[attr-defined]
    monkeypatch.setattr(capabilities, "ADMIN_TIMEOUT_S", BOUND_S)


PATIENTLY = pytest.mark.usefixtures("patient")


async def put(connections: Connections, key: bytes, value: bytes = b"1", node: str = "n1") -> int:
    answer = await connections[node].unary(m.PUT, pb.PutRequest(key=key, value=value), timeout_s=30)
    return answer.header.revision


async def moved(members: Any, admin: EtcdAdmin, roles: EtcdRoles, target: str) -> None:
    """Move the leader there; members who have been slow may refuse at first, and hear of it a little later."""

    async def leads() -> bool:
        with suppress(NemesisError):
            await admin.move_leader(target)
        return await roles.leader() == target

    await members.until(leads, what=f"{target} leads")


async def a_leader(members: Any, roles: EtcdRoles) -> str:
    """Who leads, once somebody does."""
    leader: str | None = None

    async def is_known() -> bool:
        nonlocal leader
        leader = await roles.leader()
        return leader in NODES

    await members.until(is_known, what="a leader")
    assert leader is not None
    return leader


def test_they_are_the_capabilities() -> None:
    connections = Connections({})
    assert isinstance(EtcdRoles(connections), Roles)
    assert isinstance(EtcdHealth(connections), Health)
    assert isinstance(EtcdAdmin(connections), Admin)


@PATIENTLY
def test_roles_names_the_leader_on_every_member(three: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        roles = EtcdRoles(connections)
        revision = await put(connections, b"roles")
        samples = await roles.sample()
        assert list(samples) == NODES
        leader = await roles.leader()
        assert leader in NODES
        for sample in samples.values():
            assert (sample.leader, sample.error, sample.is_learner) == (leader, None, False)
            assert sample.term is not None
            assert sample.term > 1
            assert sample.answer_ms is not None
            assert sample.answer_ms > 0
        assert samples["n1"].revision == revision

    connected(three, body)


def test_a_paused_leader_is_known_by_its_name_and_then_succeeded(three: Any, connected: Callable[..., Any]) -> None:
    """A paused member never answers these Roles: its name is read from the member list."""

    async def body(connections: Connections) -> None:
        for _ in range(5):  # where the machine is so slow that another leads before the samples are taken, once more
            if await names_the_paused(connections):
                return
        raise AssertionError("the others do not tell who led")

    async def names_the_paused(connections: Connections) -> bool:
        before = await a_leader(three, EtcdRoles(connections))
        others = [node for node in NODES if node != before]
        try:
            three[before].pause()
            roles, health = EtcdRoles(connections), EtcdHealth(connections)
            samples = await roles.sample(timeout_s=1.0)
            assert samples[before].error is not None
            if {samples[node].leader for node in others} != {before}:
                return False

            async def succeeded() -> bool:
                return await roles.leader() in others

            async def all_others_serve() -> bool:
                unready = list(await health.unready(NODES))
                assert before in unready
                return unready == [before]

            await three.until(succeeded, what="another member leads")
            await three.until(all_others_serve, what="the others serve")
            return True
        finally:
            three[before].resume()
            await three.ready()

    connected(three, body)


@PATIENTLY
def test_readings_agree_on_healthy_members(three: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        await put(connections, b"readings/a", b"first")
        revision = await put(connections, b"readings/a", b"second", node="n2")
        binary = await put(connections, b"readings/\xff", b"\x00\xfe", node="n3")
        readings = await EtcdHealth(connections).readings(())
        assert list(readings) == NODES
        assert {reading.error for reading in readings.values()} == {None}
        assert {reading.revision for reading in readings.values()} == {binary}
        assert {reading.hash_revision for reading in readings.values()} == {binary}
        assert len({reading.hash for reading in readings.values()}) == 1
        assert len({reading.applied_index for reading in readings.values()}) == 1
        for reading in readings.values():
            assert reading.keys["readings/a"] == ("second", revision, 2, revision - 1)
            assert reading.keys["base64:cmVhZGluZ3Mv/w=="] == ("base64:AP4=", binary, 1, binary)
        few = await EtcdHealth(connections).readings(["readings/a", "readings/absent"])
        assert {tuple(reading.keys) for reading in few.values()} == {("readings/a",)}

    connected(three, body)


@PATIENTLY
def test_readings_page_through_a_store_of_many_keys(three: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        await asyncio.gather(*(put(connections, b"paged/%04d" % number) for number in range(1203)))
        for keys in ((), [f"paged/{number:04d}" for number in range(1203)]):
            readings = await EtcdHealth(connections).readings(keys)
            for reading in readings.values():
                assert sum(key.startswith("paged/") for key in reading.keys) == 1203
        delete = pb.DeleteRangeRequest(key=b"paged/", range_end=b"paged0")
        await connections["n1"].unary(m.DELETE_RANGE, delete, timeout_s=30)

    connected(three, body)


def test_readings_of_a_dead_member_say_so_and_the_others_are_read(three: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        await put(connections, b"readings/b")
        health = EtcdHealth(connections)
        assert (await health.readings((), timeout_s=BOUND_S))["n2"].error is None  # and all have applied everything
        try:
            three["n3"].kill()
            readings = await health.readings((), timeout_s=3)
        finally:
            three["n3"].start()
            await three.ready()
        assert readings["n3"].error is not None
        assert readings["n3"].error.startswith("not-connected: ")
        assert readings["n3"].keys == {}
        assert readings["n1"].keys == readings["n2"].keys
        assert readings["n1"].keys["readings/b"][0] == "1"

    connected(three, body)


def test_readings_compare_a_learner_by_its_keys(run_etcd: Callable[..., Any], connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        await put(connections, b"learnt", b"yes")
        add = pb.MemberAddRequest(peerURLs=[members["n2"].peer], isLearner=True)
        added = await connections["n1"].unary(m.MEMBER_ADD, add, timeout_s=30)
        assert added.member.isLearner
        members["n2"].start()
        health = EtcdHealth(connections)

        async def caught_up() -> bool:
            readings = await health.readings((), timeout_s=1)
            return readings["n2"].revision is not None and readings["n2"].revision == readings["n1"].revision

        await members.until(caught_up, what="the learner has caught up")
        readings = await health.readings((), timeout_s=BOUND_S)
        assert readings["n2"].is_learner
        assert readings["n2"].error is None
        assert readings["n2"].hash is None
        assert readings["n1"].hash is not None
        assert readings["n2"].keys == readings["n1"].keys
        assert readings["n1"].keys["learnt"][0] == "yes"
        assert (await health.unready(["n2"], timeout_s=BOUND_S))["n2"].startswith("not-for-learners: ")
        assert (await EtcdRoles(connections).sample(timeout_s=BOUND_S))["n2"].is_learner

    with run_etcd(2, flags=["--strict-reconfig-check=false"], joining=["n2"]) as members:
        connected(members, body)


@PATIENTLY
def test_compact_keeps_what_it_is_told_and_may_be_repeated(three: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        admin = EtcdAdmin(connections)
        assert await admin.compact(keep=10**9) == 0
        for _ in range(5):
            revision = await put(connections, b"compacted")
        assert await admin.compact(keep=2) == revision - 2
        assert await admin.compact(keep=2) == revision - 2
        kept = pb.RangeRequest(key=b"compacted", revision=revision - 2)
        assert (await connections["n1"].unary(m.RANGE, kept, timeout_s=30)).count == 1
        readings = await EtcdHealth(connections).readings(())
        assert {reading.compact_revision for reading in readings.values()} == {revision - 2}
        assert len({reading.hash for reading in readings.values()}) == 1

    connected(three, body)


def test_compact_asks_the_next_member_when_one_is_down(three: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        await put(connections, b"compacted", node="n2")
        try:
            three["n1"].kill()
            await three.ready(["n2", "n3"])
            assert await EtcdAdmin(connections).compact() > 1
        finally:
            three["n1"].start()
            await three.ready()

    connected(three, body)


@PATIENTLY
def test_a_member_defragments(three: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        await put(connections, b"bulky", b"x" * 1_000_000)
        await put(connections, b"bulky", b"")
        admin, roles = EtcdAdmin(connections), EtcdRoles(connections)
        before = (await roles.sample())["n2"].db_bytes
        await admin.compact()

        async def is_smaller() -> bool:
            await admin.defragment("n2")  # of no use before the compaction is done, which is answered before
            after = (await roles.sample())["n2"].db_bytes
            assert before is not None
            assert after is not None
            return after < before

        await three.until(is_smaller, what="a smaller database")

    connected(three, body)


@PATIENTLY
def test_the_leader_moves_to_every_member_and_stays_when_asked_twice(three: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        roles = EtcdRoles(connections)
        admin = EtcdAdmin(connections, roles)
        for target in (*NODES, "n3"):
            await moved(three, admin, roles, target)

    connected(three, body)


def test_what_cannot_be_done_is_a_nemesis_error_that_says_why(three: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        admin = EtcdAdmin(connections)
        await a_leader(three, EtcdRoles(connections))
        with pytest.raises(NemesisError, match=r"n9: the leader is n\d, the target unknown"):
            await admin.move_leader("n9")
        try:
            three["n3"].kill()
            with pytest.raises(NemesisError, match=r"n3 did not finish to defragment within 10 s: UNAVAILABLE"):
                await admin.defragment("n3")
        finally:
            three["n3"].start()
            await three.ready()

    connected(three, body)
    nowhere = Connections({"n1": "127.0.0.1:1"})

    async def compact() -> None:
        try:
            await EtcdAdmin(nowhere).compact()
        finally:
            await nowhere.close()

    with pytest.raises(NemesisError, match=r"no member would compact \(n1: not-connected"):
        asyncio.run(compact())


@PATIENTLY
@pytest.mark.parametrize("version", ["3.4.23", "3.5.1", "3.5.16", "3.5.30"])
def test_members_compacted_at_their_newest_revision_agree_across_a_restart(
    run_etcd: Callable[..., Any], connected: Callable[..., Any], version: str
) -> None:
    """A member that was restarted has forgotten the hash it computed while compacting."""

    async def body(connections: Connections) -> None:
        health, admin = EtcdHealth(connections), EtcdAdmin(connections)
        for number in range(5):
            revision = await put(connections, b"k", b"%d" % number)
        await admin.compact(keep=2)
        assert await admin.compact() == revision
        members["n2"].kill()
        members["n2"].start()
        await members.ready()
        readings = await health.readings(())
        assert {(r.hash_revision, r.compact_revision) for r in readings.values()} == {(revision, revision)}
        assert len({reading.hash for reading in readings.values()}) == 1

    with run_etcd(3, version=version) as members:
        connected(members, body)


@PATIENTLY
@pytest.mark.parametrize("version", ["3.4.23", "3.5.1", "3.5.16"])
def test_every_stock_version_answers_alike(
    run_etcd: Callable[..., Any], connected: Callable[..., Any], version: str
) -> None:
    async def body(connections: Connections) -> None:
        roles, health, admin = EtcdRoles(connections), EtcdHealth(connections), EtcdAdmin(connections)
        assert (await roles.sample())["n3"].leader == await roles.leader()
        client = await RegisterBinding(connections, timeout_s=BOUND_S).open(0, "n2")
        for op in (Op(f="cas", key=1, value=[None, 1]), Op(f="cas", key=1, value=[1, 2]), Op(f="read", key=1)):
            done = await client.invoke(op, lambda event: None)
            assert done.type == "ok"
        assert (done.value, done.extra) == (2, {"mod_revision": done.revision, "version": 2})
        assert await admin.compact(keep=1) == done.revision - 1
        await put(connections, b"after")
        readings = await health.readings(())
        assert len({(r.revision, r.hash, r.compact_revision) for r in readings.values()}) == 1
        assert readings["n1"].hash is not None
        assert readings["n1"].keys["register/1"] == ("2", done.revision, 2, done.revision - 1)
        for target in NODES:
            await moved(members, admin, roles, target)

    with run_etcd(3, version=version) as members:
        connected(members, body)
