"""What the kv workload reaches, whole (generator, runner, client, history, archivist), beside plain puts.

``python bench/kv.py`` brings three members up as ``splitvote run`` does, and in
each round lets a plain loop of grpc.aio puts and the workload run one after the
other, a hundred clients each, in turning order.  The bar is a median of 3,500
operations a second; a slower machine meets it by the median ratio of the same
round, that of 3,500 beside the 5,900 of the plain loop where the bar was set.
Exits 1 when both are missed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from splitvote.harness.archive import ArchiveRecord
from splitvote.harness.cluster import Archivist
from splitvote.harness.clusters.local import LocalCluster
from splitvote.harness.collection import collecting_seldom
from splitvote.harness.etcd.bindings import Services, binding_of
from splitvote.harness.etcd.connection import ConnectionOptions
from splitvote.harness.etcd.methods import PUT
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.generator import clients, time_limit
from splitvote.harness.history import HistoryWriter
from splitvote.harness.jsonl import JsonLinesWriter
from splitvote.harness.runner import Runner
from splitvote.workloads import WorkloadOptions, workload_named

CLIENTS: Final = 100
LEAST_OPS_S: Final = 3_500
LEAST_RATIO: Final = 3_500 / 5_900
TIMEOUT_S: Final = 5.0


async def bare_puts(endpoints: list[str], seconds: float) -> float:
    """Puts a second of a plain loop, on as many channels as the workload's clients have."""
    import grpc.aio

    arguments = ConnectionOptions().channel_arguments
    targets = [target for target in endpoints for _ in range(ConnectionOptions().channels)]
    channels = [grpc.aio.insecure_channel(target, arguments) for target in targets]
    puts = [c.unary_unary(PUT.path, pb.PutRequest.SerializeToString, pb.PutResponse.FromString) for c in channels]
    loop = asyncio.get_running_loop()
    end_s, done = loop.time() + seconds, 0

    async def worker(number: int) -> None:
        nonlocal done
        put: Any = puts[number % len(puts)]
        for count in itertools.count():
            if loop.time() > end_s:
                return
            await put(pb.PutRequest(key=b"splitvote/%d" % number, value=b"%d" % count), timeout=TIMEOUT_S)
            done += 1

    await asyncio.gather(*(worker(number) for number in range(CLIENTS)))
    for channel in channels:
        await channel.close(None)
    return done / seconds


async def workload(cluster: LocalCluster, folder: Path, seconds: float, seed: int) -> float:
    """Operations a second that the kv workload completes, recorded and archived as in a run."""
    connections = cluster.connections()
    archivist = cluster.capability(Archivist)
    assert archivist is not None
    services = Services(nodes=connections, names=tuple(cluster.nodes), archivist=archivist, timeout_s=TIMEOUT_S)
    archive: JsonLinesWriter[ArchiveRecord] = JsonLinesWriter(folder / f"archive-{seed}.jsonl")
    history = HistoryWriter(folder / f"history-{seed}.jsonl")
    runner = Runner(
        binding=binding_of(["kv"], services), nodes=cluster.nodes, history=history, concurrency=CLIENTS, seed=seed
    )
    archivist.start(archive, runner.now_ns)
    options = WorkloadOptions(concurrency=CLIENTS, rate=1e6, avoid=frozenset({"18667"}))
    await runner.run(time_limit(seconds, clients(workload_named("kv", options).generator)))
    await runner.close()
    await archivist.stop()
    history.close()
    archive.close()
    await connections.close()
    return sum(count for (_, outcome), count in runner.counts.items() if outcome in ("ok", "fail")) / seconds


async def measure(binary: Path, rounds: int, seconds: float) -> tuple[float, float, float]:
    """Medians of the plain loop, of the workload, and of their ratio in the same round; each has a young cluster."""
    found: list[tuple[float, float]] = []
    for turn in range(rounds):
        figures = {}
        for contender in ("kv", "plain") if turn % 2 else ("plain", "kv"):
            with tempfile.TemporaryDirectory(prefix="splitvote-bench-") as folder:
                async with LocalCluster(directory=Path(folder), nodes=3, etcd=str(binary)) as cluster:
                    if contender == "kv":
                        figures[contender] = await workload(cluster, Path(folder), seconds, turn)
                    else:
                        figures[contender] = await bare_puts(list(cluster.endpoints.values()), seconds)
        found.append((figures["plain"], figures["kv"]))
        print(f"round {turn + 1}: plain puts {found[-1][0]:,.0f}/s, kv {found[-1][1]:,.0f} ops/s", flush=True)
    plain, kv = (statistics.median(each) for each in zip(*found, strict=True))
    return plain, kv, statistics.median(ours / theirs for theirs, ours in found)


def main() -> int:
    versions = Path(os.environ.get("SPLITVOTE_ETCD_VERSIONS") or ".etcd-versions")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--etcd", type=Path, default=versions / "3.5.30" / "etcd", help="the etcd binary")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5.0, help="of one loop")
    given = parser.parse_args()
    if not given.etcd.is_file():
        parser.error(f"no etcd at {given.etcd}: give --etcd, or fetch the stock versions with tests/etcd-versions")
    with collecting_seldom():  # as a run does
        plain, kv, ratio = asyncio.run(measure(given.etcd, given.rounds, given.seconds))
    is_met = kv >= LEAST_OPS_S or ratio >= LEAST_RATIO
    print(f"median: plain puts {plain:,.0f}/s, kv {kv:,.0f} ops/s (bar {LEAST_OPS_S:,})")
    print(f"ratio of a round: {ratio:.2f} (bar {LEAST_RATIO:.2f}): {'met' if is_met else 'MISSED'}")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
