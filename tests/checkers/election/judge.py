"""The oracle: the rules of elections by brute force, over every revision's whole state; slow, and shares no code.

It knows the answer's names, so that it can be compared with the checker rule by rule.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from splitvote.harness.archive import StoreEvent
from splitvote.harness.op import Op, Operation
from splitvote.harness.recording import Recording

State = dict[str, tuple[str, int, int]]
"""Every key with its value, create revision and mod revision."""

PLACED = ("campaign", "proclaim", "write", "resign", "leader")


def broken_rules(recording: Recording) -> set[str]:
    """The names of the rules that a whole recording (no holes) breaks."""
    assert recording.archive is not None
    return _Judge(recording, dict(recording.archive.told)).broken()


class _Judge:
    def __init__(self, recording: Recording, told: dict[int, tuple[StoreEvent, ...]]) -> None:
        self.records = list(recording.history)
        self.operations = list(recording.history.operations)
        self.told = told
        self.newest = max(told)
        self.states: dict[int, State] = {1: {}}
        for revision in range(2, self.newest + 1):
            state = dict(self.states[revision - 1])
            for event in told[revision]:
                if event.type == "delete":
                    state.pop(event.key, None)
                else:
                    state[event.key] = (event.value, event.create_revision, event.mod_revision)
            self.states[revision] = state
        self.names: set[str] = set()

    def broken(self) -> set[str]:
        for operation in self.operations:
            if operation.type == "ok" and operation.f == "campaign":
                self.win(operation)
            if operation.f in ("proclaim", "write"):
                self.guarded(operation)
            if operation.type == "ok" and operation.f == "resign":
                self.resign(operation)
            if operation.type == "ok" and operation.f == "leader":
                self.leader_read(operation)
            if operation.f == "observe":
                self.observation(operation)
            self.order(operation)
        self.puts()
        self.succession()
        return self.names

    # What is known

    def state(self, revision: int) -> State:
        return self.states[max(1, min(revision, self.newest))]

    def candidates(self, election: str, revision: int) -> dict[str, tuple[str, int, int]]:
        start = f"election/{election}/"
        return {key: kv for key, kv in self.state(revision).items() if key.startswith(start)}

    def leader(self, election: str, revision: int) -> list[Any] | None:
        each = [[key, *kv] for key, kv in self.candidates(election, revision).items()]
        if not each:
            return None
        key, value, create, mod = min(each, key=lambda kv: kv[2])
        return [key, value, create, mod]

    def is_there(self, key: str, created: int, revision: int) -> bool:
        kv = self.state(revision).get(key)
        return kv is not None and kv[1] == created

    def ever_was(self, key: str, created: int) -> bool:
        return any(self.is_there(key, created, revision) for revision in self.states)

    def floor(self, index: int) -> int:
        return max((op.revision or 0 for op in self.records if op.index < index and op.type != "invoke"), default=0)

    def ceiling(self, index: int) -> int:
        later = [
            operation.completion.revision
            for operation in self.operations
            if operation.invoke.index > index and operation.f in PLACED and operation.completion is not None
        ]
        return min([revision for revision in later if revision is not None] + [self.newest])

    def claim(self, operation: Operation) -> tuple[str, int] | None:
        """The key and create revision of the last campaign that the process has won before."""
        claim = None
        for op in self.records:
            if op.index >= operation.invoke.index:
                break
            if op.process == operation.process and op.type == "ok" and op.f == "campaign":
                assert op.extra is not None
                claim = op.extra["candidate_key"], op.extra["create_revision"]
        return claim

    # The rules

    def win(self, operation: Operation) -> None:
        completion = operation.completion
        assert completion is not None
        assert completion.extra is not None
        key, created = completion.extra["candidate_key"], completion.extra["create_revision"]
        if not self.ever_was(key, created):
            self.names.add("election: lost key")
            return
        is_client = completion.extra["api"] == "client"
        last = completion.revision if is_client else self.ceiling(completion.index)
        assert last is not None
        election = key.split("/")[1]
        had_its_turn = any(
            all(other[1] >= created for other in self.candidates(election, revision).values())
            for revision in range(min(created, last), last + 1)
        )
        if not had_its_turn:
            self.names.add("election: no predecessor")

    def guarded(self, operation: Operation) -> None:
        completion = operation.completion
        if completion is None:
            return
        if completion.type == "ok":
            told = self.told if completion.revision is None else {completion.revision: ()} | self.told
            events = [event for r, each in told.items() if completion.revision in (None, r) for event in each]
            if not any(event.type == "put" and event.value == operation.invoke.value for event in events):
                self.names.add("election: lost value")
        elif completion.type == "fail" and (completion.error or "").startswith("deposed"):
            claim = self.claim(operation)
            if claim is None or not self.ever_was(*claim):
                return
            first, last = completion.revision, completion.revision
            if first is None or last is None:
                first, last = self.floor(operation.invoke.index), self.ceiling(completion.index)
            if last < first:
                first = last
            if first <= self.newest and all(self.is_there(*claim, r) for r in range(first, last + 1)):
                self.names.add("election: refusal")

    def resign(self, operation: Operation) -> None:
        completion, claim = operation.completion, self.claim(operation)
        assert completion is not None
        if claim is None or not self.ever_was(*claim) or completion.revision is None:
            return
        revision = completion.revision
        is_gone = claim[1] <= revision and not self.is_there(*claim, revision)
        if (completion.extra or {}).get("deleted") is True:
            is_gone = is_gone and revision <= self.newest and self.is_there(*claim, revision - 1)
        if not is_gone:
            self.names.add("election: resignation")

    def leader_read(self, operation: Operation) -> None:
        completion = operation.completion
        assert completion is not None
        if completion.revision is not None:
            if completion.value != self.leader(operation.key, completion.revision):
                self.names.add("election: leader read")
            return
        first, last = self.floor(operation.invoke.index), self.ceiling(completion.index)
        if not any(self.leader(operation.key, revision) is None for revision in range(first, last + 1)):
            self.names.add("election: leader read")

    def observation(self, operation: Operation) -> None:
        events = [op for op in self.records if op.type == "event" and op.of == operation.invoke.index]
        for event in events:
            key, value, created, mod = event.value
            if not any(
                (put.type, put.key, put.value, put.create_revision) == ("put", key, value, created)
                for put in self.told.get(mod, ())
            ) or not key.startswith(f"election/{operation.key}/"):
                self.names.add("election: invented leader")
            elif not any(self.leader(operation.key, revision) == event.value for revision in self.states):
                self.names.add("election: never led")
        floor = self.floor(operation.invoke.index)
        led = [leader for r in range(1, min(floor, self.newest) + 1) if (leader := self.leader(operation.key, r))]
        for number, event in enumerate(events):
            if number and _place(event) < _place(events[number - 1]):
                is_other = event.value[2] < events[number - 1].value[2]
                name = "deposed leader observed" if is_other else "observation went back"
                self.names.add(f"election: {name}")
            elif led and _place(event) < (led[-1][2], self.newest_mod(led[-1], floor)):
                self.names.add("election: stale observation")

    def newest_mod(self, leader: list[Any], floor: int) -> int:
        puts = (event for r in range(1, floor + 1) for event in self.told.get(r, ()))
        return max(
            event.mod_revision
            for event in puts
            if event.type == "put" and event.key == leader[0] and event.create_revision == leader[2]
        )

    def order(self, operation: Operation) -> None:
        completion = operation.completion
        if operation.f not in PLACED or completion is None or completion.revision is None:
            return
        floor = self.floor(operation.invoke.index)
        has_written = completion.type == "ok" and operation.f in ("proclaim", "write")
        if completion.revision < floor or (has_written and completion.revision == floor):
            self.names.add("election: order")

    def puts(self) -> None:
        writers = {op.invoke.value: op for op in self.operations if op.f in ("campaign", "proclaim", "write")}
        met: set[str] = set()
        for revision in sorted(self.told):
            for event in self.told[revision]:
                if event.type == "put" and event.key.startswith("election/"):
                    self.put(event, writers.get(event.value), met)
                    met.add(event.value)

    def put(self, event: StoreEvent, writer: Operation | None, met: set[str]) -> None:
        if writer is None:
            self.names.add("election: phantom value")
            return
        if event.value in met:
            self.names.add("election: repeated value")
            return
        if writer.type == "fail":
            self.names.add("election: failed value")
            return
        claim = self.claim(writer)
        if writer.f == "write":
            if event.key != f"election/guarded/{writer.key}":
                self.names.add("election: foreign key")
            elif claim is not None and not self.is_there(*claim, event.mod_revision - 1):
                self.names.add("election: fencing")
            return
        own = ((writer.completion and writer.completion.extra) or {}).get("candidate_key")
        if writer.f == "proclaim":
            own = own if claim is None else claim[0]
        if event.key.split("/")[1] != writer.key or (own is not None and own != event.key):
            self.names.add("election: foreign key")
        elif writer.f == "proclaim" and claim is not None and event.create_revision != claim[1]:
            self.names.add("election: proclaimed after the end")

    def succession(self) -> None:
        shown: dict[str, list[tuple[int, int]]] = {}
        for operation in self.operations:
            completion = operation.completion
            if completion is None or completion.type != "ok" or completion.revision is None:
                continue
            if operation.f == "leader" and completion.value is not None:
                shown.setdefault(operation.key, []).append((completion.revision, completion.value[2]))
            elif operation.f in ("proclaim", "write"):
                claim = self.claim(operation)
                if claim is not None:
                    shown.setdefault(operation.key, []).append((completion.revision, claim[1]))
        for each in shown.values():
            if any(later[1] < earlier[1] for earlier, later in pairwise(sorted(each))):
                self.names.add("election: succession")


def _place(event: Op) -> tuple[int, int]:
    return event.value[2], event.value[3]
