"""The oracle: whether any order and any times of effect explain a tiny history of leases.

Nothing of the checker's rules: operations, revisions and silent expiries are
placed one after another in every possible order, each at the earliest time that
its own window, what was placed before it and the leases' TTLs allow.  Since all
constraints are lower bounds on later times, earliest times are as good as any:
an order is impossible when one of them is past its window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from splitvote.harness.archive import StoreEvent
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording

PREFIX = "lease/"
NEVER = float("inf")

Leases = frozenset[tuple[int, float, int]]
"""Of each lease that is there: its id, when it was last renewed, and its TTL in s."""


class Place(NamedTuple):
    """How far an order has come; ``is_half_done``: the next revision is being made, and no get misses it any more."""

    done: frozenset[int]
    revision: int
    time_ns: float
    leases: Leases
    is_half_done: bool = False


@dataclass
class _Oracle:
    operations: tuple[Operation, ...]
    told: dict[int, tuple[StoreEvent, ...]]
    seen_ns: dict[int, float]
    newest: int
    impossible: set[Place] = field(default_factory=set)

    def explains(self, place: Place) -> bool:
        """Whether the rest can be placed."""
        left = [n for n, op in enumerate(self.operations) if n not in place.done and op.type != "info"]
        if not left and place.revision == self.newest:
            return True
        if place in self.impossible:
            return False
        found = any(self.explains(after) for after in self._steps(place))
        if not found:
            self.impossible.add(place)
        return found

    def _steps(self, place: Place) -> list[Place]:
        steps = []
        for number, operation in enumerate(self.operations):
            if number not in place.done:
                steps += [_marked(after, number) for after in self._effects(place, operation)]
        for lease, since_ns, ttl_s in place.leases:
            steps += self._ended(place, lease, max(place.time_ns, since_ns + ttl_s * 1e9), NEVER)
        return steps

    def _state(self, revision: int) -> dict[str, tuple[str, int]]:
        """Value and lease of each key."""
        state: dict[str, tuple[str, int]] = {}
        for each in range(2, revision + 1):
            for event in self.told[each]:
                if event.type == "put":
                    state[event.key[len(PREFIX) :]] = event.value, event.lease
                else:
                    state.pop(event.key[len(PREFIX) :], None)
        return state

    def _keys(self, lease: int, revision: int) -> set[str]:
        return {name for name, (_, theirs) in self._state(revision).items() if theirs == lease}

    def _ended(self, place: Place, lease: int, time_ns: float, until_ns: float) -> list[Place]:
        """The lease goes, with the next revision if it has keys."""
        leases = frozenset(each for each in place.leases if each[0] != lease)
        keys = self._keys(lease, place.revision)
        if not keys:
            return [place._replace(time_ns=time_ns, leases=leases)] if time_ns <= until_ns else []
        revision = place.revision + 1
        expected = {("delete", PREFIX + name) for name in keys}
        events = self.told.get(revision, ())
        if {(event.type, event.key) for event in events} != expected or len(events) != len(expected):
            return []
        if time_ns > min(until_ns, self.seen_ns[revision]):
            return []
        return [Place(place.done, revision, time_ns, leases)]

    def _effects(self, place: Place, operation: Operation) -> list[Place]:
        time_ns = max(place.time_ns, operation.invoke.time_ns)
        completion = operation.completion
        until_ns = NEVER if completion is None or operation.type == "info" else completion.time_ns
        if time_ns > until_ns:
            return []
        kind, *rest = operation.invoke.value
        lease = operation.key or 0
        life = next((each for each in place.leases if each[0] == lease), None)
        here = place._replace(time_ns=time_ns)
        if operation.type == "fail":
            wants_life = kind == "grant"
            return [here] if (life is not None) is wants_life else []
        if kind == "put":
            return self._put(here, operation, life is not None, until_ns)
        if kind == "get":
            rows = [[name, *state] for name, state in sorted(self._state(place.revision).items())]
            is_so = completion is not None and completion.revision == place.revision and completion.value == rows
            return [here] if is_so and not place.is_half_done else []
        if kind == "ttl":
            return self._time_to_live(here, operation, life, until_ns)
        if kind == "grant":
            if life is not None:
                return []
            ttl_s = rest[1] if operation.type == "info" else operation.output
            return [here._replace(leases=here.leases | {(lease, time_ns, ttl_s)})] if ttl_s >= rest[1] else []
        if life is None:
            return [here] if operation.type == "info" else []
        if kind == "keepalive":
            if operation.type == "ok" and operation.output != life[2]:
                return []
            return [here._replace(leases=(here.leases - {life}) | {(lease, time_ns, life[2])})]
        ended = self._ended(here, lease, time_ns, until_ns)
        header = (completion.extra or {}).get("header", self.newest) if completion is not None else self.newest
        return [after for after in ended if after.revision in (here.revision, *range(header + 1))]

    def _put(self, place: Place, operation: Operation, has_life: bool, until_ns: float) -> list[Place]:
        _, name, value, lease = operation.invoke.value
        revision = place.revision + 1
        if (lease and not has_life) or place.time_ns > min(until_ns, self.seen_ns.get(revision, -1)):
            return []
        events = self.told.get(revision, ())
        if [(e.type, e.key, e.value, e.lease) for e in events] != [("put", PREFIX + name, value, lease)]:
            return []
        completion = operation.completion
        if operation.type == "ok" and (completion is None or completion.revision != revision):
            return []
        return [place._replace(revision=revision, is_half_done=False)]

    def _time_to_live(
        self, place: Place, operation: Operation, life: tuple[int, float, int] | None, until_ns: float
    ) -> list[Place]:
        left_s, granted_s, keys = operation.output
        if not granted_s:
            return [place] if life is None else []
        if life is None or granted_s != life[2] or left_s > granted_s:
            return []
        # What is left is rounded down: it is asked so late that less than a second more is left.
        time_ns = max(place.time_ns, life[1] + (life[2] - left_s - 1) * 1e9)
        is_half_done = set(keys) != self._keys(life[0], place.revision)
        if time_ns > until_ns or (is_half_done and not self._may_show(set(keys), life[0], place.revision, until_ns)):
            return []
        return [place._replace(time_ns=time_ns, is_half_done=place.is_half_done or is_half_done)]

    def _may_show(self, keys: set[str], lease: int, revision: int, until_ns: float) -> bool:
        """These may be the lease's keys while the next revision is being made, of which a put was asked by then."""
        has = self._keys(lease, revision)
        events = self.told.get(revision + 1, ())
        if any(event.type == "delete" and event.key[len(PREFIX) :] in has for event in events):
            return keys <= has
        asked = {op.invoke.value[2] for op in self.operations if op.f == "put" and op.invoke.time_ns <= until_ns}
        return any(event.value in asked and keys == has - {event.key[len(PREFIX) :]} for event in events)


def _marked(place: Place, number: int) -> Place:
    return place._replace(done=place.done | {number})


def is_explained(recording: Recording) -> bool:
    """Whether leases that keep their promises can have made this history."""
    archive = recording.archive
    assert archive is not None
    told = dict(archive.told)
    seen_ns: dict[int, float] = dict.fromkeys(told, NEVER)
    tellings = [(span.last, float(span.time_ns)) for spans in archive.spans.values() for span in spans]
    for op in recording.history:
        revision = op.revision or (op.extra or {}).get("header")
        if revision:
            tellings.append((revision, float(op.time_ns)))
    for last, time_ns in tellings:
        for revision in told:
            if revision <= last:
                seen_ns[revision] = min(seen_ns[revision], time_ns)
    oracle = _Oracle(recording.history.operations, told, seen_ns, max(told))
    return oracle.explains(Place(frozenset(), 1, 0.0, frozenset()))
