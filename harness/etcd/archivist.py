"""The archivist: asks every member for the store's history, again and again, and keeps what they tell.

Each ``INTERVAL_S`` a watch of all keys is opened from the first revision that
the member has not told yet, read until the revision at which it was opened, and
cancelled.  A watch that starts in the past is served from the member's own
store, thousands of events to an answer, which costs a tenth of following live;
and it is another road through the server than the one that the workloads'
watches take.

Compaction destroys what was not asked for in time.  Whoever compacts (the
nemesis, a workload) first calls ``reach``, so that at least one member has told
everything up to there; what a slow member cannot tell any more is recorded as a
hole of that member.

In a store that others use too (``splitvote.harness.etcd.keyspace``) the watch
shows the run's own keys alone, so that nothing says when a member has told
everything up to a revision of theirs.  There a marker is put first, every
INTERVAL_S one for all members, and the watch is read until it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from splitvote.harness.archive import ArchiveRecord, StoreEvent
from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import PUT, WATCH
from splitvote.harness.etcd.rpc import Rpc, Stream
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.etcd.text import text_of
from splitvote.harness.jsonl import JsonLinesWriter

INTERVAL_S: Final = 0.5
ANSWER_BOUND_S: Final = 3.0
"""How long a member may take for one answer of the watch; then it is asked anew at the next turn."""

MARKER_KEY: Final = b"splitvote/archive"
MARK_TIMEOUT_S: Final = 1.0
_EVERYTHING: Final = b"\0"


class EtcdArchivist:
    """Keeps the history that the members behind ``rpcs`` tell (capability Archivist).

    ``base`` tells the last revision that others had made before, in a store that
    they use too; None where the store is the run's own.
    """

    def __init__(self, rpcs: Mapping[str, Rpc], *, base: Callable[[], int] | None = None) -> None:
        self._rpcs = rpcs
        self._base = base
        self._tasks: list[asyncio.Task[None]] = []
        self._account: _Account | None = None

    def start(self, writer: JsonLinesWriter[ArchiveRecord], now_ns: Callable[[], int]) -> None:
        """Begin to ask every member; ``now_ns`` is the run's clock."""
        self._account = account = _Account(writer, now_ns)
        markers: _Markers | None = None
        if self._base is not None:
            markers = _Markers(self._rpcs, account)
            account.begin_at(self._base(), tuple(self._rpcs))
        self._tasks = [
            asyncio.create_task(_follow(node, rpc, account, markers), name=f"splitvote archivist of {node}")
            for node, rpc in self._rpcs.items()
        ]

    async def reach(self, revision: int, *, timeout_s: float) -> bool:
        """Whether some member has told everything up to this revision; waits for it so long at most."""
        account = self._account
        if account is None:
            return True  # nobody keeps an archive of this run
        return await account.wait_until(lambda: account.newest >= revision, timeout_s)

    async def finish(self, nodes: Sequence[str], *, timeout_s: float) -> bool:
        """Whether all these members have told as much as any; waits for it so long at most."""
        account = self._account
        if account is None:
            return True
        account.round += 1  # what they were asked before now may not be the newest
        return await account.wait_until(
            lambda: all(account.turns.get(node) == account.round for node in nodes), timeout_s
        )

    async def stop(self) -> None:
        """Ask no more; raises EnvironmentFailure when the archive could not be written (a full disk)."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        self._account = None
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome


class _Account:
    """What was told so far, by all; writes what is new.

    ``turns`` is the round at whose time each member was last asked, for those
    that then answered to their end.
    """

    def __init__(self, writer: JsonLinesWriter[ArchiveRecord], now_ns: Callable[[], int]) -> None:
        self._writer = writer
        self._now_ns = now_ns
        self._digests: dict[int, int] = {}
        self.told: dict[str, int] = {}
        self.turns: dict[str, int] = {}
        self.round = 0
        self.newest = 0
        self.asked_for = asyncio.Event()
        self._changed = asyncio.Event()

    def begin_at(self, base: int, nodes: Sequence[str]) -> None:
        """Nothing up to this revision is the run's."""
        for node in nodes:
            self._write(ArchiveRecord(node, self._now_ns(), 1, base, is_before=True), base)

    def note(self, node: str, last: int, events: list[pb.Event]) -> None:
        """Node has told everything up to ``last``: these events beyond what it had told before."""
        first = self.told.get(node, 0) + 1
        if last < first:
            return
        told: dict[int, list[pb.Event]] = {}
        for event in events:
            told.setdefault(event.kv.mod_revision, []).append(event)
        different = {}
        for revision in range(first, last + 1):
            theirs = told.get(revision, [])
            if len(theirs) == 1:  # nearly always
                digest = hash(theirs[0].SerializeToString())
            else:
                digest = hash(b"\n".join([event.SerializeToString() for event in theirs]))
            known = self._digests.setdefault(revision, digest)
            if known != digest or (theirs and revision > self.newest):
                different[revision] = tuple(_as_stored(event) for event in theirs)
        self._write(ArchiveRecord(node, self._now_ns(), first, last, different), last)

    def note_hole(self, node: str, compacted: int) -> None:
        """Node cannot tell what it had not told up to its compact revision."""
        first = self.told.get(node, 0) + 1
        if compacted >= first:
            self._write(ArchiveRecord(node, self._now_ns(), first, compacted, is_hole=True), compacted)

    def note_turn(self, node: str, asked_in: int) -> None:
        """Node has told all that it had when it was asked, in that round."""
        self.turns[node] = asked_in
        self._changed.set()

    def _write(self, record: ArchiveRecord, last: int) -> None:
        self._writer.append(record)
        self._writer.flush()
        self.told[record.node] = last
        if not record.is_hole:
            self.newest = max(self.newest, last)
        self._changed.set()

    async def wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        """Have all members asked at once, until it is so."""
        try:
            async with asyncio.timeout(timeout_s):
                while not is_so():
                    self._changed.clear()
                    self.asked_for.set()
                    await self._changed.wait()
        except TimeoutError:
            return is_so()
        return True


