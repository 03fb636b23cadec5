"""Anomalies as cards: what broke, the operations that show it, the fault active then, what the nodes wrote.

Checkers put what they know into ``Anomaly.details`` as JSON; nothing here
knows a checker by name.  Understood are

- ``prefix_tail``: the last operations of the longest order that explains the
  history, ``longest_prefix`` how many it has in all, ``cannot_be_placed`` the
  one that fits nowhere after it, ``candidates`` the others that were open then;
- mappings of mappings (keys by member), which become rows and columns.

Whatever else there is, is shown as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitvote.harness.op import Op, Operation
from splitvote.harness.result import Anomaly, Result, Verdict
from splitvote.reports.diagram import Diagram, space_time
from splitvote.reports.nodelogs import LogLine, LogSearch
from splitvote.reports.spans import FaultSpan, active_during, last_before
from splitvote.reports.wording import plain, shown

MOST_CARDS: Final = 25
_ROWS_SHOWN: Final = 60
_RELATED_SHOWN: Final = 12
_SHORT_CHARACTERS: Final = 100
_DRAWN: Final = frozenset({"prefix_tail", "candidates", "cannot_be_placed", "core"})

_GRAVITY: Final = (
    ("member agreement", 0),
    ("nonlinearizable", 1),
    ("lost", 1),
    ("liveness", 7),
    ("log: corruption", 2),
    ("log", 8),
)
_ORDINARY_GRAVITY: Final = 3


@dataclass(frozen=True, slots=True)
class Table:
    """One of the details as rows and columns; cells are text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    odd: frozenset[tuple[int, int]] = frozenset()
    """Cells (row, column) that differ from what most columns of their row say."""


@dataclass(frozen=True, slots=True)
class Card:
    """One anomaly with everything that explains it."""

    number: int
    checker: str
    name: str
    title: str
    story: str
    key: Any
    operations: tuple[Operation, ...]
    operations_left_out: int
    related: bool
    diagram: Diagram | None
    before: Diagram | None
    culprits: frozenset[int]
    order: Mapping[int, int]
    start_ns: int | None
    end_ns: int | None
    faults: tuple[FaultSpan, ...]
    fault_before: FaultSpan | None
    log_lines: tuple[LogLine, ...]
    tables: tuple[Table, ...]
    facts: tuple[tuple[str, Any], ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]


class Cards:
    """Makes cards of a run's results, the worst first."""

    def __init__(self, operations: Sequence[Operation], spans: Sequence[FaultSpan], logs: LogSearch) -> None:
        self._operations = operations
        self._spans = spans
        self._logs = logs
        self._by_index: dict[int, Operation] = {}
        for operation in operations:
            self._by_index[operation.invoke.index] = operation
            if operation.completion is not None:
                self._by_index[operation.completion.index] = operation

    def make(self, results: Iterable[Result]) -> tuple[list[Card], int]:
        """The cards, and how many further anomalies have none."""
        found = [(result, anomaly) for result in results for anomaly in result.anomalies]
        found.sort(key=lambda pair: (pair[0].verdict is not Verdict.INVALID, gravity(pair[1])))
        cards = [self._card(place + 1, result, anomaly) for place, (result, anomaly) in enumerate(found[:MOST_CARDS])]
        return cards, len(found) - len(cards)

    def _card(self, number: int, result: Result, anomaly: Anomaly) -> Card:
        operations = self._operations_of(anomaly.ops)
        order = self._order(anomaly.details)
        culprits = frozenset(self._invokes(anomaly.details.get("cannot_be_placed")))
        related = not operations
        if related:
            operations = self._writers_of(anomaly.details)
        window = _window(operations)
        faults = active_during(self._spans, *window) if window else []
        tables, facts, lines = _sorted_details(anomaly.details)
        return Card(
            number=number,
            checker=result.checker,
            name=anomaly.name,
            title=title_of(anomaly.name),
            story=anomaly.story,
            key=anomaly.key,
            operations=tuple(operations[:_ROWS_SHOWN]),
            operations_left_out=max(0, len(operations) - _ROWS_SHOWN),
            related=related,
            diagram=space_time(operations, order=order, culprits=culprits),
            before=self._before(operations, anomaly.details, order, culprits),
            culprits=culprits,
            order=order,
            start_ns=window[0] if window else None,
            end_ns=window[1] if window else None,
            faults=tuple(faults),
            fault_before=last_before(self._spans, window[0]) if window and not faults else None,
            log_lines=tuple(self._logs.around(*window)) if window else (),
            tables=tables,
            facts=facts,
            lines=lines,
        )

    def _operations_of(self, records: Iterable[Op]) -> list[Operation]:
        """The whole operations that an anomaly's records belong to, in the order of invocation."""
        found = {}
        for record in records:
            operation = self._by_index.get(record.index) or Operation(
                record, None if record.type == "invoke" else record
            )
            found[operation.invoke.index] = operation
        return [found[index] for index in sorted(found)]

    def _invokes(self, listed: Any) -> list[int]:
        """The invokes that a detail names: an operation or a list of them, by index or by a mapping with one."""
        items = listed if isinstance(listed, (list, tuple)) else [listed]
        indices = [item.get("invoke", item.get("index")) if isinstance(item, dict) else item for item in items]
        known = [self._by_index[index] for index in indices if isinstance(index, int) and index in self._by_index]
        return [operation.invoke.index for operation in known]

    def _order(self, details: Mapping[str, Any]) -> dict[int, int]:
        """Places in the longest order that explains the history, by invoke."""
        tail = self._invokes(details.get("prefix_tail"))
        length = details.get("longest_prefix")
        first = length - len(tail) + 1 if isinstance(length, int) else 1
        return {invoke: first + place for place, invoke in enumerate(tail)}

    def _before(
        self, shown: Sequence[Operation], details: Mapping[str, Any], order: Mapping[int, int], culprits: Iterable[int]
    ) -> Diagram | None:
        """The end of the longest order with whatever was open then, where that is more than is drawn already."""
        invokes = {*order, *culprits, *self._invokes(details.get("candidates"))}
        if not order or invokes <= {operation.invoke.index for operation in shown}:
            return None
        drawn = [self._by_index[invoke] for invoke in sorted(invokes)]
        begun = min(order)
        old = {op.invoke.index for op in drawn if op.invoke.index < begun and op.type == "info"}
        return space_time(drawn, order=order, culprits=frozenset(culprits), since_before=old - set(culprits))

    def _writers_of(self, details: Mapping[str, Any]) -> list[Operation]:
        """The ok operations at the mod_revisions that members' states name, for anomalies that carry no operations."""
        revisions = set(_mod_revisions(details.get("keys")))
        if not revisions:
            return []
        return [
            operation
            for operation in self._operations
            if operation.completion is not None
            and operation.type == "ok"
            and operation.completion.revision in revisions
            and operation.f not in ("get", "read")
        ][:_RELATED_SHOWN]


