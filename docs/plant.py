"""Plant one defect into the history of a healthy run, judge it anew and write its report.

    python docs/plant.py CASE RUN OUT

CASE is ``stale-read`` (RUN of the register workload) or ``lost-append`` (RUN of append).  A
member that a fault had hit is made to answer one read as if it had missed the last
acknowledged write: nothing else of the run is changed, so that its report shows how a
defect of that kind looks.  The command that made docs/report-cases.md's pictures.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from splitvote.harness.judge import checkers_of_run, judge, overall
from splitvote.harness.op import Op, Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Verdict
from splitvote.harness.spans import FaultSpan, fault_spans
from splitvote.harness.store import Results, RunDirectory, load_recording
from splitvote.reports import write_report

_KEPT = ("config.json", "faults.jsonl", "cluster.jsonl", "final.json", "archive.jsonl", "logs")
_AFTER_NS = 500_000_000
"""How long after its end a fault may still explain what a member answers."""


def hit_then(recording: Recording, operation: Operation) -> FaultSpan | None:
    """The fault that had hit the member which answered, active then or just over."""
    completion = operation.completion
    if completion is None or completion.node is None:
        return None
    for span in fault_spans(recording.faults):
        begun = span.active_ns is not None and span.active_ns < operation.invoke.time_ns
        if (
            begun
            and completion.time_ns < span.until(completion.time_ns) + _AFTER_NS
            and completion.node in span.targets
        ):
            return span
    return None


def stale_reads(recording: Recording) -> Iterator[Op]:
    """Answers of reads changed to the value before the last acknowledged write."""
    for operations in recording.history.by_key().values():
        if any(operation.type == "info" for operation in operations):
            continue  # an unknown write could explain the answer
        writes = [op for op in operations if op.f == "write" and op.type == "ok"]
        for read in operations:
            if read.f != "read" or read.completion is None or read.type != "ok" or hit_then(recording, read) is None:
                continue
            before = [op for op in writes if op.completion and op.completion.time_ns < read.invoke.time_ns]
            if len(before) >= 2 and before[-1].invoke.value == read.completion.value:
                yield replace(read.completion, value=before[-2].invoke.value)


def lost_appends(recording: Recording) -> Iterator[Op]:
    """Answers of transactions in which one list lacks its last element, whose append had been acknowledged."""
    acknowledged: dict[tuple[Any, Any], int] = {}
    operations = [op for op in recording.history.operations if op.type == "ok" and op.completion is not None]
    for operation in operations:
        for f, key, value in operation.output:
            if f == "append" and operation.completion is not None:
                acknowledged[key, value] = operation.completion.time_ns
    for operation in operations:
        if hit_then(recording, operation) is None or operation.completion is None:
            continue
        own = {key for f, key, _ in operation.output if f == "append"}
        for place, (f, key, value) in enumerate(operation.output):
            if f != "r" or not value or key in own:
                continue
            if acknowledged.get((key, value[-1]), sys.maxsize) < operation.invoke.time_ns:
                answer = [list(part) for part in operation.output]
                answer[place][2] = value[:-1]
                yield replace(operation.completion, value=answer)


CASES = {"stale-read": stale_reads, "lost-append": lost_appends}


def plant(recording: Recording, changed: Op) -> list[Op]:
    """The history's records with one answer changed."""
    return [changed if op.index == changed.index else op for op in recording.history]


def write(source: Path, out: Path, records: Sequence[Op]) -> Results:
    """Store the changed run beside nothing of the old one, judged and with its report."""
    out.mkdir(parents=True)
    for name in _KEPT:
        if (source / name).is_dir():
            shutil.copytree(source / name, out / name)
        elif (source / name).exists():
            shutil.copyfile(source / name, out / name)
    run = RunDirectory(out)
    run.history.write_bytes(b"".join(msgspec.json.encode(op) + b"\n" for op in records))
    recording = load_recording(out)
    assert recording.config is not None
    results = judge(recording, checkers_of_run(recording.config), timeout_s=60)
    found = Results(overall(results), tuple(results), duration_s=recording.config.time_s)
    run.write_json(run.results, found)
    write_report(out)
    return found


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    recording = load_recording(options.run)
    changed = next(CASES[options.case](recording), None)
    if changed is None:
        print(f"{options.run} has no answer that could hide such a defect: make a longer run with more faults")
        return 3
    found = write(options.run, options.out, plant(recording, changed))
    print(
        f"record {changed.index}, answered by {changed.node} at {changed.time_ns / 1e9:.3f} s, is {changed.value!r} now"
    )
    print(f"verdict: {found.verdict}; report: {options.out / 'report.html'}")
    return 0 if found.verdict is Verdict.INVALID else 1


if __name__ == "__main__":
    sys.exit(main())
