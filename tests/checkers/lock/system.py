"""A tiny lock service of its own: random small histories with the store's history, as they are or spoilt somewhere."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import msgspec

from splitvote.harness.archive import Archive, Span, StoreEvent
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import FinalState, MemberReading, Recording

LOCKS = ("a", "b")
PROCESSES = 3


def key_of(lock: str, lease: int) -> str:
    return f"lock/{lock}/{lease:x}"


@dataclass
class Waiting:
    """An acquire under way."""

    invoke: Op
    lock: str
    lease: int


@dataclass
class Service:
    """The store and the clients; every step is one thing that may happen next."""

    rng: random.Random
    records: list[Op] = field(default_factory=list)
    told: dict[int, tuple[StoreEvent, ...]] = field(default_factory=lambda: {1: ()})
    keys: dict[str, StoreEvent] = field(default_factory=dict)
    leases: dict[int, int] = field(default_factory=dict)
    waiting: dict[int, Waiting] = field(default_factory=dict)
    held: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    process_of: list[int] = field(default_factory=lambda: list(range(PROCESSES)))
    last_lease: int = 100

    @property
    def revision(self) -> int:
        return len(self.told)

    def write(self, *events: StoreEvent) -> int:
        revision = self.revision + 1
        done = tuple(msgspec.structs.replace(event, mod_revision=revision) for event in events)
        self.told[revision] = done
        for event in done:
            if event.type == "delete":
                self.keys.pop(event.key, None)
            else:
                self.keys[event.key] = event
        return revision

    def delete(self, key: str) -> int:
        return self.write(StoreEvent("delete", key, 0)) if key in self.keys else self.revision

    def record(self, op: Op, type_: Any, **changes: Any) -> Op:
        made = msgspec.structs.replace(op, type=type_, index=len(self.records), time_ns=len(self.records), **changes)
        self.records.append(made)
        return made

    def step(self) -> None:
        thread = self.rng.randrange(PROCESSES)
        kind = self.rng.random()
        if kind < 0.10:
            self.expire()
        elif kind < 0.15:
            self.write(StoreEvent("put", "other/x", 0, "1"))
        elif thread in self.waiting:
            self.go_on_waiting(thread)
        elif self.held.get(thread) and kind < 0.75:
            self.release(thread)
        else:
            self.acquire(thread)

    def expire(self) -> None:
        leases = sorted({event.lease for event in self.keys.values() if event.lease})
        if leases:
            self.end_lease(self.rng.choice(leases))

    def end_lease(self, lease: int) -> None:
        """All the lease's keys go at one revision; whoever used it opens another session next time."""
        keys = [event.key for event in self.keys.values() if event.lease == lease]
        if keys:
            self.write(*(StoreEvent("delete", key, 0) for key in keys))
        self.leases = {thread: theirs for thread, theirs in self.leases.items() if theirs != lease}

    def acquire(self, thread: int) -> None:
        if thread not in self.leases:
            self.last_lease += 1
            self.leases[thread] = self.last_lease
        lease, lock = self.leases[thread], self.rng.choice(LOCKS)
        op = Op(
            process=self.process_of[thread], f="acquire", key=lock, value={"api": self.rng.choice(("client", "server"))}
        )
        invoke = self.record(op, "invoke")
        self.record(op, "event", value={"lease": lease}, of=invoke.index)
        if key_of(lock, lease) not in self.keys:
            self.write(StoreEvent("put", key_of(lock, lease), 0, "", self.revision + 1, 1, lease))
        self.waiting[thread] = Waiting(invoke, lock, lease)

    def go_on_waiting(self, thread: int) -> None:
        waiting = self.waiting[thread]
        key = key_of(waiting.lock, waiting.lease)
        if key not in self.keys:
            self.complete(thread, "fail", error="session-expired: gone")
        elif self.rng.random() < 0.15:
            self.crash(thread)
        elif self.rng.random() < 0.15:
            self.delete(key)
            self.complete(thread, "fail", error="not-in-time: gave up")
        elif self.is_oldest(waiting.lock, key):
            told = self.keys[key].mod_revision
            extra = {"create_revision": told} if waiting.invoke.value["api"] == "client" else None
            self.complete(thread, "ok", value=key, revision=self.revision, extra=extra)
            self.held.setdefault(thread, []).append((waiting.lock, key))

    def is_oldest(self, lock: str, key: str) -> bool:
        theirs = [event for event in self.keys.values() if event.key.startswith(f"lock/{lock}/")]
        return min(theirs, key=lambda event: event.mod_revision).key == key

    def complete(self, thread: int, type_: Any, **changes: Any) -> None:
        self.record(self.waiting.pop(thread).invoke, type_, **changes)

    def crash(self, thread: int) -> None:
        self.complete(thread, "info", error="deadline: no answer")
        self.forget(thread)

    def forget(self, thread: int) -> None:
        self.process_of[thread] += PROCESSES
        self.leases.pop(thread, None)
        self.held.pop(thread, None)

    def release(self, thread: int) -> None:
        lock, key = self.held[thread].pop(self.rng.randrange(len(self.held[thread])))
        how = self.rng.choice(("unlock", "unlock", "unlock", "close"))
        op = Op(process=self.process_of[thread], f="release", key=lock, value=how)
        invoke = self.record(op, "invoke")
        lease = int(key.rpartition("/")[2], 16)
        self.record(op, "event", value={"lease": lease}, of=invoke.index)
        has_crashed = self.rng.random() < 0.2
        if has_crashed and self.rng.random() < 0.5:
            self.record(op, "info", error="deadline: no answer")
            self.forget(thread)
            return
        if how == "close":
            self.end_lease(lease)
            outcome: dict[str, Any] = {"extra": {"revoked_by": self.revision}}
        else:
            is_there = key in self.keys
            revision = self.delete(key)
            outcome = {"revision": revision, "extra": {"deleted": is_there}}
        if has_crashed:
            self.record(op, "info", error="deadline: no answer")
            self.forget(thread)
        else:
            self.record(op, "ok", **outcome)


