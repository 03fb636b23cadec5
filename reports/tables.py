"""The report's plain tables: what was run, operations by kind, errors by class, the harness's account of itself."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from splitvote.harness.op import Operation
from splitvote.harness.recording import RunConfig
from splitvote.reports.stored import StoredRun
from splitvote.reports.wording import count, duration, listed, shown

LAG_NOTED_MS: Final = 100.0
"""Above this the event loop's own lag is worth a note: it delays clients and faults visibly."""

_RAW_FILES: Final = (
    ("config.json", "what was run"),
    ("history.jsonl", "every operation"),
    ("faults.jsonl", "the journal of faults"),
    ("cluster.jsonl", "what members said of themselves"),
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
    latencies = [
        op.completion.time_ns - op.invoke.time_ns for op in operations if op.completion is not None and op.type == "ok"
    ]
    outcomes: Counter[str] = Counter(operation.type for operation in operations)
    if len(latencies) < 2:
        middle = latencies[0] if latencies else None
        return KindRow(f, outcomes, middle, middle)
    cuts = quantiles(latencies, n=100, method="inclusive")
    return KindRow(f, outcomes, cuts[49], cuts[98])


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


def run_facts(run: StoredRun) -> list[tuple[str, str]]:
    """What was run, as labels and words."""
    config = run.config
    if config is None:
        return [("length", duration(run.end_ns)), ("nodes", ", ".join(run.nodes) or "unknown")]
    facts = [
        ("workload", config.workload),
        ("cluster", f"{config.cluster}, {count(len(config.nodes), 'node')} ({', '.join(config.nodes)})"),
        ("versions", _versions(config)),
        ("faults asked for", ", ".join(config.faults) or "none"),
        ("seed", str(config.seed)),
        ("started", config.started_at),
        ("length", f"{duration(run.end_ns)} recorded, {config.time_s:g} s of operations asked for"),
        ("load", f"{config.rate:g} ops/s asked for, {count(config.concurrency, 'client thread')}"),
        ("splitvote", config.splitvote_version),
    ]
    said = {"nodes", "faults"}
    options = {name: value for name, value in sorted(config.options.items()) if name not in said}
    return facts + [
        (name.replace("_", " "), value if isinstance(value, str) else shown(value, 400))
        for name, value in options.items()
        if value not in ([], {}, None, "")
    ]


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
