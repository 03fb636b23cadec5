"""Every service of etcd's v3 API once, against a real member."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.connection import Connections
from splitvote.harness.etcd.stubs import election_pb2, lock_pb2
from splitvote.harness.etcd.stubs import rpc_pb2 as pb

pytestmark = pytest.mark.etcd

TIMEOUT_S = 60.0


def test_kv_puts_reads_deletes_and_pages(one: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        for number in range(5):
            request = pb.PutRequest(key=b"kv/%d" % number, value=b"%d" % number, prev_kv=True)
            put = await rpc.unary(m.PUT, request, timeout_s=TIMEOUT_S)
        assert not put.HasField("prev_kv")
        page = pb.RangeRequest(key=b"kv/", range_end=b"kv0", limit=2, sort_order=pb.RangeRequest.DESCEND)
        answer = await rpc.unary(m.RANGE, page, timeout_s=TIMEOUT_S)
        assert [kv.key for kv in answer.kvs] == [b"kv/4", b"kv/3"]
        assert (answer.more, answer.count) == (True, 5)
        assert answer.header.revision == put.header.revision
        delete = pb.DeleteRangeRequest(key=b"kv/", range_end=b"kv0", prev_kv=True)
        deleted = await rpc.unary(m.DELETE_RANGE, delete, timeout_s=TIMEOUT_S)
        assert deleted.deleted == 5
        assert [kv.value for kv in deleted.prev_kvs] == [b"0", b"1", b"2", b"3", b"4"]
        compaction = pb.CompactionRequest(revision=deleted.header.revision, physical=True)
        await rpc.unary(m.COMPACT, compaction, timeout_s=TIMEOUT_S)
        old = pb.RangeRequest(key=b"kv/1", revision=put.header.revision)
        with pytest.raises(TransportError, match="required revision has been compacted") as caught:
            await rpc.unary(m.RANGE, old, timeout_s=TIMEOUT_S)
        assert caught.value.code == "OUT_OF_RANGE"

    connected(one, body)


def test_txn_nests(one: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        inner = pb.TxnRequest(
            compare=[pb.Compare(target=pb.Compare.VERSION, key=b"txn/a", result=pb.Compare.GREATER, version=0)],
            success=[pb.RequestOp(request_put=pb.PutRequest(key=b"txn/b", value=b"wrong"))],
            failure=[pb.RequestOp(request_put=pb.PutRequest(key=b"txn/b", value=b"right"))],
        )
        outer = pb.TxnRequest(
            compare=[pb.Compare(target=pb.Compare.CREATE, key=b"txn/a", create_revision=0)],
            success=[
                pb.RequestOp(request_txn=inner),
                pb.RequestOp(request_range=pb.RangeRequest(key=b"txn/b")),
                pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=b"txn/absent")),
            ],
        )
        answer = await connections["n1"].unary(m.TXN, outer, timeout_s=TIMEOUT_S)
        assert answer.succeeded
        nested, read, deleted = answer.responses
        assert not nested.response_txn.succeeded
        assert read.response_range.kvs[0].value == b"right"
        assert deleted.response_delete_range.deleted == 0

    connected(one, body)


def test_watch_streams_events_and_ends_by_request(one: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        stream = await rpc.stream(m.WATCH)
        create = pb.WatchCreateRequest(key=b"watch/", range_end=b"watch0", prev_kv=True, watch_id=7)
        await stream.send(pb.WatchRequest(create_request=create))
        created = await stream.receive()
        assert created is not None
        assert (created.created, created.watch_id) == (True, 7)
        put = await rpc.unary(m.PUT, pb.PutRequest(key=b"watch/a", value=b"1"), timeout_s=TIMEOUT_S)
        events = await stream.receive()
        assert events is not None
        assert [(event.type, event.kv.value) for event in events.events] == [(pb.Event.PUT, b"1")]
        assert events.header.revision == put.header.revision
        await stream.send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
        progress = await stream.receive()
        assert progress is not None
        assert progress.header.revision >= put.header.revision
        assert not progress.events
        await stream.send(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=7)))
        cancelled = await stream.receive()
        assert cancelled is not None
        assert cancelled.canceled

    connected(one, body)


def test_a_watch_from_a_compacted_revision_is_answered_cancelled(one: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        for value in (b"1", b"2"):
            put = await rpc.unary(m.PUT, pb.PutRequest(key=b"compacted", value=value), timeout_s=TIMEOUT_S)
        await rpc.unary(m.COMPACT, pb.CompactionRequest(revision=put.header.revision), timeout_s=TIMEOUT_S)
        stream = await rpc.stream(m.WATCH)
        create = pb.WatchCreateRequest(key=b"compacted", start_revision=1)
        await stream.send(pb.WatchRequest(create_request=create))
        answers = [await stream.receive(), await stream.receive()]
        assert answers[1] is not None
        assert answers[1].canceled
        assert answers[1].compact_revision == put.header.revision

    connected(one, body)


def test_leases_are_granted_kept_alive_listed_and_revoked(one: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        granted = await rpc.unary(m.LEASE_GRANT, pb.LeaseGrantRequest(TTL=60, ID=4711), timeout_s=TIMEOUT_S)
        assert (granted.ID, granted.TTL, granted.error) == (4711, 60, "")
        await rpc.unary(m.PUT, pb.PutRequest(key=b"leased", lease=4711), timeout_s=TIMEOUT_S)
        stream = await rpc.stream(m.LEASE_KEEP_ALIVE)
        for lease, ttl in ((4711, 60), (4712, 0)):
            await stream.send(pb.LeaseKeepAliveRequest(ID=lease))
            kept = await stream.receive()
            assert kept is not None
            assert lease == kept.ID
            assert ttl == kept.TTL
        about = pb.LeaseTimeToLiveRequest(ID=4711, keys=True)
        left = await rpc.unary(m.LEASE_TIME_TO_LIVE, about, timeout_s=TIMEOUT_S)
        assert (left.grantedTTL, list(left.keys)) == (60, [b"leased"])
        leases = await rpc.unary(m.LEASE_LEASES, pb.LeaseLeasesRequest(), timeout_s=TIMEOUT_S)
        assert 4711 in [lease.ID for lease in leases.leases]
        await rpc.unary(m.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=4711), timeout_s=TIMEOUT_S)
        gone = await rpc.unary(m.LEASE_TIME_TO_LIVE, about, timeout_s=TIMEOUT_S)
        assert gone.TTL == -1
        with pytest.raises(TransportError, match="requested lease not found") as caught:
            await rpc.unary(m.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=4711), timeout_s=TIMEOUT_S)
        assert caught.value.code == "NOT_FOUND"

    connected(one, body)


def test_cluster_adds_updates_refuses_to_promote_and_removes(three: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        url = "http://127.0.0.1:1"
        add = pb.MemberAddRequest(peerURLs=[url], isLearner=True)
        added = await rpc.unary(m.MEMBER_ADD, add, timeout_s=TIMEOUT_S)
        assert added.member.isLearner
        listed = await rpc.unary(m.MEMBER_LIST, pb.MemberListRequest(linearizable=True), timeout_s=TIMEOUT_S)
        assert sorted(member.name for member in listed.members) == ["", "n1", "n2", "n3"]
        update = pb.MemberUpdateRequest(ID=added.member.ID, peerURLs=["http://127.0.0.1:2"])
        updated = await rpc.unary(m.MEMBER_UPDATE, update, timeout_s=TIMEOUT_S)
        assert ["http://127.0.0.1:2"] in [list(member.peerURLs) for member in updated.members]
        promote = pb.MemberPromoteRequest(ID=added.member.ID)
        with pytest.raises(TransportError, match="in sync with leader"):
            await rpc.unary(m.MEMBER_PROMOTE, promote, timeout_s=TIMEOUT_S)
        remove = pb.MemberRemoveRequest(ID=added.member.ID)
        removed = await rpc.unary(m.MEMBER_REMOVE, remove, timeout_s=TIMEOUT_S)
        assert len(removed.members) == 3

    connected(three, body)


def test_maintenance_reports_hashes_defragments_and_lists_alarms(one: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        status = await rpc.unary(m.STATUS, pb.StatusRequest(), timeout_s=TIMEOUT_S)
        assert status.version == "3.5.30"
        assert status.leader == status.header.member_id
        hashed = await rpc.unary(m.HASH_KV, pb.HashKVRequest(), timeout_s=TIMEOUT_S)
        assert hashed.hash != 0
        assert (await rpc.unary(m.HASH, pb.HashRequest(), timeout_s=TIMEOUT_S)).hash != 0
        await rpc.unary(m.DEFRAGMENT, pb.DefragmentRequest(), timeout_s=TIMEOUT_S)
        activate = pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, memberID=status.header.member_id, alarm=pb.NOSPACE)
        await rpc.unary(m.ALARM, activate, timeout_s=TIMEOUT_S)
        alarms = await rpc.unary(m.ALARM, pb.AlarmRequest(action=pb.AlarmRequest.GET), timeout_s=TIMEOUT_S)
        assert [(alarm.memberID, alarm.alarm) for alarm in alarms.alarms] == [(status.header.member_id, pb.NOSPACE)]
        activate.action = pb.AlarmRequest.DEACTIVATE
        await rpc.unary(m.ALARM, activate, timeout_s=TIMEOUT_S)
        downgrade = pb.DowngradeRequest(action=pb.DowngradeRequest.VALIDATE, version="3.4.0")

        async def knows_its_version() -> bool:  # of the cluster, which is decided some time after its start
            with suppress(TransportError):
                return (await rpc.unary(m.DOWNGRADE, downgrade, timeout_s=TIMEOUT_S)).version == "3.5.0"
            return False

        await one.until(knows_its_version, what="the cluster's version")

    connected(one, body)


def test_a_snapshot_streams_to_its_end(one: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        stream = await connections["n1"].stream(m.SNAPSHOT, pb.SnapshotRequest())
        sizes = []
        while (part := await stream.receive()) is not None:
            sizes.append(len(part.blob))
        assert sum(sizes) > 16_384  # a bolt database is several pages at least
        assert await stream.receive() is None

    connected(one, body)


def test_lock_waits_for_its_turn(one: Any, connected: Callable[..., Any]) -> None:
    """Below a name of its own: the member is shared, and whatever lies below a lock's name contends for it."""

    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        leases = [
            (await rpc.unary(m.LEASE_GRANT, pb.LeaseGrantRequest(TTL=60), timeout_s=TIMEOUT_S)).ID for _ in range(2)
        ]
        first = await rpc.unary(
            m.LOCK, lock_pb2.LockRequest(name=b"services-lock", lease=leases[0]), timeout_s=TIMEOUT_S
        )
        assert first.key.startswith(b"services-lock/")
        second = asyncio.create_task(
            rpc.unary(m.LOCK, lock_pb2.LockRequest(name=b"services-lock", lease=leases[1]), timeout_s=TIMEOUT_S)
        )
        count = pb.RangeRequest(key=b"services-lock/", range_end=b"services-lock0", count_only=True)
        while (await rpc.unary(m.RANGE, count, timeout_s=TIMEOUT_S)).count < 2:
            assert not second.done()
        assert not second.done()
        await rpc.unary(m.UNLOCK, lock_pb2.UnlockRequest(key=first.key), timeout_s=TIMEOUT_S)
        assert (await second).key != first.key
        for lease in leases:
            await rpc.unary(m.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=lease), timeout_s=TIMEOUT_S)

    connected(one, body)


