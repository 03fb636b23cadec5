"""Compaction: what it must refuse from then on, and what it must not refuse before it was asked for.

A compaction is a write: once it is acknowledged at revision C, a linearizable
read of an older revision is refused (etcd moves the compact revision at the
apply, before anything is removed), and a read at C itself is legal.  A
serializable read may still be served by a member that has not got so far.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from splitvote.checkers.compactions import Compactions
from splitvote.checkers.findings import Findings
from splitvote.checkers.kv.requests import is_stale_read, past_reads
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording


def check_compaction(recording: Recording, operations: Sequence[Operation], findings: Findings) -> None:
    """Tell of reads refused before anybody asked for it, and of reads that a compaction should have refused."""
    _check_refused(operations, Compactions(recording, operations), findings)
    _check_served(operations, findings)


def _check_refused(operations: Sequence[Operation], compactions: Compactions, findings: Findings) -> None:
    for operation in operations:
        completion = operation.completion
        if completion is None or completion.type == "ok" or not (completion.error or "").startswith("compacted"):
            continue
        oldest = min(past_reads(operation.invoke.value), default=None) if operation.f != "compact" else None
        if oldest is None:
            continue
        furthest = compactions.furthest_by(completion.time_ns)
        if furthest <= oldest:
            findings.add(
                "kv: compacted too early",
                f"a {operation.f} at revision {oldest} was refused as compacted, though nobody had asked for a "
                f"compaction beyond revision {furthest}",
                [operation],
                revision=oldest,
            )


def _check_served(operations: Sequence[Operation], findings: Findings) -> None:
    times: list[int] = []
    newest: list[Operation] = []
    for each in sorted(
        (each for each in operations if each.f == "compact" and each.type == "ok"),
        key=lambda each: each.completion.index if each.completion is not None else 0,
    ):
        assert each.completion is not None
        if not newest or each.invoke.value[1] > newest[-1].invoke.value[1]:
            times.append(each.completion.index)
            newest.append(each)
    for operation in operations:
        place = bisect_left(times, operation.invoke.index)
        if operation.type != "ok" or not place or operation.f == "compact" or is_stale_read(operation.invoke.value):
            continue
        compacted = newest[place - 1]
        oldest = min(past_reads(operation.invoke.value, operation.output), default=None)
        if oldest is not None and oldest < compacted.invoke.value[1]:
            findings.add(
                "kv: read of the compacted",
                f"a {operation.f} read revision {oldest}, though a compaction up to revision "
                f"{compacted.invoke.value[1]} had been acknowledged before it was invoked",
                [compacted, operation],
                revision=oldest,
            )
