"""The report's plain tables: what was run, operations by kind, errors by class, the harness's account of itself."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from splitvote.harness.availability import Recovery
from splitvote.harness.op import Operation
from splitvote.harness.recording import RunConfig
from splitvote.harness.result import Result
from splitvote.harness.spans import FaultSpan
from splitvote.reports.stored import StoredRun
from splitvote.reports.wording import count, duration, listed, shown, times

LAG_NOTED_MS: Final = 100.0
"""Above this the event loop's own lag is worth a note: it delays clients and faults visibly."""

_RAW_FILES: Final = (
    ("config.json", "what was run"),
    ("history.jsonl", "every operation"),
    ("faults.jsonl", "the journal of faults"),
    ("cluster.jsonl", "what members said of themselves"),
    ("archive.jsonl", "the store's history as every member told it"),
    ("final.json", "the members' final state"),
    ("results.json", "the checkers' results"),
    ("logs", "the nodes' logs"),
    ("data", "the members' data directories"),
)


@dataclass(frozen=True, slots=True)
class KindRow:
    """Operations of one f: how they ended, and the latency of the ok ones in ns."""

    f: str
    outcomes: Counter[str]
    p50_ns: float | None
    p99_ns: float | None

    @property
    def total(self) -> int:
        """All of them."""
        return self.outcomes.total()


def kind_rows(operations: Sequence[Operation]) -> list[KindRow]:
    """One row an f by name, and one for all where there are several."""
    by_f: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_f[operation.f].append(operation)
    rows = [_kind_row(f, found) for f, found in sorted(by_f.items())]
    return [*rows, _kind_row("all", operations)] if len(rows) > 1 else rows


def _kind_row(f: str, operations: Sequence[Operation]) -> KindRow:
    import numpy as np

    latencies = [
        op.completion.time_ns - op.invoke.time_ns for op in operations if op.completion is not None and op.type == "ok"
    ]
    outcomes: Counter[str] = Counter(operation.type for operation in operations)
    if not latencies:
        return KindRow(f, outcomes, None, None)
    p50_ns, p99_ns = np.percentile(latencies, [50, 99]).tolist()
    return KindRow(f, outcomes, p50_ns, p99_ns)


@dataclass(slots=True)
class ErrorRow:
    """Errors of one class: how many by outcome and f, when first and last, and one in full."""

    name: str
    example: str
    example_index: int
    first_ns: int
    last_ns: int
    outcomes: Counter[str] = field(default_factory=Counter)
    fs: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All of them."""
        return self.outcomes.total()


def error_rows(operations: Sequence[Operation]) -> list[ErrorRow]:
    """Errors of clients' operations by class (what stands before the first colon), the most frequent first."""
    rows: dict[str, ErrorRow] = {}
    for operation in operations:
        completion = operation.completion
        if completion is None or completion.error is None:
            continue
        name, time_ns = completion.error.split(":", 1)[0][:120], completion.time_ns
        row = rows.setdefault(name, ErrorRow(name, completion.error, operation.invoke.index, time_ns, time_ns))
        row.last_ns = max(row.last_ns, time_ns)
        row.first_ns = min(row.first_ns, time_ns)
        row.outcomes[completion.type] += 1
        row.fs[operation.f] += 1
    return sorted(rows.values(), key=lambda row: (-row.total, row.name))


def run_facts(run: StoredRun, spans: Sequence[FaultSpan]) -> list[tuple[str, str]]:
    """What was run, as labels and words."""
    config = run.config
    if config is None:
        return [("length", duration(run.end_ns)), ("nodes", ", ".join(run.nodes) or "unknown")]
    workloads = config.workload.split("+")
    facts = [
        ("workload" if len(workloads) == 1 else "workloads", listed(workloads)),
        ("cluster", f"{config.cluster}, {count(len(config.nodes), 'node')} ({', '.join(config.nodes)})"),
        ("versions", _versions(config)),
        ("faults asked for", ", ".join(config.faults) or "none"),
        ("faults", faults_in_words(spans) or "none"),
        ("seed", str(config.seed)),
        ("started", config.started_at),
        ("length", f"{duration(run.end_ns)} recorded, {config.time_s:g} s of operations asked for"),
        ("load", f"{config.rate:g} ops/s asked for, {count(config.concurrency, 'client thread')}"),
        ("splitvote", config.splitvote_version),
    ]
    said = {"nodes", "faults", "slo"}
    return facts + [
        (name.replace("_", " "), _option(value))
        for name, value in sorted(config.options.items())
        if name not in said and value not in ([], {}, None, "", False)
    ]


def _option(value: Any) -> str:
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else shown(value, 400)


