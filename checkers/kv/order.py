"""Revision order against real time, and against what each member had shown before.

*Floor* is the newest revision that anybody has been answered: it was applied
somewhere, so it was committed, and whatever is invoked afterwards must see it,
and if it writes, come after it.  Serializable reads are exempt: each member has
a floor of its own, of everything it ever answered, below which it never goes
while it lives (SOUNDNESS 11).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from splitvote.checkers.findings import Findings
from splitvote.checkers.kv.requests import has_written, is_stale_read, may_write, past_reads
from splitvote.checkers.restarts import restarts
from splitvote.harness.op import Op, Operation
from splitvote.harness.recording import FaultRecord


class Floor(NamedTuple):
    """A revision that somebody had been answered, and by which operation; revision 0 before the first."""

    revision: int = 0
    holder: Operation | None = None


def floors_of(records: Sequence[Op], operations: Sequence[Operation]) -> dict[int, Floor]:
    """The cluster's floor at each operation's invocation, by the index of its invoke."""
    invoked = {operation.invoke.index for operation in operations}
    by_completion = {op.completion.index: op for op in operations if op.completion is not None}
    floors: dict[int, Floor] = {}
    floor = Floor()
    for record in records:
        if record.index in invoked:
            floors[record.index] = floor
        elif record.type == "ok" and record.revision is not None and record.revision > floor.revision:
            operation = by_completion.get(record.index)
            floor = floor if operation is None else Floor(record.revision, operation)
    return floors


def check_real_time(
    operations: Sequence[Operation],
    floors: Mapping[int, Floor],
    writer_at: Mapping[int, Operation],
    findings: Findings,
) -> None:
    """Tell of reads and writes that come no later than what had been answered before they were invoked."""
    for operation in operations:
        completion, request = operation.completion, operation.invoke.value
        if completion is None or completion.type != "ok" or completion.revision is None:
            continue
        _check_past(operation, completion.revision, findings)
        if not is_stale_read(request):
            wrote = may_write(request) and has_written(request, completion.value)
            _compare(operation, completion.revision, floors[operation.invoke.index], findings, wrote=wrote)
    for revision, writer in writer_at.items():
        if writer.type == "info":  # of unknown outcome, but an event shows its place
            _compare(writer, revision, floors[writer.invoke.index], findings, wrote=True)


def _compare(operation: Operation, revision: int, floor: Floor, findings: Findings, *, wrote: bool) -> None:
    if revision > floor.revision or (revision == floor.revision and not wrote) or floor.holder is None:
        return
    name, what = ("kv: write order", "took effect at") if wrote else ("kv: stale read", "saw the store at")
    findings.add(
        name,
        f"a {operation.f} {what} revision {revision}, though revision {floor.revision} had been answered before it was "
        "invoked",
        [floor.holder, operation],
        revision=revision,
        floor=floor.revision,
    )


def _check_past(operation: Operation, revision: int, findings: Findings) -> None:
    asked = max(past_reads(operation.invoke.value, operation.output), default=0)
    if asked > revision:
        findings.add(
            "kv: future read",
            f"a {operation.f} read revision {asked} when the store was at {revision}",
            [operation],
        )


def check_members(
    records: Sequence[Op], operations: Sequence[Operation], faults: Sequence[FaultRecord], findings: Findings
) -> None:
    """Tell of members that answered with an older state than they had answered with before, in the same life."""
    _Members(operations, faults, findings).sweep(records)


_BEGIN: Final = 1
_END: Final = -1
"""Of the times at which a member may be restarted."""


class _Members:
    """The newest revision each member has shown in this life of its process."""

    def __init__(self, operations: Sequence[Operation], faults: Sequence[FaultRecord], findings: Findings) -> None:
        self._invoked = {operation.invoke.index for operation in operations}
        self._by_completion = {op.completion.index: op for op in operations if op.completion is not None}
        self._moments = sorted(
            moment
            for restart in restarts(faults)
            for moment in ((restart.start_ns, _BEGIN, restart.node), (restart.end_ns, _END, restart.node))
        )
        self._restarting: Counter[str] = Counter()
        self._findings = findings
        self._floors: dict[str, Floor] = {}
        self._lives: dict[str, int] = {}

    def sweep(self, records: Sequence[Op]) -> None:
        """Both dictionaries are replaced, never changed: an open operation keeps those of its invocation."""
        at_invoke: dict[int, tuple[dict[str, Floor], dict[str, int]]] = {}
        place = 0
        for op in records:
            while place < len(self._moments) and self._moments[place][0] <= op.time_ns:
                _, step, node = self._moments[place]
                self._restarting[node] += step
                self._begin_life(node)
                place += 1
            if op.index in self._invoked:
                at_invoke[op.index] = self._floors, self._lives
            elif (operation := self._by_completion.get(op.index)) is not None:
                self._complete(operation, *at_invoke.pop(operation.invoke.index))

    def _begin_life(self, node: str) -> None:
        self._floors = {name: floor for name, floor in self._floors.items() if name != node}
        self._lives = self._lives | {node: self._lives.get(node, 0) + 1}

    def _complete(self, operation: Operation, floors: dict[str, Floor], lives: dict[str, int]) -> None:
        completion = operation.completion
        if completion is None or completion.type != "ok" or completion.revision is None or completion.node is None:
            return
        node, revision = completion.node, completion.revision
        if self._restarting[node]:
            return  # it may begin a new life at any moment now, several times
        floor = floors.get(node, Floor())
        if revision < floor.revision and floor.holder is not None and lives.get(node) == self._lives.get(node):
            self._findings.add(
                "kv: member went back",
                f"{node} answered a {operation.f} at revision {revision} after it had answered at {floor.revision}, "
                "without a restart in between",
                [floor.holder, operation],
                node=node,
                revision=revision,
                floor=floor.revision,
            )
        if revision > self._floors.get(node, Floor()).revision:
            self._floors = self._floors | {node: Floor(revision, operation)}
