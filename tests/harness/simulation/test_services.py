"""The services of one member: headers, refusals, what goes to the leader, and the Lock and Election services."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from splitvote.harness import clock
from splitvote.harness.errors import TransportError
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.outcomes import classify
from splitvote.harness.etcd.stubs import election_pb2 as election
from splitvote.harness.etcd.stubs import lock_pb2 as lock
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.services import MAX_REQUEST_BYTES, VERSION
from tests.harness.simulation.member import CLUSTER_ID, MEMBER_ID, Member

TIMEOUT_S = 5.0


def on(body: Callable[[Member], Awaitable[Any]]) -> Any:
    """Run a body on a fresh member that leads, in virtual time; nothing of it is left."""

    async def go() -> Any:
        member = Member()
        try:
            result = await body(member)
        finally:
            member.end()
            await asyncio.gather(*member.tasks, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return clock.run(go())


async def ask(member: Member, method: Any, request: Any) -> Any:
    return await member.rpc.unary(method, request, timeout_s=TIMEOUT_S)


async def grant(member: Member, ttl_s: int = 60) -> int:
    return int((await ask(member, m.LEASE_GRANT, pb.LeaseGrantRequest(TTL=ttl_s))).ID)


async def settle() -> None:
    """Let everything happen that can happen now."""
    await asyncio.sleep(0.001)


def test_answers_say_who_answered_and_where_they_stand() -> None:
    """The revision is the write's own place; elsewhere that of the store."""

    async def body(member: Member) -> None:
        put = await ask(member, m.PUT, pb.PutRequest(key=b"a"))
        status = await ask(member, m.STATUS, pb.StatusRequest())
        for header in (put.header, status.header):
            assert (header.cluster_id, header.member_id, header.revision, header.raft_term) == (
                CLUSTER_ID,
                MEMBER_ID,
                2,
                2,
            )
        assert (status.version, status.leader, list(status.errors)) == (VERSION, MEMBER_ID, [])
        member.leader_id = 0
        assert list((await ask(member, m.STATUS, pb.StatusRequest())).errors) == ["etcdserver: no leader"]

    on(body)


@pytest.mark.parametrize(
    ("method", "request_", "name"),
    [
        (m.PUT, pb.PutRequest(), "invalid-argument"),
        (m.PUT, pb.PutRequest(key=b"a", lease=1), "lease-not-found"),
        (m.PUT, pb.PutRequest(key=b"a", value=b"x" * (MAX_REQUEST_BYTES + 1)), "invalid-argument"),
        (m.TXN, pb.TxnRequest(success=[pb.RequestOp()]), "invalid-argument"),
        (m.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=1), "lease-not-found"),
    ],
)
def test_refusals_are_definite_by_the_error_table_and_change_nothing(method: Any, request_: Any, name: str) -> None:
    """The same table judges real members."""

    async def body(member: Member) -> None:
        with pytest.raises(TransportError) as caught:
            await ask(member, method, request_)
        judged = classify(caught.value, "write")
        assert (judged.type, judged.name) == ("fail", name)
        assert member.machine.revision == 1

    on(body)


def test_what_is_not_simulated_is_refused_by_name() -> None:
    async def body(member: Member) -> None:
        for method in (m.AUTH_ENABLE, m.USER_ADD, m.DOWNGRADE, m.HASH):
            with pytest.raises(TransportError, match=f"{method} is not simulated") as caught:
                await ask(member, method, method.request())
            assert caught.value.code == "UNIMPLEMENTED"

    on(body)


def test_a_learner_serves_serializable_reads_and_its_status_only() -> None:
    async def body(member: Member) -> None:
        member.is_learner = True
        await ask(member, m.RANGE, pb.RangeRequest(key=b"a", serializable=True))
        await ask(member, m.STATUS, pb.StatusRequest())
        for method, request in ((m.RANGE, pb.RangeRequest(key=b"a")), (m.PUT, pb.PutRequest(key=b"a"))):
            with pytest.raises(TransportError, match="rpc not supported for learner"):
                await ask(member, method, request)
        stream = await member.rpc.stream(m.WATCH)
        with pytest.raises(TransportError, match="rpc not supported for learner"):
            await stream.receive()

    on(body)


def test_a_snapshot_ends_with_the_hash_of_what_was_sent() -> None:
    async def body(member: Member) -> None:
        for number in range(100):
            member.do(pb.PutRequest(key=b"%d" % number, value=b"x" * 1000))
        stream = await member.rpc.stream(m.SNAPSHOT, pb.SnapshotRequest())
        parts = []
        while (part := await stream.receive()) is not None:
            parts.append(part)
        assert len(parts) > 3
        whole = b"".join(part.blob for part in parts[:-1])
        assert hashlib.sha256(whole).digest() == parts[-1].blob

    on(body)


