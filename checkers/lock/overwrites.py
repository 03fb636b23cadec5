"""How a set lost an element: the write that dropped it, and whose lock was gone, by the archive of the set's states.

Either the writer had lost its lock, and wrote the set as it had read it before;
or the element's own add had, and wrote into what the holder had read already.
Where neither had, no lease is to blame.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec

from splitvote.checkers.elements import records_of
from splitvote.checkers.lock.lives import key_of, lives_of
from splitvote.checkers.truth import Truth
from splitvote.harness.archive import Archive
from splitvote.harness.history import History
from splitvote.harness.op import Operation
from splitvote.harness.result import Anomaly

SETS: Final = "lock-set/set/"
"""A set is the JSON list at this and its key."""

LOCKS: Final = "lock-set/lock/"
"""A set's lock is the name of this and its key."""


class _Write(NamedTuple):
    """An add's write of a set at a revision; ``gone_at`` is when its lock key had been deleted, if before."""

    add: Operation
    revision: int
    gone_at: int | None

    @property
    def told(self) -> str:
        lock = "" if self.gone_at is None else f", whose lock key had been deleted at revision {self.gone_at}"
        return f"at revision {self.revision} by process {self.add.process}'s add of {self.add.invoke.value}{lock}"


class SetStates:
    """Every state of the sets that are kept in the store, and the lives of their locks' keys."""

    def __init__(self, archive: Archive, history: History) -> None:
        self._puts: dict[str, list[tuple[int, list[Any]]]] = {}
        for event in archive.events(SETS):
            if event.type == "put":
                self._puts.setdefault(event.key, []).append((event.mod_revision, _elements(event.value)))
        self._lives = lives_of(Truth(archive, LOCKS, final_revision=None), LOCKS)
        self._adds = {operation.invoke.value: operation for operation in history.operations if operation.f == "add"}
        self._events = history.events

    def explained(self, key: Any, lost: Anomaly) -> Anomaly:
        """The anomaly of a lost element with the write that put it there, and the one that dropped it."""
        element = lost.details["element"]
        added, dropped = self._fate(f"{SETS}{key}", element)
        if added is None or dropped is None:
            return lost
        story = f"{lost.story} It was written {added.told}, and written over {dropped.told}."
        records = {op.index: op for op in (*lost.ops, *records_of(added.add, dropped.add))}
        return msgspec.structs.replace(
            lost,
            story=story,
            ops=tuple(records[index] for index in sorted(records)),
            details=lost.details
            | {
                "written_at": added.revision,
                "lock_key_gone_at": added.gone_at,
                "written_over_at": dropped.revision,
                "written_over_by": dropped.add.invoke.value,
                "its_lock_key_gone_at": dropped.gone_at,
            },
        )

    def _fate(self, stored: str, element: Any) -> tuple[_Write | None, _Write | None]:
        """The first write that held the element, and the next that did not; None for one that is not to be found."""
        added = None
        for (_, before), (revision, after) in pairwise([(0, []), *self._puts.get(stored, ())]):
            if element in after and element not in before:
                added = added or self._write(revision, after)
            elif element in before and element not in after:
                return added, self._write(revision, after)
        return added, None

    def _write(self, revision: int, elements: list[Any]) -> _Write | None:
        """The add that wrote this state: its own element is the last."""
        add = self._adds.get(elements[-1]) if elements else None
        return None if add is None else _Write(add, revision, self._lock_gone_at(add, revision))

    def _lock_gone_at(self, add: Operation, revision: int) -> int | None:
        for event in self._events.get(add.invoke.index, ()):
            life = self._lives.of_key_at(key_of(LOCKS, str(add.key), event.value["lease"]), revision)
            if life is not None and life.end is not None and life.end < revision:
                return life.end
        return None


def _elements(value: str) -> list[Any]:
    """A set as it is stored; what is no JSON list holds nothing that anybody added."""
    try:
        found = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return []
    return found if isinstance(found, list) else []
