"""A run as JUnit XML, for what CI systems show of tests: a case a checker, and one a key or objective it speaks of.

A case's kind follows the exit codes, so that no page is green for a run that
proved nothing: INVALID and SLO_MISSED are failures, UNKNOWN is an error (a
skipped case would count as passed), and so is a harness that failed.  A
checker's own case always carries its whole verdict; cases of single keys and
objectives say which.  INVALID of a workload that is expected to be unsafe is a
failure too, as its exit code is, and says so in its type.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as Xml

from splitvote.harness.errors import EnvironmentFailure
from splitvote.harness.recording import RunConfig
from splitvote.harness.result import Anomaly, Result, Verdict
from splitvote.harness.store import Results, load_config, load_results, open_run
from splitvote.reports.wording import figure, plain

_MOST_KEYS: Final = 50
"""Keys of one checker that get a case of their own; the checker's own case counts all."""

_MOST_STORIES: Final = 20
_STORY_CHARACTERS: Final = 1_000
_ELEMENTS: Final = {Verdict.INVALID: "failure", Verdict.SLO_MISSED: "failure", Verdict.UNKNOWN: "error"}


@dataclass(frozen=True, slots=True)
class Case:
    """One test case: ``verdict`` VALID passes; ``kind`` is the type a failure or an error has."""

    name: str
    verdict: Verdict
    kind: str = ""
    message: str = ""
    lines: tuple[str, ...] = ()
    time_s: float = 0.0


def write_junit(run_path: Path, output: Path) -> Path:
    """Write a stored run as JUnit XML and return the file's path.

    Raises ConfigError when there is no such run, HistoryError where its
    results.json or config.json is damaged, EnvironmentFailure when the file
    cannot be written.
    """
    run = open_run(run_path)
    text = junit(run.test, run.path.name, load_config(run.path), load_results(run.path))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as failure:
        raise EnvironmentFailure(f"cannot write --junit {output}: {failure.strerror}") from failure
    return output


def junit(test: str, run: str, config: RunConfig | None, results: Results | None) -> str:
    """The XML of one run's results (None: it was never judged)."""
    cases = list(cases_of(results))
    suite = Xml.Element("testsuite", name=_text(f"splitvote {test}"), tests=str(len(cases)), skipped="0")
    for element in ("failure", "error"):
        amount = sum(_ELEMENTS.get(case.verdict) == element for case in cases)
        suite.set(f"{element}s", str(amount))
    suite.set("time", f"{results.duration_s if results is not None else 0:.3f}")
    if config is not None:
        suite.set("timestamp", _text(config.started_at))
    properties = Xml.SubElement(suite, "properties")
    for name, value in _properties(run, config, results):
        Xml.SubElement(properties, "property", name=_text(name), value=_text(value))
    for case in cases:
        _append(suite, case, test)
    root = Xml.Element("testsuites", {name: suite.attrib[name] for name in ("tests", "failures", "errors", "time")})
    root.append(suite)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def cases_of(results: Results | None) -> Iterator[Case]:
    """Every case of a run, in the order of its checkers."""
    if results is None:
        yield Case("judged", Verdict.UNKNOWN, "NOT_JUDGED", "no checker has seen this run: splitvote check judges it")
        return
    if results.failure is not None:
        message = f"the harness failed, verdicts speak of what came before: {plain(results.failure, 300)}"
        yield Case("harness", Verdict.UNKNOWN, "HARNESS_FAILED", message)
    for result in results.results:
        yield _case_of(result)
        yield from _cases_of_keys(result)
        yield from _cases_of_objectives(result)


def _case_of(result: Result) -> Case:
    check_s = result.stats.get("check_s", 0.0)
    return Case(
        plain(result.checker, 120),
        result.verdict,
        _kind(result),
        plain(result.reason or "", _STORY_CHARACTERS),
        tuple(_stories(result.anomalies)),
        check_s if isinstance(check_s, (int, float)) else 0.0,
    )