# ---- leases


async def keep_alive(member: Member, *leases: int) -> list[int]:
    stream = await member.rpc.stream(m.LEASE_KEEP_ALIVE)
    ttls = []
    for lease in leases:
        await stream.send(pb.LeaseKeepAliveRequest(ID=lease))
        answer = await stream.receive()
        assert answer is not None
        assert lease == answer.ID
        ttls.append(int(answer.TTL))
    stream.cancel()
    return ttls


def follower_of(leader: Member) -> Member:
    """A member that knows the same leases and follows."""
    follower = Member()
    follower.machine.restore(leader.machine.snapshot())
    follower.machine.demote_lessor()
    follower.leader_id = 1
    follower.leader = leader
    return follower


def test_a_follower_asks_the_leader_to_keep_alive_and_how_long_is_left() -> None:
    """A lease that is gone is answered with TTL 0 and -1, no errors; by the leader itself as well."""

    async def body(leader: Member) -> None:
        lease = await grant(leader)
        await ask(leader, m.PUT, pb.PutRequest(key=b"k", lease=lease))
        follower = follower_of(leader)
        await leader.clock.sleep(10)
        for member in (follower, leader):
            about = await ask(member, m.LEASE_TIME_TO_LIVE, pb.LeaseTimeToLiveRequest(ID=lease, keys=True))
            assert (about.TTL, about.grantedTTL, list(about.keys)) == (50, 60, [b"k"])
            gone = await ask(member, m.LEASE_TIME_TO_LIVE, pb.LeaseTimeToLiveRequest(ID=1))
            assert (gone.TTL, gone.grantedTTL) == (-1, 0)
        assert await keep_alive(follower, lease, 1) == [60, 0]
        kept = leader.machine.lessor.get(lease)
        assert kept is not None
        assert leader.machine.lessor.remaining_s(kept) == 60
        assert await keep_alive(leader, lease, 1) == [60, 0]
        follower.end()

    on(body)


def test_a_renewal_that_reaches_no_leader_fails_after_the_time_of_a_request() -> None:
    """Seven seconds, whether nobody leads or the leader does not answer."""

    async def body(leader: Member) -> None:
        lease = await grant(leader)
        for leader_id, words in ((1, "request timed out"), (0, "no leader")):
            follower = follower_of(leader)
            follower.leader, follower.leader_id = None, leader_id
            began_s = leader.clock.now_s()
            with pytest.raises(TransportError, match=f"etcdserver: {words}"):
                await keep_alive(follower, lease)
            assert 6.9 < leader.clock.now_s() - began_s < 7.2
            follower.end()

    on(body)


def test_a_leader_that_is_behind_its_own_log_waits_before_it_answers() -> None:
    """Else it could say that a lease does not exist that was granted already; for a second at most."""

    async def body(member: Member) -> None:
        member.committed_index += 1
        asking = asyncio.ensure_future(
            ask(member, m.LEASE_TIME_TO_LIVE, pb.LeaseTimeToLiveRequest(ID=1)),
        )
        await settle()
        assert not asking.done()
        member.machine.skip(member.committed_index)
        assert (await asking).TTL == -1
        member.committed_index += 1
        with pytest.raises(TransportError, match="waiting for the applied index took too long"):
            await ask(member, m.LEASE_TIME_TO_LIVE, pb.LeaseTimeToLiveRequest(ID=1))

    on(body)


def test_a_leader_that_slept_has_its_lead_confirmed_before_it_renews() -> None:
    """Once; in a leader that was awake all along nobody needs to be asked."""

    async def body(member: Member) -> None:
        asked = 0

        async def read_index() -> None:
            nonlocal asked
            asked += 1

        member.read_index = read_index  # type: ignore[method-assign]
        lease = await grant(member)
        assert await keep_alive(member, lease) == [60]
        assert asked == 0
        member.clock.slept_s += 5
        await member.clock.sleep(0.6)
        assert await keep_alive(member, lease, lease) == [60, 60]
        assert asked == 1

    on(body)


# ---- locks and elections


def test_a_lock_is_taken_in_the_order_of_asking() -> None:
    """Each waits for the one before it."""

    async def body(member: Member) -> None:
        leases = [await grant(member) for _ in range(3)]
        asking = []
        for lease in leases:
            request = lock.LockRequest(name=b"l", lease=lease)
            asking.append(asyncio.ensure_future(ask(member, m.LOCK, request)))
            await settle()
        for turn, lease in enumerate(leases):
            await settle()
            assert [waiting.done() for waiting in asking] == [number <= turn for number in range(3)]
            held = asking[turn].result()
            assert held.key == b"l/%x" % lease
            assert member.machine.store.index.get(held.key) is not None
            await ask(member, m.UNLOCK, lock.UnlockRequest(key=held.key))

    on(body)


