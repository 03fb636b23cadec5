"""Judging: which checkers a run or a history from elsewhere gets, running them, and saying what they found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from splitvote.checkers.expectation import LABEL, expected_of
from splitvote.checkers.library import NAMES as LIBRARY
from splitvote.checkers.linearizability.model import NondeterministicModel
from splitvote.harness.errors import ConfigError, unknown
from splitvote.harness.recording import Recording, RunConfig
from splitvote.harness.result import Budget, Checker, Result, Verdict, run_checker, worst
from splitvote.harness.store import Results, RunDirectory, load_recording, load_results, open_run

if TYPE_CHECKING:
    from splitvote.workloads import Together

T = TypeVar("T")

MEMORY_BOUND_BYTES: Final = 8 << 30
_ANOMALIES_SHOWN: Final = 5


def checkers_of_run(config: RunConfig) -> list[Checker]:
    """The workload's own checkers, then those of every run."""
    from splitvote.checkers.agreement import AgreementChecker
    from splitvote.checkers.liveness import LivenessChecker
    from splitvote.checkers.logs import LogPatternChecker
    from splitvote.checkers.slo import SloChecker, parse_slo
    from splitvote.checkers.stats import StatsChecker
    from splitvote.checkers.store_history import StoreHistoryChecker
    from splitvote.checkers.unhandled import UnhandledErrorsChecker
    from splitvote.checkers.vacuity import VacuityChecker

    workload = workloads_of(
        config.workload,
        concurrency=config.concurrency,
        rate=config.rate,
        time_s=config.time_s,
        options=config.options,
    )
    families = tuple(dict.fromkeys(fault.partition(":")[0] for fault in config.faults))
    planned = families if config.planned_faults is None else config.planned_faults
    return [
        *workload.checkers,
        AgreementChecker(),
        StoreHistoryChecker([f"{each.name}/" for each in workload.workloads]),
        LivenessChecker(),
        LogPatternChecker(),
        UnhandledErrorsChecker(),
        VacuityChecker(workload.least_ok, families, planned),
        StatsChecker(),
        *([SloChecker([parse_slo(slo) for slo in slos])] if (slos := config.options.get("slo")) else []),
    ]


def workloads_of(names: str, *, concurrency: int, rate: float, time_s: float, options: Mapping[str, Any]) -> Together:
    """The workloads of a run, from the command line's options or those kept in config.json.

    Raises ConfigError for names and options that there are not.
    """
    from splitvote.workloads import NAMES, WorkloadOptions, workloads_named

    known = WorkloadOptions(
        concurrency=max(1, concurrency),
        rate=rate or 1.0,
        keys=options.get("keys"),
        ops_per_key=options.get("ops_per_key") or 200,
        timeout_s=options.get("op_timeout_s") or 2.0,
        time_s=time_s,
        avoid=frozenset(options.get("avoid") or ()),
        extra=options.get("workload_options") or {},
    )
    try:
        return workloads_named(names, known)
    except KeyError as missing:
        raise ConfigError(unknown("workload", str(missing.args[0]), NAMES)) from None


def judge(recording: Recording, checkers: Sequence[Checker], *, timeout_s: float) -> list[Result]:
    """Run every checker, each under its own budget, and name the known issues among what they find."""
    from splitvote.checkers.known_issues import name_known_issues

    results = [
        run_checker(checker, recording, Budget(time_s=timeout_s, memory_bytes=MEMORY_BOUND_BYTES))
        for checker in checkers
    ]
    return name_known_issues(results, recording)


def overall(results: Sequence[Result]) -> Verdict:
    """The worst verdict."""
    return worst(result.verdict for result in results)


def check_path(
    *,
    path: Path,
    format_: str,
    model: str | None,
    workload: str | None,
    drop_failed_cas: bool,
    timeout_s: float,
    as_json: bool,
    html: Path | None,
    options: Sequence[str],
) -> int:
    """Judge what is at ``path`` and print it; returns the exit code.

    A run's directory is judged by its own checkers, unless a model or workload
    is named; results.json is written only where there is none (a killed run).
    """
    own_run = _run_at(path) if format_ == "auto" and model is None and workload is None else None
    if own_run is not None:
        recording = load_recording(own_run.path)
        checkers = checkers_of_run(_config_of(recording, own_run))
    else:
        recording = _read_foreign(path, format_)
        checkers = [_foreign_checker(model, workload, parse_options(options), drop_failed_cas=drop_failed_cas)]
        _ = recording.history.operations  # a history that does not pair is the file's fault, not a checker's
    results = judge(recording, checkers, timeout_s=timeout_s)
    found = Results(overall(results), tuple(results), expected=expected_of(results))
    if own_run is not None and load_results(own_run.path) is None:
        own_run.write_json(own_run.results, found)
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found, enc_hook=repr), indent=1).decode() + "\n")
    else:
        for line in verdict_lines(found):
            click.echo(line)
    if html is not None:
        _write_html(html, path, recording, found)
    return found.verdict.exit_code


