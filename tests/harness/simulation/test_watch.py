"""Watches: who is told what, in which of the groups, and what happens when a client is slow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from splitvote.harness import clock
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.mvcc import MachineOptions
from splitvote.harness.simulation.watch import CHANNEL, REVISIONS_AN_ANSWER, WATCHERS_A_SYNC, WatchStream
from splitvote.harness.simulation.watch_service import FRAGMENT_BYTES
from tests.harness.simulation.member import Member


def on(body: Callable[[Member], Awaitable[Any]], **options: Any) -> Any:
    """Run a body on a fresh member, in virtual time."""

    async def go() -> Any:
        member = Member(options=MachineOptions(**options))
        try:
            return await body(member)
        finally:
            member.end()

    return clock.run(go())


def put(member: Member, key: bytes = b"a", value: bytes = b"v") -> int:
    return int(member.answer(pb.PutRequest(key=key, value=value)).header.revision)


def told(stream: WatchStream) -> list[tuple[int, list[int]]]:
    """Everything in the channel: watch id, and the revisions of the events."""
    found = []
    while (answer := stream.pop()) is not None:
        found.append((-1 if answer.watcher is None else answer.watcher.id, [record.main for record in answer.records]))
    return found


class Client:
    """A watch stream as a client has it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    @classmethod
    async def of(cls, member: Member) -> Client:
        return cls(await member.rpc.stream(m.WATCH))

    async def create(self, **request: Any) -> pb.WatchResponse:
        await self.stream.send(pb.WatchRequest(create_request=pb.WatchCreateRequest(**request)))
        return await self.next()

    async def cancel(self, watch_id: int) -> None:
        await self.stream.send(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=watch_id)))

    async def ask_progress(self) -> None:
        await self.stream.send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    async def next(self) -> pb.WatchResponse:
        answer = await self.stream.receive()
        assert isinstance(answer, pb.WatchResponse)
        return answer


def events(answer: pb.WatchResponse) -> list[tuple[int, bytes, int]]:
    return [(event.type, event.kv.key, event.kv.mod_revision) for event in answer.events]


def test_a_transaction_is_told_at_once_and_in_one_answer() -> None:
    """In the order of its changes, to whoever watches one of the keys."""

    async def body(member: Member) -> None:
        client = await Client.of(member)
        await client.create(key=b"a", range_end=b"c")
        put(member, b"b")
        ops = [pb.RequestOp(request_put=pb.PutRequest(key=key)) for key in (b"b", b"z", b"a")]
        member.do(pb.TxnRequest(success=[*ops]))
        member.do(pb.DeleteRangeRequest(key=b"a"))
        answers = [await client.next() for _ in range(3)]
        assert [events(answer) for answer in answers] == [
            [(pb.Event.PUT, b"b", 2)],
            [(pb.Event.PUT, b"b", 3), (pb.Event.PUT, b"a", 3)],
            [(pb.Event.DELETE, b"a", 4)],
        ]
        assert [answer.header.revision for answer in answers] == [2, 3, 4]

    on(body)


def test_a_watch_from_the_past_is_caught_up_and_then_told_at_once() -> None:
    """No event twice, none left out, on the way from one group to the other."""

    async def body(member: Member) -> None:
        for _ in range(5):
            put(member)
        client = await Client.of(member)
        await client.create(key=b"a", start_revision=3)
        put(member)
        caught_up = await client.next()
        assert [revision for _, _, revision in events(caught_up)] == [3, 4, 5, 6, 7]
        put(member)
        assert [revision for _, _, revision in events(await client.next())] == [8]

    on(body)


def test_a_watch_of_the_future_begins_there() -> None:
    async def body(member: Member) -> None:
        client = await Client.of(member)
        await client.create(key=b"a", start_revision=4)
        for _ in range(3):
            put(member)
        assert [revision for _, _, revision in events(await client.next())] == [4]

    on(body)


def test_many_revisions_come_in_several_answers() -> None:
    async def body(member: Member) -> None:
        for _ in range(REVISIONS_AN_ANSWER + 10):
            put(member)
        stream = member.machine.watches.stream()
        stream.watch(1, b"a", b"", 2)
        await member.clock.sleep(0.3)
        assert [len(revisions) for _, revisions in told(stream)] == [REVISIONS_AN_ANSWER, 10]

    on(body)


