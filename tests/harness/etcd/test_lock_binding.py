"""The bindings of lock and lock-set: what is recorded of locks taken, waited for, lost and let go, on real members."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from splitvote.checkers.lock.sets import FENCED
from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd.bindings.lock import LockBinding, LockClient
from splitvote.harness.etcd.bindings.lock_set import LockSetBinding, LockSetClient, Place, binding
from splitvote.harness.etcd.bindings.services import Services
from splitvote.harness.etcd.connection import Connections
from splitvote.harness.etcd.methods import LEASE_REVOKE, RANGE
from splitvote.harness.etcd.rpc import Rpc
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op

PATIENCE_S = 120.0
BOTH = pytest.mark.parametrize("api", ["client", "server"])
_numbers = itertools.count()

Connected = Callable[..., Any]


@pytest.fixture
def lock() -> str:
    """A lock, or a set, of this test's own: the members are shared."""
    return f"t{next(_numbers)}"


class Process:
    """A client with the events that it emitted."""

    def __init__(self, client: LockClient | LockSetClient) -> None:
        self.client = client
        self.events: list[Op] = []

    async def do(self, f: str, key: str, value: Any, **fields: Any) -> Op:
        return await self.client.invoke(Op(process=1, f=f, key=key, value=value, **fields), self.events.append)

    async def acquire(self, lock: str, *, api: str = "client", patience_s: float = PATIENCE_S, ttl_s: int = 60) -> Op:
        return await self.do("acquire", lock, {"api": api, "ttl_s": ttl_s, "patience_s": patience_s})

    @property
    def lease(self) -> int:
        return int(self.events[-1].value["lease"])


async def processes(connections: Connections, count: int) -> list[Process]:
    locks = LockBinding(Services(nodes=connections, timeout_s=PATIENCE_S))
    return [Process(await locks.open(number, "n1")) for number in range(count)]


async def keys(rpc: Rpc, lock: str) -> list[str]:
    """The lock's keys in the store, oldest first."""
    request = pb.RangeRequest(
        key=f"lock/{lock}/".encode(), range_end=f"lock/{lock}0".encode(), sort_target=pb.RangeRequest.CREATE
    )
    request.sort_order = pb.RangeRequest.ASCEND
    return [kv.key.decode() for kv in (await rpc.unary(RANGE, request, timeout_s=PATIENCE_S)).kvs]


