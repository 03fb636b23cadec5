"""The store's revision at a record of the history: what the clients' answers bound it by, from below and from above.

*Floor*: the newest revision that anybody had been shown before.  *Ceiling*: the
smallest revision at which an operation that was invoked afterwards was answered;
only operations whose revision is their own place count (SOUNDNESS 7).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from splitvote.harness.history import History

PLACED: Final = frozenset({"campaign", "proclaim", "write", "resign", "leader"})
"""Operations whose revision marks a moment between their invocation and their completion."""


class Bounds:
    """Bounds of the store's revision by place in the history (a record's index)."""

    def __init__(self, history: History, *, final_revision: int | None) -> None:
        self._shown_at: list[int] = []
        self._floors: list[int] = []
        floor = 0
        for op in history:
            if op.type != "invoke" and op.revision is not None and op.revision > floor:
                floor = op.revision
                self._shown_at.append(op.index)
                self._floors.append(floor)
        self._invoked_at: list[int] = []
        self._ceilings: list[int] = []
        ceiling = final_revision
        for operation in reversed(history.operations):
            completion = operation.completion
            if completion is None or completion.revision is None or operation.f not in PLACED:
                continue
            if ceiling is None or completion.revision < ceiling:
                ceiling = completion.revision
                self._invoked_at.append(operation.invoke.index)
                self._ceilings.append(ceiling)
        self._invoked_at.reverse()
        self._ceilings.reverse()
        self._last = final_revision

    def floor(self, index: int) -> int:
        """The store's revision was at least this before this record."""
        place = bisect_left(self._shown_at, index)
        return self._floors[place - 1] if place else 0

    def ceiling(self, index: int) -> int | None:
        """The store's revision was at most this at this record; None where nothing later bounds it."""
        place = bisect_right(self._invoked_at, index)
        return self._ceilings[place] if place < len(self._ceilings) else self._last
