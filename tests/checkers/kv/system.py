"""A tiny etcd of its own: random small histories of the kv workload with the store's history, as they are or spoilt."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from typing import Any

import msgspec

from splitvote.harness.archive import Archive, Span, StoreEvent
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import FinalState, MemberReading, Recording

KEYS = ("a", "b")
NODES = ("n1", "n2")
Row = tuple[str, int, int, int, int]
"""A key's value, create and mod revision, version and lease."""
Table = dict[str, Row]


def lookup(table: Table, key: str | None) -> list[list[Any]]:
    return [[name, *table[name]] for name in sorted(table) if key in (None, name)]


def holds(table: Table, condition: list[Any]) -> bool:
    key, target, relation, operand = condition
    row = table.get(key)
    if target == "value":
        if row is None:
            return False
        actual: Any = row[0]
    else:
        actual = 0 if row is None else row[{"version": 3, "mod": 2}[target]]
    signs = {"=": actual == operand, "!=": actual != operand, "<": actual < operand, ">": actual > operand}
    return signs[relation]


def perform(tables: list[Table], request: list[Any], lease: int) -> tuple[Any, Table]:
    """What a request answers, and the table after it, given the tables of all revisions (index 0: revision 1)."""
    before = tables[-1]
    after = dict(before)
    answer = _do(tables, before, after, request, lease)
    return answer, after


def _do(tables: list[Table], before: Table, after: Table, request: list[Any], lease: int) -> Any:
    match request:
        case ["range", key, 0, _]:
            return lookup(after, key)
        case ["range", key, at, _]:
            return lookup(tables[at - 1], key) if at <= len(tables) else "future"
        case ["put", key, value, ttl]:
            revision = len(tables) + 1
            old = after.get(key)
            create, version = (revision, 1) if old is None else (old[1], old[3] + 1)
            after[key] = (value, create, revision, version, lease if ttl else 0)
            return None
        case ["delete", key]:
            gone = [name for name in after if key in (None, name)]
            for name in gone:
                del after[name]
            return len(gone)
        case ["txn", conditions, then, otherwise]:
            succeeds = all(holds(before, condition) for condition in conditions)
            return [succeeds, [_do(tables, before, after, part, lease) for part in (then if succeeds else otherwise)]]
    raise AssertionError(request)


def events_between(before: Table, after: Table, revision: int) -> tuple[StoreEvent, ...]:
    events = []
    for key in sorted({*before, *after}):
        if key not in after:
            events.append(StoreEvent("delete", f"kv/{key}", revision))
        elif before.get(key) != after[key]:
            value, create, mod, version, lease = after[key]
            events.append(StoreEvent("put", f"kv/{key}", mod, value, create, version, lease))
    return tuple(events)


@dataclass
class Store:
    """The tables of every revision and the events between them."""

    tables: list[Table] = field(default_factory=lambda: [{}])
    told: dict[int, tuple[StoreEvent, ...]] = field(default_factory=lambda: {1: ()})

    @property
    def revision(self) -> int:
        return len(self.tables)

    def move_to(self, table: Table) -> None:
        self.told[self.revision + 1] = events_between(self.tables[-1], table, self.revision + 1)
        self.tables.append(table)

    def stranger_writes(self) -> None:
        revision = self.revision + 1
        self.told[revision] = (StoreEvent("put", f"other/{revision}", revision, "x", revision, 1),)
        self.tables.append(self.tables[-1])

    def expire(self, lease: int) -> None:
        self.move_to({key: row for key, row in self.tables[-1].items() if row[4] != lease})


@dataclass
class Pending:
    invoke: Op
    fate: str
    lease: int
    node: str
    done: tuple[Any, int] | None = None


