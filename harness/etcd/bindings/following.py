"""One stream of watches, read by one task that also does what is due meanwhile.

It asks for progress, ends a watch, stops to read for a while, breaks the stream
when the plan says so.  Progress of a whole stream vouches for every watch of it.
It is asked for only once all of them have been created, so that no answer can
be one to a question from before a watch was there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitvote.checkers.watch.plan import PREFIX, Told, Watched, WatchPlan, digest
from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.methods import WATCH
from splitvote.harness.etcd.rpc import Rpc, Stream
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.etcd.text import bytes_of, text_of

Record = Callable[[list[Any], int | None], None]
"""Keeps what a stream told, with its header's revision."""

CUT: Final = "cut: this side broke the stream"
RENEWED: Final = "renewed: watches that were compacted are taken up again"
RENEW_AFTER_S: Final = 0.3
"""How long after a watch was ended as compacted the stream is opened anew; others may be ended meanwhile."""

BROADCAST: Final = -1
"""The watch id of progress that is about the whole stream."""

UNKNOWN: Final = -1
"""Stands for the watch that has an id which the stream never created."""

_PREFIX_END: Final = b"watch0"
"""The first key after all that begin with the prefix: its last byte is one higher."""

_FILTERS: Final = {
    "nothing": [],
    "puts": [pb.WatchCreateRequest.NOPUT],
    "deletes": [pb.WatchCreateRequest.NODELETE],
}


@dataclass(slots=True)
class Place:
    """How far one watch has got, over all its streams.

    ``start`` is what the next stream asks for (0: from now on), ``told`` the
    last revision up to which everything was told, ``is_over`` that this side
    ended it.
    """

    start: int
    told: int = 0
    was_created: bool = False
    is_over: bool = False

    def has_told(self, revision: int) -> None:
        """Everything up to this revision was told."""
        self.told = max(self.told, revision)
        self.start = max(self.start, revision + 1)


@dataclass(order=True, slots=True)
class _Task:
    """What the plan wants at a time: a cut, a pause of ``argument`` seconds, or the end of the watch ``argument``."""

    at_s: float
    kind: str
    argument: float = 0


Agenda = list[_Task]


def agenda_of(plan: WatchPlan, began_s: float) -> Agenda:
    """All that the plan wants done, soonest first; it is used up as it is done, over all streams."""
    cuts = [_Task(began_s + at_s, "cut") for at_s in plan.cuts_s]
    pauses = [_Task(began_s + at_s, "pause", long_s) for at_s, long_s in plan.pauses_s]
    return sorted(cuts + pauses + [_Task(began_s + at_s, "cancel", number) for at_s, number in plan.cancels])


