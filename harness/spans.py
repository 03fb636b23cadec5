"""Faults as spans of time: the journal's phases of each fault folded into one row.

Where there is no journal (a history from elsewhere) the nemesis's own records
serve, its start and end of an action alternating, without any proof.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from splitvote.harness.op import NEMESIS, Op
from splitvote.harness.recording import FaultRecord


@dataclass(slots=True)
class FaultSpan:
    """One fault from its first to its last phase; times in ns since the start, None where it never came to that."""

    id: int
    family: str
    fault: str
    targets: tuple[str, ...]
    start_ns: int
    active_ns: int | None = None
    healing_ns: int | None = None
    end_ns: int | None = None
    proof: str | None = None
    heal_proof: str | None = None
    proven: bool = False
    heal_proven: bool = False
    affects_quorum: bool = False
    plan: dict[str, Any] = field(default_factory=dict)
    observed: dict[str, Any] = field(default_factory=dict)
    heal_observed: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The fault within its family, in words: ``majority`` of ``kill:majority``, ``kill`` of ``kill``."""
        return self.fault.removeprefix(f"{self.family}:").replace("_", " ").replace(":", " ")

    @property
    def whom(self) -> str:
        """The nodes it hit; of links that were cut, who was cut off from whom."""
        cut = self.plan.get("cut")
        if isinstance(cut, list) and cut:
            return cut_in_words(cut)
        return ", ".join(self.targets)

    @property
    def title(self) -> str:
        """What it did to whom, with its family: ``kill n1, n3``, ``partition halves n1, n2 | n3``."""
        return self.label if self.family in self.kind else f"{self.family} {self.label}"

    @property
    def label(self) -> str:
        """What it did to whom, where the family is said already: ``halves n1, n2 | n3``."""
        return f"{self.kind} {self.whom}".strip()

    def overlaps(self, start_ns: int, end_ns: int) -> bool:
        """Whether any of it lies within these times (both ends included)."""
        return self.start_ns <= end_ns and (self.end_ns is None or self.end_ns >= start_ns)

    def until(self, end_ns: int) -> int:
        """Its end, or the run's for a fault that never ended."""
        return end_ns if self.end_ns is None else self.end_ns

    def apply(self, record: FaultRecord) -> None:
        """Fold in one more line of the journal."""
        if record.error is not None:
            self.errors.append(record.error)
        self.affects_quorum = self.affects_quorum or record.affects_quorum
        self.targets = record.targets or self.targets
        self.plan = record.plan or self.plan
        match record.phase:
            case "starting":
                self.start_ns = record.time_ns
            case "active" | "unproven":
                self.active_ns, self.proof, self.observed = record.time_ns, record.proof, record.observed
                self.proven = record.phase == "active"
            case "healing":
                self.healing_ns = record.time_ns
            case "healed" | "heal_unproven":
                self.end_ns, self.heal_proof, self.heal_observed = record.time_ns, record.proof, record.observed
                self.heal_proven = record.phase == "healed"


def cut_in_words(cut: Sequence[Sequence[str]]) -> str:
    """Who was cut off from whom by these directed links: ``n1, n2 | n3`` for both ways, ``n1 → n2, n3`` for one."""
    pairs = {(str(source), str(destination)) for source, destination in cut}
    sources, destinations = sorted({pair[0] for pair in pairs}), sorted({pair[1] for pair in pairs})
    if any((destination, source) not in pairs for source, destination in pairs):
        if len(pairs) == len(sources) * len(destinations):
            return f"{', '.join(sources)} \u2192 {', '.join(destinations)}"
    elif len(sides := _sides(sources, pairs)) > 1:
        return " | ".join(", ".join(side) for side in sides)
    return f"{len(pairs)} links"


def _sides(nodes: Sequence[str], cut: Collection[tuple[str, str]]) -> list[list[str]]:
    """The groups of nodes that still reach each other."""
    sides: list[list[str]] = []
    for node in nodes:
        joined = [side for side in sides if any((node, other) not in cut for other in side)]
        sides = [side for side in sides if side not in joined]
        sides.append(sorted([node, *(other for side in joined for other in side)]))
    return sorted(sides, key=lambda side: (len(side), side))


def fault_spans(faults: Iterable[FaultRecord], records: Iterable[Op] = ()) -> list[FaultSpan]:
    """Every fault of the run in the order they began; from the nemesis's records when the journal is empty."""
    spans: dict[int, FaultSpan] = {}
    for record in faults:
        if record.id not in spans:
            spans[record.id] = FaultSpan(record.id, record.family, record.fault, record.targets, record.time_ns)
        spans[record.id].apply(record)
    found = list(spans.values()) if spans else _spans_of_nemesis(records)
    return sorted(found, key=lambda span: (span.start_ns, span.id))


def _spans_of_nemesis(records: Iterable[Op]) -> list[FaultSpan]:
    """Spans of a nemesis without a journal.

    ``start-x``/``stop-x`` (Jepsen's names) delimit a fault; any other f lasts
    from its own first record to its second.
    """
    spans: list[FaultSpan] = []
    lasting: dict[str, FaultSpan] = {}
    pending: dict[str, FaultSpan] = {}
    for op in records:
        if op.process != NEMESIS:
            continue
        verb, _, name = op.f.partition("-")
        name = name or _named(op.value)
        if verb == "stop" and name in lasting:
            span = lasting[name]
            if span.healing_ns is None:
                span.healing_ns = op.time_ns
            else:
                span.end_ns = op.time_ns
                del lasting[name]
        elif verb == "start" and name:
            if name in lasting:
                lasting[name].active_ns = op.time_ns
                lasting[name].targets = lasting[name].targets or _targets(op.value)
            else:
                lasting[name] = FaultSpan(len(spans), name, name, _targets(op.value), op.time_ns)
                spans.append(lasting[name])
        elif op.f in pending:
            pending.pop(op.f).end_ns = op.time_ns
        else:
            pending[op.f] = FaultSpan(len(spans), op.f, op.f, _targets(op.value), op.time_ns)
            spans.append(pending[op.f])
    return spans


def _named(value: Any) -> str:
    """The fault's name, where the operation is a bare ``start`` or ``stop`` and its value says what of."""
    return str(value.get("fault", "")) if isinstance(value, dict) else ""


def _targets(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        return _targets(value.get("targets"))
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(node, str) for node in value):
        return tuple(value)
    return ()


def active_during(spans: Sequence[FaultSpan], start_ns: int, end_ns: int) -> list[FaultSpan]:
    """The faults that overlap these times."""
    return [span for span in spans if span.overlaps(start_ns, end_ns)]


def last_before(spans: Sequence[FaultSpan], time_ns: int) -> FaultSpan | None:
    """The fault that ended last before this time."""
    ended = [span for span in spans if span.end_ns is not None and span.end_ns < time_ns]
    return max(ended, key=lambda span: span.end_ns or 0, default=None)
