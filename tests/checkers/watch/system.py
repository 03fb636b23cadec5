"""Tiny watch histories for the fuzz: a store with a few watches, faithful to etcd, and what spoils a history.

``record`` makes a recording whose watches keep every promise; ``spoil`` changes
one record of it, which may or may not break one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from splitvote.checkers.watch.plan import Watched, WatchPlan, value_of
from splitvote.harness.archive import Archive, Span, StoreEvent
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import FinalState, MemberReading, Recording

KEYS = ("a", "b", "c")
WRITER, COMPACTOR, WATCHER = 0, 1, 2
Told = list[Any]


@dataclass
class Store:
    """Every revision's events, and how far the store is compacted."""

    revisions: list[list[Told]] = field(default_factory=lambda: [[], []])
    compacted: int = 0
    states: dict[str, list[Told]] = field(default_factory=lambda: {key: [] for key in KEYS})

    @property
    def newest(self) -> int:
        return len(self.revisions) - 1

    def at(self, key: str, revision: int) -> Told | None:
        past = [state for state in self.states[key] if state[0] <= revision]
        return past[-1] if past and past[-1][2] is not None else None

    def write(self, changes: dict[str, str | None]) -> None:
        revision = self.newest + 1
        events = []
        for key, value in changes.items():
            before = self.at(key, revision)
            if value is None:
                event = [revision, key, None, 0, 0, 0]
            elif before is None:
                event = [revision, key, value, revision, 1, 0]
            else:
                event = [revision, key, value, before[3], before[4] + 1, 0]
            events.append(event)
            self.states[key].append(event)
        self.revisions.append(events)


@dataclass
class Watch:
    """The server's side of one watch."""

    number: int
    watched: Watched
    next: int
    is_over: bool = False
    is_cancelling: bool = False


@dataclass
class Stream:
    """The server's side of a stream: its operation's invoke and its watches."""

    invoke: Op
    plan: WatchPlan
    number: int
    watches: list[Watch]
    created_at: int = 0


