"""Anomalies as cards: what broke, the operations that show it, the fault active then, what the nodes wrote.

Checkers put what they know into ``Anomaly.details`` as JSON; nothing here
knows a checker by name.  Understood are

- ``prefix_tail``: the last operations of the longest order that explains the
  history (with the ``state`` each leaves), ``longest_prefix`` how many it has in
  all, ``cannot_be_placed`` the one that fits nowhere after it, ``candidates`` the
  others that were open then;
- ``cycle`` and ``transactions``: dependencies that lead in a circle (``cycles``);
- ``known_issue``: which known issue of the system it matches.

Whatever else there is, is shown as it is (``details``).  Of many anomalies of
one name the first are shown in full, the next ones in a line each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitvote.harness.op import Op, Operation
from splitvote.harness.result import Anomaly, Result, Verdict
from splitvote.harness.spans import FaultSpan, active_during, last_before
from splitvote.reports.cycles import CycleDrawing, cycle_of
from splitvote.reports.details import Shown, sorted_details
from splitvote.reports.diagram import Diagram, space_time
from splitvote.reports.nodelogs import LogLine, LogSearch
from splitvote.reports.wording import key_name, plain

MOST_CARDS: Final = 120
FULL_PER_KIND: Final = 2
"""Anomalies of one name that are shown in full; the next ones have a line each."""

BRIEF_PER_KIND: Final = 20
_ROWS_SHOWN: Final = 60
_RELATED_SHOWN: Final = 12

_CYCLE_DETAILS: Final = frozenset({"cycle", "transactions"})
_GRAVITY: Final = (
    ("store history: disagreement", 0),
    ("member agreement", 1),
    ("kv: lost", 2),
    ("set: lost", 2),
    ("nonlinearizable", 2),
    ("lost", 2),
    ("liveness", 7),
    ("log: corruption", 3),
    ("log", 8),
)
_ORDINARY_GRAVITY: Final = 4


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
    details: Shown
    cycle: CycleDrawing | None
    known_issue: str | None
    is_expected: bool
    is_brief: bool

    @property
    def key_name(self) -> str | None:
        """The key's name in the timeline's filter."""
        return key_name(self.key)


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
        found.sort(key=lambda pair: _rank(*pair))
        seen: Counter[str] = Counter()
        chosen: list[tuple[Result, Anomaly, bool]] = []
        for result, anomaly in found:
            seen[anomaly.name] += 1
            if seen[anomaly.name] <= FULL_PER_KIND + BRIEF_PER_KIND and len(chosen) < MOST_CARDS:
                chosen.append((result, anomaly, seen[anomaly.name] > FULL_PER_KIND))
        cards = [self._card(number, *chosen_one) for number, chosen_one in enumerate(chosen, 1)]
        return cards, len(found) - len(cards)

    def _card(self, number: int, result: Result, anomaly: Anomaly, is_brief: bool) -> Card:
        operations = self._operations_of(anomaly.ops)
        order = self._order(anomaly.details)
        culprits = frozenset(self._invokes(anomaly.details.get("cannot_be_placed")))
        related = not operations
        if related:
            operations = self._writers_of(anomaly.details)
        window = _window(operations)
        faults = active_during(self._spans, *window) if window else []
        states = self._states(anomaly.details)
        cycle = None if is_brief else cycle_of(anomaly.details, self._by_index.get)
        issue = anomaly.details.get("known_issue")
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
            diagram=None if is_brief else space_time(operations, order=order, culprits=culprits, states=states),
            before=None if is_brief else self._before(operations, anomaly.details, order, culprits, states),
            culprits=culprits,
            order=order,
            start_ns=window[0] if window else None,
            end_ns=window[1] if window else None,
            faults=tuple(faults),
            fault_before=last_before(self._spans, window[0]) if window and not faults else None,
            log_lines=tuple(self._logs.around(*window)) if window and not is_brief else (),
            details=sorted_details(anomaly.details, drawn=_CYCLE_DETAILS if cycle else frozenset()),
            cycle=cycle,
            known_issue=issue if isinstance(issue, str) else None,
            is_expected=result.expected == "unsafe",
            is_brief=is_brief,
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

    def _states(self, details: Mapping[str, Any]) -> dict[int, str]:
        """What state each operation of the longest order leaves, by invoke, where the checker says so."""
        tail = details.get("prefix_tail")
        lines = [line for line in tail if isinstance(line, dict)] if isinstance(tail, (list, tuple)) else []
        return {
            invoke: plain(line["state"], 80)
            for line in lines
            if isinstance(line.get("state"), str)
            for invoke in self._invokes(line)
        }

    def _before(
        self,
        shown: Sequence[Operation],
        details: Mapping[str, Any],
        order: Mapping[int, int],
        culprits: Iterable[int],
        states: Mapping[int, str],
    ) -> Diagram | None:
        """The end of the longest order with whatever was open then, where that is more than is drawn already."""
        invokes = {*order, *culprits, *self._invokes(details.get("candidates"))}
        if not order or invokes <= {operation.invoke.index for operation in shown}:
            return None
        drawn = [self._by_index[invoke] for invoke in sorted(invokes)]
        begun = min(order)
        old = {op.invoke.index for op in drawn if op.invoke.index < begun and op.type == "info"}
        return space_time(
            drawn, order=order, culprits=frozenset(culprits), since_before=old - set(culprits), states=states
        )

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


def _rank(result: Result, anomaly: Anomaly) -> tuple[bool, bool, int, bool]:
    """The worst first: what is a violation, and nobody expected, by gravity, what matches no known issue first."""
    is_known = isinstance(anomaly.details.get("known_issue"), str)
    return result.verdict is not Verdict.INVALID, result.expected == "unsafe", gravity(anomaly), is_known


def gravity(anomaly: Anomaly) -> int:
    """How grave: lost agreement and consistency first, liveness and logs last."""
    return next((rank for prefix, rank in _GRAVITY if anomaly.name.startswith(prefix)), _ORDINARY_GRAVITY)


_TITLES: Final = {
    "nonlinearizable": "Not linearizable",
    "store history: disagreement": "Members tell different histories",
    "member agreement: keys": "Members hold different values",
    "member agreement: revision": "Members are at different revisions",
    "member agreement: hash": "Members' stores differ",
    "liveness": "The cluster did not recover",
    "log: panic": "A member panicked",
    "log: fatal": "A member failed fatally",
    "log: data race": "A member has a data race",
    "log: corruption": "A member reports corruption",
}


_PHENOMENA: Final = {
    "G0": "Dirty write",
    "G1a": "Aborted read",
    "G1b": "Intermediate read",
    "G1c": "Circular information flow",
    "G-single": "Read skew",
    "G-nonadjacent": "Skew around a circle",
    "G2-item": "Write skew",
}
"""Adya's names in plain words."""


def title_of(name: str) -> str:
    """An anomaly's name as a title; of an unknown one what follows the checker's: ``kv: lost write``, Lost write."""
    kind = name.removesuffix("-process").removesuffix("-realtime")
    if kind in _PHENOMENA:
        return f"{_PHENOMENA[kind]} ({name})"
    what = name.partition(": ")[2] or name
    return _TITLES.get(name, what[:1].upper() + what[1:])


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


@dataclass(frozen=True, slots=True)
class Kind:
    """The cards of one name: those in full, and those in a line each."""

    full: tuple[Card, ...]
    brief: tuple[Card, ...]


def by_kind(cards: Iterable[Card]) -> list[Kind]:
    """Cards by name, in the order in which the names come first."""
    names: dict[str, list[Card]] = {}
    for card in cards:
        names.setdefault(card.name, []).append(card)
    return [
        Kind(tuple(card for card in found if not card.is_brief), tuple(card for card in found if card.is_brief))
        for found in names.values()
    ]