class _Markers:
    """Puts of a key of ours, whose revision every member's history must come to; one at a time, for all."""

    def __init__(self, rpcs: Mapping[str, Rpc], account: _Account) -> None:
        self._rpcs = rpcs
        self._account = account
        self._turn = asyncio.Lock()
        self._put_at_s = float("-inf")
        self._put_in = -1
        self._revision = 0

    async def latest(self) -> int:
        """The revision of a marker that is new, or of the round; raises TransportError when none could be put."""
        async with self._turn:
            now_s = asyncio.get_running_loop().time()
            if now_s - self._put_at_s >= INTERVAL_S or self._put_in != self._account.round:
                asked_in = self._account.round
                self._revision = await self._put()
                self._put_at_s, self._put_in = now_s, asked_in
            return self._revision

    async def _put(self) -> int:
        request = pb.PutRequest(key=MARKER_KEY, value=b"")
        failure = TransportError("UNAVAILABLE", "there is no member to put a marker")
        for rpc in self._rpcs.values():
            try:
                return (await rpc.unary(PUT, request, timeout_s=MARK_TIMEOUT_S)).header.revision
            except TransportError as error:
                failure = error
        raise failure


async def _follow(node: str, rpc: Rpc, account: _Account, markers: _Markers | None) -> None:
    """Ask one member for ever; a stream that breaks is opened anew at the next turn."""
    stream: Stream[pb.WatchRequest, pb.WatchResponse] | None = None
    try:
        while True:
            try:
                asked_in = account.round
                until = None if markers is None else await markers.latest()
                has_told = until is not None and until <= account.told[node]
                if not has_told:
                    if stream is None:
                        stream = await rpc.stream(WATCH)
                    async with asyncio.timeout(ANSWER_BOUND_S) as patience:
                        has_told = await _take_turn(node, stream, account, patience, until)
                if has_told:
                    account.note_turn(node, asked_in)
            except (TransportError, TimeoutError):
                if stream is not None:
                    stream.cancel()
                stream = None
            await _pause(account)
    finally:
        if stream is not None:
            stream.cancel()


async def _pause(account: _Account) -> None:
    """Until the next turn, or until somebody waits for what the member has to tell."""
    account.asked_for.clear()
    try:
        async with asyncio.timeout(INTERVAL_S):
            await account.asked_for.wait()
    except TimeoutError:
        pass


async def _take_turn(
    node: str,
    stream: Stream[pb.WatchRequest, pb.WatchResponse],
    account: _Account,
    patience: asyncio.Timeout,
    until: int | None,
) -> bool:
    """Ask for everything since the last turn; whether the member has told it.

    That is up to ``until``, which is an event's, or else to the revision at
    which the member began to answer.
    """
    loop = asyncio.get_running_loop()
    first = account.told.get(node, 0) + 1
    create = pb.WatchCreateRequest(key=_EVERYTHING, range_end=_EVERYTHING, start_revision=first, fragment=True)
    await stream.send(pb.WatchRequest(create_request=create))
    opened_at = last = -1
    watch_id: int | None = None
    is_cancelling = False
    unfinished: list[pb.Event] = []
    while True:
        answer = await stream.receive()
        if answer is None:
            raise TransportError("UNAVAILABLE", "the server ended the watch")
        patience.reschedule(loop.time() + ANSWER_BOUND_S)
        if answer.created:
            opened_at, watch_id = answer.header.revision, answer.watch_id
        if answer.watch_id != watch_id:
            continue  # of an earlier turn's watch: one that a compaction ends while it is cancelled is over twice
        if answer.canceled:
            if answer.compact_revision:
                account.note_hole(node, answer.compact_revision)
            break
        if answer.events and not is_cancelling:  # a cancelled watch may still send, and need not send all
            unfinished.extend(answer.events)
            if not answer.fragment:
                last = unfinished[-1].kv.mod_revision
                account.note(node, last, unfinished)
                unfinished = []
        aim = opened_at if until is None else until
        if not is_cancelling and opened_at >= 0 and max(last, first - 1) >= aim:
            is_cancelling = True
            await stream.send(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=watch_id)))
    return is_cancelling


def _as_stored(event: pb.Event) -> StoreEvent:
    kv = event.kv
    if event.type == pb.Event.DELETE:
        return StoreEvent("delete", text_of(kv.key), kv.mod_revision)
    return StoreEvent(
        "put", text_of(kv.key), kv.mod_revision, text_of(kv.value), kv.create_revision, kv.version, kv.lease
    )
