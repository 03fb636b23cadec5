"""Service levels that a run is held to: ``recovery<5s``, ``p99<100ms``, ``availability>99%``.

A cluster may be consistent and yet too slow to be of use.  Each objective is one
figure of the whole run, faults included, against a bound:

================  =============================================================
``recovery``      the longest time any fault's system took to serve again
``unavailable``   the longest window without success (those in which the plan
                  itself takes the quorum away do not count)
``availability``  the share of operations that the system answered
``p50`` ... ``p99.9``, ``max``  latency of ok operations from their intended
                  start, so that waiting for a stalled system counts
``throughput``    ok operations a second
================  =============================================================

Latency, availability and throughput may be asked for one f only, ``p99:get<10ms``.
Definitions are those of ``splitvote.harness.availability``.  What cannot be
measured (recovery in a run without faults) is not missed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from splitvote.harness.availability import is_answered, recoveries, unavailable_windows
from splitvote.harness.errors import ConfigError
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict
from splitvote.harness.spans import FaultSpan, fault_spans

_UNITS_S: Final = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_FORM: Final = re.compile(r"([a-z0-9.]+)(?::([^<>=\s]+))?\s*(<=?|>=?)\s*(\d+(?:\.\d+)?)\s*(%|[a-zµ/]+)?")
_QUANTILE: Final = re.compile(r"p(\d{1,2}(?:\.\d+)?)")
_HELP: Final = "write such as recovery<5s, unavailable<3s, availability>99%, p99<100ms, p99:get<10ms or throughput>100"


@dataclass(frozen=True, slots=True)
class Slo:
    """One objective; ``bound`` is in seconds, a share or operations a second, as its figure is."""

    text: str
    figure: str
    f: str | None
    is_at_most: bool
    is_strict: bool
    bound: float

    def is_met_by(self, value: float) -> bool:
        """Whether a measured value keeps to the bound."""
        if value == self.bound:
            return not self.is_strict
        return (value < self.bound) == self.is_at_most


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure's value, None where there was nothing to measure, and where in the run it comes from."""

    value: float | None
    where: str = ""
    at_ns: int | None = None


def parse_slo(text: str) -> Slo:
    """Read one objective; raises ConfigError, saying how to write it."""
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise ConfigError(f"--slo {text}: {_HELP}")
    figure, f, sign, number, unit = form.groups()
    kind = _kind_of(figure)
    if kind is None:
        raise ConfigError(f"--slo {text}: there is no figure {figure!r}; {_HELP}")
    if f is not None and figure in ("recovery", "unavailable"):
        raise ConfigError(f"--slo {text}: {figure} is of the whole run, not of one kind of operation; {_HELP}")
    is_at_most = kind == "duration"
    if is_at_most != (sign[0] == "<"):
        raise ConfigError(f"--slo {text}: {figure} has to be {'below' if is_at_most else 'above'} its bound; {_HELP}")
    return Slo(text.strip(), figure, f, is_at_most, len(sign) == 1, _bound(text, kind, float(number), unit))


def _kind_of(figure: str) -> str | None:
    if figure in ("recovery", "unavailable", "max") or _QUANTILE.fullmatch(figure):
        return "duration"
    return {"availability": "share", "throughput": "rate"}.get(figure)


def _bound(text: str, kind: str, number: float, unit: str | None) -> float:
    if kind == "duration" and unit in _UNITS_S:
        return number * _UNITS_S[unit]
    if kind == "share" and unit == "%" and number <= 100:
        return number / 100
    if kind == "rate" and unit in (None, "/s"):
        return number
    wanted = {"duration": "a time: us, ms, s or min", "share": "a share up to 100%", "rate": "operations a second"}
    raise ConfigError(f"--slo {text}: its bound has to be {wanted[kind]}; {_HELP}")