def random_request(rng: random.Random, number: int, revision: int) -> tuple[str, list[Any]]:
    key, other = rng.sample(KEYS, 2)
    at = rng.choice((0, 0, rng.randint(1, max(1, revision))))
    kind = rng.choice(("get", "get", "range", "put", "put", "delete", "delete", "txn", "cas"))
    if kind in ("get", "range"):
        return kind, ["range", key if kind == "get" else None, at, rng.random() < 0.4]
    if kind == "put":
        return kind, ["put", key, f"{number}", rng.choice((0, 0, 5))]
    if kind == "delete":
        return kind, ["delete", rng.choice((key, key, None))]
    target = rng.choice(("version", "mod"))
    condition = [key, target, rng.choice(("=", "!=", "<", ">")), rng.randint(0, 3)]
    if kind == "cas":
        return kind, ["txn", [condition], [["put", key, f"{number}", 0]], [["range", key, 0, False]]]
    inner = ["txn", [[other, "version", ">", 0]], [["delete", other]], [["range", None, 0, False]]]
    then = rng.choice(([["put", key, f"{number}.0", 0], inner], [["delete", key], ["range", other, at, False]]))
    return kind, ["txn", [condition], then, [["range", None, 0, False], ["put", other, f"{number}.1", 0]]]


def record(rng: random.Random) -> Recording:
    """A history of 4 to 8 operations that a correct store can have made."""
    store, records, pending = Store(), [], dict[int, Pending]()
    left, number, process = rng.randint(4, 8), 0, {thread: thread for thread in range(3)}
    shown = dict.fromkeys(NODES, 1)

    def note(op: Op) -> Op:
        op = msgspec.structs.replace(op, index=len(records), time_ns=len(records))
        records.append(op)
        return op

    while left or any(each.fate == "ok" for each in pending.values()):
        free = [thread for thread in process if thread not in pending]
        move = rng.random()
        if left and free and move < 0.4:
            thread, number, left = rng.choice(free), number + 1, left - 1
            f, request = random_request(rng, number, store.revision)
            invoke = note(Op(process=process[thread], f=f, value=request))
            fate = rng.choices(("ok", "info", "fail"), (0.7, 0.22, 0.08))[0]
            pending[thread] = Pending(invoke, fate, 100 + number, rng.choice(NODES))
        elif move < 0.5:
            leases = sorted({row[4] for row in store.tables[-1].values() if row[4]})
            if leases and rng.random() < 0.5:
                store.expire(rng.choice(leases))
            elif rng.random() < 0.2:
                store.stranger_writes()
        elif pending:
            thread = rng.choice(sorted(pending))
            each = pending[thread]
            if each.done is None and each.fate != "fail" and not (each.fate == "info" and rng.random() < 0.3):
                each.done = _take_effect(rng, store, each, shown)
            elif each.fate != "ok" or each.done is not None:
                note(_completion(each))
                del pending[thread]
                if each.fate == "info":
                    process[thread] += 10
    for each in pending.values():
        if each.done is None and each.fate == "info" and rng.random() < 0.5:
            each.done = _take_effect(rng, store, each, shown)
    return recording_of(records, store.told)


def _take_effect(rng: random.Random, store: Store, each: Pending, shown: dict[str, int]) -> tuple[Any, int]:
    request = each.invoke.value
    if request[0] == "range" and request[3]:
        revision = rng.randint(shown[each.node], store.revision)
        revision = max(revision, request[2])
        answer = lookup(store.tables[(request[2] or revision) - 1], request[1])
    else:
        answer, table = perform(store.tables, request, each.lease)
        if table != store.tables[-1]:
            store.move_to(table)
        revision = store.revision
    shown[each.node] = max(shown[each.node], revision)
    return answer, revision


def _completion(each: Pending) -> Op:
    if each.fate == "fail":
        return each.invoke.completed("fail", error="too-many-requests: etcdserver: too many requests")
    lease = {"lease": each.lease} if each.invoke.value[0] == "put" and each.invoke.value[3] else None
    if each.fate == "info" or each.done is None:
        return each.invoke.completed("info", error="deadline", extra=lease)
    answer, revision = each.done
    return each.invoke.completed("ok", value=answer, revision=revision, node=each.node, extra=lease)