def _kind(result: Result) -> str:
    is_expected = result.verdict is Verdict.INVALID and result.expected == "unsafe"
    return "INVALID (expected: unsafe)" if is_expected else str(result.verdict)


def _stories(anomalies: Iterable[Anomaly]) -> Iterator[str]:
    found = list(anomalies)
    for anomaly in found[:_MOST_STORIES]:
        yield f"{plain(anomaly.name, 120)}: {plain(anomaly.story, _STORY_CHARACTERS)}"
    if len(found) > _MOST_STORIES:
        yield f"and {len(found) - _MOST_STORIES} more in results.json"
    for issue in dict.fromkeys(anomaly.details.get("known_issue") for anomaly in found):
        if isinstance(issue, str):
            yield f"known issue of etcd, {plain(issue, 300)}"


def _cases_of_keys(result: Result) -> Iterator[Case]:
    """A case for each key with an anomaly, and for each that could not be decided."""
    by_key: dict[str, list[Anomaly]] = {}
    for anomaly in result.anomalies:
        if anomaly.key is not None:
            by_key.setdefault(figure(anomaly.key, 120), []).append(anomaly)
    undecided = result.evidence.get("undecided")
    waiting = [item for item in undecided if isinstance(item, dict)] if isinstance(undecided, list) else []
    cases = [
        Case(
            _name_of_key(result, key),
            result.verdict,
            _kind(result),
            plain(found[0].story, _STORY_CHARACTERS),
            tuple(_stories(found)),
        )
        for key, found in by_key.items()
    ]
    cases += [
        Case(
            _name_of_key(result, figure(item.get("key"), 120)),
            Verdict.UNKNOWN,
            str(Verdict.UNKNOWN),
            plain(str(item.get("reason") or "undecided"), _STORY_CHARACTERS),
        )
        for item in waiting
        if item.get("key") is not None
    ]
    yield from cases[:_MOST_KEYS]


def _name_of_key(result: Result, key: str) -> str:
    return f"{plain(result.checker, 120)}: key {key}"


def _cases_of_objectives(result: Result) -> Iterator[Case]:
    """A case for each service level that was asked for."""
    objectives = result.evidence.get("slos")
    for line in objectives if isinstance(objectives, list) else ():
        if isinstance(line, dict) and isinstance(line.get("slo"), str):
            measured = plain(f"{line.get('measured', '')} {line.get('where', '')}".strip(), 300)
            verdict = Verdict.VALID if line.get("met") else Verdict.SLO_MISSED
            yield Case(f"{plain(result.checker, 120)}: {plain(line['slo'], 120)}", verdict, str(verdict), measured)


def _properties(run: str, config: RunConfig | None, results: Results | None) -> Iterator[tuple[str, str]]:
    yield "run", run
    if results is not None:
        yield "verdict", str(results.verdict)
        yield "exit code", str(3 if results.failure is not None else results.verdict.exit_code)
        if results.expected == "unsafe":
            yield "expected", "unsafe"
    if config is not None:
        yield "seed", str(config.seed)
        yield "cluster", f"{config.cluster}, {len(config.nodes)} nodes"
        yield "versions", ", ".join(sorted(set(config.system_versions.values())))
        yield "faults", ", ".join(config.faults)
        for defect in config.known_defects:
            yield "known defect", defect
        yield "command", shlex.join(config.command)


def _append(suite: Xml.Element, case: Case, test: str) -> None:
    made: dict[str, Any] = {"classname": _text(f"splitvote.{test}"), "name": _text(case.name)}
    element = Xml.SubElement(suite, "testcase", made, time=f"{case.time_s:.3f}")
    if case.verdict in _ELEMENTS:
        told = Xml.SubElement(element, _ELEMENTS[case.verdict], type=case.kind, message=_text(case.message))
        told.text = "\n".join(map(_text, case.lines)) or None


def _text(text: str) -> str:
    """Text that XML can hold: what does not print, which includes all it cannot, as escapes."""
    return plain(text, 8_000)