def _run_at(path: Path) -> RunDirectory | None:
    if not path.exists():
        raise ConfigError(f"{path} does not exist; give a run's directory or a history file")
    if path.is_dir() or path.name == "history.jsonl":
        run = open_run(path)
        return run if run.config.exists() or path.is_dir() else None
    return None


def _config_of(recording: Recording, run: RunDirectory) -> RunConfig:
    if recording.config is None:
        raise ConfigError(f"{run.path} has no config.json, so its workload is unknown; give --workload or --model")
    return recording.config


def _read_foreign(path: Path, format_: str) -> Recording:
    from splitvote.harness.formats import FORMATS, read_any

    for known in FORMATS:
        if format_ == known:
            return Recording(read_any(path, known))
    raise ConfigError(unknown("format", format_, FORMATS))


FOREIGN_WORKLOADS: Final = ("register", "append", "wr", *LIBRARY)
"""What `check --workload` judges histories from elsewhere as: our own, Elle's two, and Jepsen's library."""


def _foreign_checker(
    model: str | None, workload: str | None, options: Mapping[str, Any], *, drop_failed_cas: bool
) -> Checker:
    from splitvote.checkers.linearizability import MODELS, LinearizabilityChecker

    if model is None and workload not in (None, "register"):
        return _checker_of_workload(workload, options)
    name = model or ("cas-register" if workload else None)
    if name is None:
        raise ConfigError(f"say how to judge it: --workload, or --model (one of {', '.join(MODELS)})")
    if name not in MODELS:
        raise ConfigError(unknown("model", name, sorted(MODELS)))
    made = _made("--model", name, lambda: MODELS[name](**options))
    plain = made.to_model() if isinstance(made, NondeterministicModel) else made
    return LinearizabilityChecker(model=plain, drop_failed_cas=drop_failed_cas)


def _checker_of_workload(workload: str, options: Mapping[str, Any]) -> Checker:
    from splitvote.checkers.isolation import ListAppendChecker, RwRegisterChecker
    from splitvote.checkers.library import checker_named

    elles: dict[str, Callable[..., Checker]] = {"append": ListAppendChecker, "wr": RwRegisterChecker}
    if workload in elles:
        return _made("--workload", workload, lambda: elles[workload](**options))
    return _made("--workload", workload, lambda: checker_named(workload, options))


def _made(flag: str, name: str, make: Callable[[], T]) -> T:
    """Make a checker or model; options that it does not have are the user's mistake."""
    try:
        return make()
    except TypeError as problem:
        raise ConfigError(f"{flag} {name}: {problem}; see --option") from None


def parse_options(given: Sequence[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` pairs, the value as JSON or, where it is none, as text."""
    options: dict[str, Any] = {}
    for pair in given:
        name, sign, value = pair.partition("=")
        name = name.replace("-", "_")
        if not sign or not name.isidentifier():
            raise ConfigError(f"--option {pair}: write NAME=VALUE, such as total=100 or initial='{{\"x\": 0}}'")
        try:
            options[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            options[name] = value
    return options


def _write_html(html: Path, history: Path, recording: Recording, found: Results) -> None:
    """Write a report of a history from elsewhere; a huge one's details go beside it, as beside a run's."""
    import shutil
    import tempfile

    from splitvote.harness.formats import write_jsonl
    from splitvote.reports import write_report

    with tempfile.TemporaryDirectory() as scratch:
        run = RunDirectory(Path(scratch) / "check" / history.name)
        run.path.mkdir(parents=True)
        write_jsonl(recording.history, run.history)
        run.write_json(run.results, found)
        report = write_report(run.path)
        shutil.copyfile(report, html)
        for details in report.parent.glob("report-details"):
            shutil.copytree(details, html.parent / details.name, dirs_exist_ok=True)
    click.echo(f"report: {html}")


def verdict_lines(found: Results) -> list[str]:
    """The verdict in a few lines for a terminal: each checker's, and the worst anomalies in words."""
    lines = []
    for result in found.results:
        line = f"  {result.verdict:<10} {result.checker}"
        engines = result.stats.get("engines")
        if engines:
            line += f" ({', '.join(f'{engine}: {count}' for engine, count in engines.items())})"
        line += f"  {result.stats.get('check_s', 0):.3f} s"
        lines.append(line + (f"\n{'':13}{result.reason}" if result.reason else ""))
        shown = [
            anomaly for anomaly in result.anomalies[:_ANOMALIES_SHOWN] if anomaly.story not in (result.reason or "")
        ]
        lines += [f"{'':13}- {anomaly.name}: {anomaly.story}" for anomaly in shown]
        issues = dict.fromkeys(anomaly.details.get("known_issue") for anomaly in result.anomalies)
        lines += [f"{'':13}known issue of etcd, {issue}" for issue in issues if issue]
        if len(result.anomalies) > _ANOMALIES_SHOWN:
            lines.append(f"{'':13}- and {len(result.anomalies) - _ANOMALIES_SHOWN} more")
    return [f"verdict: {found.verdict}{_expectation(found)}", *lines]


def _expectation(found: Results) -> str:
    if found.expected == "safe":
        return ""
    return f" ({LABEL})" if found.verdict is Verdict.INVALID else f" ({LABEL}; this run did not show it)"