def gravity(anomaly: Anomaly) -> int:
    """How grave: lost agreement and consistency first, liveness and logs last."""
    return next((rank for prefix, rank in _GRAVITY if anomaly.name.startswith(prefix)), _ORDINARY_GRAVITY)


_TITLES: Final = {
    "nonlinearizable": "Not linearizable",
    "member agreement: keys": "Members hold different values",
    "member agreement: revision": "Members are at different revisions",
    "member agreement: hash": "Members' stores differ",
    "liveness": "The cluster did not recover",
    "log: panic": "A member panicked",
    "log: fatal": "A member failed fatally",
    "log: data race": "A member has a data race",
    "log: corruption": "A member reports corruption",
}


def title_of(name: str) -> str:
    """An anomaly's name as a title; unknown names with a capital."""
    return _TITLES.get(name, name[:1].upper() + name[1:])


def _mod_revisions(keys: Any) -> Iterable[int]:
    if not isinstance(keys, dict):
        return
    for by_member in keys.values():
        states = list(by_member.values()) if isinstance(by_member, dict) else []
        if len({repr(state) for state in states}) > 1:
            yield from (s[1] for s in states if isinstance(s, (list, tuple)) and len(s) > 1 and isinstance(s[1], int))


def _window(operations: Sequence[Operation]) -> tuple[int, int] | None:
    """From the first beginning to the last known end."""
    if not operations:
        return None
    ends = [op.invoke.time_ns if op.completion is None else op.completion.time_ns for op in operations]
    return min(operation.invoke.time_ns for operation in operations), max(ends)


_Sorted = tuple[tuple[Table, ...], tuple[tuple[str, Any], ...], tuple[tuple[str, tuple[str, ...]], ...]]


def _sorted_details(details: Mapping[str, Any]) -> _Sorted:
    """The details as tables, single facts and blocks of text lines; what the diagrams show is left out."""
    tables, facts, lines = [], [], []
    for name, value in details.items():
        title = name.replace("_", " ")
        if name in _DRAWN or value in ({}, [], (), None) or (name == "possible_states" and len(value) == 1):
            continue
        if isinstance(value, dict):
            tables.append(_table(title, value))
        elif isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            if sum(map(len, value)) <= _SHORT_CHARACTERS:
                facts.append((title, ", ".join(value)))
                continue
            lines.append((title, tuple(plain(item, 600) for item in value[:20])))
        else:
            facts.append((title, value))
    return tuple(tables), tuple(facts), tuple(lines)


def _table(title: str, value: Mapping[str, Any]) -> Table:
    """A mapping of mappings as a grid; a flat one as a single row of cells."""
    columns: tuple[str, ...]
    if all(isinstance(inner, dict) for inner in value.values()):
        columns = tuple(sorted({name for inner in value.values() for name in inner}))
        found = [(name, [inner.get(column) for column in columns]) for name, inner in value.items()]
    else:
        columns, found = tuple(value), [("", list(value.values()))]
    rows = tuple((name, tuple(map(_cell, cells))) for name, cells in found[:_ROWS_SHOWN])
    return Table(title, columns, rows, _odd_cells(rows))


def _cell(value: Any) -> str:
    """A cell in words; a key's state on a member is ``[value, mod_revision, version, create_revision]``."""
    if value is None:
        return "absent"
    if isinstance(value, list) and len(value) == 4 and all(type(part) is int for part in value[1:]):
        state, mod, version, create = value
        return f"{shown(state, 60)} (mod {mod}, version {version}, create {create})"
    return plain(value, 120) if isinstance(value, str) else shown(value, 120)


def _odd_cells(rows: Sequence[tuple[str, tuple[str, ...]]]) -> frozenset[tuple[int, int]]:
    odd = set()
    for place, (_, cells) in enumerate(rows):
        most = max(cells, key=cells.count, default="")
        if cells.count(most) > 1:
            odd |= {(place, column) for column, text in enumerate(cells) if text != most}
    return frozenset(odd)
