"""An oracle for the lock checker: the definitions taken word by word, over every revision and every pair."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording

State = dict[str, tuple[int, int]]
"""The lock keys that there are, each with its create revision and lease."""


def states_of(told: Any) -> dict[int, State]:
    """The store's lock keys at every revision."""
    states: dict[int, State] = {}
    state: State = {}
    for revision in range(1, max(told) + 1):
        state = dict(state)
        for event in told[revision]:
            if event.type == "delete":
                state.pop(event.key, None)
            elif event.key.startswith("lock/") and event.key not in state:
                state[event.key] = (revision, event.lease)
        states[revision] = state
    return states


def older(state: State, lock: str, create: int) -> list[str]:
    return [key for key, (theirs, _) in state.items() if key.startswith(f"lock/{lock}/") and theirs < create]


def lease_of(operation: Operation, recording: Recording) -> int | None:
    events = recording.history.events.get(operation.invoke.index, ())
    return events[0].value["lease"] if events else None


def key_of(operation: Operation, lease: int) -> str:
    return f"lock/{operation.key}/{lease:x}"


class Oracle:
    """What is wrong with a recording, by name."""

    def __init__(self, recording: Recording) -> None:
        assert recording.archive is not None
        self.recording = recording
        self.told = recording.archive.told
        self.states = states_of(self.told)
        self.names: set[str] = set()
        self.sent = [
            (op, lease) for op in recording.history.operations if (lease := lease_of(op, recording)) is not None
        ]

    def judge(self) -> set[str]:
        self._turns()
        self._puts()
        self._deletions()
        self._releases()
        self._order()
        return self.names

    def _create(self, key: str, revision: int) -> int | None:
        """When the key was last created by this revision."""
        return next((self.states[r][key][0] for r in range(revision, 0, -1) if key in self.states[r]), None)

    def _turns(self) -> None:
        grants = []
        for operation, lease in self.sent:
            completion = operation.completion
            if operation.f != "acquire" or completion is None or completion.type != "ok":
                continue
            key, revision = key_of(operation, lease), completion.revision
            assert revision is not None
            create = self._create(key, revision)
            if create is None:
                self.names.add("lock: own key")
                continue
            told = (completion.extra or {}).get("create_revision")
            if told is not None and self.states[revision].get(key, (0, 0))[0] != told:
                self.names.add("lock: own key")
            had_turn = any(not older(self.states[r], operation.key, create) for r in range(create, revision + 1))
            holds = {r for r in self.states if r >= revision and self.states[r].get(key, (0, 0))[0] == create}
            grants.append((operation.key, create, had_turn, holds))
        excluded = set()
        for (i, one), (j, other) in combinations(enumerate(grants), 2):
            if one[0] == other[0] and one[1] != other[1] and one[3] & other[3]:
                self.names.add("lock: mutual exclusion")
                excluded.add(i if one[1] > other[1] else j)
        if any(not had_turn and number not in excluded for number, (_, _, had_turn, _) in enumerate(grants)):
            self.names.add("lock: no predecessor")

    def _puts(self) -> None:
        for key in {event.key for events in self.told.values() for event in events if event.key.startswith("lock/")}:
            asked = sum(op.f == "acquire" and key_of(op, lease) == key for op, lease in self.sent)
            lives = {state[key][0] for state in self.states.values() if key in state}
            if len(lives) > asked:
                self.names.add("lock: phantom key")
            for revision, events in self.told.items():
                if any(e.type == "put" and e.key == key for e in events) and key in self.states.get(revision - 1, {}):
                    self.names.add("lock: guarded put")

    def _deletions(self) -> None:
        by_key: dict[str, list[int]] = {}
        for revision, events in self.told.items():
            for event in events:
                if event.type == "delete" and event.key in self.states.get(revision - 1, {}):
                    lease = self.states[revision - 1][event.key][1]
                    if self._lives_on(lease, revision):
                        by_key.setdefault(event.key, []).append(revision)
        for key, revisions in by_key.items():
            mine = [op for op, lease in self.sent if op.invoke.value != "close" and key_of(op, lease) == key]
            if not _can_be_explained(revisions, mine):
                self.names.add("lock: release by another")

    def _lives_on(self, lease: int, revision: int) -> bool:
        """Whether the lease has a key at the revision, or gets one later."""
        return any(
            theirs == lease and (r == revision or create > revision)
            for r, state in self.states.items()
            if r >= revision
            for create, theirs in state.values()
        )

    def _releases(self) -> None:
        for operation, lease in self.sent:
            completion = operation.completion
            if operation.f != "release" or completion is None or completion.type != "ok":
                continue
            if operation.invoke.value == "close":
                bound = (completion.extra or {})["revoked_by"]
                later = [s for r, s in self.states.items() if r >= bound]
                if any(theirs == lease for state in later for _, theirs in state.values()):
                    self.names.add("lock: release")
                continue
            key, revision = key_of(operation, lease), completion.revision
            assert revision is not None
            was_there, is_there = key in self.states.get(revision - 1, {}), key in self.states[revision]
            deleted = (completion.extra or {}).get("deleted")
            ended_here = was_there and not is_there
            if is_there or (deleted and not ended_here):
                self.names.add("lock: release")

    def _order(self) -> None:
        answered = [op for op in self.recording.history.operations if op.type == "ok" and op.completion is not None]
        for first in answered:
            for second in answered:
                one, other = first.completion, second.completion
                assert one is not None
                assert other is not None
                if one.revision is None or other.revision is None:
                    continue
                if one.index < second.invoke.index and other.revision < one.revision:
                    self.names.add("lock: order")


def _can_be_explained(revisions: list[int], operations: list[Operation]) -> bool:
    """Whether each deletion can be an operation's of its own."""
    if not revisions:
        return True
    for number, operation in enumerate(operations):
        completion = operation.completion
        if operation.f == "release" and operation.type == "ok":
            suits = completion is not None and completion.revision == revisions[0]
        elif operation.f == "release":
            suits = operation.type == "info"
        else:
            suits = operation.type != "ok"
        if suits and _can_be_explained(revisions[1:], operations[:number] + operations[number + 1 :]):
            return True
    return False
