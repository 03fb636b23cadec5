"""The linearizability checker of a run: every key on its own, each violation with its evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitvote.checkers.linearizability.engines import Decision, decide_many, locate
from splitvote.checkers.linearizability.model import CheckResult, Model
from splitvote.checkers.linearizability.models import model_named
from splitvote.checkers.linearizability.records import operations_of
from splitvote.checkers.linearizability.story import tell
from splitvote.checkers.linearizability.witness import Witness, describe, explain, state_after, states_along
from splitvote.harness.op import Op
from splitvote.harness.op import Operation as Recorded
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict

WITNESSES: Final = 20
"""Violated keys explained in full; more are only counted (the report would drown)."""

CORE_SHOWN: Final = 40
"""Operations of a core that an anomaly carries, the last ones; few cores are larger than ten."""

TAIL: Final = 10
"""Operations of the longest prefix that an anomaly's details spell out."""


@dataclass(slots=True)
class _Key:
    """One independent key: its records and, in time, what was decided."""

    key: Any
    sources: list[Recorded]
    decision: Decision


class LinearizabilityChecker:
    """Judges whether what clients saw of each key is linearizable with respect to a model.

    ``model`` is a name of ``models.MODELS`` or a Model.  ``drop_failed_cas``
    ignores failed comparisons, as Knossos does.
    """

    def __init__(
        self,
        model: str | Model = "cas-register",
        *,
        name: str = "linearizability",
        drop_failed_cas: bool = False,
    ) -> None:
        self.name = name
        self.model = model_named(model) if isinstance(model, str) else model
        self.drop_failed_cas = drop_failed_cas

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Decide every key; INVALID with an anomaly a violated key, UNKNOWN with the longest prefixes decided."""
        keys = self._decide_all(recording.history.by_key(), budget)
        illegal = [key for key in keys if key.decision.result is CheckResult.ILLEGAL]
        undecided = [key for key in keys if key.decision.result is CheckResult.UNKNOWN]
        anomalies = tuple(self._anomaly(key, budget) for key in illegal[:WITNESSES])
        stats = self._stats(keys, illegal, undecided)
        evidence = {"undecided": [_progress(key) for key in undecided]} if undecided else {}
        if illegal:
            reason = f"{len(illegal)} of {len(keys)} keys are not linearizable; {anomalies[0].story}"
            return Result(self.name, Verdict.INVALID, reason, anomalies, evidence, stats)
        if undecided:
            first = undecided[0]
            why = first.decision.reason
            reason = f"{len(undecided)} of {len(keys)} keys undecided, {_shown(first.key)} first: {why}"
            return Result(self.name, Verdict.UNKNOWN, reason, (), evidence, stats)
        return Result(self.name, Verdict.VALID, stats=stats)

    def _decide_all(self, by_key: dict[Any, list[Recorded]], budget: Budget) -> list[_Key]:
        translated = [operations_of(recorded, drop_failed_cas=self.drop_failed_cas) for recorded in by_key.values()]
        decisions = decide_many(self.model, [operations for operations, _ in translated], budget)
        return [
            _Key(key, sources, decision)
            for key, (_, sources), decision in zip(by_key, translated, decisions, strict=True)
        ]

    def _anomaly(self, item: _Key, budget: Budget) -> Anomaly:
        decision = item.decision = locate(item.decision, budget)
        problem = decision.problem
        assert decision.furthest is not None  # it is ILLEGAL, and located
        witness = explain(
            problem, decision.furthest, decision.linearize(), budget, nodes=decision.nodes, evidence=decision.evidence
        )
        return Anomaly(
            name="nonlinearizable",
            story=tell(problem, witness, item.key),
            ops=_records_of([item.sources[number] for number in witness.core[-CORE_SHOWN:]]),
            key=item.key,
            details=_details(item, witness),
        )

    def _stats(self, keys: Sequence[_Key], illegal: Sequence[_Key], undecided: Sequence[_Key]) -> dict[str, Any]:
        engines = Counter(key.decision.engine for key in keys)
        return {
            "model": self.model.name,
            "keys": len(keys),
            "operations": sum(len(key.decision.problem.operations) for key in keys),
            "open_operations": sum(sum(key.decision.problem.optional) for key in keys),
            "nodes": sum(key.decision.nodes for key in keys),
            "engines": dict(sorted(engines.items())),
            "keys_illegal": len(illegal),
            "keys_undecided": len(undecided),
        }


def _details(item: _Key, witness: Witness) -> dict[str, Any]:
    problem = item.decision.problem
    described = [problem.model.describe_state(state) for state in witness.states]
    return {
        "model": problem.model.name,
        "engine": item.decision.engine,
        "operations": len(problem.operations),
        "longest_prefix": len(witness.prefix),
        "prefix_tail": _tail(item, witness),
        "state": described[0],
        "possible_states": described,
        "cannot_be_placed": _line(item, witness.stuck),
        "candidates": [_line(item, number) for number in witness.candidates],
        "core": [_line(item, number) for number in witness.core[-CORE_SHOWN:]],
        "core_size": len(witness.core),
    }


def _tail(item: _Key, witness: Witness) -> list[dict[str, Any]]:
    """The last operations of the longest prefix, each with the state that it leaves."""
    problem = item.decision.problem
    states = states_along(problem, witness.prefix, TAIL)
    return [
        _line(item, number) | {"state": problem.model.describe_state(problem.steps.state(state))}
        for number, state in zip(witness.prefix[-TAIL:], states, strict=True)
    ]


def _line(item: _Key, number: int) -> dict[str, Any]:
    """Describe an operation for the report: who, what, and the indexes of its records."""
    recorded = item.sources[number]
    completion = recorded.completion
    return {
        "process": recorded.process,
        "what": describe(item.decision.problem, number),
        "invoke": recorded.invoke.index,
        "completion": None if completion is None else completion.index,
    }


def _progress(item: _Key) -> dict[str, Any]:
    """Say how far an undecided key was found linearizable."""
    decision = item.decision
    problem, order = decision.problem, decision.linearize()
    return {
        "key": item.key,
        "reason": decision.reason,
        "operations": len(problem.operations),
        "longest_prefix": len(order),
        "state": problem.model.describe_state(problem.steps.state(state_after(problem, order))),
    }


def _records_of(recorded: Sequence[Recorded]) -> tuple[Op, ...]:
    """Return the invocations and completions, in history order."""
    ops = [item.invoke for item in recorded]
    ops += [item.completion for item in recorded if item.completion is not None]
    return tuple(sorted(ops, key=lambda op: op.index))


def _shown(key: Any) -> str:
    return "the history" if key is None else f"key {key!r}"
