"""What the index knows of one run: read from its config.json and results.json, whatever state they are in.

A store holds runs that are still going on, that were killed, and that another
version wrote.  Nothing here raises for what a file holds: what cannot be read
is absent, and ``problem`` says so.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from splitvote.harness.recording import RunConfig
from splitvote.harness.result import Expected, Verdict
from splitvote.harness.store import SCHEMA
from splitvote.reports.anomalies import title_of
from splitvote.reports.wording import figure, plain

T = TypeVar("T")
Counts = dict[str, float]

_REASON_CHARACTERS: Final = 300
_MOST_NAMES: Final = 40
"""Kinds of operations, errors, anomalies of one run that are listed; the most frequent first."""

_TIME_IN_NAME: Final = re.compile(r"(\d{8}T\d{6})-")
_SAID_ELSEWHERE: Final = frozenset({"nodes", "faults", "slo"})


class CheckerEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One checker's verdict, and why."""

    name: str
    verdict: Verdict
    reason: str = ""
    check_s: float | None = None


class AnomalyEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Anomalies of one name: the name as a title for people, and how many there are."""

    name: str
    title: str
    count: int


class RunEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run as the index shows it.

    ``verdict`` is None where it was never judged; ``faults`` maps families to
    [injected, proven] (-1: not known); times are ms where the name says so.
    """

    test: str
    run: str
    started_ms: int | None = None
    verdict: Verdict | None = None
    expected: Expected = "safe"
    failure: str | None = None
    interrupted: bool = False
    duration_s: float = 0.0
    workload: str = ""
    cluster: str = ""
    nodes: int = 0
    versions: tuple[str, ...] = ()
    splitvote: str = ""
    seed: int | None = None
    time_s: float = 0.0
    rate: float = 0.0
    concurrency: int = 0
    asked: tuple[str, ...] = ()
    options: dict[str, str] = {}
    command: str = ""
    defects: tuple[str, ...] = ()
    faults: dict[str, tuple[int, int]] = {}
    total: Counts = {}
    by_f: dict[str, Counts] = {}
    latency_ms: Counts = {}
    intent_ms: Counts = {}
    recovery_ms: Counts = {}
    unavailable: Counts = {}
    checkers: tuple[CheckerEntry, ...] = ()
    anomalies: tuple[AnomalyEntry, ...] = ()
    issues: tuple[str, ...] = ()
    slos: tuple[tuple[str, bool, str], ...] = ()
    errors: Counts = {}
    lag_ms: float | None = None
    problem: str | None = None


class _Details(msgspec.Struct):
    known_issue: Any = None


class _Anomaly(msgspec.Struct):
    name: str
    details: _Details = msgspec.field(default_factory=_Details)


class _Evidence(msgspec.Struct):
    slos: Any = None


class _Result(msgspec.Struct):
    checker: str
    verdict: Verdict
    reason: str | None = None
    anomalies: list[_Anomaly] = []
    evidence: _Evidence = msgspec.field(default_factory=_Evidence)
    stats: dict[str, Any] = {}


class _Results(msgspec.Struct):
    """The part of ``harness.store.Results`` that the index shows; operations and details are skipped unread."""

    verdict: Verdict
    results: list[_Result] = []
    duration_s: float = 0.0
    failure: str | None = None
    interrupted: bool = False
    harness: dict[str, Any] = {}
    expected: Expected = "safe"
    schema: int = SCHEMA


def read_entry(directory: Path, test: str, run: str) -> RunEntry:
    """Read one run's entry."""
    problems: list[str] = []
    config = _read(directory / "config.json", RunConfig, problems)
    results = _read(directory / "results.json", _Results, problems)
    if results is not None and results.schema > SCHEMA:
        problems.append(f"results.json is of schema {results.schema}, newer than this splitvote knows ({SCHEMA})")
    entry = RunEntry(
        test=test,
        run=run,
        started_ms=_started_ms(config.started_at if config is not None else "", run),
        problem="; ".join(problems) or None,
    )
    if config is not None:
        entry = msgspec.structs.replace(entry, **_of_config(config))
    if results is not None:
        entry = msgspec.structs.replace(entry, **_of_results(results))
    return entry


