"""The same seed gives the same bytes: in another process, under another hash seed, at another time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from splitvote.harness.store import runs

COMMAND = ("run", "register", "--cluster", "sim", "--nodes", "3", "--faults", "all", "--time", "12", "--overlap")
SAME = ("history.jsonl", "cluster.jsonl", "faults.jsonl", "archive.jsonl", "final.json")


def begin(store: Path, seed: int, hash_seed: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "splitvote.harness.cli", *COMMAND, "--seed", str(seed), "--store", str(store)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        stdout=subprocess.DEVNULL,
    )


def files(store: Path) -> dict[str, bytes]:
    (run,) = runs(store)
    logs = {f"logs/{path.name}": path.read_bytes() for path in sorted((run.path / "logs").iterdir())}
    return {name: (run.path / name).read_bytes() for name in SAME} | logs


def test_a_run_repeats_byte_for_byte(tmp_path: Path) -> None:
    """Two processes with different hash seeds write the same files; another seed writes others."""
    processes = {
        "one": begin(tmp_path / "one", 7, "1"),
        "two": begin(tmp_path / "two", 7, "2"),
        "other": begin(tmp_path / "other", 8, "1"),
    }
    for process in processes.values():
        assert process.wait(timeout=900) in (0, 2)  # so short a run may be too short for every family
    one, two, other = (files(tmp_path / name) for name in processes)
    assert {name for name in one if one[name] != two[name]} == set()
    assert len(one["history.jsonl"].splitlines()) > 500
    assert one["history.jsonl"] != other["history.jsonl"]