class World:
    """Plays a history, record by record."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.store = Store()
        self.records: list[Op] = []
        self.streams: list[Stream] = []
        self._processes = [WRITER, COMPACTOR]
        self._next_process = 100

    def note(self, op: Op) -> Op:
        noted = msgspec.structs.replace(op, index=len(self.records), time_ns=len(self.records))
        self.records.append(noted)
        return noted

    def write(self) -> None:
        """A put, a delete or a transaction; now and then nobody hears of its outcome."""
        rng, value = self.rng, str(len(self.records))
        keys = rng.sample(KEYS, rng.choice((1, 1, 2, 3)))
        gone = [key for key in keys if rng.random() < 0.3]
        parts = [["delete", key] if key in gone else ["put", key, f"{value}.{key}"] for key in keys]
        request, f = (parts[0], parts[0][0]) if len(parts) == 1 else (["txn", *parts], "txn")
        invoke = self.note(Op(process=self._processes[WRITER], f=f, value=request))
        there = [key for key in gone if self.store.at(key, self.store.newest) is not None]
        changes: dict[str, str | None] = {
            key: None if key in gone else f"{value}.{key}" for key in keys if key not in gone or key in there
        }
        if changes:
            self.store.write(changes)
        if rng.random() < 0.15:
            self.note(invoke.completed("info", error="deadline"))
            self._crashed(WRITER)
            return
        answers = [int(key in there) if key in gone else None for key in keys]
        self.note(
            invoke.completed("ok", value=answers if f == "txn" else answers[0], revision=self.store.newest, node="n1")
        )

    def _crashed(self, role: int) -> None:
        self._next_process += 1
        self._processes[role] = self._next_process

    def compact(self) -> None:
        revision = self.rng.randint(max(1, self.store.compacted + 1), self.store.newest)
        invoke = self.note(Op(process=self._processes[COMPACTOR], f="compact", value=["compact", revision]))
        self.store.compacted = revision
        if self.rng.random() < 0.2:
            self.note(invoke.completed("info", error="deadline"))
            self._crashed(COMPACTOR)
        else:
            self.note(invoke.completed("ok", value=None))

    def watch(self, f: str = "watch") -> None:
        """Open a stream with one or two watches."""
        rng = self.rng
        watches = tuple(self._watched(f) for _ in range(rng.choice((1, 1, 2))))
        plan = WatchPlan(watches=watches, for_s=1.0)
        process = WATCHER + len(self.streams)
        invoke = self.note(Op(process=process, f=f, value=value_of(plan)))
        self.streams.append(Stream(invoke, plan, 0, []))
        for number in range(len(watches)):
            if number and rng.random() < 0.3:
                self.write()
            self.create(self.streams[-1], number)

    def _watched(self, f: str) -> Watched:
        rng = self.rng
        key, end = rng.choice(((None, None), ("a", None), ("a", "c"), ("b", None)))
        return Watched(
            key=key,
            end=end,
            start="past" if f == "converge" else rng.choice(("now", "past", "future")),
            without=rng.choice(("nothing", "nothing", "puts", "deletes")),
            prev_kv=rng.random() < 0.5,
            fragment=rng.random() < 0.5,
        )

    def create(self, stream: Stream, number: int) -> None:
        watched, newest = stream.plan.watches[number], self.store.newest
        low = max(1, self.store.compacted) if stream.invoke.f == "converge" else 1
        asked = {"now": 0, "past": self.rng.randint(low, newest + 1), "future": newest + 2}[watched.start]
        # Where the answer's revision is read later than the watch began, as far as creations come one by one.
        now = self.rng.randint(stream.created_at, newest) + 1 if self.rng.random() < 0.3 else newest + 1
        stream.created_at = newest
        self.tell(stream, ["created", number, asked], newest)
        stream.watches.append(Watch(number, watched, asked or now))

    def tell(self, stream: Stream, value: list[Any], revision: int | None) -> None:
        invoke = stream.invoke
        event = invoke.completed("event", value=value, revision=revision, node="n1", stream=stream.number)
        self.note(msgspec.structs.replace(event, of=invoke.index))

    def serve(self, stream: Stream) -> None:
        """One thing that the server does for one watch of the stream."""
        watch = self.rng.choice(stream.watches)
        newest = self.store.newest
        if watch.is_over:
            return
        if watch.next < self.store.compacted:
            watch.is_over = True
            self.tell(stream, ["canceled", watch.number, self.store.compacted, ""], 0)
        elif watch.is_cancelling:
            watch.is_over = True
            self.tell(stream, ["canceled", watch.number, 0, ""], newest)
        elif self.rng.random() < 0.1:
            watch.is_cancelling = True
            self.tell(stream, ["cancelling", watch.number], None)
        elif watch.next <= newest:
            self.deliver(stream, watch, self.rng.randint(watch.next, newest))

    def deliver(self, stream: Stream, watch: Watch, last: int) -> None:
        events = [
            event
            for revision in range(watch.next, last + 1)
            for event in self.store.revisions[revision]
            if watch.watched.covers(event[1]) and watch.watched.wants(event)
        ]
        watch.next = last + 1
        while events:
            count = self.rng.randint(1, len(events)) if watch.watched.fragment else len(events)
            part, events = events[:count], events[count:]
            befores = [self._before(watch, event) for event in part]
            value = ["events", watch.number, int(bool(events)), part]
            self.tell(stream, [*value, befores] if any(befores) else value, last)

    def _before(self, watch: Watch, event: Told) -> Told | None:
        if not watch.watched.prev_kv or event[0] - 1 < self.store.compacted:
            return None
        return self.store.at(event[1], event[0] - 1)

    def progress(self, stream: Stream) -> None:
        """Progress of the whole stream, once all its watches have been told everything."""
        live = [watch for watch in stream.watches if not watch.is_over]
        if live and all(watch.next > self.store.newest for watch in live if not watch.is_cancelling):
            self.tell(stream, ["progress", None], self.store.newest)

    def end(self, stream: Stream, value: Any = None) -> None:
        self.note(stream.invoke.completed("ok", value=value, node="n1"))

    def converge(self) -> None:
        self.watch("converge")
        stream = self.streams.pop()
        for watch in stream.watches:
            if watch.next <= self.store.newest:
                self.deliver(stream, watch, self.store.newest)
        self.end(stream, [self.store.newest, ["n1"]])


def record(rng: random.Random) -> Recording:
    """A history whose watches keep every promise."""
    world = World(rng)
    for _ in range(rng.randint(10, 36)):
        draw = rng.random()
        if draw < 0.30:
            world.write()
        elif draw < 0.35 and world.store.newest > world.store.compacted:
            world.compact()
        elif draw < 0.50 and len(world.streams) < 3:
            world.watch()
        elif world.streams:
            stream = rng.choice(world.streams)
            world.progress(stream) if draw > 0.9 else world.serve(stream)
    for stream in world.streams:
        world.end(stream)
    if rng.random() < 0.5:
        world.converge()
    return recording_of(world.records, world.store.revisions, world.store.compacted)


def recording_of(records: Sequence[Op], revisions: Sequence[Sequence[Told]], compacted: int) -> Recording:
    told = {revision: tuple(map(_stored, revisions[revision])) for revision in range(1, len(revisions))}
    newest = len(revisions) - 1
    member = MemberReading(revision=newest, compact_revision=compacted or None)
    return Recording(
        History(records),
        final=FinalState(recovered=True, members={"n1": member}),
        archive=Archive(told, {"n1": (Span(1, newest, 0),)}),
    )


def _stored(event: Told) -> StoreEvent:
    revision, key, value, create, version, lease = event
    if value is None:
        return StoreEvent("delete", f"watch/{key}", revision)
    return StoreEvent("put", f"watch/{key}", revision, value, create, version, lease)


# Spoiling.


def spoil(rng: random.Random, recording: Recording) -> Recording:
    """Change one record of a watch, or drop, repeat or move one; at times the answer of a write."""
    records = list(recording.history)
    places = [place for place, op in enumerate(records) if op.type == "event"]
    writes = [place for place, op in enumerate(records) if op.f in ("put", "txn") and op.type == "ok"]
    if writes and (not places or rng.random() < 0.05):
        place = rng.choice(writes)
        records[place] = msgspec.structs.replace(records[place], revision=records[place].revision + rng.choice((-1, 1)))
    elif places:
        _spoil_event(rng, records, places)
    numbered = [msgspec.structs.replace(op, time_ns=time_ns) for time_ns, op in enumerate(records)]
    return replace(recording, history=History(numbered))


def _spoil_event(rng: random.Random, records: list[Op], places: list[int]) -> None:
    place = rng.choice(places)
    how = rng.random()
    if how < 0.15:
        del records[place]
    elif how < 0.25:
        records.insert(place, records[place])
    elif how < 0.4:
        other = rng.choice(places)
        records[place], records[other] = _swapped(records[place], records[other])
    else:
        records[place] = _changed(rng, records[place])


def _swapped(one: Op, other: Op) -> tuple[Op, Op]:
    """The two with their contents exchanged."""
    return (
        msgspec.structs.replace(one, value=other.value, revision=other.revision, of=other.of, stream=other.stream),
        msgspec.structs.replace(other, value=one.value, revision=one.revision, of=one.of, stream=one.stream),
    )


def _changed(rng: random.Random, op: Op) -> Op:
    """One field of one record, changed."""
    value = msgspec.json.decode(msgspec.json.encode(op.value))
    kind = value[0]
    if kind == "created":
        if value[2] and rng.random() < 0.5:
            value[2] = max(1, value[2] + rng.choice((-1, 1)))
            return msgspec.structs.replace(op, value=value)
        return msgspec.structs.replace(op, revision=(op.revision or 0) + rng.choice((-1, 1)))
    if kind == "progress":
        return msgspec.structs.replace(op, revision=(op.revision or 0) + rng.choice((-2, -1, 1, 2)))
    if kind == "canceled":
        value[2] = rng.choice((0, value[2] - 1, value[2] + 1, 2))
    elif kind == "events":
        _change_events(rng, value)
    return msgspec.structs.replace(op, value=value)


def _change_events(rng: random.Random, value: list[Any]) -> None:
    events = value[3]
    how, place = rng.random(), rng.randrange(len(events))
    if how < 0.15:
        value[2] = 1 - value[2]
    elif how < 0.3 and len(value) > 4:
        before = value[4][place]
        value[4][place] = None if before else [1, "a", "0", 1, 1, 0]
    elif how < 0.5:
        del events[place]
        if len(value) > 4:
            del value[4][place]
    elif how < 0.6:
        events.append(list(events[place]))
        if len(value) > 4:
            value[4].append(value[4][place])
    elif how < 0.7:
        events.reverse()
        if len(value) > 4:
            value[4].reverse()
    else:
        changed = rng.choice((0, 1, 2, 3, 4, 5))
        if changed in (1, 2):
            events[place][changed] = rng.choice(KEYS if changed == 1 else (None, "0"))
        else:
            events[place][changed] += rng.choice((-1, 1))
