"""The Watch service: one stream, many watches.

Two loops share a stream, as in etcd: one takes requests, one sends answers.
What is announced (a watch created or cancelled) goes before what watchers are
told, so that a client knows of a watch before it hears from it.  Source: etcd's
server/etcdserver/api/v3rpc/watch.go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Final

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.backend import Record
from splitvote.harness.simulation.interface import ServerCore, ServerStream, Timer
from splitvote.harness.simulation.mvcc import Machine
from splitvote.harness.simulation.refusals import WATCH_COMPACTED
from splitvote.harness.simulation.watch import EVERYBODY, Told, event_of

FRAGMENT_BYTES: Final = 2048 * 1024
"""What an answer may take before it is sent in fragments, to a watch that asked for that."""


async def serve_watch(core: ServerCore, machine: Machine, stream: ServerStream) -> None:
    """Serve a stream of watches until the client goes."""
    watching = _Watching(core, machine, stream)
    sending = core.spawn(watching.send_answers(), "watch stream")
    try:
        await watching.take_requests()
    finally:
        sending.cancel()
        watching.close()


class _Watching:
    def __init__(self, core: ServerCore, machine: Machine, stream: ServerStream) -> None:
        self._core = core
        self._store = machine.store
        self._stream = stream
        self._watches = machine.watches.stream()
        self._watches.on_told = self._wake_up
        self._controls: deque[pb.WatchResponse] = deque()
        self._awake = asyncio.Event()
        self._progress_s = machine.options.watch_progress_s
        self._progress: dict[int, bool] = {}
        self._progress_timer: Timer | None = None
        self._with_previous: dict[int, None] = {}
        self._fragmented: dict[int, None] = {}

    def close(self) -> None:
        """End all watches."""
        self._watches.close()
        if self._progress_timer is not None:
            self._progress_timer.cancel()

    # ---- requests

    async def take_requests(self) -> None:
        """Take requests for ever; a client that has said all that it wants still listens."""
        while (request := await self._stream.receive()) is not None:
            kind = request.WhichOneof("request_union")
            if kind == "create_request":
                self._create(request.create_request)
            elif kind == "cancel_request":
                self._cancel(request.cancel_request.watch_id)
            elif kind == "progress_request":
                self._watches.report_all_progress()
        await asyncio.get_running_loop().create_future()

    def _create(self, request: pb.WatchCreateRequest) -> None:
        if request.start_revision < 0:
            self._refuse(WATCH_COMPACTED)
            return
        watch_id = self._watches.watch(
            request.watch_id, request.key or b"\0", request.range_end, request.start_revision, request.filters
        )
        if isinstance(watch_id, str):
            self._refuse(watch_id)
            return
        if request.progress_notify:
            self._progress[watch_id] = True
            if self._progress_timer is None:
                self._progress_timer = self._core.clock.call_later(self._progress_s, self._report_progress)
        if request.prev_kv:
            self._with_previous[watch_id] = None
        if request.fragment:
            self._fragmented[watch_id] = None
        self._announce(pb.WatchResponse(header=self._header(), watch_id=watch_id, created=True))

    def _refuse(self, why: str) -> None:
        self._announce(
            pb.WatchResponse(header=self._header(), watch_id=EVERYBODY, created=True, canceled=True, cancel_reason=why)
        )

    def _cancel(self, watch_id: int) -> None:
        if not self._watches.cancel(watch_id):
            return
        for of_watch in (self._progress, self._with_previous, self._fragmented):
            of_watch.pop(watch_id, None)
        self._announce(pb.WatchResponse(header=self._header(), watch_id=watch_id, canceled=True))

    def _header(self, revision: int = -1) -> pb.ResponseHeader:
        core = self._core
        return pb.ResponseHeader(
            cluster_id=core.cluster_id,
            member_id=core.member_id,
            revision=self._watches.revision if revision < 0 else revision,
            raft_term=core.term,
        )

    # ---- answers

    def _announce(self, answer: pb.WatchResponse) -> None:
        self._controls.append(answer)
        self._awake.set()

    def _wake_up(self) -> None:
        self._awake.set()

    async def send_answers(self) -> None:
        """Send what there is to send, for ever."""
        try:
            while True:
                if self._controls:
                    await self._stream.send(self._controls.popleft())
                elif (told := self._watches.pop()) is not None:
                    await self._send_told(told)
                else:
                    self._awake.clear()
                    await self._awake.wait()
        except TransportError:
            pass  # the client has gone, and the handler of its requests is about to hear of it

    async def _send_told(self, told: Told) -> None:
        watcher = told.watcher
        if watcher is not None and watcher.is_cancelled:
            return
        watch_id = EVERYBODY if watcher is None else watcher.id
        answer = pb.WatchResponse(
            header=self._header(told.revision),
            watch_id=watch_id,
            compact_revision=told.compacted,
            canceled=told.compacted != 0,
            events=self._events(told.records, wants_previous=watch_id in self._with_previous),
        )
        for part in _fragments(answer) if watch_id in self._fragmented else (answer,):
            await self._stream.send(part)
        if told.records and watch_id in self._progress:
            self._progress[watch_id] = False  # events are progress enough

    def _events(self, records: tuple[Record, ...], *, wants_previous: bool) -> list[pb.Event]:
        if not wants_previous:
            return [event_of(record) for record in records]
        return [event_of(record, self._previous(record, records[0].main)) for record in records]

    def _previous(self, record: Record, first: int) -> pb.KeyValue | None:
        """The key's state before a change, if it had one; ``first`` is the first revision that is told."""
        index, revision = self._store.index, record.main - 1
        is_creation = record.kv.create_revision == record.main
        if is_creation or revision < self._store.compacted:
            return None
        state = index.get_at(record.kv.key, revision)
        mutants = self._core.mutants
        if first - 1 >= self._store.compacted and mutants.has("previous-state-from-wrong-revision"):
            wrong = index.get_at(record.kv.key, first - 1)
            if wrong != state and mutants.fires("previous-state-from-wrong-revision"):
                return wrong
        return state

    def _report_progress(self) -> None:
        self._progress_timer = self._core.clock.call_later(self._progress_s, self._report_progress)
        for watch_id, is_due in self._progress.items():
            if is_due:
                self._watches.report_progress(watch_id)
            self._progress[watch_id] = True


def _fragments(answer: pb.WatchResponse) -> Iterator[pb.WatchResponse]:
    """The answer in parts that are small enough, of one event at least each."""
    if answer.ByteSize() < FRAGMENT_BYTES or len(answer.events) < 2:
        yield answer
        return
    parts: list[list[pb.Event]] = [[]]
    size_bytes = 0
    for event in answer.events:
        size_bytes += event.ByteSize()
        if parts[-1] and size_bytes >= FRAGMENT_BYTES:
            parts.append([])
            size_bytes = event.ByteSize()
        parts[-1].append(event)
    for number, events in enumerate(parts, 1):
        yield pb.WatchResponse(
            header=answer.header, watch_id=answer.watch_id, events=events, fragment=number < len(parts)
        )
