"""The main job's acceptance, on real etcd of two versions; resumable, a row a run.

    python tests/acceptance/main_job.py ETCD_VERSIONS [--seeds 5] [--time 120] [--store DIR] [--only CASE]

healthy   3.5.30 under kill,pause,partition: VALID, every fault and every end proven, and at least 95 % of the asked
          operations invoked over the time in which the plan left a majority up and connected
bug       3.5.1 under kill,admin: INVALID, the members disagree, in all but one of the seeds
control   3.5.30 under the same: VALID

A run that is in the store already is not made again, so the script can be
stopped and started.  Exits 1 when a case is missed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from splitvote.checkers.vacuity import quorum_lost_intervals
from splitvote.harness.result import Verdict
from splitvote.harness.store import Results, RunDirectory, load_recording, load_results, runs

CASES = {
    "healthy": ("3.5.30", ["--faults", "kill,pause,partition", "--rate", "300"]),
    "bug": ("3.5.1", ["--faults", "kill,admin", "--concurrency", "30", "--rate", "2000"]),
    "control": ("3.5.30", ["--faults", "kill,admin", "--concurrency", "30", "--rate", "2000"]),
}
LEAST_INVOKED = 0.95


def run_of(store: Path, seed: int) -> tuple[RunDirectory, Results] | None:
    """The judged run of a seed, if there is one."""
    for run in runs(store):
        results = load_results(run.path)
        if run.path.name.endswith(f"-{seed}") and results is not None and not results.interrupted:
            return run, results
    return None


def invoked_share(run: RunDirectory) -> float:
    """Operations invoked, by those asked for over the time in which the plan left a quorum standing."""
    recording = load_recording(run.path)
    assert recording.config is not None
    end_ns = int(recording.config.time_s * 1e9)
    lost_ns = sum(max(0, min(end, end_ns) - start) for start, end in quorum_lost_intervals(recording.faults, end_ns))
    invoked = sum(operation.invoke.time_ns < end_ns for operation in recording.history.operations)
    return invoked / (recording.config.rate * (end_ns - lost_ns) / 1e9)


def judge(case: str, run: RunDirectory, results: Results) -> tuple[bool, str]:
    """Whether the run is what the case wants, and a row for people."""
    recording = load_recording(run.path)
    proven = sum(fault.phase == "active" for fault in recording.faults)
    ended = sum(fault.phase == "healed" for fault in recording.faults)
    doubts = [f"{f.fault} {f.phase}: {f.error or f.proof}" for f in recording.faults if f.phase.endswith("unproven")]
    share = invoked_share(run)
    reasons = [result.reason for result in results.results if result.verdict is not Verdict.VALID and result.reason]
    row = f"{results.verdict:<8} {proven} faults proven, {ended} ends, {share:.1%} invoked"
    told = "; ".join([*doubts, *reasons])[:200]
    if case == "bug":
        disagree = any(r.checker == "agreement" and r.verdict is Verdict.INVALID for r in results.results)
        return results.verdict is Verdict.INVALID and disagree, f"{row}  {told}"
    is_met = results.verdict is Verdict.VALID and not doubts and (case != "healthy" or share >= LEAST_INVOKED)
    return is_met, f"{row}  {told}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", type=Path, help="a folder of VERSION/etcd")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--time", default="120")
    parser.add_argument("--store", type=Path, default=Path("store/acceptance"))
    parser.add_argument("--only", choices=CASES)
    options = parser.parse_args()
    missed = 0
    for case, (version, flags) in CASES.items():
        if options.only not in (None, case):
            continue
        met = 0
        store = options.store / case
        for seed in range(1, options.seeds + 1):
            if run_of(store, seed) is None:
                command = [sys.executable, "-m", "splitvote.harness.cli", "run", "register", "--seed", str(seed)]
                command += ["--etcd", str(options.versions / version / "etcd"), "--time", options.time]
                subprocess.run([*command, "--store", str(store), *flags], check=False, stdout=subprocess.DEVNULL)
            found = run_of(store, seed)
            is_met, row = (False, "no results") if found is None else judge(case, *found)
            met += is_met
            print(f"{case:<8} seed {seed}  {'met   ' if is_met else 'MISSED'} {row}", flush=True)
        needed = options.seeds - (1 if case == "bug" else 0)
        missed += met < needed
        print(f"{case}: {met} of {options.seeds} ({needed} needed)", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
