"""How much virtual time passes in a second of the processor's: whole runs, and many short ones with their checkers.

The load is the register workload at 200 operations a second on five nodes
under the main job's faults (``MAIN``; told beside it: under every fault that the
simulation has), through the very harness of a real run: generators, clients,
nemesis, sampler and archivist, everything written to disk.  A calibration loop
in the same run says how fast this machine is today; the bars are scaled by it.

    python bench/simulation.py [--seconds S] [--rounds N] [--seeds N] [--memory-runs N]
"""

from __future__ import annotations

import argparse
import gc
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from splitvote.harness import clock
from splitvote.harness.cluster import Archivist
from splitvote.harness.etcd.bindings import Services, binding_of
from splitvote.harness.generator import clients, nemesis, time_limit
from splitvote.harness.jsonl import read_all
from splitvote.harness.judge import checkers_of_run, judge, overall, workloads_of
from splitvote.harness.recording import ClusterSample, RunConfig
from splitvote.harness.result import Verdict
from splitvote.harness.run import Execution, Plan
from splitvote.harness.simulation.cluster import SimulatedCluster
from splitvote.harness.simulation.logs import wall_ns
from splitvote.harness.store import RunDirectory, create_run, load_recording
from splitvote.nemesis import Journal, Nemesis, Site, one_at_a_time, parse_faults, turns

VIRTUAL_S_BAR: Final = 20.0
"""Virtual seconds a second of one core."""

SEEDS_BAR: Final = 4_000
"""Runs of 10 virtual seconds an hour of one core, checking included."""

GROWTH_BAR_BYTES: Final = 5_000
"""How much a run may leave behind in memory: 5 MB in a thousand, which is what a heap's fragments come to."""

OBJECTS_BAR: Final = 0.5
"""How many objects that the garbage collector knows of a run may leave behind: none, that is."""

WARM_UP_RUNS: Final = 200
"""Until caches, pools and the heap have their size."""

MAIN: Final = "kill,pause,partition"

REFERENCE_CALIBRATION_S: Final = 0.0525
"""What the calibration loop takes on the machine the bars were set on when nothing else runs there (median)."""

NODES, RATE, CONCURRENCY = 5, 200.0, 10


def calibrate() -> float:
    """Seconds of a fixed piece of interpreter work."""
    started = time.process_time()
    total = 0
    for number in range(2_000_000):
        total += number & 7
    return time.process_time() - started


def simulate(store: Path, seed: int, time_s: float, faults: str = "all") -> RunDirectory:
    """One run, as `splitvote run register --cluster sim --faults FAULTS` does it."""
    run = create_run(store, "register", seed)
    cluster = SimulatedCluster(directory=run.path, nodes=NODES, seed=seed)
    chosen = parse_faults(faults, cluster)
    workload = workloads_of("register", concurrency=CONCURRENCY, rate=RATE, time_s=time_s, options={})
    interval_s = min(5.0, time_s / 30)
    connections = cluster.connections()
    services = Services(nodes=connections, names=cluster.nodes, timeout_s=2.0, archivist=cluster.capability(Archivist))
    schedule = one_at_a_time(turns(list(chosen.faults.values()), seed, interval_s=interval_s), time_s)
    plan = Plan(
        run=run,
        cluster=cluster,
        binding=binding_of(["register"], services),
        nemesis=lambda now_ns: Nemesis(Site(cluster), chosen.by_name, Journal(run.faults), now_ns=now_ns),
        generator=time_limit(time_s, clients(workload.generator, nemesis(schedule))),
        final=workload.final,
        concurrency=CONCURRENCY,
        seed=seed,
        backstop_s=7.0,
        wall_ns=wall_ns,
    )
    account = clock.run(Execution(plan).execute())
    assert account.failure is None, account.failure
    run.write_json(
        run.config,
        RunConfig(
            workload="register",
            seed=seed,
            cluster="sim",
            nodes=cluster.nodes,
            splitvote_version="bench",
            started_at="",
            time_s=time_s,
            rate=RATE,
            concurrency=CONCURRENCY,
        ),
    )
    return run


def virtual_seconds(store: Path, time_s: float, faults: str) -> float:
    """Virtual seconds a second of the processor's, of one run with its history written."""
    started = time.process_time()
    run = simulate(store, 7, time_s, faults)
    elapsed = time.process_time() - started
    samples, _ = read_all(run.samples, ClusterSample)
    return samples[-1].time_ns / 1e9 / elapsed


def explore(store: Path, seeds: range, time_s: float) -> float:
    """Runs of so many virtual seconds an hour, each judged."""
    started = time.process_time()
    for seed in seeds:
        run = simulate(store, seed, time_s)
        recording = load_recording(run.path)
        assert recording.config is not None
        verdict = overall(judge(recording, checkers_of_run(recording.config), timeout_s=60))
        assert verdict in (Verdict.VALID, Verdict.UNKNOWN), f"seed {seed}: {verdict}"
        shutil.rmtree(run.path)
    return 3600 * len(seeds) / (time.process_time() - started)


def growth(store: Path, runs: int) -> tuple[float, float]:
    """How many bytes of memory, and how many objects, a short run leaves behind, of so many in this process."""
    explore(store, range(WARM_UP_RUNS), 1.0)
    bytes_before, objects_before = resident_bytes(), known_objects()
    explore(store, range(WARM_UP_RUNS, WARM_UP_RUNS + runs), 1.0)
    return (resident_bytes() - bytes_before) / runs, (known_objects() - objects_before) / runs


def known_objects() -> int:
    """What the garbage collector knows of, once it has collected."""
    gc.collect()
    return len(gc.get_objects())


def resident_bytes() -> int:
    """How much memory the process has; where /proc does not tell it, the most it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


def report(what: str, value: float, bar: float, *, unit: str, at_least: bool = True) -> bool:
    is_met = value >= bar if at_least else value <= bar
    print(f"{what}: {value:,.1f} {unit}, bar {bar:,.1f}  {'ok' if is_met else 'MISSED'}")
    return is_met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--memory-runs", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch)
        rounds = [(calibrate(), virtual_seconds(store, options.seconds, MAIN)) for _ in range(options.rounds)]
        under_all = statistics.median(virtual_seconds(store, options.seconds, "all") for _ in range(options.rounds))
        slower = statistics.median(took for took, _ in rounds) / REFERENCE_CALIBRATION_S
        passed = statistics.median(virtual_s for _, virtual_s in rounds)
        seeds_an_hour = explore(store, range(options.seeds), 10.0)
        bytes_a_run, objects_a_run = growth(store, options.memory_runs)
    print(f"unscaled: {passed:.1f} virtual seconds a second, {seeds_an_hour:,.0f} runs an hour")
    print(f"under all faults: {under_all * slower:.1f} virtual s/s")
    met = [
        report(f"5 nodes, 200 ops/s, {MAIN}", passed * slower, VIRTUAL_S_BAR, unit="virtual s/s"),
        report("10 s runs with checking", seeds_an_hour * slower, SEEDS_BAR, unit="runs an hour"),
        report("memory", bytes_a_run, GROWTH_BAR_BYTES, unit="bytes a run", at_least=False),
        report("objects left behind", objects_a_run, OBJECTS_BAR, unit="a run", at_least=False),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