def faults_in_words(spans: Sequence[FaultSpan]) -> str | None:
    """How many faults of each family, and how many were proven; None where there was none."""
    if not spans:
        return None
    families = Counter(span.family for span in spans)
    proven, ended = sum(span.proven for span in spans), sum(span.heal_proven for span in spans)
    return f"{times(families)}; {proven} of {len(spans)} proven to take effect, {ended} proven to have ended"


def _versions(config: RunConfig) -> str:
    nodes_of: dict[str, list[str]] = defaultdict(list)
    for node, version in config.system_versions.items():
        nodes_of[version].append(node)
    if len(nodes_of) == 1:
        return f"{next(iter(nodes_of))} on every node" if len(config.system_versions) > 1 else next(iter(nodes_of))
    return listed([f"{version} on {', '.join(nodes)}" for version, nodes in nodes_of.items()]) or "unknown"


def repeat_command(run: StoredRun) -> str | None:
    """The command that runs this test again, as typed in a shell."""
    config = run.config
    if config is None:
        return None
    if config.command:
        return shlex.join(config.command)
    command = ["splitvote", "run", config.workload, "--cluster", config.cluster, "--nodes", str(len(config.nodes))]
    if config.faults:
        command += ["--faults", ",".join(config.faults)]
    command += ["--time", f"{config.time_s:g}", "--rate", f"{config.rate:g}"]
    return shlex.join([*command, "--concurrency", str(config.concurrency), "--seed", str(config.seed)])


@dataclass(frozen=True, slots=True)
class RecoveryBar:
    """How long one fault's system took to serve again, and that as percents of the longest."""

    span: FaultSpan
    time_ns: float
    percent: float


def recovery_bars(spans: Sequence[FaultSpan], recovered: Mapping[int, Recovery]) -> list[RecoveryBar]:
    """A bar a fault that ended, in the order in which they began."""
    longest_ns = max((found.time_ns for found in recovered.values()), default=0.0) or 1.0
    return [
        RecoveryBar(span, recovered[span.id].time_ns, 100 * recovered[span.id].time_ns / longest_ns)
        for span in spans
        if span.id in recovered
    ]


@dataclass(frozen=True, slots=True)
class SloRow:
    """One service level that was asked for, as the slo checker judged it."""

    text: str
    met: bool
    measured: str
    where: str
    time_ns: int | None


def slo_rows(results: Iterable[Result]) -> list[SloRow]:
    """The service levels of the run, the missed ones first; lines of another shape are left out."""
    rows = []
    for result in results:
        lines = result.evidence.get("slos") if result.checker == "slo" else None
        for line in lines if isinstance(lines, list) else ():
            if not isinstance(line, dict) or not isinstance(line.get("slo"), str):
                continue
            time_ns = line.get("time_ns")
            row = SloRow(
                text=line["slo"],
                met=bool(line.get("met")),
                measured=str(line.get("measured", "")),
                where=str(line.get("where", "")),
                time_ns=time_ns if isinstance(time_ns, int) else None,
            )
            rows.append(row)
    return sorted(rows, key=lambda row: row.met)


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file or folder of the run beside the report."""

    name: str
    what: str
    size_bytes: int | None


def raw_files(directory: Path) -> list[RawFile]:
    """Those of the run's files that are there."""
    return [
        RawFile(name, what, (directory / name).stat().st_size if (directory / name).is_file() else None)
        for name, what in _RAW_FILES
        if (directory / name).exists()
    ]


def harness_notes(run: StoredRun) -> list[str]:
    """What the harness has to say of itself: its lag, its stalls, whatever results.json holds beside."""
    notes = []
    lags = sorted(sample.loop_lag_ms for sample in run.samples)
    if lags:
        worst, middle = lags[-1], lags[len(lags) // 2]
        said = f"The harness's event loop was at most {worst:.1f} ms late (median {middle:.1f} ms)"
        calm = "it did not disturb the run" if worst < LAG_NOTED_MS else "clients and faults were late by as much"
        notes.append(f"{said}: {calm}.")
    if run.final is not None and run.final.stalls_ms:
        stalls = run.final.stalls_ms
        notes.append(
            f"It stalled {count(len(stalls), 'time')}, at most {max(stalls):.0f} ms, {sum(stalls):.0f} ms in all."
        )
    if run.final is not None and run.final.recovery_s is not None:
        bound = f" (bound {run.final.recovery_bound_s:g} s)" if run.final.recovery_bound_s is not None else ""
        notes.append(f"After the final heal every member served again within {run.final.recovery_s:.2f} s{bound}.")
    return notes


def harness_figures(run: StoredRun) -> list[tuple[str, Any]]:
    """The figures the harness left in results.json."""
    if run.results is None:
        return []
    return [
        (name.replace("_", " "), value) for name, value in run.results.harness.items() if value not in ([], {}, None)
    ]
