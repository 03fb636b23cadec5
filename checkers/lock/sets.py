"""Sets guarded by locks: no acknowledged element is lost, and where one is, who wrote over it without the lock.

Each set is judged by itself as a linearizable set (``checkers.set_full``).  Where
the sets are kept in etcd, the write that dropped a lost element is told
(``overwrites.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from splitvote.checkers.composition import by_key
from splitvote.checkers.elements import listed, plural
from splitvote.checkers.lock.overwrites import SetStates
from splitvote.checkers.set_full import SetFullChecker
from splitvote.harness.history import History
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict

FENCED: Final = "fenced"
"""The error class of an add whose write was refused for its lock's key."""

_MOST_ANOMALIES: Final = 64


class LockSetChecker:
    """INVALID where a set lost, repeated or made up an element, or a read missed one; UNKNOWN if none was kept."""

    name = "lock-set"

    def __init__(self) -> None:
        self._checker = SetFullChecker(linearizable=True)

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge each set by itself."""
        results = {
            key: self._checker.check(replace(recording, history=history), budget)
            for key, history in by_key(recording.history).items()
        }
        broken = {key: result for key, result in results.items() if result.verdict is Verdict.INVALID}
        stats = _stats(recording.history, results)
        if broken:
            anomalies = _told(broken, recording)
            evidence = {str(key): result.evidence for key, result in broken.items()}
            return Result(self.name, Verdict.INVALID, _reason(broken), anomalies, {"sets": evidence}, stats)
        if not any(result.verdict is Verdict.VALID for result in results.values()):
            return Result(self.name, Verdict.UNKNOWN, "no set was seen to keep an element", stats=stats)
        return Result(self.name, Verdict.VALID, stats=stats)


def _reason(broken: Mapping[Any, Result]) -> str:
    key, first = next(iter(broken.items()))
    return f"{plural(len(broken), 'set')} broken ({listed(list(broken))}); set {key}: {first.reason}"


def _told(broken: Mapping[Any, Result], recording: Recording) -> tuple[Anomaly, ...]:
    """The sets' anomalies, each lost element with the write that dropped it."""
    states = None if recording.archive is None else SetStates(recording.archive, recording.history)
    anomalies = []
    for key, result in broken.items():
        for anomaly in result.anomalies:
            if states is not None and anomaly.name == "set: lost":
                anomaly = states.explained(key, anomaly)
            anomalies.append(msgspec.structs.replace(anomaly, key=key))
    return tuple(anomalies[:_MOST_ANOMALIES])


def _stats(history: History, results: Mapping[Any, Result]) -> dict[str, Any]:
    adds = [operation for operation in history.operations if operation.f == "add"]
    errors = [operation.completion.error or "" for operation in adds if operation.completion is not None]
    return {
        "sets": len(results),
        "adds": len(adds),
        "refused_by_the_fence": sum(error.startswith(f"{FENCED}:") for error in errors),
    } | {what: sum(result.stats[what] for result in results.values()) for what in ("stable", "lost", "stale")}
