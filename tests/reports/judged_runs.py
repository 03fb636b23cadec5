"""Stored runs with one planted defect each, judged by the real checkers: what a report must make plain.

Histories are small and written by hand; verdicts, stories, cycles and cores are
the checkers' own, so that a report of them is a report of what users get.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from splitvote.checkers.isolation import ListAppendChecker
from splitvote.checkers.linearizability import LinearizabilityChecker
from splitvote.checkers.slo import SloChecker, parse_slo
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import ClusterSample, FaultRecord, MemberSample, Recording, RunConfig
from splitvote.harness.result import Budget, Checker, Result, run_checker, worst
from splitvote.harness.store import Results

S: Final = 1_000_000_000
NODES: Final = ("n1", "n2", "n3")


def operation(
    process: int, f: str, asked: Any, answer: Any, start_s: float, end_s: float, type_: str = "ok", **more: Any
) -> list[Op]:
    """An invocation and its completion (none where ``type_`` is "open")."""
    invoke = Op(time_ns=int(start_s * S), process=process, type="invoke", f=f, value=asked, node=NODES[process % 3])
    invoke = replace(invoke, **{name: value for name, value in more.items() if name in ("key", "workload")})
    if type_ == "open":
        return [invoke]
    done = replace(invoke, time_ns=int(end_s * S), type=type_, value=answer)
    return [invoke, replace(done, **{name: value for name, value in more.items() if name not in ("key", "workload")})]


def in_order(operations: Sequence[Sequence[Op]]) -> list[Op]:
    """All records by time, numbered."""
    records = sorted((op for each in operations for op in each), key=lambda op: op.time_ns)
    return [replace(op, index=place) for place, op in enumerate(records)]


def kill(number: int, node: str, start_s: float, end_s: float, recovery_ms: float = 120.0) -> list[FaultRecord]:
    """One kill from its start to its proven end."""
    at = {"starting": start_s, "active": start_s + 0.1, "healing": end_s, "healed": end_s + 0.2}
    proofs = {"active": f"{node} stopped, no answer", "healed": f"{node} answers again"}
    return [
        FaultRecord(
            number, "kill", "kill", phase, int(time_s * S), (node,), proof=proofs.get(phase),  # type: ignore[arg-type]
            observed={"recovery_ms": recovery_ms} if phase == "healed" else {},
        )
        for phase, time_s in at.items()
    ]  # fmt: skip


def samples(seconds: int, **offsets_ms: float) -> list[ClusterSample]:
    """Two samples a second; ``offsets_ms`` are clocks by node."""
    members = {node: MemberSample(leader="n1", term=2, revision=5) for node in NODES}
    return [
        ClusterSample(step * S // 2, members, loop_lag_ms=1.0, clock_offsets_ms=offsets_ms)
        for step in range(2 * seconds)
    ]


def write(
    directory: Path,
    records: Sequence[Op],
    checkers: Sequence[Checker],
    *,
    workload: str = "register",
    faults: Sequence[FaultRecord] = (),
    found: Sequence[Result] = (),
    sampled: Sequence[ClusterSample] = (),
) -> Path:
    """Judge the records and store the run; ``found`` are results beside the checkers'."""
    directory.mkdir(parents=True)
    config = RunConfig(
        workload=workload,
        seed=4,
        cluster="local",
        nodes=NODES,
        splitvote_version="0.1.0",
        started_at="2024-11-05T02:30:00+00:00",
        faults=("kill",),
        time_s=10.0,
        rate=10.0,
        system_versions=dict.fromkeys(NODES, "etcd 3.5.30"),
    )
    recording = Recording(History(list(records)), config, tuple(faults), tuple(sampled))
    results = [*(run_checker(checker, recording, Budget()) for checker in checkers), *found]
    encode = msgspec.json.encode
    judged = Results(worst(result.verdict for result in results), tuple(results), duration_s=10.0)
    (directory / "config.json").write_bytes(encode(config))
    (directory / "results.json").write_bytes(encode(judged, enc_hook=repr))
    for name, lines in (("history", records), ("faults", faults), ("cluster", sampled)):
        (directory / f"{name}.jsonl").write_bytes(b"".join(encode(line) + b"\n" for line in lines))
    (directory / "logs").mkdir()
    stamp = '{"level":"warn","ts":"2024-11-05T02:30:03.0Z","msg":"lost the leader"}\n'
    (directory / "logs" / "n2.log").write_text(stamp)
    return directory