def _read(path: Path, kind: type[T], problems: list[str]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as problem:
        problems.append(f"{path.name} cannot be read ({plain(str(problem), 200)})")
        return None


def _started_ms(started_at: str, run: str) -> int | None:
    """When the run began, by its configuration, else by the name of its directory."""
    try:
        moment = datetime.fromisoformat(started_at)
    except ValueError:
        named = _TIME_IN_NAME.match(run)
        try:
            moment = datetime.strptime(named[1] if named else "", "%Y%m%dT%H%M%S")
        except ValueError:
            return None
    try:
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (OverflowError, OSError):
        return None


def _of_config(config: RunConfig) -> dict[str, Any]:
    options = {
        plain(name.replace("_", " "), 60): _option(value)
        for name, value in sorted(config.options.items())
        if name not in _SAID_ELSEWHERE and value not in ([], {}, None, "", False)
    }
    return {
        "workload": config.workload,
        "cluster": config.cluster,
        "nodes": len(config.nodes),
        "versions": tuple(sorted(set(config.system_versions.values()))),
        "splitvote": config.splitvote_version,
        "seed": config.seed,
        "time_s": config.time_s,
        "rate": config.rate,
        "concurrency": config.concurrency,
        "asked": config.faults,
        "options": options,
        "command": shlex.join(config.command),
        "defects": config.known_defects,
    }


def _option(value: Any) -> str:
    is_list_of_texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return figure(", ".join(value) if is_list_of_texts else value)


def _of_results(results: _Results) -> dict[str, Any]:
    stats = {result.checker: result.stats for result in results.results}
    figures = stats.get("stats", {})
    anomalies = [anomaly for result in results.results for anomaly in result.anomalies]
    named = Counter(anomaly.name for anomaly in anomalies).most_common(_MOST_NAMES)
    issues = (anomaly.details.known_issue for anomaly in anomalies)
    lag_ms = results.harness.get("worst_loop_lag_ms")
    return {
        "verdict": results.verdict,
        "expected": results.expected,
        "failure": None if results.failure is None else plain(results.failure, _REASON_CHARACTERS),
        "interrupted": results.interrupted,
        "duration_s": results.duration_s,
        "faults": _faults(figures.get("faults"), stats.get("vacuity", {}).get("proven_faults")),
        "total": _counts(figures.get("total")),
        "by_f": {plain(f, 60): _counts(row) for f, row in _items(figures.get("by_f"))},
        "latency_ms": _counts(figures.get("latency_ms")),
        "intent_ms": _counts(figures.get("latency_from_intent_ms")),
        "recovery_ms": _counts(figures.get("recovery_ms")),
        "unavailable": _counts(figures.get("unavailable")),
        "checkers": tuple(map(_checker, results.results)),
        "anomalies": tuple(AnomalyEntry(plain(name, 120), plain(title_of(name), 120), n) for name, n in named),
        "issues": tuple(dict.fromkeys(plain(issue, 300) for issue in issues if isinstance(issue, str))),
        "slos": tuple(_slos(results.results)),
        "errors": _counts(stats.get("errors", {}).get("by_class")),
        "lag_ms": lag_ms if isinstance(lag_ms, (int, float)) else None,
    }


def _checker(result: _Result) -> CheckerEntry:
    check_s = result.stats.get("check_s")
    return CheckerEntry(
        plain(result.checker, 120),
        result.verdict,
        plain(result.reason or "", _REASON_CHARACTERS),
        check_s if isinstance(check_s, (int, float)) else None,
    )


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items())[:_MOST_NAMES] if isinstance(value, Mapping) else []


def _counts(value: Any) -> Counts:
    """The numbers of a mapping by name; what is none is left out."""
    return {
        plain(name, 60): number
        for name, number in _items(value)
        if isinstance(number, (int, float)) and not isinstance(number, bool) and isfinite(number)
    }


def _faults(injected: Any, proven: Any) -> dict[str, tuple[int, int]]:
    """[injected, proven] by family; results from before the former was kept have the latter only."""
    if not isinstance(injected, Mapping):
        return {family: (-1, int(amount)) for family, amount in _counts(proven).items()}
    rows = {plain(family, 60): _counts(row) for family, row in _items(injected)}
    return {family: (int(row.get("injected", 0)), int(row.get("proven", 0))) for family, row in rows.items()}


def _slos(results: Iterable[_Result]) -> Iterable[tuple[str, bool, str]]:
    for result in results:
        for line in result.evidence.slos if isinstance(result.evidence.slos, list) else ():
            if isinstance(line, dict) and isinstance(line.get("slo"), str):
                measured = f"{line.get('measured', '')} {line.get('where', '')}".strip()
                yield plain(line["slo"], 80), bool(line.get("met")), plain(measured, 160)
