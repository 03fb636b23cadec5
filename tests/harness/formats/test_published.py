"""Every published history beside the repository parses, pairs, and gets its published verdict."""

from __future__ import annotations

import json
from pathlib import Path

from splitvote.checkers.linearizability import LinearizabilityChecker, Model
from splitvote.checkers.linearizability.models.registers import multi_register
from splitvote.harness.formats import detect_format, read_any
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Verdict


def test_every_published_history_reads(shared_data: Path) -> None:
    expected = {"knossos": "edn", "elle": "edn", "jepsen-etcd": "jepsen-log", "kv": "porcupine-kv"}
    found = dict.fromkeys(expected, 0)
    for folder, name in expected.items():
        parent = shared_data / ("porcupine" if folder in ("jepsen-etcd", "kv") else "") / folder
        for path in sorted(parent.rglob("*")):
            if path.suffix not in (".edn", ".log", ".txt"):
                continue
            assert detect_format(path) == name, path
            history = read_any(path)
            records = [op for op in history if op.process >= 0]
            halves = sum(1 if operation.completion is None else 2 for operation in history.operations)
            assert halves == len(records), path
            found[folder] += 1
    assert all(found.values()), found


def verdict_of(path: Path, model: str | Model) -> Verdict:
    return LinearizabilityChecker(model=model).check(Recording(read_any(path)), Budget(time_s=60)).verdict


def test_published_etcd_verdicts(shared_data: Path) -> None:
    """Read as logs are, a failed cas being an observation."""
    folder = shared_data / "porcupine" / "jepsen-etcd"
    published = json.loads((folder / "verdicts.json").read_text())
    found = {name: verdict_of(folder / name, "cas-register") is Verdict.VALID for name in published}
    assert found == published


def test_published_knossos_verdicts(shared_data: Path) -> None:
    """Read as Knossos does; the multi-register begins with x and y at 0, as its own comment says."""
    models: dict[str, str | Model] = {"multi-register": multi_register({"x": 0, "y": 0})}
    for path in sorted((shared_data / "knossos").glob("*.edn")):
        model, verdict, _ = path.name.split("__")
        expected = Verdict.VALID if verdict == "good" else Verdict.INVALID
        assert verdict_of(path, models.get(model, model)) is expected, path


def test_published_key_value_verdicts(shared_data: Path) -> None:
    for path in sorted((shared_data / "porcupine" / "kv").glob("*.txt")):
        expected = Verdict.VALID if path.stem.endswith("-ok") else Verdict.INVALID
        assert verdict_of(path, "kv") is expected, path
