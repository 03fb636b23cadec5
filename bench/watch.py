"""What watching costs: writes a second with 20 watchers that read everything, against a plain loop of puts.

``python bench/watch.py --etcd PATH`` starts three members on free ports of
127.0.0.1 and ends them.  Each round runs a bare grpc.aio loop of puts (the
multicallable called directly) and then the whole workload ``watch`` as a run
has it (runner, history, archivist), with as many writers, without faults.  The
ratio is to the plain loop *of the same round*, since absolute figures are those
of the machine and its neighbours.

``busy`` is the share of one core that our process used, ``lag_ms`` how late its
event loop ran at worst: while both are low, the loop is not what limits the
writes.  ``behind_ms`` is how long after the last write the slowest watcher had
seen it; the script exits 1 when one never does.  CPU time does not depend on neighbours: ``own_cpu_us`` and
``members_cpu_us`` are that of a write, with all its watching; two cores that do
nothing else sustain ``two cores`` writes a second, and our process alone would
bear ``own loop``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from client import bare, cluster, ready

from splitvote.checkers.watch import WatchChecker
from splitvote.harness.archive import ArchiveRecord, archive_of
from splitvote.harness.etcd.archivist import EtcdArchivist
from splitvote.harness.etcd.bindings import Services, binding_of
from splitvote.harness.etcd.capabilities import EtcdHealth
from splitvote.harness.etcd.connection import PLAIN, Connections
from splitvote.harness.generator import clients, time_limit
from splitvote.harness.history import History, HistoryWriter, read_history
from splitvote.harness.jsonl import JsonLinesWriter, read_all
from splitvote.harness.lag import LagMonitor
from splitvote.harness.recording import FinalState, Recording
from splitvote.harness.result import Budget, run_checker
from splitvote.harness.runner import Runner
from splitvote.workloads import WorkloadOptions, workload_named

CATCH_UP_S = 10.0
"""How much longer than the writers the watchers go on."""

BAR = 1000
"""Writes a second that two cores must sustain; the script exits 1 below it."""

WRITES = ("put", "txn", "delete")
FIGURES = ("writes/s", "events/s", "ratio", "own loop", "two cores")


async def plain_puts(endpoints: dict[str, str], *, writers: int, seconds: float) -> float:
    """Puts a second of a bare loop."""
    make, close = bare(list(endpoints.values()), PLAIN)
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds
    done = 0

    async def write(number: int) -> None:
        nonlocal done
        put = make(number)
        for count in itertools.count(number):
            if loop.time() > end_s:
                return
            await put("put", count)
            done += 1

    await asyncio.gather(*(write(number) for number in range(writers)))
    await close()
    return done / seconds


async def watched_writes(
    endpoints: dict[str, str], folder: Path, *, writers: int, watchers: int, rate: float, seconds: float
) -> dict[str, Any]:
    """The workload's figures."""
    connections = Connections(endpoints)
    concurrency = writers + watchers
    extra = {"watchers": watchers, "watching": "all", "longest_s": seconds + CATCH_UP_S}
    options = WorkloadOptions(concurrency=concurrency, rate=rate, extra=extra)
    workload = workload_named("watch", options)
    archivist = EtcdArchivist(connections)
    services = Services(nodes=connections, names=tuple(connections), timeout_s=5.0, archivist=archivist)
    history, archive = HistoryWriter(folder / "history.jsonl"), JsonLinesWriter[ArchiveRecord](folder / "archive.jsonl")
    loop = asyncio.get_running_loop()
    runner = Runner(
        binding=binding_of(["watch"], services),
        nodes=tuple(connections),
        history=history,
        concurrency=concurrency,
        seed=1,
        backstop_s=60.0,
    )
    archivist.start(archive, runner.now_ns)
    lag = LagMonitor(origin_s=loop.time())
    lag.start()
    cpu_s, began_s = time.process_time(), loop.time()
    await runner.run(time_limit(seconds, clients(workload.generator)))
    own_cpu_s = time.process_time() - cpu_s
    busy = own_cpu_s / (loop.time() - began_s)
    lag.stop()
    await runner.run(workload.final([]))
    members = await EtcdHealth(connections).readings(("watch/k0000",))
    await archivist.finish(tuple(connections), timeout_s=60.0)
    await runner.close()
    await archivist.stop()
    history.close()
    archive.close()
    await connections.close()
    recording = Recording(
        read_history(folder / "history.jsonl"),
        final=FinalState(recovered=True, members=members),
        archive=archive_of(read_all(folder / "archive.jsonl", ArchiveRecord)[0]),
    )
    result = run_checker(WatchChecker(), recording, Budget())
    return figures(recording.history, seconds) | {
        "own_cpu_s": own_cpu_s,
        "busy": round(busy, 2),
        "lag_ms": round(lag.worst_ms, 1),
        "check_s": result.stats["check_s"],
        "verdict": result.verdict.value,
    }