def recording_of(records: list[Op], told: dict[int, tuple[StoreEvent, ...]]) -> Recording:
    newest = max(told)
    archive = Archive(told, {"n1": (Span(1, newest, len(records)),)})
    final = FinalState(recovered=True, members={"n1": MemberReading(revision=newest)})
    return Recording(History(records), archive=archive, final=final)


def spoil(rng: random.Random, recording: Recording) -> Recording:
    """The same with one thing changed: an answer, its revision, an outcome, or an event."""
    records = list(recording.history)
    assert recording.archive is not None
    told = dict(recording.archive.told)
    completions = [op for op in records if op.type == "ok"]
    kind = rng.random()
    if completions and kind < 0.25:
        op = rng.choice(completions)
        assert op.revision is not None
        records[op.index] = msgspec.structs.replace(op, revision=max(1, op.revision + rng.choice((-1, 1))))
    elif completions and kind < 0.5:
        op = rng.choice(completions)
        records[op.index] = msgspec.structs.replace(op, value=_spoilt(rng, op.value))
    elif completions and kind < 0.6:
        op = rng.choice(completions)
        records[op.index] = msgspec.structs.replace(op, type=rng.choice(("fail", "info")), error="spoilt")
        for later in records[op.index + 1 :]:
            if later.process == op.process:
                records[later.index] = msgspec.structs.replace(later, process=later.process + 100)
    elif kind < 0.7:
        return _swapped(rng, records, told)
    else:
        told = _other_events(rng, told)
    return recording_of(records, told)


def _swapped(rng: random.Random, records: list[Op], told: dict[int, tuple[StoreEvent, ...]]) -> Recording:
    """Another order in time: here and there a completion and the invocation of another beside it change places."""
    for place in rng.sample(range(len(records) - 1), min(len(records) - 1, 6)):
        one, other = records[place], records[place + 1]
        if one.process != other.process and one.type != other.type:
            records[place], records[place + 1] = other, one
    return recording_of(
        [msgspec.structs.replace(op, index=index, time_ns=index) for index, op in enumerate(records)], told
    )


def _spoilt(rng: random.Random, answer: Any) -> Any:
    answer = copy.deepcopy(answer)
    if isinstance(answer, bool):
        return not answer
    if isinstance(answer, int):
        return max(0, answer + rng.choice((-1, 1)))
    if isinstance(answer, str):
        return answer + "?"
    if isinstance(answer, list) and answer:
        if len(answer) == 6 and rng.random() < 0.3:
            return answer
        place = rng.randrange(len(answer))
        if rng.random() < 0.2 and isinstance(answer[0], list) and len(answer[0]) == 6:
            del answer[place]
        else:
            answer[place] = _spoilt(rng, answer[place])
    return answer


def _other_events(rng: random.Random, told: dict[int, tuple[StoreEvent, ...]]) -> dict[int, tuple[StoreEvent, ...]]:
    revisions = [revision for revision in told if told[revision]]
    if not revisions:
        return told
    revision = rng.choice(revisions)
    events = list(told[revision])
    place = rng.randrange(len(events))
    event, kind = events[place], rng.random()
    if kind < 0.3 and len(told) > 2:
        last = max(told)
        return {number: events for number, events in told.items() if number != last}
    if kind < 0.5 and event.type == "put":
        changed: dict[str, Any] = rng.choice(
            ({"value": event.value + "!"}, {"version": event.version + 1}, {"lease": 7})
        )
        events[place] = msgspec.structs.replace(event, **changed)
    elif kind < 0.7:
        events[place] = StoreEvent("delete", event.key, event.mod_revision)
    elif kind < 0.85 and len(events) > 1:
        del events[place]
    else:
        number = max(told) + 1
        return told | {number: (StoreEvent("delete", f"kv/{rng.choice(KEYS)}", number),)}
    return told | {revision: tuple(events)}