def test_a_bounded_number_of_watchers_is_caught_up_at_a_time() -> None:
    """The others come next, and nobody is forgotten."""

    async def body(member: Member) -> None:
        put(member)
        streams = [member.machine.watches.stream() for _ in range(WATCHERS_A_SYNC + 5)]
        for stream in streams:
            stream.watch(1, b"a", b"", 2)
        await member.clock.sleep(0.3)
        assert [told(stream) for stream in streams] == [[(1, [2])]] * len(streams)

    on(body)


def test_a_slow_client_is_told_everything_in_order_once_it_listens() -> None:
    """Its channel takes so many answers; then it is a victim, then behind, then at the head again."""

    async def body(member: Member) -> None:
        stream = member.machine.watches.stream()
        stream.watch(1, b"a", b"", 0)
        for _ in range(CHANNEL + 50):
            put(member)
        seen = [revision for _, revisions in told(stream) for revision in revisions]
        assert len(seen) == CHANNEL
        await member.clock.sleep(0.02)
        put(member)
        await member.clock.sleep(0.3)
        seen += [revision for _, revisions in told(stream) for revision in revisions]
        assert seen == list(range(2, CHANNEL + 53))
        assert member.machine.watches.is_synced(stream._watchers[1])

    on(body)


def test_a_watch_of_what_was_compacted_is_cancelled_and_says_how_far() -> None:
    """One from the compact revision itself is not: that can still be told, also where it is a deletion."""

    async def body(member: Member) -> None:
        put(member)
        put(member)
        member.do(pb.DeleteRangeRequest(key=b"a"))
        member.do(pb.CompactionRequest(revision=4))
        client = await Client.of(member)
        await client.create(key=b"a", start_revision=3, watch_id=1)
        cancelled = await client.next()
        assert (cancelled.canceled, cancelled.compact_revision, cancelled.watch_id) == (True, 4, 1)
        await client.create(key=b"a", start_revision=4, watch_id=2)
        assert events(await client.next()) == [(pb.Event.DELETE, b"a", 4)]

    on(body)


def test_filters_leave_out_what_is_not_wanted() -> None:
    async def body(member: Member) -> None:
        client = await Client.of(member)
        await client.create(key=b"a", filters=[pb.WatchCreateRequest.NOPUT], watch_id=1)
        await client.create(key=b"a", filters=[pb.WatchCreateRequest.NODELETE], watch_id=2)
        put(member)
        member.do(pb.DeleteRangeRequest(key=b"a"))
        answers = [await client.next() for _ in range(2)]
        assert [(answer.watch_id, events(answer)) for answer in answers] == [
            (2, [(pb.Event.PUT, b"a", 2)]),
            (1, [(pb.Event.DELETE, b"a", 3)]),
        ]

    on(body)


def test_the_state_before_is_that_of_the_revision_before() -> None:
    """Not told of a creation, nor where it was compacted meanwhile."""

    async def body(member: Member) -> None:
        for value in (b"1", b"2", b"3"):
            put(member, value=value)
        member.do(pb.CompactionRequest(revision=3))
        member.do(pb.DeleteRangeRequest(key=b"a"))
        put(member)
        client = await Client.of(member)
        await client.create(key=b"a", start_revision=3, prev_kv=True)
        answer = await client.next()
        before = [event.prev_kv.value if event.HasField("prev_kv") else None for event in answer.events]
        assert before == [None, b"2", b"3", None]

    on(body)


def test_progress_is_reported_for_all_watches_and_only_if_none_is_behind() -> None:
    """A watch that is still behind silences the report; a reported revision is never told again."""

    async def body(member: Member) -> None:
        put(member)
        client = await Client.of(member)
        await client.create(key=b"b", watch_id=1)
        await client.ask_progress()
        progress = await client.next()
        assert (progress.watch_id, progress.header.revision, list(progress.events)) == (-1, 2, [])
        await client.create(key=b"a", start_revision=1, watch_id=2)
        await client.ask_progress()
        assert events(await client.next()) == [(pb.Event.PUT, b"a", 2)]
        await client.create(key=b"a", start_revision=9, watch_id=3)
        await client.ask_progress()
        put(member)
        assert [(await client.next()).watch_id for _ in range(1)] == [2]
        await client.cancel(3)
        await client.ask_progress()
        answers = [await client.next() for _ in range(2)]
        assert [(answer.watch_id, answer.canceled) for answer in answers] == [(3, True), (-1, False)]

    on(body)