def figures(history: History, seconds: float) -> dict[str, Any]:
    """Throughput in the time in which operations were begun, and how far behind the watchers were at its end."""
    written = [op for op in history if op.type == "ok" and op.f in WRITES]
    last = max(written, key=lambda op: op.revision or 0)
    told: dict[int, int] = {}
    events = 0
    for op in history:
        if op.type == "event" and op.f == "watch" and op.value[0] == "events" and op.of is not None:
            events += len(op.value[3])
            if op.value[3][-1][0] >= (last.revision or 0):
                told.setdefault(op.of, op.time_ns)
    behind_ms = max((at_ns - last.time_ns for at_ns in told.values()), default=0) / 1e6
    return {
        "writes": len(written),
        "writes/s": round(len(written) / seconds),
        "events/s": round(events / seconds),
        "watchers at the end": len(told),
        "behind_ms": round(max(0.0, behind_ms), 1),
    }


def children_cpu_s() -> float:
    """CPU time of the members that have ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def costs(found: dict[str, Any], members_cpu_s: float) -> dict[str, Any]:
    """CPU time of a write, and what it allows for."""
    writes = found.pop("writes")
    own_s, members_s = found.pop("own_cpu_s") / writes, members_cpu_s / writes
    return {
        "own_cpu_us": round(own_s * 1e6),
        "members_cpu_us": round(members_s * 1e6),
        "own loop": round(1 / own_s),
        "two cores": round(2 / (own_s + members_s)),
    }


def main() -> None:
    versions = Path(os.environ.get("SPLITVOTE_ETCD_VERSIONS") or ".etcd-versions")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--etcd", type=Path, default=versions / "3.5.30" / "etcd", help="the etcd binary")
    parser.add_argument("--writers", type=int, default=60)
    parser.add_argument("--watchers", type=int, default=20)
    parser.add_argument("--rate", type=float, default=100_000.0, help="writes asked for, a second")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    if not given.etcd.is_file():
        parser.error(f"no etcd at {given.etcd}: give --etcd, or fetch the stock versions with tests/etcd-versions")
    rounds = []
    for _ in range(given.rounds):
        with cluster(given.etcd) as running, tempfile.TemporaryDirectory(prefix="splitvote-bench-") as folder:
            asyncio.run(ready(running))
            plain = asyncio.run(plain_puts(running, writers=given.writers, seconds=given.seconds / 2))
        before_s = children_cpu_s()
        with cluster(given.etcd) as running, tempfile.TemporaryDirectory(prefix="splitvote-bench-") as folder:
            asyncio.run(ready(running))
            found = asyncio.run(
                watched_writes(
                    running,
                    Path(folder),
                    writers=given.writers,
                    watchers=given.watchers,
                    rate=given.rate,
                    seconds=given.seconds,
                )
            )
        ratio = {"ratio": round(found["writes/s"] / plain, 3)}
        rounds.append({"plain puts/s": round(plain)} | costs(found, children_cpu_s() - before_s) | found | ratio)
        print(json.dumps(rounds[-1]), flush=True)
    median = {name: statistics.median(each[name] for each in rounds) for name in FIGURES}
    print(json.dumps({"median": median, "bar": BAR, "watchers": given.watchers, "writers": given.writers}))
    if median["two cores"] < BAR or any(each["watchers at the end"] < given.watchers for each in rounds):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