def stale_read(directory: Path) -> Path:
    """A member that was killed and came back answers with what it knew before: 1, after 2 had been read."""
    records = in_order(
        [
            operation(0, "write", 1, 1, 1.0, 1.2, key="x"),
            operation(1, "read", None, 1, 1.4, 1.5, key="x"),
            operation(0, "write", 2, 2, 2.4, 2.6, key="x"),
            operation(3, "write", 7, None, 2.5, 3.5, "info", key="x", error="deadline: no answer"),
            operation(2, "read", None, 2, 3.0, 3.1, key="x"),
            operation(1, "read", None, 1, 3.4, 3.5, key="x"),
            operation(0, "read", None, 2, 5.0, 5.1, key="x"),
            *(operation(2, "write", value, value, 6 + value / 10, 6.05 + value / 10, key="y") for value in range(1, 9)),
        ]
    )
    return write(
        directory, records, [LinearizabilityChecker()], faults=kill(1, "n2", 2.0, 3.2), sampled=samples(8, n2=12.5)
    )


def read_skew(directory: Path) -> Path:
    """A transaction sees one of another's two appends and misses the other (G-single); a known issue by its number."""
    records = in_order(
        [
            operation(
                0, "txn", [["append", "a", 1], ["append", "b", 1]], [["append", "a", 1], ["append", "b", 1]], 1.0, 1.4
            ),
            operation(1, "txn", [["r", "a", None], ["r", "b", None]], [["r", "a", [1]], ["r", "b", []]], 1.1, 1.3),
            operation(2, "txn", [["r", "a", None], ["r", "b", None]], [["r", "a", [1]], ["r", "b", [1]]], 2.0, 2.1),
        ]
    )
    return write(directory, records, [ListAppendChecker()], workload="append", faults=kill(1, "n1", 0.9, 1.5))


def slow(directory: Path) -> Path:
    """Consistent, but a kill took 1.9 s to recover from, and 2 % of the reads took a second."""
    reads = (
        operation(0, "read", None, None, at / 10, at / 10 + (1.0 if at % 50 == 7 else 0.01), key="x")
        for at in range(0, 200, 11)
    )
    levels = [parse_slo(text) for text in ("recovery<500ms", "p50<5s")]
    return write(
        directory, in_order(list(reads)), [SloChecker(levels)], faults=kill(3, "n3", 4.0, 6.0, recovery_ms=1900.0)
    )


def unsafe(directory: Path) -> Path:
    """The same stale read in a workload that shows what is not promised, matching a known issue."""
    stale_read(directory)
    path = directory / "results.json"
    found = msgspec.json.decode(path.read_bytes(), type=Results)
    results = tuple(
        replace(
            result,
            expected="unsafe",
            anomalies=tuple(
                replace(
                    anomaly, details=anomaly.details | {"known_issue": "13766: a member killed under load loses writes"}
                )
                for anomaly in result.anomalies
            ),
        )
        for result in found.results
    )
    path.write_bytes(msgspec.json.encode(replace(found, results=results, expected="unsafe"), enc_hook=repr))
    return directory


def together(directory: Path) -> Path:
    """Two workloads on one cluster, each operation with its workload's name; a watch's events and a lock's beliefs."""
    seen = [
        Op(
            time_ns=int((2 + at / 10) * S),
            process=1,
            type="event",
            f="watch",
            value=["events", 0, False, []],
            revision=at + 2,
            stream=at // 10,
        )
        for at in range(20)
    ]
    watch = operation(1, "watch", {"watches": []}, None, 1.9, 5.0, workload="watch")
    acquires = []
    for number in (2, 3):
        asked, key, at_s = {"api": "client"}, f"lock/k0/{number}", 2.0 + number
        more = {"key": "k0", "workload": "lock", "revision": 2 + 5 * number}
        acquires.append(operation(number, "acquire", asked, key, at_s, at_s + 0.2, **more))
    records = in_order([watch, seen, *acquires])
    opened = next(op.index for op in records if op.type == "invoke" and op.f == "watch")
    records = [replace(op, of=opened) if op.type == "event" else op for op in records]
    columns = [
        "lock",
        "process",
        "api",
        "lease",
        "created",
        "granted",
        "ended",
        "believed_from_s",
        "believed_until_s",
        "overlap_s",
    ]
    rows = [
        ["k0", 2, "client", "a1", 11, 12, 16, 4.2, 7.0, 0.0],
        ["k0", 3, "client", "a2", 13, 17, None, 5.2, 8.0, 1.8],
    ]
    found = [Result("lock/lock", worst(()), evidence={"holders": {"columns": columns, "rows": rows, "of": 2}})]
    return write(directory, records, [], workload="lock+watch", found=found, sampled=samples(8))


RUNS: Final[dict[str, Callable[[Path], Path]]] = {
    "stale-read": stale_read,
    "read-skew": read_skew,
    "slow": slow,
    "unsafe": unsafe,
    "together": together,
}
"""By the defect that was planted."""
