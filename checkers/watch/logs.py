"""What was recorded of each watch, put together from the events of its operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from splitvote.checkers.watch.plan import Watched, WatchPlan, plan_of
from splitvote.harness.history import History
from splitvote.harness.op import Op, Operation

WATCHING = ("watch", "converge")
"""The operations that watch."""


@dataclass(slots=True)
class WatchLog:
    """One watch on one stream: what was asked for, and every record that is about it, in order of receipt.

    ``asked`` is the start that was asked for, ``first`` the first revision that
    it owes, ``floor`` the last one that it must not tell of.  "Now" is some time
    before the answer to its creation, whose revision is read later: so a watch
    from now owes what comes after that, and may tell of what came shortly before.
    But its member creates watches one after another, so that its now is no
    earlier than the revision of the answer to the creation before it.
    """

    operation: Operation
    number: int
    watched: Watched
    asked: int
    created: Op
    floor: int
    records: list[Op] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The first revision whose events it owes."""
        return self.asked or (self.created.revision or 0) + 1

    @property
    def title(self) -> str:
        """The watch in words, for stories."""
        what = "all keys" if self.watched.key is None else self.watched.key
        what += "" if self.watched.end is None else f" up to {self.watched.end}"
        since = f"revision {self.asked}" if self.asked else f"now (revision {self.first})"
        return f"the watch of {what} from {since} on {self.created.node}"


@dataclass(frozen=True, slots=True)
class Logs:
    """Every watch of a run; ``plans`` are the operations', by the index of the invoke, ``homeless`` the records of
    no watch that had been created, ``ended`` how many streams ended before their time.
    """

    watches: tuple[WatchLog, ...]
    plans: dict[int, WatchPlan]
    homeless: tuple[Op, ...]
    ended: int


def logs_of(history: History, operations: Sequence[Operation]) -> Logs:
    """Sort a history's records by watch.

    Progress of a whole stream goes to the watches created before the stream's
    first such answer: whether it speaks of later ones, its receiver cannot tell.
    """
    plans: dict[int, WatchPlan] = {}
    found: list[WatchLog] = []
    homeless: list[Op] = []
    ended = 0
    events = history.events
    for operation in operations:
        if operation.f not in WATCHING:
            continue
        plan = plans[operation.invoke.index] = plan_of(operation.invoke.value)
        sorting = _Sorting(operation, plan)
        for op in events.get(operation.invoke.index, ()):
            sorting.take(op)
        found += sorting.found
        homeless += sorting.homeless
        ended += sorting.ended
    return Logs(tuple(found), plans, tuple(homeless), ended)


class _Sorting:
    """The records of one operation, by stream and watch."""

    def __init__(self, operation: Operation, plan: WatchPlan) -> None:
        self._operation = operation
        self._plan = plan
        self._open: dict[tuple[int | None, int], WatchLog] = {}
        self._vouched: dict[int | None, list[WatchLog]] = {}
        self._newest: dict[int | None, int] = {}
        self.found: list[WatchLog] = []
        self.homeless: list[Op] = []
        self.ended = 0

    def take(self, op: Op) -> None:
        kind = op.value[0]
        if kind == "created" and op.value[1] >= 0:
            _, number, asked = op.value
            now = op.revision or 0
            floor = asked - 1 if asked else min(now, self._newest.get(op.stream, 0))
            self._newest[op.stream] = now
            log = WatchLog(self._operation, number, self._plan.watched(number), asked, op, floor)
            self._open[op.stream, number] = log
            self.found.append(log)
        elif kind == "ended":
            self.ended += 1
        elif op.value[1] is None and kind == "progress":
            for log in self._of_stream(op.stream):
                log.records.append(op)
        elif (op.stream, op.value[1]) in self._open:
            self._open[op.stream, op.value[1]].records.append(op)
        else:
            self.homeless.append(op)

    def _of_stream(self, stream: int | None) -> list[WatchLog]:
        if stream not in self._vouched:
            self._vouched[stream] = [log for (of, _), log in self._open.items() if of == stream]
        return self._vouched[stream]
