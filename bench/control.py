"""What a command on a node costs by ssh, by docker exec and as a subprocess, and what a fault on five nodes does.

``python bench/control.py --etcd PATH`` brings the nodes of docker-compose.yml
up (DOCKER_HOST's docker; the image must be built) and removes them again.

Execs are timed in turns, some of each way at a time, so that all meet the same
machine; the median of each is told, and its ratio to ``true`` as a bare child
process in the same turns.  A fault is a change of the packet filters of all
five nodes, as a partition makes it: told to all at once, from the first command
to the last answer.  The cluster's start is everything between "the image
is there" and a committed write with a linearizable read on every member: the
containers, the keys, the binary brought to each node, the election.

Bars are of an idle machine; ``--factor`` says how much slower this one may be.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from splitvote.harness.cluster import Links, Pair
from splitvote.harness.clusters.remote.cluster import RemoteCluster
from splitvote.harness.clusters.remote.compose import ComposeHosts, compose_cluster
from splitvote.harness.clusters.remote.composition import SERVICES, Composition, default_directory
from splitvote.harness.control import Remote
from splitvote.harness.control.local import LocalTransport
from splitvote.harness.etcd.daemon import find_etcd

EXEC_BAR_MS = 5.0
FAULT_BAR_MS = 100.0
UP_BAR_S = 10.0
WARM_UP = 5
BATCH = 10
"""Of one way, before the next one's turn: docker goes on for a while after an exec, which others would pay for."""

Figure = tuple[str, float, str, float | None]
"""What, how much, of which unit, and the bar if there is one."""


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds."""
    before_ns = time.perf_counter_ns()
    await work()
    return (time.perf_counter_ns() - before_ns) / 1e6


async def child() -> None:
    """What any command costs: ``true``, by nobody's way."""
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0


async def execs(by_way: Mapping[str, Remote], rounds: int) -> list[Figure]:
    """Medians of ``true`` by every way, in turns."""
    ways: dict[str, Callable[[], Awaitable[object]]] = {"child": child}
    for name, remote in by_way.items():
        ways[name] = lambda remote=remote: remote.run(["true"])  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(WARM_UP):
        for work in ways.values():
            await timed(work)
    for _ in range(max(1, rounds // BATCH)):
        for name, work in ways.items():
            times[name] += [await timed(work) for _ in range(BATCH)]
    medians = {name: statistics.median(all_ms) for name, all_ms in times.items()}
    ratios = {name: medians[name] / medians["child"] for name in by_way}
    print("  an exec beside a bare child: " + ", ".join(f"{name} x{ratio:.1f}" for name, ratio in ratios.items()))
    fastest = {name: min(all_ms) for name, all_ms in times.items()}
    print("  fastest of all: " + ", ".join(f"{name} {least_ms:.2f} ms" for name, least_ms in fastest.items()))
    bars = {"ssh": EXEC_BAR_MS}
    return [(f"exec by {name}, median of {rounds}", medians[name], "ms", bars.get(name)) for name in ways]


async def faults(cluster: RemoteCluster, control: str, rounds: int) -> Figure:
    """The median time of cutting every node off from its neighbour, and that of healing, on five nodes at once."""
    links = cluster.capability(Links)
    assert links is not None
    around: list[Pair] = list(zip(SERVICES, SERVICES[1:] + SERVICES[:1], strict=True))
    spent_ms = []
    for _ in range(rounds):
        spent_ms.append(await timed(lambda: links.cut(around)))
        spent_ms.append(await timed(links.heal))
    return (f"a fault on five nodes by {control}, median of {2 * rounds}", statistics.median(spent_ms), "ms", None)


async def measure(etcd: Path, rounds: int) -> list[Figure]:
    """All figures, by one cluster after the other."""
    figures: list[Figure] = []
    for control in ("ssh", "docker"):
        with tempfile.TemporaryDirectory() as folder:
            before_s = time.perf_counter()
            binaries = dict.fromkeys(SERVICES, find_etcd(str(etcd)))
            async with compose_cluster(directory=Path(folder), control=control, etcd=binaries) as cluster:
                up_s = time.perf_counter() - before_s
                figures.append((f"five nodes up and led, by {control}", up_s, "s", UP_BAR_S))
                if control == "ssh":
                    figures += await beside(cluster, rounds)
                what, fault_ms, unit, _ = await faults(cluster, control, rounds // 10)
                figures.append((what, fault_ms, unit, FAULT_BAR_MS if control == "ssh" else None))
    return figures


async def beside(cluster: RemoteCluster, rounds: int) -> list[Figure]:
    """Execs on one node by both ways, and on this machine."""
    composition = Composition(default_directory())
    by_way = {"subprocess": Remote("here", LocalTransport())}
    reached = []
    for control in ("ssh", "docker"):
        hosts = ComposeHosts(composition, SERVICES[:1], control=control)
        by_way[control] = (await hosts.reach())[SERVICES[0]].remote
        reached.append(hosts)
    try:
        return await execs(by_way, rounds)
    finally:
        await by_way["subprocess"].close()
        for hosts in reached:
            await hosts.let_go()


def main(etcd: Path, rounds: int, factor: float) -> int:
    """Print every figure beside its bar; 1 when one is missed."""
    os.environ.setdefault("COMPOSE_PROJECT_NAME", f"splitvote-bench-{os.getpid()}")
    missed = 0
    for what, amount, unit, bar in asyncio.run(measure(etcd, rounds)):
        verdict = ""
        if bar is not None:
            is_met = amount <= bar * factor
            missed += not is_met
            verdict = f"  (bar {bar * factor:g} {unit}{'' if is_met else ': MISSED'})"
        print(f"{what}: {amount:.2f} {unit}{verdict}")
    return int(missed > 0)


if __name__ == "__main__":
    versions = Path(os.environ.get("SPLITVOTE_ETCD_VERSIONS") or ".etcd-versions")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--etcd", type=Path, default=versions / "3.5.30" / "etcd", help="the etcd binary")
    parser.add_argument("--rounds", type=int, default=200, help="execs of each way; a tenth as many faults")
    parser.add_argument("--factor", type=float, default=1.0, help="how much slower than idle this machine is")
    given = parser.parse_args()
    sys.exit(main(given.etcd, given.rounds, given.factor))