class Following:
    """One stream of a plan; ``places`` are kept up to date, ``until`` is where all of them may stop."""

    def __init__(
        self, plan: WatchPlan, places: Sequence[Place], agenda: Agenda, end_s: float, until: int | None
    ) -> None:
        self._plan = plan
        self._places = places
        self._agenda = agenda
        self._end_s = end_s
        self._until = until
        self._asked = [number for number, place in enumerate(places) if not self._is_done(place)]
        self._number_of: dict[int, int] = {}
        self._created = 0
        self._open: set[int] = set()
        self._progress_s: float | None = None
        self._renew_s: float | None = None
        self._is_due = False

    async def run(self, rpc: Rpc, record: Record) -> str | None:
        """Follow the stream; why it ended before its time, or None when there is nothing more to do.

        Raises TransportError when it breaks.
        """
        stream: Stream[pb.WatchRequest, pb.WatchResponse] = await rpc.stream(
            WATCH, require_leader=self._plan.require_leader
        )
        try:
            async with asyncio.timeout_at(self._end_s):
                for number in self._asked:
                    await stream.send(_create_request(self._plan.watched(number), self._places[number].start))
                while self._asked and not self._is_satisfied():
                    await self._read(stream, record)
                    why = await self._do_what_is_due(stream, record)
                    if why is not None:
                        return why
        except TimeoutError:
            pass
        finally:
            stream.cancel()
        return None

    def _is_done(self, place: Place) -> bool:
        """Whether a watch has got to where it may stop, or has been ended for good."""
        return place.is_over or (self._until is not None and place.told >= self._until)

    def _is_satisfied(self) -> bool:
        """Whether all watches are done, or will not be told anything any more."""
        if self._created < len(self._asked) or self._renew_s is not None:
            return False
        return all(self._is_done(self._places[number]) for number in self._open)

    # Reading

    async def _read(self, stream: Stream[pb.WatchRequest, pb.WatchResponse], record: Record) -> None:
        """Take answers until something is due."""
        times = (self._progress_s, self._renew_s, self._agenda[0].at_s if self._agenda else None)
        due_s = min((at_s for at_s in times if at_s is not None), default=self._end_s)
        self._is_due = False
        try:
            async with asyncio.timeout_at(due_s):
                while not self._is_due:
                    answer = await stream.receive()
                    if answer is None:
                        raise TransportError("UNAVAILABLE", "the server ended the watch")
                    self._take(answer, record)
        except TimeoutError:
            pass

    def _take(self, answer: pb.WatchResponse, record: Record) -> None:
        revision = answer.header.revision
        if answer.created:
            self._take_created(answer.watch_id, revision, record)
        number = self._number_of.get(answer.watch_id, UNKNOWN)
        if answer.events:
            self._take_events(number, answer, record)
        if answer.canceled:
            self._take_canceled(number, answer, record)
        elif not answer.created and not answer.events:
            self._take_progress(None if answer.watch_id == BROADCAST else number, revision, record)
        if self._until is not None and self._is_satisfied():
            self._is_due = True

    def _take_created(self, watch_id: int, revision: int, record: Record) -> None:
        """Watches are created in the order in which they were asked for."""
        if self._created == len(self._asked):
            record(["created", UNKNOWN, 0], revision)
            return
        number = self._asked[self._created]
        self._created += 1
        self._number_of[watch_id] = number
        self._open.add(number)
        place = self._places[number]
        record(["created", number, place.start], revision)
        place.was_created = True
        if not place.start:
            place.start = revision + 1
        if self._created == len(self._asked) and self._plan.progress_every_s:
            self._progress_s = asyncio.get_running_loop().time()
            self._is_due = True

    def _take_events(self, number: int, answer: pb.WatchResponse, record: Record) -> None:
        events, before = [_told(event) for event in answer.events], [_before(event) for event in answer.events]
        value = ["events", number, int(answer.fragment), events]
        record([*value, before] if any(before) else value, answer.header.revision)
        if number != UNKNOWN:
            self._places[number].has_told(events[-1][0] - answer.fragment)

    def _take_canceled(self, number: int, answer: pb.WatchResponse, record: Record) -> None:
        record(["canceled", number, answer.compact_revision, answer.cancel_reason], answer.header.revision)
        self._open.discard(number)
        if answer.compact_revision and number != UNKNOWN:
            place = self._places[number]
            place.start = max(place.start, answer.compact_revision)
            if self._renew_s is None:
                self._renew_s = asyncio.get_running_loop().time() + RENEW_AFTER_S
        self._is_due = True

    def _take_progress(self, number: int | None, revision: int, record: Record) -> None:
        record(["progress", number], revision)
        for each in sorted(self._open) if number is None else [number]:
            if each != UNKNOWN:
                self._places[each].has_told(revision)

    # What is due

    async def _do_what_is_due(self, stream: Stream[pb.WatchRequest, pb.WatchResponse], record: Record) -> str | None:
        """Do it; answers why the stream is to end now, if it is."""
        now_s = asyncio.get_running_loop().time()
        while self._agenda and self._agenda[0].at_s <= now_s:
            task = self._agenda.pop(0)
            if task.kind == "cut":
                return CUT
            if task.kind == "pause":
                await asyncio.sleep(task.argument)  # a reader that does not read
            else:
                await self._cancel(int(task.argument), stream, record)
        if self._renew_s is not None and self._renew_s <= now_s:
            return RENEWED
        if self._progress_s is not None and self._progress_s <= now_s:
            self._progress_s = now_s + self._plan.progress_every_s
            await stream.send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
        return None

    async def _cancel(self, number: int, stream: Stream[pb.WatchRequest, pb.WatchResponse], record: Record) -> None:
        """End one watch, if it is there."""
        for watch_id, known in self._number_of.items():
            if known == number and number in self._open:
                self._places[number].is_over = True
                record(["cancelling", number], None)
                await stream.send(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=watch_id)))


def _create_request(watched: Watched, start: int) -> pb.WatchRequest:
    if watched.key is None:
        key, end = PREFIX.encode(), _PREFIX_END
    else:
        key = bytes_of(PREFIX + watched.key)
        end = b"" if watched.end is None else bytes_of(PREFIX + watched.end)
    create = pb.WatchCreateRequest(
        key=key,
        range_end=end,
        start_revision=start,
        progress_notify=watched.progress_notify,
        filters=_FILTERS[watched.without],
        prev_kv=watched.prev_kv,
        fragment=watched.fragment,
    )
    return pb.WatchRequest(create_request=create)


def _told(event: pb.Event) -> Told:
    return _state(event.kv, is_deleted=event.type == pb.Event.DELETE)


def _before(event: pb.Event) -> Told | None:
    return _state(event.prev_kv, is_deleted=False) if event.HasField("prev_kv") else None


def _state(kv: pb.KeyValue, *, is_deleted: bool) -> Told:
    key = text_of(kv.key).removeprefix(PREFIX)
    value = None if is_deleted else digest(text_of(kv.value))
    return [kv.mod_revision, key, value, kv.create_revision, kv.version, kv.lease]