def test_a_lock_without_a_lease_gets_one_for_a_minute() -> None:
    async def body(member: Member) -> None:
        held = await ask(member, m.LOCK, lock.LockRequest(name=b"l"))
        assert [lease.ttl_s for lease in member.machine.lessor.leases()] == [60]
        await member.clock.sleep(62)
        assert member.machine.store.index.get(held.key) is None

    on(body)


def test_who_goes_away_leaves_the_queue() -> None:
    """Its key goes, so that whoever comes after does not wait for it."""

    async def body(member: Member) -> None:
        leases = [await grant(member) for _ in range(3)]
        first = await ask(member, m.LOCK, lock.LockRequest(name=b"l", lease=leases[0]))
        going, staying = (
            asyncio.ensure_future(ask(member, m.LOCK, lock.LockRequest(name=b"l", lease=lease))) for lease in leases[1:]
        )
        await settle()
        going.cancel()
        await settle()
        await ask(member, m.UNLOCK, lock.UnlockRequest(key=first.key))
        assert (await staying).key == b"l/%x" % leases[2]

    on(body)


def test_a_lock_whose_lease_ended_while_it_waited_is_refused() -> None:
    async def body(member: Member) -> None:
        leases = [await grant(member) for _ in range(2)]
        first = await ask(member, m.LOCK, lock.LockRequest(name=b"l", lease=leases[0]))
        waiting = asyncio.ensure_future(ask(member, m.LOCK, lock.LockRequest(name=b"l", lease=leases[1])))
        await settle()
        await ask(member, m.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=leases[1]))
        await ask(member, m.UNLOCK, lock.UnlockRequest(key=first.key))
        with pytest.raises(TransportError, match="mutex: session is expired") as caught:
            await waiting
        assert caught.value.code == "UNKNOWN"

    on(body)


def test_three_candidates_lead_in_the_order_of_their_keys_and_the_first_again() -> None:
    """Campaign, lead, resign, and campaign anew at the end of the queue; each term is observed once."""

    async def body(member: Member) -> None:
        leases = [await grant(member) for _ in range(3)]
        observing = await member.rpc.stream(m.OBSERVE, election.LeaderRequest(name=b"e"))
        campaigns = []
        for number, lease in enumerate((*leases, leases[0])):
            request = election.CampaignRequest(name=b"e", lease=lease, value=b"%d" % number)
            campaigns.append(request)
        asking = [asyncio.ensure_future(ask(member, m.CAMPAIGN, request)) for request in campaigns[:3]]
        seen = []
        for turn in range(4):
            await settle()
            assert [waiting.done() for waiting in asking] == [number <= turn for number in range(len(asking))]
            leader = asking[turn].result().leader
            told = await observing.receive()
            assert told is not None
            assert (told.kv.key, told.kv.value, told.kv.lease) == (leader.key, b"%d" % turn, leader.lease)
            assert (await ask(member, m.LEADER, election.LeaderRequest(name=b"e"))).kv == told.kv
            seen.append(leader.rev)
            await ask(member, m.RESIGN, election.ResignRequest(leader=leader))
            if turn == 0:
                asking.append(asyncio.ensure_future(ask(member, m.CAMPAIGN, campaigns[3])))
        assert seen == sorted(seen)
        observing.cancel()

    on(body)


def test_proclaim_is_for_who_leads_with_that_key() -> None:
    """A new value is observed; a deposed leader's is refused, also once it campaigned anew."""

    async def body(member: Member) -> None:
        lease = await grant(member)
        request = election.CampaignRequest(name=b"e", lease=lease, value=b"1")
        old = (await ask(member, m.CAMPAIGN, request)).leader
        await ask(member, m.PROCLAIM, election.ProclaimRequest(leader=old, value=b"2"))
        assert (await ask(member, m.LEADER, election.LeaderRequest(name=b"e"))).kv.value == b"2"
        await ask(member, m.RESIGN, election.ResignRequest(leader=old))
        with pytest.raises(TransportError, match="election: no leader"):
            await ask(member, m.LEADER, election.LeaderRequest(name=b"e"))
        await ask(member, m.CAMPAIGN, request)
        with pytest.raises(TransportError, match="election: not leader"):
            await ask(member, m.PROCLAIM, election.ProclaimRequest(leader=old, value=b"3"))
        assert (await ask(member, m.LEADER, election.LeaderRequest(name=b"e"))).kv.value == b"1"
        with pytest.raises(TransportError, match='"leader" field must be provided'):
            await ask(member, m.PROCLAIM, election.ProclaimRequest(value=b"3"))

    on(body)
