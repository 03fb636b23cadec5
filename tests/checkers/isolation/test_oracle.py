"""306 random histories that Elle judged: where we differ, and that our own cycle shows why (docs/elle.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from splitvote.checkers.isolation import ListAppendChecker, RwRegisterChecker
from splitvote.checkers.isolation.models import CYCLES, boundary
from splitvote.harness.formats import read_any
from splitvote.harness.history import History
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result

SESSIONS = {
    "append-186.edn": "G-single-process",
    "append-192.edn": "G-single-process",
    "append-195.edn": "G-single-process",
    "append-210.edn": "G-single-process",
    "append-225.edn": "G-single-process",
    "append-246.edn": "G0-process",
    "append-276.edn": "G0-process",
    "append-510.edn": "G0-process",
    "append-603.edn": "G-single-process",
    "wr-117.edn": "G-single-process",
    "wr-132.edn": "G-single-process",
}
"""Where the order within a process is broken: Elle, asked for real time, looks only there and rules out less."""

UNWRITTEN = ("append-597.edn", "wr-294.edn")
"""Where a value was read that nobody wrote, which Elle lets pass."""

VERDICTS = {True: "VALID", False: "INVALID", "unknown": "UNKNOWN"}


@pytest.fixture(scope="module")
def oracle(shared_data: Path) -> Path:
    return shared_data / "elle" / "oracle"


@pytest.fixture(scope="module")
def verdicts(oracle: Path) -> dict[str, Any]:
    """Elle's verdicts by file; those that another run of Elle does not repeat are left out."""
    known: dict[str, Any] = json.loads((oracle / "verdicts.json").read_text())
    assert len(known) == 306
    return {name: verdict for name, verdict in known.items() if verdict["stable"]}


@pytest.fixture(scope="module")
def histories(oracle: Path, verdicts: dict[str, Any]) -> dict[str, History]:
    return {name: read_any(oracle / name) for name in verdicts}


def judge(name: str, history: History, model: str = "strict-serializable") -> Result:
    checker = ListAppendChecker(model) if name.startswith("append") else RwRegisterChecker(model)
    return checker.check(Recording(history), Budget())


def is_cycle(anomaly: str) -> bool:
    return anomaly.endswith("-cycle-exists") or anomaly.replace("-item", "") in {c.replace("-item", "") for c in CYCLES}


def others(anomalies: list[str]) -> set[str]:
    """The anomalies that are no cycles."""
    return {anomaly for anomaly in anomalies if not is_cycle(anomaly)}


def test_verdict_anomalies_and_models_agree_with_elle(verdicts: dict[str, Any], histories: dict[str, History]) -> None:
    """Verdict, anomalies that are no cycles, and the weakest models ruled out, the listed histories aside."""
    differ = []
    for name, elle in verdicts.items():
        elle = elle["closed"] if elle["valid"] == "error" else elle
        ours = judge(name, histories[name])
        same = (
            ours.verdict == VERDICTS[elle["valid"]],
            others(ours.evidence["anomaly_types"]) == others(elle["anomaly_types"]),
            ours.evidence["not"] == elle["not"],
        )
        if not all(same):
            differ.append(name)
    assert differ == sorted([*SESSIONS, *UNWRITTEN], key=list(verdicts).index)


def test_every_difference_in_models_is_a_broken_session(
    verdicts: dict[str, Any], histories: dict[str, History]
) -> None:
    """We show the cycle; read as a breach of real time, which it is as well, it rules out what Elle says."""
    for name, cycle in SESSIONS.items():
        ours = judge(name, histories[name])
        shown = next(anomaly for anomaly in ours.anomalies if anomaly.name == cycle)
        steps = shown.details["cycle"]
        assert any(step["type"] == "process" for step in steps)
        assert all(step["type"] in ("ww", "wr", "rw", "process") for step in steps)
        blurred, _ = boundary([anomaly.replace("-process", "-realtime") for anomaly in ours.evidence["counts"]])
        elle = verdicts[name]
        assert blurred == (elle["closed"] if elle["valid"] == "error" else elle)["not"], name


def test_every_unwritten_read_is_one(histories: dict[str, History]) -> None:
    """The value is in no invocation of the history."""
    for name in UNWRITTEN:
        ours = judge(name, histories[name])
        shown = next(anomaly for anomaly in ours.anomalies if anomaly.name == "unwritten-read")
        read = [value for f, key, value in shown.ops[-1].value if f == "r" and key == shown.key]
        seen = {element for value in read for element in (value if isinstance(value, list) else [value])}
        asked = {
            value
            for op in histories[name]
            if op.type == "invoke"
            for f, key, value in op.value
            if f != "r" and key == shown.key
        }
        assert seen - asked - {None}


def test_weaker_models_agree_with_elle(verdicts: dict[str, Any], histories: dict[str, History]) -> None:
    """Valid or not, and the anomalies that are no cycles, for each of seven models."""
    judged = 0
    for name, elle in verdicts.items():
        if elle["valid"] == "error" or name in UNWRITTEN:
            continue
        for model, expected in elle["models"].items():
            ours = judge(name, histories[name], model)
            assert ours.verdict == VERDICTS[expected["valid"]], (name, model)
            assert others(ours.evidence["anomaly_types"]) == others(expected["anomaly_types"]), (name, model)
            judged += 1
    assert judged > 1900


def test_orders_of_keys_agree_with_elle(verdicts: dict[str, Any], histories: dict[str, History]) -> None:
    """Valid or not, with each of Elle's options that infer more of the version orders."""
    judged = 0
    for name, elle in verdicts.items():
        if name in UNWRITTEN:
            continue
        for options, expected in elle.get("variants_fixed", {}).items():
            checker = RwRegisterChecker(key_orders=options.split("+"))
            ours = checker.check(Recording(histories[name]), Budget())
            assert ours.verdict == VERDICTS[expected["valid"]], (name, options)
            judged += 1
    assert judged > 390
