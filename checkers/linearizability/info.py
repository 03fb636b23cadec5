"""What a check found out beside its verdict: partial linearizations, per operation and longest, and annotations.

Porcupine's ``LinearizationInfo`` feeds its visualizer; ours feeds the report:
``to_json`` is all that drawing a history takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from splitvote.checkers.linearizability.engines import Decision, locate
from splitvote.checkers.linearizability.model import CheckResult, Operation
from splitvote.checkers.linearizability.problem import Problem
from splitvote.checkers.linearizability.search import Trail, search, unroll
from splitvote.checkers.linearizability.witness import replay
from splitvote.harness.result import Budget

PARTIALS_NODES: Final = 3_000
"""Configurations looked at for the partial linearizations of single operations."""


class Annotation(NamedTuple):
    """A remark on the time axis of a history: of a client, or of ``tag`` (a nemesis, a node) where that is None."""

    start: float
    end: float
    description: str
    client_id: int | None = None
    tag: str = ""
    details: str = ""
    color: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One partition: its operations, the engine that decided, and partial linearizations.

    ``longest`` is a longest one found; ``by_operation`` holds for each operation
    a longest one found that contains it (empty: none).  All are lists of places
    in ``operations``.
    """

    operations: Sequence[Operation]
    engine: str
    result: CheckResult
    longest: list[int]
    by_operation: list[list[int]]


@dataclass(slots=True)
class LinearizationInfo:
    """What a verbose check found out; ``add_annotations`` puts remarks beside the operations."""

    model: Any
    parts: list[Part]
    annotations: list[Annotation] = field(default_factory=list)

    def add_annotations(self, annotations: Iterable[Annotation]) -> None:
        """Add remarks to be drawn with the history."""
        self.annotations.extend(annotations)

    @property
    def engines(self) -> list[str]:
        """The engines that decided, one a partition."""
        return [part.engine for part in self.parts]

    def partial_linearizations(self) -> list[list[list[int]]]:
        """Return, for each partition, the different partial linearizations known, the longest first."""
        return [_distinct([part.longest, *part.by_operation]) for part in self.parts]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values, operations described by the model."""
        return {
            "model": self.model.name,
            "parts": [self._part_to_json(part) for part in self.parts],
            "annotations": [annotation._asdict() for annotation in self.annotations],
        }

    def _part_to_json(self, part: Part) -> dict[str, Any]:
        return {
            "engine": part.engine,
            "result": str(part.result),
            "operations": [
                {
                    "client": operation.client_id,
                    "call": operation.call,
                    "return": operation.return_,
                    "what": self.model.describe_operation(operation.input, operation.output),
                }
                for operation in part.operations
            ],
            "longest": part.longest,
            "partial_linearizations": _distinct([part.longest, *part.by_operation]),
        }


def _distinct(orders: Iterable[list[int]]) -> list[list[int]]:
    known = {tuple(order): None for order in orders if order}
    return sorted(map(list, known), key=len, reverse=True)


def part_of(decision: Decision, budget: Budget) -> Part:
    """Collect what is known of one partition; partial linearizations of single operations if that is cheap."""
    if decision.result is CheckResult.ILLEGAL:
        decision = locate(decision, budget)
    problem = decision.problem
    longest = decision.linearize()
    by_operation = _by_operation(problem, longest, decision)
    return Part(problem.operations, decision.engine, decision.result, longest, by_operation)


def _by_operation(problem: Problem, longest: list[int], decision: Decision) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in problem.operations]
    if decision.result is not CheckResult.OK and decision.nodes <= PARTIALS_NODES:
        best: dict[int, tuple[int, Trail]] = {}

        def note(place: int, _: int, trail: Trail) -> None:
            for operation in unroll(trail):
                if operation not in best or best[operation][0] < place:
                    best[operation] = (place, trail)

        search(problem, Budget(max_steps=PARTIALS_NODES), on_configuration=note)
        for _, trail in best.values():
            order = replay(problem, unroll(trail))
            for operation in order:
                if len(found[operation]) < len(order):
                    found[operation] = order
    for operation in longest:
        if len(found[operation]) < len(longest):
            found[operation] = longest
    return found
