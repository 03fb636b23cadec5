"""Leases: who lets them expire, when, and what a change of leaders does to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from splitvote.harness import clock
from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.lessor import EXPIRIES_A_PASS, NotPrimary
from splitvote.harness.simulation.mvcc import MachineOptions
from tests.harness.simulation.member import Member


def on(body: Callable[[Member], Awaitable[Any]], **options: Any) -> Any:
    """Run a body on a fresh member that leads, in virtual time."""

    async def go() -> Any:
        member = Member(options=MachineOptions(**options))
        try:
            return await body(member)
        finally:
            member.end()

    return clock.run(go())


def grant(member: Member, lease: int, ttl_s: int) -> int:
    ttl = member.answer(pb.LeaseGrantRequest(ID=lease, TTL=ttl_s)).TTL
    member.answer(pb.PutRequest(key=b"of %d" % lease, lease=lease))
    return int(ttl)


def keys(member: Member) -> list[bytes]:
    return [kv.key for kv in member.machine.store.range(b"\0", b"\0")]


def test_a_lease_expires_with_its_keys_soon_after_its_time_and_not_before() -> None:
    """The leader looks every half second; keys go at one revision."""

    async def body(member: Member) -> None:
        grant(member, 1, 5)
        member.do(pb.PutRequest(key=b"more", lease=1))
        await member.clock.sleep(4.99)
        assert len(keys(member)) == 2
        await member.clock.sleep(0.6)
        assert keys(member) == []
        assert [record.main for record in member.backend.records[-2:]] == [4, 4]

    on(body)


def test_short_leases_get_the_least_ttl_there_is() -> None:
    async def body(member: Member) -> None:
        assert [grant(member, lease, ttl_s) for lease, ttl_s in ((1, 0), (2, -5), (3, 3))] == [2, 2, 3]

    on(body)


def test_what_cannot_be_granted_is_refused() -> None:
    """An id in use, a TTL beyond all bounds."""

    async def body(member: Member) -> None:
        grant(member, 1, 60)
        with pytest.raises(TransportError, match="lease already exists"):
            grant(member, 1, 60)
        with pytest.raises(TransportError, match="too large lease TTL"):
            grant(member, 2, 9_000_000_001)

    on(body)


def test_a_renewal_gives_the_full_ttl_again() -> None:
    async def body(member: Member) -> None:
        grant(member, 1, 5)
        for _ in range(4):
            await member.clock.sleep(4)
            assert await member.machine.lessor.renew(1) == 5
        assert keys(member) == [b"of 1"]
        with pytest.raises(TransportError, match="requested lease not found"):
            await member.machine.lessor.renew(2)

    on(body)


def test_a_key_belongs_to_its_last_lease() -> None:
    """Putting it again with another lease, or none, frees it from the first."""

    async def body(member: Member) -> None:
        grant(member, 1, 60)
        grant(member, 2, 60)
        member.do(pb.PutRequest(key=b"of 1", lease=2))
        member.do(pb.PutRequest(key=b"of 2"))
        member.do(pb.LeaseRevokeRequest(ID=1))
        assert keys(member) == [b"of 1", b"of 2"]
        member.do(pb.LeaseRevokeRequest(ID=2))
        assert keys(member) == [b"of 2"]

    on(body)


def test_a_demoted_lessor_lets_nothing_expire_and_renews_nothing() -> None:
    async def body(member: Member) -> None:
        grant(member, 1, 5)
        member.machine.demote_lessor()
        await member.clock.sleep(60)
        assert keys(member) == [b"of 1"]
        with pytest.raises(NotPrimary):
            await member.machine.lessor.renew(1)

    on(body)


def test_a_promoted_lessor_gives_every_lease_its_full_ttl_and_an_extension() -> None:
    """It does not know when they were renewed last."""

    async def body(member: Member) -> None:
        member.machine.demote_lessor()
        grant(member, 1, 5)
        await member.clock.sleep(60)
        member.machine.promote_lessor(1.0)
        await member.clock.sleep(5.9)
        assert keys(member) == [b"of 1"]
        await member.clock.sleep(0.7)
        assert keys(member) == []

    on(body)


def test_a_renewal_of_an_expired_lease_waits_for_its_end() -> None:
    """It is refused once the lease is revoked; if the lead is lost meanwhile, another leader is to be asked."""

    async def body(member: Member) -> None:
        member.revoke_expired = lambda leases: None  # type: ignore[method-assign]
        grant(member, 1, 5)
        grant(member, 2, 5)
        await member.clock.sleep(6)
        renewals = [asyncio.ensure_future(member.machine.lessor.renew(lease)) for lease in (1, 2)]
        await member.clock.sleep(1)
        assert not any(renewal.done() for renewal in renewals)
        member.do(pb.LeaseRevokeRequest(ID=1))
        member.machine.demote_lessor()
        with pytest.raises(TransportError, match="requested lease not found"):
            await renewals[0]
        with pytest.raises(NotPrimary):
            await renewals[1]

    on(body)


def test_what_is_not_revoked_is_named_again_after_three_seconds() -> None:
    async def body(member: Member) -> None:
        named: list[float] = []
        member.revoke_expired = lambda leases: named.append(member.clock.now_s())  # type: ignore[method-assign]
        grant(member, 1, 5)
        await member.clock.sleep(12.2)
        assert [round(later - earlier, 1) for earlier, later in pairwise(named)] == [3.0, 3.0]

    on(body)


def test_a_pass_names_a_bounded_number_of_leases() -> None:
    async def body(member: Member) -> None:
        for lease in range(1, EXPIRIES_A_PASS + 101):
            member.do(pb.LeaseGrantRequest(ID=lease, TTL=5))
        await member.clock.sleep(7)
        assert [len(leases) for leases in member.revoked] == [EXPIRIES_A_PASS, 100]

    on(body)


def test_many_leases_are_not_let_expire_in_one_second_by_a_new_leader() -> None:
    """Of 3,000 that would end at once, at most three quarters of the revocation rate end each second."""

    async def body(member: Member) -> None:
        member.machine.demote_lessor()
        for lease in range(1, 3001):
            member.do(pb.LeaseGrantRequest(ID=lease, TTL=5))
        member.machine.promote_lessor(0.0)
        now_s = member.clock.now_s()
        ends = [lease.expires_s - now_s for lease in member.machine.lessor.leases()]
        assert min(ends) >= 5
        assert sum(end < 5.5 for end in ends) <= 750
        assert max(ends) > 8

    on(body)


def test_checkpoints_let_the_next_leader_know_what_is_left() -> None:
    """Off by default, as in etcd; a renewal makes a checkpoint void."""

    async def body(member: Member) -> None:
        grant(member, 1, 600)
        await member.clock.sleep(301)
        assert [checkpoint.remaining_s for checkpoint in member.checkpoints] == [((1, 300),)]
        member.machine.demote_lessor()
        member.machine.promote_lessor(0.0)
        lease = member.machine.lessor.get(1)
        assert lease is not None
        assert member.machine.lessor.remaining_s(lease) == 300
        restored = Member(member.backend)
        restored.machine.restore(member.machine.snapshot())
        assert await member.machine.lessor.renew(1) == 600
        assert member.checkpoints[-1].remaining_s == ((1, 0),)
        assert member.machine.lessor.remaining_s(lease) == 600
        kept = restored.machine.lessor.get(1)
        assert kept is not None
        assert kept.remaining_s == 300
        restored.end()

    on(body, checkpoint_interval_s=300.0)
