"""Every workload's acceptance on real etcd; resumable, a row a run.

    python tests/acceptance/workloads.py ETCD_VERSIONS [--seeds 3] [--time 120] [--jobs 1] [--store DIR] [--only CASES]

healthy   each workload, the four of `make run` together, and all others together, on 3.5.30 under
          kill,pause,partition,admin, with the open issues avoided: VALID, or what the workload says it expects
finds     known defects of stock versions, each found by name, by the workload that is meant to
slice     the two togethers and one find: what continuous integration has time for

A run that is in the store already is not made again, so the script can be
stopped and started.  Exits 1 when a find is missed, when any healthy run is
INVALID, or when fewer than 98 % of them are VALID; of a few runs, one that is
UNKNOWN says no more than that the machine was slow.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from splitvote.harness.result import Verdict
from splitvote.harness.store import Results, RunDirectory, load_results, runs
from splitvote.workloads import NAMES

TOGETHER = "kv+watch+election+lease"
OPEN_ISSUES = "18667,15247"
STOCK = "3.5.30"
LEAST_VALID = 0.98
FEW = 10
SLICE = ("together", "others-together", "18667-3.5.30")


@dataclass(frozen=True)
class Case:
    """One command, and what is wanted of it: ``finds`` is a known issue's number, None where all must be well."""

    name: str
    version: str
    arguments: tuple[str, ...]
    finds: str | None = None
    expected_unsafe: bool = False


def healthy_cases() -> list[Case]:
    under_faults = ("--faults", "kill,pause,partition,admin", "--avoid", OPEN_ISSUES, "--nodes", "3", "--rate", "100")
    cases = [Case(name, STOCK, (name, *under_faults)) for name in NAMES]
    others = "+".join(name for name in NAMES if name not in TOGETHER.split("+"))
    for name, together in (("together", TOGETHER), ("others-together", others)):
        threads = 5 * len(together.split("+"))
        cases.append(Case(name, STOCK, (together, *under_faults, "--concurrency", f"{threads}", "--rate", "200")))
    unfenced = ("lock-set", *under_faults, "--option")
    return [
        *cases,
        Case("lock-set-unfenced", STOCK, (*unfenced, "fenced=no"), expected_unsafe=True),
        Case("lock-set-memory", STOCK, (*unfenced, "where=memory"), expected_unsafe=True),
    ]


VERSIONS = ("3.4.23", "3.5.1", "3.5.16", STOCK)
AVOIDING = ("--avoid", OPEN_ISSUES)
FINDS = (
    *(Case(f"18667-{version}", version, ("kv",), finds="18667") for version in VERSIONS),
    *(Case(f"15247-{version}", version, ("lease", "--faults", "pause"), finds="15247") for version in VERSIONS),
    *(Case(f"15220-{version}", version, ("watch",), finds="15220") for version in VERSIONS[:2]),
    Case("13766", "3.5.1", ("kv", *AVOIDING, "--faults", "kill,admin", "--rate", "1000"), finds="13766"),
    Case("14685", "3.5.1", ("kv", *AVOIDING, "--faults", "admin:crash_during_defragment"), finds="14685"),
)


def run_of(store: Path, seed: int) -> tuple[RunDirectory, Results] | None:
    """The judged run of a seed, if there is one."""
    for run in runs(store):
        results = load_results(run.path)
        if run.path.name.endswith(f"-{seed}") and results is not None and not results.interrupted:
            return run, results
    return None


def issues_named(results: Results) -> set[str]:
    """The known issues that the anomalies were matched with."""
    named = (a.details.get("known_issue") for result in results.results for a in result.anomalies)
    return {str(issue) for issue in named if issue}


def is_met(case: Case, results: Results) -> bool:
    if case.finds is not None:
        return results.verdict is Verdict.INVALID and any(case.finds in issue for issue in issues_named(results))
    if case.expected_unsafe:
        return results.expected == "unsafe" and results.verdict in (Verdict.INVALID, Verdict.VALID)
    return results.verdict is Verdict.VALID


def row_of(case: Case, seed: int, run: RunDirectory, results: Results) -> str:
    reasons = [f"{r.checker}: {r.reason}" for r in results.results if r.verdict is not Verdict.VALID and r.reason]
    issues = ", ".join(sorted(issues_named(results)))
    told = (f"[{issues}] " if issues else "") + "; ".join(reasons)
    mark = "met   " if is_met(case, results) else "MISSED"
    return f"{case.name:<26} seed {seed}  {mark} {results.verdict:<8} {results.duration_s:6.1f} s  {told[:300]}"


def make_run(case: Case, seed: int, time_s: float, versions: Path, store: Path) -> tuple[Case, int, Results | None]:
    """Make a run, unless it is in the store, and print its row."""
    folder = store / case.name
    if run_of(folder, seed) is None:
        command = [sys.executable, "-m", "splitvote.harness.cli", "run", *case.arguments, "--seed", str(seed)]
        command += ["--time", f"{time_s:g}", "--etcd", str(versions / case.version / "etcd"), "--store", str(folder)]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{seed}.txt").open("w") as output:
            subprocess.run(command, check=False, stdout=output, stderr=subprocess.STDOUT)
    found = run_of(folder, seed)
    if found is None:
        print(f"{case.name:<26} seed {seed}  MISSED no results: see {folder / f'{seed}.txt'}", flush=True)
        return case, seed, None
    print(row_of(case, seed, *found), flush=True)
    return case, seed, found[1]


def summary(done: list[tuple[Case, int, Results | None]]) -> int:
    """Print how many were met; the exit code."""
    healthy = [(case, results) for case, _, results in done if case.finds is None]
    finds = [(case, results) for case, _, results in done if case.finds is not None]
    good = sum(results is not None and is_met(case, results) for case, results in healthy)
    alarms = [case.name for case, r in healthy if not (r and (is_met(case, r) or r.verdict is not Verdict.INVALID))]
    missed = [case.name for case, results in finds if results is None or not is_met(case, results)]
    print(f"healthy: {good} of {len(healthy)} as expected; false alarms or failures: {', '.join(alarms) or 'none'}")
    print(f"finds: {len(finds) - len(missed)} of {len(finds)}; missed: {', '.join(missed) or 'none'}")
    enough = len(healthy) < FEW or good >= LEAST_VALID * len(healthy)
    return 0 if enough and not alarms and not missed else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", type=Path, help="a folder of VERSION/etcd")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--time", type=float, default=120.0)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--store", type=Path, default=Path("store/acceptance-workloads"))
    parser.add_argument("--only", default="", help="cases, comma-separated, or healthy, finds, slice")
    options = parser.parse_args()
    wanted = {name for part in options.only.split(",") if part for name in (SLICE if part == "slice" else (part,))}
    healthy = [case for case in healthy_cases() if not wanted or wanted & {case.name, "healthy"}]
    finds = [case for case in FINDS if not wanted or wanted & {case.name, "finds"}]
    todo = [(case, seed) for seed in range(1, options.seeds + 1) for case in healthy] + [(case, 1) for case in finds]
    with ThreadPoolExecutor(options.jobs) as pool:
        tasks = [pool.submit(make_run, *each, options.time, options.versions, options.store) for each in todo]
        return summary([task.result() for task in tasks])


if __name__ == "__main__":
    sys.exit(main())