def recording(records: list[Op], told: dict[int, tuple[StoreEvent, ...]]) -> Recording:
    newest = max(told)
    return Recording(
        History(records),
        archive=Archive(told, {"n1": (Span(1, newest, 0),)}),
        final=FinalState(recovered=True, members={"n1": MemberReading(revision=newest)}),
    )


def record(rng: random.Random) -> Recording:
    """A history of a lock service that works."""
    service = Service(rng)
    for _ in range(rng.randint(6, 24)):
        service.step()
    return recording(service.records, service.told)


def spoil(rng: random.Random, made: Recording) -> Recording:
    """Change one thing: an answer's revision, what it tells of the key, or one event of the store's history."""
    records, told = list(made.history), dict(made.archive.told) if made.archive is not None else {}
    answers = [op for op in records if op.type == "ok" and op.revision is not None]
    revisions = [revision for revision, events in told.items() if any(e.key.startswith("lock/") for e in events)]
    kind = rng.randrange(5)
    if kind <= 1 and answers:
        op = rng.choice(answers)
        assert op.revision is not None
        moved = max(1, min(max(told), op.revision + rng.choice((-3, -2, -1, 1, 2, 3))))
        records[op.index] = msgspec.structs.replace(op, revision=moved)
    elif kind == 2 and answers:
        op = rng.choice(answers)
        extra = {name: _other(value, rng) for name, value in (op.extra or {}).items()}
        records[op.index] = msgspec.structs.replace(op, extra=extra or None)
    elif revisions:
        revision = rng.choice(revisions)
        told[revision] = _other_events(told[revision], rng)
    return recording(records, told)


def _other(value: Any, rng: random.Random) -> Any:
    return (not value) if isinstance(value, bool) else max(1, value + rng.choice((-1, 1)))


def _other_events(events: tuple[StoreEvent, ...], rng: random.Random) -> tuple[StoreEvent, ...]:
    """An event lost, of another key, or of the other type; what is not there is not deleted by any store."""
    place = rng.randrange(len(events))
    event = events[place]
    choice = rng.randrange(3)
    if choice == 0:
        changed: tuple[StoreEvent, ...] = ()
    elif choice == 1:
        changed = (msgspec.structs.replace(event, key=f"{event.key[:-1]}{rng.choice('5678')}"),)
    elif event.type == "put":
        changed = (StoreEvent("delete", event.key, event.mod_revision),)
    else:
        changed = (
            StoreEvent(
                "put", event.key, event.mod_revision, "", event.mod_revision, 1, int(event.key.rpartition("/")[2], 16)
            ),
        )
    return (*events[:place], *changed, *events[place + 1 :])