class SloChecker:
    """SLO_MISSED where a run's figures do not keep to their bounds."""

    name = "slo"

    def __init__(self, slos: Sequence[Slo]) -> None:
        self._slos = tuple(slos)

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Measure every figure that is asked for; ``evidence["slos"]`` has a line for each objective."""
        figures = _Figures(recording)
        lines, missed = [], []
        for slo in self._slos:
            budget.check()
            found = figures.measure(slo)
            is_met = found.value is None or slo.is_met_by(found.value)
            told = "nothing to measure" if found.value is None else in_words(slo, found.value)
            lines.append(
                {"slo": slo.text, "met": is_met, "measured": told, "where": found.where, "time_ns": found.at_ns}
            )
            if not is_met:
                missed.append(f"{slo.text} missed: {told}{f' {found.where}' if found.where else ''}")
        evidence = {"slos": lines}
        if missed:
            return Result(self.name, Verdict.SLO_MISSED, "; ".join(missed), evidence=evidence)
        return Result(self.name, Verdict.VALID, evidence=evidence)


def in_words(slo: Slo, value: float) -> str:
    """A measured value in the unit that its objective's kind has."""
    match _kind_of(slo.figure):
        case "share":
            return f"{100 * value:.3f} %"
        case "rate":
            return f"{value:.1f} a second"
        case _:
            return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


class _Figures:
    """The figures of one run, each computed when asked for."""

    def __init__(self, recording: Recording) -> None:
        self._operations: Sequence[Operation] = recording.history.operations
        self._spans: list[FaultSpan] = fault_spans(recording.faults)

    def measure(self, slo: Slo) -> Measured:
        """The figure of an objective."""
        operations = [op for op in self._operations if slo.f is None or op.f == slo.f]
        other: dict[str, Callable[[], Measured]] = {
            "recovery": self._recovery,
            "unavailable": self._unavailable,
            "availability": lambda: _availability(operations),
            "throughput": lambda: _throughput(operations),
        }
        if slo.figure in other:
            return other[slo.figure]()
        return _latency(operations, 1.0 if slo.figure == "max" else float(slo.figure[1:]) / 100)

    def _recovery(self) -> Measured:
        found = recoveries(self._operations, self._spans)
        spans = [span for span in self._spans if span.id in found]
        worst = max(spans, key=lambda span: found[span.id].time_ns, default=None)
        if worst is None:
            return Measured(None)
        return Measured(found[worst.id].time_ns / 1e9, f"after fault {worst.id}, {worst.title}", worst.healing_ns)

    def _unavailable(self) -> Measured:
        last_ns = max((_end_ns(operation) for operation in self._operations), default=0)
        windows = [
            window for window in unavailable_windows(self._operations, self._spans, last_ns) if not window.planned
        ]
        worst = max(windows, key=lambda window: window.end_ns - window.start_ns, default=None)
        if worst is None:
            return Measured(0.0 if self._operations else None)
        length_s = (worst.end_ns - worst.start_ns) / 1e9
        return Measured(length_s, f"from {worst.start_ns / 1e9:.3f} s", worst.start_ns)


def _availability(operations: Sequence[Operation]) -> Measured:
    if not operations:
        return Measured(None)
    answered = sum(map(is_answered, operations))
    return Measured(answered / len(operations), f"({len(operations) - answered:,} of {len(operations):,} unanswered)")


def _throughput(operations: Sequence[Operation]) -> Measured:
    if not operations:
        return Measured(None)
    length_ns = max(map(_end_ns, operations)) - operations[0].invoke.time_ns
    succeeded = sum(operation.type == "ok" for operation in operations)
    return Measured(succeeded / (length_ns / 1e9) if length_ns > 0 else None)


def _latency(operations: Sequence[Operation], share: float) -> Measured:
    """The nearest-rank quantile, so that the figure is one that some operation had."""
    took = []
    for operation in operations:
        if operation.completion is not None and operation.type == "ok":
            invoke = operation.invoke
            since_ns = invoke.time_ns if invoke.intended_ns is None else min(invoke.intended_ns, invoke.time_ns)
            took.append((operation.completion.time_ns - since_ns, invoke.index, invoke.time_ns))
    if not took:
        return Measured(None)
    took.sort()
    latency_ns, index, at_ns = took[max(0, ceil(len(took) * share) - 1)]
    return Measured(latency_ns / 1e9, f"(op {index})", at_ns)


def _end_ns(operation: Operation) -> int:
    return operation.invoke.time_ns if operation.completion is None else operation.completion.time_ns