def test_progress_comes_by_itself_where_it_was_asked_for_and_nothing_else_came() -> None:
    async def body(member: Member) -> None:
        client = await Client.of(member)
        await client.create(key=b"a", progress_notify=True, watch_id=1)
        await client.create(key=b"b", watch_id=2)
        put(member, b"c")
        first = await client.next()
        assert (first.watch_id, first.header.revision) == (1, 2)
        began_s = member.clock.now_s()
        put(member)
        assert events(await client.next()) == [(pb.Event.PUT, b"a", 3)]
        second = await client.next()
        assert (second.watch_id, second.header.revision) == (1, 3)
        assert member.clock.now_s() - began_s == 4.0

    on(body, watch_progress_s=2.0)


def test_what_cannot_be_watched_is_refused_by_name() -> None:
    """An empty range, an id in use, a revision before all; the stream goes on."""

    async def body(member: Member) -> None:
        client = await Client.of(member)
        refused = [
            await client.create(key=b"b", range_end=b"a"),
            await client.create(key=b"a", start_revision=-1),
        ]
        await client.create(key=b"a", watch_id=5)
        refused.append(await client.create(key=b"a", watch_id=5))
        assert [(answer.created, answer.canceled, answer.watch_id) for answer in refused] == [(True, True, -1)] * 3
        assert [answer.cancel_reason for answer in refused] == [
            "mvcc: watcher range is empty",
            "etcdserver: mvcc: required revision has been compacted",
            "mvcc: duplicate watch ID provided on the WatchStream",
        ]
        put(member)
        assert events(await client.next()) == [(pb.Event.PUT, b"a", 2)]

    on(body)


def test_a_cancelled_watch_is_told_nothing_more_and_its_id_is_free() -> None:
    async def body(member: Member) -> None:
        client = await Client.of(member)
        await client.create(key=b"a", watch_id=5)
        await client.cancel(5)
        assert (await client.next()).canceled
        put(member)
        assert (await client.create(key=b"a", watch_id=5)).created
        put(member)
        assert events(await client.next()) == [(pb.Event.PUT, b"a", 3)]

    on(body)


def test_ids_are_chosen_where_none_is_given() -> None:
    async def body(member: Member) -> None:
        client = await Client.of(member)
        ids = [(await client.create(key=b"a", watch_id=watch_id)).watch_id for watch_id in (0, 1, 0)]
        assert ids == [0, 1, 2]

    on(body)


def test_a_large_answer_comes_in_fragments_where_they_are_wanted() -> None:
    """All but the last are marked; together they are the whole."""

    async def body(member: Member) -> None:
        value = b"x" * (FRAGMENT_BYTES // 3)
        for _ in range(7):
            put(member, value=value)
        whole, parts = await Client.of(member), await Client.of(member)
        await whole.create(key=b"a", start_revision=1)
        await parts.create(key=b"a", start_revision=1, fragment=True)
        assert len((await whole.next()).events) == 7
        answers = [await parts.next()]
        while answers[-1].fragment:
            answers.append(await parts.next())
        assert [answer.fragment for answer in answers] == [True, True, True, False]
        assert [revision for answer in answers for _, _, revision in events(answer)] == list(range(2, 9))
        assert all(answer.ByteSize() < FRAGMENT_BYTES for answer in answers)

    on(body)


def test_watches_go_on_from_where_they_were_when_the_store_is_restored() -> None:
    """From a snapshot of the leader's: what it brought that they had not been told, once."""

    async def body(member: Member) -> None:
        leader = Member()
        for one in (member, leader):
            put(one)
        client = await Client.of(member)
        await client.create(key=b"a", start_revision=1)
        assert _revisions(await client.next()) == [2]
        for one in (member, leader):
            put(one)
        assert _revisions(await client.next()) == [3]
        for _ in range(3):
            put(leader)
        member.machine.restore(leader.machine.snapshot())
        member.committed_index = leader.committed_index
        assert _revisions(await client.next()) == [4, 5, 6]
        put(member)
        assert _revisions(await client.next()) == [7]
        leader.end()

    on(body)


def _revisions(answer: pb.WatchResponse) -> Sequence[int]:
    return [event.kv.mod_revision for event in answer.events]
