"""A little world of elections in memory: a store that keeps its whole history, candidates, observers, expiring leases.

Everybody is a Python generator that pauses between sending, taking effect and
being answered; a seed decides who goes on.  What comes out is a recording that
a correct etcd could have made.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from splitvote.harness.archive import Archive, Span, StoreEvent
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import FinalState, MemberReading, Recording

PREFIX = "election/"
DEPOSED = "deposed: the candidate's key is gone"

Steps = Iterator[None]


@dataclass
class Kv:
    value: str
    create: int
    mod: int
    version: int
    lease: int


@dataclass
class World:
    """The store and the history so far."""

    seed: int
    elections: tuple[str, ...] = ("e0",)
    dice: random.Random = field(init=False)
    revision: int = 1
    keys: dict[str, Kv] = field(default_factory=dict)
    told: dict[int, tuple[StoreEvent, ...]] = field(default_factory=lambda: {1: ()})
    records: list[Op] = field(default_factory=list)
    values: int = 0
    leases: int = 100
    processes: int = 0

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    # The store

    def put(self, key: str, value: str, lease: int = 0) -> int:
        self.revision += 1
        before = self.keys.get(key)
        create, version = (self.revision, 1) if before is None else (before.create, before.version + 1)
        self.keys[key] = Kv(value, create, self.revision, version, lease)
        self.told[self.revision] = (StoreEvent("put", key, self.revision, value, create, version, lease),)
        return self.revision

    def delete(self, keys: list[str]) -> int:
        there = [key for key in sorted(keys) if self.keys.pop(key, None) is not None]
        if there:
            self.revision += 1
            self.told[self.revision] = tuple(StoreEvent("delete", key, self.revision) for key in there)
        return self.revision

    def expire(self, lease: int) -> None:
        self.delete([key for key, kv in self.keys.items() if kv.lease == lease])

    def candidates(self, election: str) -> dict[str, Kv]:
        return {key: kv for key, kv in self.keys.items() if key.startswith(f"{PREFIX}{election}/")}

    def leader(self, election: str) -> tuple[str, Kv] | None:
        return min(self.candidates(election).items(), key=lambda item: item[1].create, default=None)

    def holds(self, key: str, created: int) -> bool:
        return key in self.keys and self.keys[key].create == created

    # The history

    def record(self, op: Op) -> Op:
        op = Op(**{name: getattr(op, name) for name in op.__struct_fields__} | {"index": len(self.records)})
        op = Op(**{name: getattr(op, name) for name in op.__struct_fields__} | {"time_ns": op.index * 1_000_000})
        self.records.append(op)
        return op

    def invoke(self, process: int, f: str, election: str | None, value: Any = None, **extra: Any) -> Op:
        return self.record(Op(process=process, type="invoke", f=f, key=election, value=value, extra=extra or None))

    def complete(self, op: Op, type_: Any, *, extra: dict[str, Any] | None = None, **changes: Any) -> None:
        self.record(op.completed(type_, extra=(op.extra or {}) | (extra or {}), **changes))

    def value(self) -> str:
        self.values += 1
        return str(self.values)

    def process(self) -> int:
        self.processes += 1
        return self.processes - 1

    def pause(self) -> Steps:
        """So many turns of others."""
        for _ in range(self.dice.choice((1, 1, 1, 2, 4))):
            yield

    def chance(self, share: float) -> bool:
        return self.dice.random() < share

    # Everybody

    def candidate(self) -> Steps:
        """Campaigns and reigns until the world ends; a process that is unsure of an outcome is followed by another."""
        while True:
            process, self.leases = self.process(), self.leases + 1
            lease = self.leases
            while True:
                claim = yield from self._campaign(process, lease)
                if claim is None:
                    break
                if not (yield from self._reign(process, *claim)):
                    break
            yield from self.pause()

    def _campaign(self, process: int, lease: int) -> Any:
        election, api = self.dice.choice(self.elections), self.dice.choice(("client", "server"))
        value, key = self.value(), f"{PREFIX}{election}/{lease:x}"
        op = self.invoke(process, "campaign", election, value, api=api)
        yield from self.pause()
        about = {"lease": lease, "candidate_key": key}
        if self.chance(0.05):  # the answer, and perhaps the request, is lost
            self.complete(op, "info", error="deadline: lost", extra=about)
            if self.chance(0.5):
                yield from self.pause()
                self.put(key, value, lease)
            return None
        if key in self.keys:  # left behind by a resignation that never came
            placed = self.revision
            self.put(key, value, lease)
        else:
            placed = self.put(key, value, lease)
        created = self.keys[key].create
        while any(kv.create < created for kv in self.candidates(election).values()):
            yield
            if self.chance(0.01):
                self.complete(op, "info", error="deadline: its turn did not come", extra=about)
                return None
        won = self.revision if api == "client" else placed
        yield from self.pause()
        self.complete(op, "ok", revision=won, extra=about | {"create_revision": created})
        return election, key, created, lease, api

    def _reign(self, process: int, election: str, key: str, created: int, lease: int, api: str) -> Any:
        """Write, proclaim and resign under the guard of the key; returns whether the process goes on."""
        about = {"api": api, "lease": lease, "candidate_key": key, "create_revision": created}
        while True:
            yield from self.pause()
            f = self.dice.choice(("write", "write", "proclaim", "resign"))
            value = self.value() if f != "resign" else None
            op = self.invoke(process, f, election, value)
            yield from self.pause()
            if self.chance(0.06):
                self.complete(op, "info", error="deadline: lost", extra=about)
                yield from self.pause()
                if self.chance(0.5):
                    self._guarded(f, election, key, created, lease, value)
                return False
            is_done, revision = self._guarded(f, election, key, created, lease, value)
            yield from self.pause()
            if f == "resign":
                told = {"deleted": is_done} if api == "client" else {}
                self.complete(op, "ok", revision=revision, extra=about | told)
                return True
            if not is_done:
                is_told = api == "client" or f == "write"
                self.complete(op, "fail", error=DEPOSED, revision=revision if is_told else None, extra=about)
                return self.chance(0.5)
            self.complete(op, "ok", revision=revision, extra=about)

    def _guarded(self, f: str, election: str, key: str, created: int, lease: int, value: Any) -> tuple[bool, int]:
        if not self.holds(key, created):
            return False, self.revision
        if f == "resign":
            return True, self.delete([key])
        return True, self.put(f"{PREFIX}guarded/{election}", value) if f == "write" else self.put(key, value, lease)

    def lessor(self) -> Steps:
        """Lets leases expire, whoever they belong to; and now and then somebody else writes."""
        while True:
            yield
            if self.chance(0.15):
                leases = sorted({kv.lease for kv in self.keys.values()} - {0})
                if leases:
                    self.expire(self.dice.choice(leases))
            if self.chance(0.05):
                self.put("kv/other", "not ours")

    def reader(self) -> Steps:
        """Asks who leads."""
        process = self.process()
        while True:
            election, api = self.dice.choice(self.elections), self.dice.choice(("client", "server"))
            op = self.invoke(process, "leader", election, api=api)
            yield from self.pause()
            leader, revision = self.leader(election), self.revision
            seen = None if leader is None else self._seen(*leader)
            yield from self.pause()
            is_told = api == "client" or leader is not None
            self.complete(op, "ok", value=seen, revision=revision if is_told else None)
            yield from self.pause()

    @staticmethod
    def _seen(key: str, kv: Kv) -> list[Any]:
        return [key, kv.value, kv.create, kv.mod]

    def observer(self) -> Steps:
        """Follows leaders as the recipe does: a read, then the key's own events, late."""
        process = self.process()
        while True:
            election = self.dice.choice(self.elections)
            op = self.invoke(process, "observe", election, 1, api="client")
            seen = 0
            for _ in range(self.dice.randrange(1, 5)):
                yield from self.pause()
                leader, revision = self.leader(election), self.revision
                if leader is None:
                    continue
                yield from self._tell(op, self._seen(*leader), revision)
                seen += 1
                seen += yield from self._follow(op, leader[0], revision + 1)
            if seen:
                self.complete(op, "ok", value=seen)
            else:
                self.complete(op, "fail", error="nothing-seen: no leader was observed")
            yield from self.pause()

    def _follow(self, op: Op, key: str, first: int) -> Any:
        """Tell of the key's puts from this revision on, until it is deleted or patience ends; returns how many."""
        told = 0
        for _ in range(self.dice.randrange(1, 6)):
            yield from self.pause()
            while first <= self.revision:
                (event,) = [e for e in self.told[first] if e.key == key] or (None,)
                first += 1
                if event is not None and event.type == "delete":
                    return told
                if event is not None:
                    seen = [key, event.value, event.create_revision, event.mod_revision]
                    yield from self._tell(op, seen, event.mod_revision)
                    told += 1
        return told

    def _tell(self, op: Op, seen: list[Any], revision: int) -> Steps:
        yield from self.pause()
        self.record(op.completed("event", value=seen, revision=revision, of=op.index, stream=0))

    def recording(self) -> Recording:
        return recording_of(self.records, self.told)


def recording_of(
    records: list[Op], told: dict[int, tuple[StoreEvent, ...]], *, newest: int | None = None, is_ended: bool = True
) -> Recording:
    """A recording whose archive is told by one member.

    ``newest`` is the store's revision at the end (that of the archive, if not
    given), which is known only where the run ``is_ended``.
    """
    last = max(told)
    final = FinalState(recovered=True, settled=True, members={"n1": MemberReading(revision=newest or last)})
    archive = Archive(told, {"n1": (Span(1, last, 0),)})
    return Recording(History(records), archive=archive, final=final if is_ended else None)


def world_of(seed: int, *, turns: int = 60) -> World:
    """A small world that has run for so many turns."""
    world = World(seed, elections=("e0",) if seed % 3 else ("e0", "e1"))
    everybody = [world.candidate() for _ in range(world.dice.randrange(2, 5))]
    everybody += [world.lessor(), world.reader(), world.observer()]
    for _ in range(turns):
        next(world.dice.choice(everybody))
    return world
