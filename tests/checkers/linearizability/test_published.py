"""Verdicts that others published, on histories that others recorded (kept beside the repository)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

from splitvote.checkers.linearizability import CheckResult, LinearizabilityChecker, check_columns
from splitvote.checkers.linearizability.columns import from_register
from splitvote.checkers.linearizability.compiled import engine_available
from splitvote.checkers.linearizability.models import multi_register
from splitvote.harness.formats import read_any
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict

HARDEST = "d5_n1000_c50_p0.05_bad.jsonl"
"""Decided too (Illegal), after 15 million configurations: a minute in C, and so not here."""


def judge(path: Path, checker: LinearizabilityChecker, *, drop_failed_cas: bool | None = None) -> Result:
    return checker.check(Recording(read_any(path, drop_failed_cas=drop_failed_cas)), Budget(time_s=600))


def test_jepsens_etcd_logs(shared_data: Path) -> None:
    """All of Porcupine's jepsen-etcd logs, each violation with a core that is small."""
    folder = shared_data / "porcupine" / "jepsen-etcd"
    for name, linearizable in json.loads((folder / "verdicts.json").read_text()).items():
        result = judge(folder / name, LinearizabilityChecker("cas-register"))
        assert result.verdict is (Verdict.VALID if linearizable else Verdict.INVALID), name
        assert all(len(anomaly.details["core"]) <= 12 for anomaly in result.anomalies), name


def test_porcupines_stores(shared_data: Path) -> None:
    for path in sorted((shared_data / "porcupine" / "kv").iterdir()):
        result = judge(path, LinearizabilityChecker("kv"))
        assert result.verdict is (Verdict.INVALID if "bad" in path.name else Verdict.VALID), path.name


def test_knossos_histories(shared_data: Path) -> None:
    """Knossos leaves failed compare-and-sets out, and so do we for its histories."""
    for path in sorted((shared_data / "knossos").iterdir()):
        model = multi_register({"x": 0, "y": 0}) if "multi" in path.name else "cas-register"
        if "mutex" in path.name:
            model = "mutex"
        result = judge(path, LinearizabilityChecker(model), drop_failed_cas=True)
        assert result.verdict is (Verdict.INVALID if "__bad__" in path.name else Verdict.VALID), path.name


def test_synthetic_registers(shared_data: Path) -> None:
    folder = shared_data / "synthetic"
    for name, answer in json.loads((folder / "verdicts.json").read_text()).items():
        if name == HARDEST or (name.startswith("d5") and not engine_available()):
            continue
        assert decide_arrays(folder, name) == answer, name


def decide_arrays(folder: Path, name: str) -> CheckResult:
    """Judge rows of [process, f, a, b, call, return, output]."""
    path = folder / name
    text = path.read_text() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes()).decode()
    rows = np.array([json.loads(line) for line in text.splitlines()], np.int64)
    return check_columns(from_register(*(rows[:, column] for column in (1, 2, 3, 6, 4, 5))), timeout_s=600)