async def until_keys(rpc: Rpc, lock: str, wanted: list[str]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await keys(rpc, lock) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.etcd
@BOTH
def test_a_lock_goes_from_hand_to_hand(one: Any, connected: Connected, lock: str, api: str) -> None:
    """The second waits until the first lets go; each grant's revision is one at which it is the oldest."""

    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        first, second = await processes(connections, 2)
        held = await first.acquire(lock, api=api)
        waiting = asyncio.create_task(second.acquire(lock, api=api))
        async with asyncio.timeout(PATIENCE_S):
            while len(await keys(rpc, lock)) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        released = await first.do("release", lock, "unlock")
        then = await waiting
        assert (held.type, released.type, then.type) == ("ok", "ok", "ok")
        assert held.value == f"lock/{lock}/{first.lease:x}"
        assert then.value == f"lock/{lock}/{second.lease:x}"
        assert held.revision is not None
        assert released.revision is not None
        assert then.revision is not None
        assert held.revision < released.revision <= then.revision
        if api == "client":
            assert held.extra == {"create_revision": held.revision}
            assert released.extra == {"deleted": True}
        assert await keys(rpc, lock) == [then.value]
        for process in (first, second):
            await process.client.close()

    connected(one, body)


@pytest.mark.etcd
def test_an_acquire_that_is_given_up_leaves_no_key(one: Any, connected: Connected, lock: str) -> None:
    """By the recipe it certainly failed, since its key was deleted; the server tidies up by itself, some time.

    Which of the two deadlines is told, the client's own or the server's, is a race.
    """

    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        holder, hasty, at_server = await processes(connections, 3)
        held = await holder.acquire(lock)
        for patience_s in (0.3, 3.0, 30.0):  # a slow machine needs longer than the shortest to put a key
            given_up = await hasty.acquire(lock, patience_s=patience_s)
            if given_up.type == "fail":
                break
            await hasty.do("release", lock, "close")
        assert (given_up.type, (given_up.error or "").partition(":")[0]) == ("fail", "not-in-time")
        assert await keys(rpc, lock) == [held.value]
        timed_out = await at_server.acquire(lock, api="server", patience_s=0.3)
        error = (timed_out.error or "").partition(":")[0]
        assert (timed_out.type, error) in (("info", "deadline"), ("info", "server-deadline"))
        await until_keys(rpc, lock, [held.value])
        again = asyncio.create_task(hasty.acquire(lock))
        await until_keys(rpc, lock, [held.value, f"lock/{lock}/{hasty.lease:x}"])
        assert (await holder.do("release", lock, "close")).type == "ok"
        assert (await again).type == "ok"
        for process in (holder, hasty, at_server):
            await process.client.close()

    connected(one, body)


@pytest.mark.etcd
def test_a_session_can_be_closed_left_or_outlived(one: Any, connected: Connected, lock: str) -> None:
    """Closing revokes with all keys; what is left expires; a holder that stalled has lost the lock and is told so."""

    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        first, second = await processes(connections, 2)
        await first.acquire(lock)
        closed = await first.do("release", lock, "close")
        assert closed.extra is not None
        assert closed.extra["revoked_by"] > 0
        assert closed.revision is None
        assert await keys(rpc, lock) == []
        assert (await first.do("release", lock, "close")).type == "ok", "there is nothing left to close"

        await first.acquire(lock)
        left = first.lease
        assert (await first.do("release", lock, "orphan")).type == "ok"
        assert await keys(rpc, lock) == [f"lock/{lock}/{left:x}"]
        await rpc.unary(LEASE_REVOKE, pb.LeaseRevokeRequest(ID=left), timeout_s=PATIENCE_S)
        await first.acquire(lock, ttl_s=2)
        assert (await first.do("release", lock, "orphan")).type == "ok"
        assert (await second.acquire(lock, ttl_s=2)).type == "ok", "the lease of the one that was left expired"

        stalled = asyncio.create_task(second.do("stall", lock, 0.1))
        taken = await first.acquire(lock)
        assert (await stalled).type == "ok"
        released = await second.do("release", lock, "unlock")
        assert (released.type, released.extra) == ("ok", {"deleted": False})
        assert await keys(rpc, lock) == [taken.value]
        for process in (first, second):
            await process.client.close()

    connected(one, body)


@pytest.mark.etcd
@BOTH
def test_a_session_that_ends_while_it_waits_gets_nothing(one: Any, connected: Connected, lock: str, api: str) -> None:
    """Its key goes with its lease; when its turn has come, the recipe and the server both look and find it gone."""

    async def body(connections: Connections) -> None:
        rpc = connections["n1"]
        holder, waiter = await processes(connections, 2)
        held = await holder.acquire(lock)
        waiting = asyncio.create_task(waiter.acquire(lock, api=api))
        async with asyncio.timeout(PATIENCE_S):
            while len(await keys(rpc, lock)) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await rpc.unary(LEASE_REVOKE, pb.LeaseRevokeRequest(ID=waiter.lease), timeout_s=PATIENCE_S)
        assert await keys(rpc, lock) == [held.value]
        await holder.do("release", lock, "unlock")
        lost = await waiting
        assert (lost.type, (lost.error or "").partition(":")[0]) == ("fail", "session-expired")
        assert (await waiter.acquire(lock, api=api)).type == "ok", "with a session that it opens anew"
        for process in (holder, waiter):
            await process.client.close()

    connected(one, body)


@pytest.mark.etcd
def test_concurrent_adds_are_all_kept(one: Any, connected: Connected, lock: str) -> None:
    """The lock makes read-modify-write atomic while every session lives; reads see what was acknowledged."""

    async def body(connections: Connections) -> None:
        sets = LockSetBinding(Services(nodes=connections, timeout_s=PATIENCE_S), "fenced")
        clients = [Process(await sets.open(number, "n1")) for number in range(4)]
        done = await asyncio.gather(*(add(process, lock, number) for number, process in enumerate(clients)))
        read = await clients[0].do("read", lock, None)
        assert {op.type for op in done} == {"ok"}
        assert sorted(read.value) == [0, 1, 2, 3]
        newest = max(done, key=lambda op: op.revision or 0)
        assert read.value[-1] == newest.value
        assert read.revision is not None
        assert newest.revision is not None
        assert newest.revision < read.revision, "a release came in between"
        for process in clients:
            await process.client.close()

    connected(one, body)


async def add(process: Process, key: str, element: int) -> Op:
    extra = {"ttl_s": 60, "patience_s": PATIENCE_S, "think_s": 0.0, "stalls": False}
    return await process.do("add", key, element, extra=extra)


@pytest.mark.etcd
@pytest.mark.parametrize(("place", "kept"), [("fenced", [2]), ("unfenced", [1]), ("memory", [1])])
def test_a_holder_that_lost_its_lock_writes_over_others_unless_it_is_fenced(
    one: Any, connected: Connected, lock: str, place: Place, kept: list[int]
) -> None:
    """While the first thinks its lease is revoked and the second adds; only the fence refuses the first's write."""

    async def body(connections: Connections) -> None:
        sets = LockSetBinding(Services(nodes=connections, timeout_s=PATIENCE_S), place)
        first, second = [Process(await sets.open(number, "n1")) for number in range(2)]
        has_read, may_write = asyncio.Event(), asyncio.Event()

        async def think(op: Op) -> None:
            has_read.set()
            await may_write.wait()

        first.client._think = think  # type: ignore[method-assign, union-attr]
        thinking = asyncio.create_task(add(first, lock, 1))
        async with asyncio.timeout(PATIENCE_S):
            await has_read.wait()
        await connections["n1"].unary(LEASE_REVOKE, pb.LeaseRevokeRequest(ID=first.lease), timeout_s=PATIENCE_S)
        between = await add(second, lock, 2)
        may_write.set()
        late = await thinking
        read = await second.do("read", lock, None)
        for process in (first, second):
            await process.client.close()
        assert between.type == "ok"
        assert read.value == kept
        ending = (late.type, (late.error or "").partition(":")[0])
        assert ending == (("fail", FENCED) if place == "fenced" else ("ok", ""))

    connected(one, body)


@pytest.mark.etcd
def test_who_stalls_renews_no_more_and_has_another_session_next_time(one: Any, connected: Connected, lock: str) -> None:
    async def body(connections: Connections) -> None:
        sets = LockSetBinding(Services(nodes=connections, timeout_s=PATIENCE_S), "fenced")
        process = Process(await sets.open(0, "n1"))
        extra = {"ttl_s": 60, "patience_s": PATIENCE_S, "think_s": 0.01, "stalls": True}
        assert (await process.do("add", lock, 1, extra=extra)).type == "ok", "its lease had not ended yet"
        assert (await add(process, lock, 2)).type == "ok"
        assert (await add(process, lock, 3)).type == "ok"
        stalled, anew, still = (event.value["lease"] for event in process.events)
        assert stalled != anew == still
        await process.client.close()

    connected(one, body)


class Unreachable:
    """A seam to a member at which nobody listens."""

    async def unary(self, method: Any, request: Any, *, timeout_s: float) -> Any:
        raise TransportError("UNAVAILABLE", "failed to connect to all addresses; last error: Connection refused")

    async def stream(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError("there is no session to keep alive")

    async def close(self) -> None:
        pass


NOWHERE = Services(nodes={"n1": Unreachable()})


def test_without_a_session_nothing_was_asked_for() -> None:
    """It certainly failed, says why by its class, and told no lease."""

    async def body() -> None:
        taker = Process(await LockBinding(NOWHERE).open(0, "n1"))
        adder = Process(await LockSetBinding(NOWHERE, "fenced").open(0, "n1"))
        for done in (await taker.acquire("x"), await add(adder, "x", 1), await adder.do("read", "x", None)):
            assert (done.type, (done.error or "").partition(":")[0]) == ("fail", "not-connected")
        assert taker.events == adder.events == []
        assert (await taker.do("release", "x", "unlock")).type == "ok", "nothing was held"

    asyncio.run(body())


def test_what_a_binding_has_not_got_ends_the_run() -> None:
    async def body() -> None:
        with pytest.raises(ConfigError, match="'campaign'; it has acquire, release, stall"):
            await Process(await LockBinding(NOWHERE).open(0, "n1")).do("campaign", "x", None)
        with pytest.raises(ConfigError, match="'remove'; it has add, read"):
            await Process(await LockSetBinding(NOWHERE, "memory").open(0, "n1")).do("remove", "x", 1)

    asyncio.run(body())


@pytest.mark.parametrize(
    ("options", "place"),
    [({}, "fenced"), ({"fenced": "no"}, "unfenced"), ({"where": "memory"}, "memory"), ({"fenced": "yes"}, "fenced")],
)
def test_the_options_say_where_sets_are(options: dict[str, str], place: Place) -> None:
    assert binding(Services(nodes={}, options=options))._place == place
