"""Checkers made of checkers: several over one run, and one over every independent key.

The gravest verdict wins (``result.worst``); a part that crashes or runs out of
its budget is UNKNOWN and leaves the other parts alone (``result.run_checker``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from splitvote.checkers.elements import element, listed, plural
from splitvote.harness.history import History
from splitvote.harness.op import NEMESIS, Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Checker, Result, Verdict, run_checker, worst

_MOST_NAMED: Final = 3
_MOST_ANOMALIES: Final = 64


class Composed:
    """Several checkers as one; the parts' results are in the evidence, their anomalies in one list."""

    def __init__(self, name: str, checkers: Sequence[Checker]) -> None:
        self.name = name
        self._checkers = tuple(checkers)

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Run every part under the one budget."""
        results = [run_checker(checker, recording, budget) for checker in self._checkers]
        verdict = worst(result.verdict for result in results)
        return Result(
            self.name,
            verdict,
            reason=_joined((result.checker, result) for result in results if result.verdict is verdict),
            anomalies=tuple(anomaly for result in results for anomaly in result.anomalies),
            evidence={"parts": {result.checker: _part(result) for result in results}},
            stats={result.checker: result.stats for result in results},
        )


class Independent:
    """One checker over every independent key by itself; what has no key (the nemesis) every key sees."""

    def __init__(self, checker: Checker) -> None:
        self.name = f"{checker.name} by key"
        self._checker = checker

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Run the checker on each key's projection, in the order in which the keys appear."""
        results = {
            key: run_checker(self._checker, replace(recording, history=history), budget)
            for key, history in by_key(recording.history).items()
        }
        if not results:
            return Result(self.name, Verdict.UNKNOWN, reason="no operation has an independent key")
        verdict = worst(result.verdict for result in results.values())
        verdicts = {key: result.verdict for key, result in results.items()}
        gravest = [key for key, found in verdicts.items() if found is verdict]
        anomalies = [
            msgspec.structs.replace(anomaly, key=key) for key, result in results.items() for anomaly in result.anomalies
        ]
        return Result(
            self.name,
            verdict,
            reason=_reason_by_key(gravest, results, verdict),
            anomalies=tuple(anomalies[:_MOST_ANOMALIES]),
            evidence={"keys": {_text(key): _part(results[key]) for key in gravest if verdict is not Verdict.VALID}},
            stats={"keys": len(results), "anomalies": len(anomalies)}
            | {found.value: sum(each is found for each in verdicts.values()) for found in Verdict},
        )


def by_key(history: History) -> dict[Any, History]:
    """The history of every key, in the order in which the keys appear (see ``for_key``); one pass over the records."""
    parts, _ = _split(history)
    return {key: History(part) for key, part in parts.items()}


def for_key(history: History, key: Any) -> History:
    """The projection of a history to one independent key: its records, and those that belong to no key.

    A completion or event that names no key belongs to what its process has
    open.  Records keep their index and time, so that stories and reports still
    point into the whole history.
    """
    parts, keyless = _split(history)
    return History(parts.get(element(key), keyless))


def _split(history: History) -> tuple[dict[Any, list[Op]], list[Op]]:
    """The records of each key, those of no key among them, and those of no key."""
    parts: dict[Any, list[Op]] = {}
    keyless: list[Op] = []
    open_keys: dict[int, Any] = {}
    for op in history:
        key = element(op.key)
        if op.process != NEMESIS and op.type == "invoke":
            open_keys[op.process] = key
        elif key is None:
            key = open_keys.get(op.process)
        if key is None:
            keyless.append(op)
            for part in parts.values():
                part.append(op)
        else:
            parts.setdefault(key, list(keyless)).append(op)
    return parts, keyless


def _part(result: Result) -> dict[str, Any]:
    part: dict[str, Any] = {"verdict": result.verdict.value}
    if result.reason is not None:
        part["reason"] = result.reason
    if result.evidence:
        part["evidence"] = result.evidence
    return part


def _joined(named: Iterable[tuple[Any, Result]]) -> str | None:
    reasons = [f"{name}: {result.reason}" for name, result in named if result.reason]
    return "; ".join(reasons) or None


def _reason_by_key(gravest: list[Any], results: Mapping[Any, Result], verdict: Verdict) -> str | None:
    if verdict is Verdict.VALID:
        return None
    first = _joined((_text(key), results[key]) for key in gravest[:_MOST_NAMED])
    return f"{plural(len(gravest), 'key')} of {len(results)} {verdict.value} ({listed(gravest)}); {first}"


def _text(key: Any) -> str:
    return key if isinstance(key, str) else repr(key)
