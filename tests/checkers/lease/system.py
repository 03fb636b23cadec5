"""A tiny etcd of its own: random histories of leases with the store's history, true or with a field spoilt.

One lessor, no faults.  Every request takes effect at some time between its
invocation and its answer; answers may be lost.  Times are whole milliseconds,
each used once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from splitvote.harness.archive import Archive, Span, StoreEvent
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import FinalState, MemberReading, Recording

MS = 1_000_000
PREFIX = "lease/"
LEASES = (1, 2)
KEYS = ("a", "b")
STRANGE_KEY = "z"
"""Nobody puts it."""

LONGEST_MS = 9_000


@dataclass
class Life:
    """A lease that is there: its TTL and when it was last renewed."""

    ttl_s: int
    since_ms: float

    @property
    def until_ms(self) -> float:
        return self.since_ms + self.ttl_s * 1_000


@dataclass
class Store:
    """The keys (value and lease by name), the leases, and what the members told of every revision, and when."""

    revision: int = 1
    keys: dict[str, tuple[str, int]] = field(default_factory=dict)
    lives: dict[int, Life] = field(default_factory=dict)
    told: dict[int, tuple[StoreEvent, ...]] = field(default_factory=lambda: {1: ()})
    spans: list[Span] = field(default_factory=list)

    def commit(self, events: list[tuple[str, tuple[str, int] | None]], told_ms: float) -> None:
        self.revision += 1
        made = []
        for name, state in events:
            if state is None:
                del self.keys[name]
                made.append(StoreEvent("delete", PREFIX + name, self.revision))
            else:
                self.keys[name] = state
                made.append(StoreEvent("put", PREFIX + name, self.revision, state[0], 1, 1, state[1]))
        self.told[self.revision] = tuple(made)
        self.spans.append(Span(self.revision, self.revision, int(told_ms * MS)))

    def keys_of(self, lease: int) -> list[str]:
        return sorted(name for name, state in self.keys.items() if state[1] == lease)

    def end(self, lease: int, told_ms: float) -> None:
        del self.lives[lease]
        names = self.keys_of(lease)
        if names:
            self.commit([(name, None) for name in names], told_ms)


def record(rng: random.Random) -> Recording:
    """A history of up to seven operations of three processes, true to the rules."""
    store = Store()
    records: list[tuple[float, Op]] = []
    free_ms = {process: rng.uniform(0, 300) for process in range(3)}
    moments: list[tuple[float, int, list[Any], float, float]] = []
    granted: dict[int, float] = {}
    for number in range(rng.randint(4, 8)):
        process = rng.choice(sorted(free_ms))
        invoked_ms = free_ms[process]
        effect_ms = invoked_ms + rng.choice([20, 60, 400]) * rng.random()
        completed_ms = effect_ms + rng.choice([20, 60, 600]) * rng.random()
        free_ms[process] = completed_ms + rng.choice([10, 500, 2_500]) * rng.random()
        ready = [lease for lease, at_ms in granted.items() if at_ms < invoked_ms]
        request = _request(rng, number, ready, [lease for lease in LEASES if lease not in granted])
        if request is None:
            continue
        if request[0] == "grant":
            granted[request[1]] = completed_ms
        moments.append((effect_ms, process, request, invoked_ms, completed_ms))
    expire_after = {lease: rng.choice([50, 600]) * rng.random() for lease in LEASES}
    for effect_ms, process, request, invoked_ms, completed_ms in sorted(moments, key=lambda each: each[0]):
        _expire(store, effect_ms, expire_after, rng)
        invoke = Op(process=process, type="invoke", f=request[0], key=_lease_of(request), value=_sent(request))
        records.append((invoked_ms, invoke))
        records.append((completed_ms, _answer(store, invoke, effect_ms, rng)))
    _expire(store, LONGEST_MS, expire_after, rng)
    return _recording(records, store)


def _request(rng: random.Random, number: int, ready: list[int], fresh: list[int]) -> list[Any] | None:
    """Something with a lease that is known to be granted, or the grant of a fresh one."""
    if fresh and (not ready or rng.random() < 0.2):
        return ["grant", fresh[0], rng.choice([1, 1, 2])]
    if not ready:
        return None
    lease = rng.choice(ready)
    kind = rng.choices(["keepalive", "put", "ttl", "revoke", "get", "again"], [3, 3, 2, 1, 1, 1])[0]
    if kind == "put":
        return ["put", rng.choice(KEYS), str(number), rng.choice([lease, lease, lease, 0])]
    if kind == "again":
        return ["again", lease, 1]
    return [kind] if kind == "get" else [kind, lease]


def _lease_of(request: list[Any]) -> int | None:
    if request[0] == "put":
        return request[3] or None
    return None if request[0] == "get" else request[1]


def _sent(request: list[Any]) -> list[Any]:
    return ["grant", *request[1:]] if request[0] == "again" else request


def _expire(store: Store, until_ms: float, after: dict[int, float], rng: random.Random) -> None:
    due = sorted((life.until_ms + after[lease], lease) for lease, life in store.lives.items())
    for at_ms, lease in due:
        if at_ms < until_ms:
            store.end(lease, at_ms + rng.choice([5, 100, 700]) * rng.random())


def _answer(store: Store, invoke: Op, now_ms: float, rng: random.Random) -> Op:
    """Do it, and answer, or lose the answer."""
    completion = _do(store, invoke, now_ms, rng)
    if rng.random() < 0.12 and invoke.f not in ("grant", "ttl", "get"):
        return invoke.completed("info", error="deadline: lost")
    return completion


def _do(store: Store, invoke: Op, now_ms: float, rng: random.Random) -> Op:
    kind, *rest = invoke.value
    lease = invoke.key or 0
    life = store.lives.get(lease)
    told_ms = now_ms + rng.choice([5, 100, 700]) * rng.random()
    header = {"header": store.revision}
    if kind == "get":
        rows = [[name, *store.keys[name]] for name in sorted(store.keys)]
        return invoke.completed("ok", value=rows, revision=store.revision)
    if kind == "ttl":
        left = (
            [-1, 0, []] if life is None else [int((life.until_ms - now_ms) / 1_000), life.ttl_s, store.keys_of(lease)]
        )
        return invoke.completed("ok", value=left, extra=header)
    if kind == "grant":
        if life is not None:
            return invoke.completed("fail", error="lease-exists: it is there")
        store.lives[lease] = Life(rest[1], now_ms)
        return invoke.completed("ok", value=rest[1], extra=header)
    if kind == "put" and not rest[2]:
        store.commit([(rest[0], (rest[1], 0))], told_ms)
        return invoke.completed("ok", value=None, revision=store.revision)
    if life is None:
        return invoke.completed("fail", error="lease-not-found: it is gone")
    if kind == "put":
        store.commit([(rest[0], (rest[1], lease))], told_ms)
        return invoke.completed("ok", value=None, revision=store.revision)
    if kind == "keepalive":
        store.lives[lease] = Life(life.ttl_s, now_ms)
        return invoke.completed("ok", value=life.ttl_s, extra=header)
    store.end(lease, told_ms)
    return invoke.completed("ok", value=None, extra={"header": store.revision})


def _recording(records: list[tuple[float, Op]], store: Store) -> Recording:
    records.sort(key=lambda record: record[0])
    ops = [
        msgspec.structs.replace(op, index=index, time_ns=int(time_ms * MS))
        for index, (time_ms, op) in enumerate(records)
    ]
    archive = Archive(store.told, {"n1": tuple(store.spans)}, ())
    final = FinalState(True, members={"n1": MemberReading(revision=store.revision)})
    return Recording(History(ops), final=final, archive=archive)


def spoil(rng: random.Random, recording: Recording) -> Recording:
    """Change one field of one record or event, as a defect might have."""
    for _ in range(20):
        spoilt = rng.choice(_SPOILERS)(rng, recording)
        if spoilt is not None:
            return spoilt
    return recording


def _with(recording: Recording, op: Op, **fields: Any) -> Recording:
    ops = list(recording.history)
    ops[op.index] = msgspec.structs.replace(op, **fields)
    return replace(recording, history=History(ops))


def _spoil_answer(rng: random.Random, recording: Recording) -> Recording | None:
    """A refusal for a success, or the other way round; other keys, another TTL."""
    op = rng.choice([op for op in recording.history if op.is_completion])
    if op.type == "ok" and op.f in ("keepalive", "revoke"):
        return _with(recording, op, type="fail", error="lease-not-found: spoilt", extra=None)
    if op.type == "fail" and op.f == "keepalive":
        return _with(recording, op, type="ok", error=None, value=1)
    if op.type == "fail" and op.f == "revoke":
        return _with(recording, op, type="ok", error=None, value=None)
    if op.type == "ok" and op.f == "ttl":
        left_s, granted_s, keys = op.value
        change = rng.randrange(3)
        if change == 0:
            return _with(recording, op, value=[-1, 0, []] if granted_s else [0, 1, []])
        if not granted_s:
            return None
        if change == 1:
            return _with(recording, op, value=[rng.choice([left_s - 1, granted_s + 1]), granted_s, keys])
        return _with(recording, op, value=[left_s, granted_s, sorted(set(keys) ^ {rng.choice([*keys, STRANGE_KEY])})])
    return None


def _spoil_lease_of_event(rng: random.Random, recording: Recording) -> Recording | None:
    archive = recording.archive
    assert archive is not None
    puts = [revision for revision, events in archive.told.items() if events and events[0].type == "put"]
    if not puts:
        return None
    revision = rng.choice(puts)
    event = msgspec.structs.replace(archive.told[revision][0], lease=rng.choice([0, *LEASES]))
    told = {**archive.told, revision: (event,)}
    return replace(recording, archive=replace(archive, told=told))


def _spoil_deletion(rng: random.Random, recording: Recording) -> Recording | None:
    """One of the keys that a revision deleted stays, or another goes."""
    archive = recording.archive
    assert archive is not None
    deletions = [revision for revision, events in archive.told.items() if events and events[0].type == "delete"]
    if not deletions:
        return None
    revision = rng.choice(deletions)
    events = archive.told[revision]
    if len(events) > 1:
        events = events[1:]
    else:
        other = next(name for name in KEYS if PREFIX + name != events[0].key)
        events = (*events, StoreEvent("delete", PREFIX + other, revision))
    return replace(recording, archive=replace(archive, told={**archive.told, revision: events}))


def _spoil_told_time(rng: random.Random, recording: Recording) -> Recording | None:
    """A deletion that was told of earlier."""
    archive = recording.archive
    assert archive is not None
    spans = list(archive.spans["n1"])
    places = [
        place
        for place, span in enumerate(spans)
        if archive.told[span.first] and archive.told[span.first][0].type == "delete"
    ]
    if not places:
        return None
    place = rng.choice(places)
    earlier_ns = rng.choice([100, 600, 1_500]) * rng.random() * MS
    spans[place] = Span(spans[place].first, spans[place].last, max(1, int(spans[place].time_ns - earlier_ns)))
    return replace(recording, archive=replace(archive, spans={"n1": tuple(spans)}))


_SPOILERS = (_spoil_answer, _spoil_answer, _spoil_lease_of_event, _spoil_deletion, _spoil_told_time, _spoil_told_time)