def test_election_campaigns_proclaims_is_observed_and_resigns(one: Any, connected: Callable[..., Any]) -> None:
    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        lease = (await rpc.unary(m.LEASE_GRANT, pb.LeaseGrantRequest(TTL=60), timeout_s=TIMEOUT_S)).ID
        name = election_pb2.LeaderRequest(name=b"services-election")
        campaign = election_pb2.CampaignRequest(name=b"services-election", lease=lease, value=b"me")
        won = await rpc.unary(m.CAMPAIGN, campaign, timeout_s=TIMEOUT_S)
        assert won.leader.lease == lease
        observing = await rpc.stream(m.OBSERVE, name)
        seen = await observing.receive()
        assert seen is not None
        assert seen.kv.value == b"me"
        proclaim = election_pb2.ProclaimRequest(leader=won.leader, value=b"still me")
        await rpc.unary(m.PROCLAIM, proclaim, timeout_s=TIMEOUT_S)
        seen = await observing.receive()
        assert seen is not None
        assert seen.kv.value == b"still me"
        assert (await rpc.unary(m.LEADER, name, timeout_s=TIMEOUT_S)).kv.value == b"still me"
        await rpc.unary(m.RESIGN, election_pb2.ResignRequest(leader=won.leader), timeout_s=TIMEOUT_S)
        with pytest.raises(TransportError, match="election: no leader"):
            await rpc.unary(m.LEADER, name, timeout_s=TIMEOUT_S)
        observing.cancel()

    connected(one, body)
