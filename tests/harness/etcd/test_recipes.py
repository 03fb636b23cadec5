"""Sessions, mutexes and elections against real members: order, expiry, what is left behind, who is told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from splitvote.harness import clock
from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.connection import Connections
from splitvote.harness.etcd.methods import LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE, PUT, RANGE, TXN
from splitvote.harness.etcd.recipes import (
    Election,
    KeepAlive,
    Mutex,
    Observer,
    Session,
    SessionExpired,
    Standing,
    leader_of,
    outcome_of,
)
from splitvote.harness.etcd.rpc import Rpc
from splitvote.harness.etcd.stubs import rpc_pb2 as pb

TTL_S = 2
PATIENCE_S = 120.0
_numbers = itertools.count()

Connected = Callable[..., Any]


@pytest.fixture
def prefix() -> bytes:
    """A prefix of this test's own: the members are shared."""
    return b"recipes/%d" % next(_numbers)


async def session(rpc: Rpc, *, ttl_s: int = 60, **options: Any) -> Session:
    return await Session.open(rpc, ttl_s=ttl_s, timeout_s=PATIENCE_S, **options)


async def soon(waited_for: Awaitable[Any]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        return await waited_for


async def key_of(rpc: Rpc, key: bytes) -> pb.KeyValue | None:
    answer = await rpc.unary(RANGE, pb.RangeRequest(key=key), timeout_s=PATIENCE_S)
    return answer.kvs[0] if answer.kvs else None


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def is_queued(rpc: Rpc, key: bytes) -> bool:
    return await key_of(rpc, key) is not None


Waiter = TypeVar("Waiter", Election, Mutex)


async def in_vain(
    kind: type[Waiter], wait: Callable[..., Awaitable[Any]], rpc: Rpc, prefix: bytes, *value: bytes
) -> tuple[Waiter, TransportError]:
    """Have one wait for its turn in vain: its key is there, for which the shortest time is not enough everywhere."""
    for timeout_s in (0.2, 2.0, 20.0):
        waiter = kind(await session(rpc), prefix)
        with pytest.raises(TransportError) as failure:
            await wait(waiter, *value, timeout_s=timeout_s)
        if waiter.create_revision is not None:
            return waiter, failure.value
        await waiter.session.close(timeout_s=PATIENCE_S)
    raise AssertionError("it did not get as far as to put its key")


# Sessions


@pytest.mark.etcd
def test_a_session_lives_on_beyond_its_ttl_and_ends_with_its_keys(
    one: Any, connected: Connected, prefix: bytes
) -> None:
    """Keepalives renew the lease; ``close`` revokes it with its keys and the owner knows."""

    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        answers: list[KeepAlive] = []
        enough = asyncio.Event()

        def note(answer: KeepAlive) -> None:
            answers.append(answer)
            if answer.requested_s - answers[0].requested_s > answer.ttl_s:
                enough.set()

        held = await session(rpc, ttl_s=6, on_answer=note)
        await rpc.unary(PUT, pb.PutRequest(key=prefix, lease=held.lease), timeout_s=PATIENCE_S)
        await soon(enough.wait())
        assert held.is_alive
        assert held.expires_s == answers[-1].requested_s + held.ttl_s
        assert {answer.ttl_s for answer in answers} == {held.ttl_s}
        assert await key_of(rpc, prefix) is not None
        await held.close(timeout_s=PATIENCE_S)
        await soon(held.lost())
        assert not held.is_alive
        assert await key_of(rpc, prefix) is None

    connected(one, body)


@pytest.mark.etcd
def test_an_orphaned_session_is_lost_by_our_clock_and_the_server_deletes_its_keys(
    one: Any, connected: Connected, prefix: bytes
) -> None:
    """Nobody renews it, so that it ends on either side."""

    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        held = await session(rpc, ttl_s=TTL_S)
        await rpc.unary(PUT, pb.PutRequest(key=prefix, lease=held.lease), timeout_s=PATIENCE_S)
        await held.orphan()
        await soon(held.lost())
        assert not held.is_alive

        async def is_gone() -> bool:
            return await key_of(rpc, prefix) is None

        await until(is_gone)

    connected(one, body)


@pytest.mark.etcd
def test_a_session_whose_lease_was_revoked_by_others_is_lost_at_the_next_keepalive(
    one: Any, connected: Connected
) -> None:
    """TTL 0 is a refusal, long before the TTL is over by our clock."""

    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        answers: list[KeepAlive] = []
        held = await session(rpc, ttl_s=12, on_answer=answers.append)
        await rpc.unary(LEASE_REVOKE, pb.LeaseRevokeRequest(ID=held.lease), timeout_s=PATIENCE_S)
        await soon(held.lost())
        assert answers[-1].ttl_s == 0
        await held.orphan()

    connected(one, body)


Reply = tuple[float, int | Exception | None]


class ScriptedLeases:
    """A seam that grants a lease of 6 s after 1 s; each stream is a list of replies: after how long, with which TTL.

    A TTL of None is the stream's end in order; a stream without replies left never answers.
    """

    def __init__(self, *streams: list[Reply]) -> None:
        self.streams = list(streams)
        self.opened_s: list[float] = []

    async def unary(self, method: Any, request: Any, *, timeout_s: float) -> Any:
        assert method is LEASE_GRANT
        await asyncio.sleep(1)
        return pb.LeaseGrantResponse(ID=7, TTL=6)

    async def stream(self, method: Any, request: Any = None, **options: Any) -> Any:
        assert method is LEASE_KEEP_ALIVE
        self.opened_s.append(asyncio.get_running_loop().time())
        return ScriptedStream(self.streams.pop(0))

    async def close(self) -> None:
        pass


class ScriptedStream:
    def __init__(self, replies: list[Reply]) -> None:
        self._replies = replies

    async def send(self, request: pb.LeaseKeepAliveRequest) -> None:
        assert request.ID == 7

    async def receive(self) -> pb.LeaseKeepAliveResponse | None:
        if not self._replies:
            await asyncio.get_running_loop().create_future()
        after_s, ttl_s = self._replies.pop(0)
        await asyncio.sleep(after_s)
        if isinstance(ttl_s, Exception):
            raise ttl_s
        return None if ttl_s is None else pb.LeaseKeepAliveResponse(ID=7, TTL=ttl_s)

    def cancel(self) -> None:
        pass


def when_lost(*streams: list[Reply]) -> tuple[float, list[KeepAlive], list[float]]:
    """When a session on these streams is lost, its keepalives, and when streams were opened."""

    async def go() -> tuple[float, list[KeepAlive], list[float]]:
        leases = ScriptedLeases(*streams)
        answers: list[KeepAlive] = []
        held = await Session.open(leases, ttl_s=5, timeout_s=PATIENCE_S, on_answer=answers.append)
        await held.lost()
        lost_s = asyncio.get_running_loop().time()
        await asyncio.sleep(3)  # an answer that comes now is too late
        assert not held.is_alive
        await held.orphan()
        return lost_s, answers, leases.opened_s

    return clock.run(go())


BROKEN = TransportError("UNAVAILABLE", "Socket closed")


def test_a_session_is_lost_a_ttl_after_the_request_of_its_last_keepalive() -> None:
    """Granted by a request at 0 s, renewed by one at 1 s that is answered at 2.5 s with 6 s: lost at 7 s."""
    lost_s, answers, _ = when_lost([(1.5, 6)], [], [])
    assert answers == [KeepAlive(requested_s=1.0, answered_s=2.5, ttl_s=6, revision=0)]
    assert lost_s == 7.0


def test_without_any_keepalive_it_is_lost_a_ttl_after_the_request_of_the_grant() -> None:
    assert when_lost([], [], [])[0] == 6.0


def test_an_orphaned_session_is_believed_in_until_its_time_is_over() -> None:
    async def go() -> float:
        held = await Session.open(ScriptedLeases([]), ttl_s=5, timeout_s=PATIENCE_S)
        await held.orphan()
        assert held.is_alive
        await held.lost()
        return asyncio.get_running_loop().time()

    assert clock.run(go()) == 6.0


def test_a_stream_that_breaks_ends_or_does_not_answer_is_opened_anew() -> None:
    """None of these loses the session: only the time that passes since its last success does."""
    lost_s, answers, opened_s = when_lost(
        [(0, 6), (0, BROKEN)], [(0, 6), (0, None)], [(0, 6)], [(0, 6), (0, 6), (0, 0)]
    )
    assert [answer.ttl_s for answer in answers] == [6, 6, 6, 6, 6, 0]
    assert opened_s == pytest.approx([1.0, 3.1, 5.2, 9.3])
    assert lost_s == pytest.approx(13.3)


def test_a_refused_keepalive_loses_the_session_at_once() -> None:
    assert when_lost([(0.5, 0)])[0] == 1.5


def test_what_our_clock_has_lost_stays_lost() -> None:
    """A keepalive that is answered after that, with a TTL, is not believed."""
    breaking: list[list[Reply]] = [[(0.1, BROKEN)] for _ in range(22)]  # one every 0.2 s, from 1 s to 5.4 s
    lost_s, answers, opened_s = when_lost(*breaking, [(1.5, 6)])
    assert opened_s[-1] == pytest.approx(5.4)
    assert lost_s == pytest.approx(6.0)
    assert answers == []


# Elections


async def campaign(election: Election, value: bytes) -> int:
    return await election.campaign(value, timeout_s=PATIENCE_S)


@pytest.mark.etcd
def test_candidates_lead_in_the_order_of_their_keys_and_the_first_can_lead_again(
    three: Any, connected: Connected, prefix: bytes
) -> None:
    """Three candidates on three members; each resignation makes the next one leader, and nobody else."""

    async def body(connections: Connections) -> list[tuple[str, int, int]]:
        reigns: list[tuple[str, int, int]] = []
        elections: dict[str, Election] = {}
        campaigns: dict[str, asyncio.Task[int]] = {}
        for node in ("n1", "n2", "n3"):
            election = elections[node] = Election(await session(connections[node]), prefix)
            campaigns[node] = asyncio.create_task(campaign(election, node.encode()))
            await until(lambda key=election.key: is_queued(connections["n1"], key))  # type: ignore[misc]
        for node in ("n1", "n2", "n3"):
            seen = await soon(campaigns[node])
            mine = elections[node].create_revision
            assert mine is not None
            later = [other for other in campaigns if not campaigns[other].done()]
            assert later == [other for other in campaigns if other > node]
            revision, leader = await leader_of(connections["n2"], prefix, timeout_s=PATIENCE_S)
            assert leader == Standing(
                elections[node].key, node.encode(), mine, mine, 1, elections[node].session.lease, revision
            )
            reigns.append((node, mine, seen))
            assert (await elections[node].resign(timeout_s=PATIENCE_S)).succeeded
        again = await campaign(elections["n1"], b"again")
        mine = elections["n1"].create_revision
        assert mine is not None
        reigns.append(("n1", mine, again))
        for election in elections.values():
            await election.session.close(timeout_s=PATIENCE_S)
        return reigns

    reigns = connected(three, body)
    created = [create_revision for _, create_revision, _ in reigns]
    assert created == sorted(set(created))
    assert all(seen >= create_revision for _, create_revision, seen in reigns)
    assert all(seen > created[number - 1] for number, (_, _, seen) in enumerate(reigns) if number)


@pytest.mark.etcd
def test_a_campaign_that_times_out_leaves_its_key_and_says_so(one: Any, connected: Connected, prefix: bytes) -> None:
    """The outcome is info; the key takes its turn, and resigning removes it."""

    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        first = Election(await session(rpc), prefix)
        await campaign(first, b"first")
        second, failure = await in_vain(Election, Election.campaign, rpc, prefix, b"second")
        judged = outcome_of(failure, create_revision=second.create_revision)
        assert (failure.code, judged.type) == ("DEADLINE_EXCEEDED", "info")
        assert "left behind" in judged.text
        left = await key_of(rpc, second.key)
        assert left is not None
        assert (left.value, left.create_revision) == (b"second", second.create_revision)
        await first.resign(timeout_s=PATIENCE_S)
        _, leader = await leader_of(rpc, prefix, timeout_s=PATIENCE_S)
        assert leader is not None
        assert leader.key == second.key
        assert (await second.resign(timeout_s=PATIENCE_S)).succeeded
        assert await key_of(rpc, second.key) is None
        for election in (first, second):
            await election.session.close(timeout_s=PATIENCE_S)

    connected(one, body)


@pytest.mark.etcd
def test_a_campaign_on_a_lease_that_is_gone_certainly_did_not_happen(
    one: Any, connected: Connected, prefix: bytes
) -> None:
    async def body(connections: Connections) -> None:
        held = await session(connections["n1"])
        await held.close(timeout_s=PATIENCE_S)
        election = Election(held, prefix)
        with pytest.raises(TransportError) as failure:
            await campaign(election, b"late")
        judged = outcome_of(failure.value, create_revision=election.create_revision)
        assert (judged.type, judged.name) == ("fail", "lease-not-found")

    connected(one, body)


@pytest.mark.etcd
def test_campaigning_again_with_the_same_session_proclaims_the_new_value(
    one: Any, connected: Connected, prefix: bytes
) -> None:
    """The key that is there already keeps its place in the queue."""

    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        held = await session(rpc)
        first, again = Election(held, prefix), Election(held, prefix)
        await campaign(first, b"old")
        await campaign(again, b"new")
        assert again.create_revision == first.create_revision
        _, leader = await leader_of(rpc, prefix, timeout_s=PATIENCE_S)
        assert leader is not None
        assert leader.value == b"new"
        await held.close(timeout_s=PATIENCE_S)

    connected(one, body)


@pytest.mark.etcd
def test_a_deposed_leader_can_neither_proclaim_nor_resign_nor_write_with_its_guard(
    one: Any, connected: Connected, prefix: bytes
) -> None:
    """All are guarded by the create revision, so that its successor is safe from it."""

    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        deposed, successor = Election(await session(rpc), prefix), Election(await session(rpc), prefix)
        await campaign(deposed, b"a")
        guard, key = deposed.leader_compare(), b"fenced/" + prefix
        write = pb.RequestOp(request_put=pb.PutRequest(key=key, value=b"x"))
        assert (await rpc.unary(TXN, pb.TxnRequest(compare=[guard], success=[write]), timeout_s=PATIENCE_S)).succeeded
        await rpc.unary(LEASE_REVOKE, pb.LeaseRevokeRequest(ID=deposed.session.lease), timeout_s=PATIENCE_S)
        await campaign(successor, b"b")
        answer = await rpc.unary(TXN, pb.TxnRequest(compare=[guard], success=[write]), timeout_s=PATIENCE_S)
        assert not answer.succeeded
        assert not (await deposed.proclaim(b"still me", timeout_s=PATIENCE_S)).succeeded
        with pytest.raises(ValueError, match="no key"):
            deposed.leader_compare()
        _, leader = await leader_of(rpc, prefix, timeout_s=PATIENCE_S)
        assert leader is not None
        assert leader.value == b"b"
        await deposed.session.orphan()
        await successor.session.close(timeout_s=PATIENCE_S)

    connected(one, body)


@pytest.mark.etcd
def test_an_observer_sees_every_leader_and_what_it_proclaims(three: Any, connected: Connected, prefix: bytes) -> None:
    """From the first key of an empty election, over a proclamation, to the successor and the next first key."""

    async def body(connections: Connections) -> list[tuple[bytes, bytes]]:
        observer = Observer(connections["n3"], prefix, timeout_s=PATIENCE_S)
        first = Election(await session(connections["n1"]), prefix)
        second = Election(await session(connections["n2"]), prefix)
        waiting = asyncio.create_task(anext(observer))
        await campaign(first, b"1")
        seen = [await soon(waiting)]
        queueing = asyncio.create_task(campaign(second, b"2"))
        await until(lambda: is_queued(connections["n1"], second.key))
        await first.proclaim(b"1b", timeout_s=PATIENCE_S)
        seen.append(await soon(anext(observer)))
        await first.resign(timeout_s=PATIENCE_S)
        seen.append(await soon(anext(observer)))
        await soon(queueing)
        waiting = asyncio.create_task(anext(observer))
        await second.resign(timeout_s=PATIENCE_S)
        await campaign(first, b"1c")
        seen.append(await soon(waiting))
        observer.close()
        for election in (first, second):
            await election.session.close(timeout_s=PATIENCE_S)
        names = {first.key: b"first", second.key: b"second"}
        places = [(standing.create_revision, standing.mod_revision) for standing in seen]
        assert places == sorted(set(places))
        return [(names[standing.key], standing.value) for standing in seen]

    assert connected(three, body) == [(b"first", b"1"), (b"first", b"1b"), (b"second", b"2"), (b"first", b"1c")]


# Mutexes


@pytest.mark.etcd
def test_a_mutex_has_one_holder_at_a_time_in_the_order_of_the_keys(
    three: Any, connected: Connected, prefix: bytes
) -> None:
    """Several sessions at different members; nobody enters before the holder has left."""

    async def body(connections: Connections) -> None:
        inside: list[str] = []
        entered: list[tuple[int, str]] = []

        async def visit(node: str) -> None:
            held = await session(connections[node])
            mutex = Mutex(held, prefix)
            for _ in range(3):
                await mutex.lock(timeout_s=PATIENCE_S)
                assert not inside
                inside.append(node)
                assert mutex.create_revision is not None
                entered.append((mutex.create_revision, node))
                owner = await key_of(connections[node], mutex.key)
                assert owner is not None
                inside.remove(node)
                assert (await mutex.unlock(timeout_s=PATIENCE_S))[1]
            await held.close(timeout_s=PATIENCE_S)

        await asyncio.gather(*(visit(node) for node in ("n1", "n2", "n3")))
        assert len(entered) == 9
        assert entered == sorted(entered)

    connected(three, body)


@pytest.mark.etcd
def test_a_waiter_whose_session_ended_does_not_get_the_lock(one: Any, connected: Connected, prefix: bytes) -> None:
    """Unlike a campaign, ``lock`` looks at its own key once more when its turn comes."""

    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        holder, waiter = Mutex(await session(rpc), prefix), Mutex(await session(rpc), prefix)
        await holder.lock(timeout_s=PATIENCE_S)
        waiting = asyncio.create_task(waiter.lock(timeout_s=PATIENCE_S))
        await until(lambda: is_queued(rpc, waiter.key))
        await rpc.unary(LEASE_REVOKE, pb.LeaseRevokeRequest(ID=waiter.session.lease), timeout_s=PATIENCE_S)
        await holder.unlock(timeout_s=PATIENCE_S)
        with pytest.raises(SessionExpired):
            await soon(waiting)
        with pytest.raises(ValueError, match="no key"):
            waiter.owner_compare()
        await waiter.session.orphan()
        await holder.session.close(timeout_s=PATIENCE_S)

    connected(one, body)


@pytest.mark.etcd
def test_a_lock_that_times_out_leaves_its_key_and_says_so(one: Any, connected: Connected, prefix: bytes) -> None:
    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        holder = Mutex(await session(rpc), prefix)
        await holder.lock(timeout_s=PATIENCE_S)
        waiter, failure = await in_vain(Mutex, Mutex.lock, rpc, prefix)
        assert outcome_of(failure, create_revision=waiter.create_revision).type == "info"
        assert await key_of(rpc, waiter.key) is not None
        assert (await waiter.unlock(timeout_s=PATIENCE_S))[1]
        assert await key_of(rpc, waiter.key) is None
        for mutex in (holder, waiter):
            await mutex.session.close(timeout_s=PATIENCE_S)

    connected(one, body)


@pytest.mark.etcd
def test_writes_guarded_by_the_lock_fail_once_it_is_lost(one: Any, connected: Connected, prefix: bytes) -> None:
    async def body(connections: Connections) -> list[bool]:
        rpc = connections["n1"]
        mutex = Mutex(await session(rpc), prefix)
        await mutex.lock(timeout_s=PATIENCE_S)
        write = pb.RequestOp(request_put=pb.PutRequest(key=b"fenced/" + prefix))
        guarded = pb.TxnRequest(compare=[mutex.owner_compare()], success=[write])
        held = await rpc.unary(TXN, guarded, timeout_s=PATIENCE_S)
        await mutex.session.close(timeout_s=PATIENCE_S)
        lost = await rpc.unary(TXN, guarded, timeout_s=PATIENCE_S)
        return [held.succeeded, lost.succeeded]

    assert connected(one, body) == [True, False]
