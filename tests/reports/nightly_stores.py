"""Stores of many nights for tests of the index: little but config.json and results.json, which is all it reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from splitvote.harness.recording import RunConfig
from splitvote.harness.result import Anomaly, Result, Verdict
from splitvote.harness.store import Results, RunDirectory
from tests.reports.fake_runs import HOSTILE

FIRST = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
ISSUE = "13766: a member killed under load loses writes"


def night(
    store: Path,
    test: str,
    number: int,
    verdict: Verdict | None = Verdict.VALID,
    *,
    version: str = "etcd 3.5.30",
    anomalies: tuple[Anomaly, ...] = (),
    p99_ms: float = 20.0,
    recovery_ms: float | None = 400.0,
    results: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    name: str | None = None,
) -> RunDirectory:
    """One run of a test: the ``number``-th night; ``verdict`` None leaves it unjudged."""
    started = FIRST + timedelta(days=number)
    run = RunDirectory(store / test / (name or f"{started:%Y%m%dT%H%M%S}-{number}"))
    run.path.mkdir(parents=True)
    settings: dict[str, Any] = {
        "workload": "kv",
        "seed": number,
        "cluster": "local",
        "nodes": ("n1", "n2", "n3"),
        "splitvote_version": "0.1.0",
        "started_at": started.isoformat(),
        "faults": ("kill", "pause"),
        "time_s": 60.0,
        "rate": 100.0,
        "concurrency": 5,
        "system_versions": {"n1": version, "n2": version},
        "command": ("splitvote", "run", "kv", "--seed", str(number)),
    }
    run.write_json(run.config, RunConfig(**settings | (config or {})))
    if verdict is None:
        return run
    checkers = [
        Result("kv", verdict, reason=None if verdict is Verdict.VALID else "told why", anomalies=anomalies),
        Result("liveness", Verdict.VALID),
        Result("stats", Verdict.VALID, stats=figures(p99_ms, recovery_ms)),
    ]
    found: dict[str, Any] = {"results": tuple(checkers), "duration_s": 61.0}
    run.write_json(run.results, Results(verdict, **found | (results or {})))
    run.report.write_text("<!doctype html><title>the report</title>")
    run.logs.mkdir()
    (run.logs / "n1.log").write_text("a line\n")
    return run


def figures(p99_ms: float, recovery_ms: float | None) -> dict[str, Any]:
    """What the stats checker says."""
    return {
        "total": {"invoked": 1000, "ok": 900, "fail": 90, "info": 10},
        "by_f": {"put": {"invoked": 1000, "ok": 900, "fail": 90, "info": 10}},
        "latency_ms": {"p50": 1.5, "p95": 9.0, "p99": p99_ms, "max": 800.0},
        "latency_from_intent_ms": {"p50": 1.6, "p95": 9.5, "p99": p99_ms + 1, "max": 900.0},
        "faults": {"kill": {"injected": 4, "proven": 3}, "pause": {"injected": 2, "proven": 2}},
        "recovery_ms": {} if recovery_ms is None else {"p50": 100.0, "p95": 300.0, "p99": 300.0, "max": recovery_ms},
        "unavailable": {"windows": 1, "longest_ms": 1200.0},
    }


def lost_write(known: bool = False) -> Anomaly:
    details = {"known_issue": ISSUE} if known else {}
    return Anomaly("kv: lost write", "an acknowledged write is gone", key="k1", details=details)


def nights(store: Path) -> Path:
    """Five tests: kv turned bad on night 5 with a new etcd, the others as their names say."""
    for number in range(9):
        is_bad = number >= 5
        night(
            store,
            "kv",
            number,
            Verdict.INVALID if is_bad else Verdict.UNKNOWN if number == 4 else Verdict.VALID,
            version="etcd 3.5.1" if is_bad else "etcd 3.5.30",
            anomalies=(lost_write(known=True), lost_write()) if is_bad else (),
            p99_ms=20.0 + number,
        )
        night(store, "steady", number)
        flips = Verdict.SLO_MISSED if number % 3 == 1 else Verdict.VALID
        night(store, "flaky", number, flips, config={"seed": 7, "command": ()})
    night(store, "unsafe", 8, Verdict.INVALID, anomalies=(lost_write(),), results={"expected": "unsafe"})
    night(store, "unjudged", 8, None)
    (store / "latest").symlink_to(Path("kv") / sorted(path.name for path in (store / "kv").iterdir())[-1])
    return store


def hostile(store: Path) -> Path:
    """A run in which every name and text is an attack, and one whose files are garbage."""
    for place, text in enumerate([*HOSTILE, "constructor", "__proto__"]):
        night(
            store,
            f"t{place} {text.replace('/', '%2f').replace(chr(0), '')}",
            place,
            Verdict.INVALID,
            version=text,
            anomalies=(Anomaly(text, text, key=text, details={"known_issue": text}),),
            config={"workload": text, "cluster": text, "faults": (text,), "options": {text: text}, "command": (text,)},
            results={
                "failure": text,
                "results": (
                    Result(text, Verdict.INVALID, text, (Anomaly(text, text),)),
                    Result(
                        "stats",
                        Verdict.VALID,
                        stats={"by_f": {text: {"ok": 1}}, "faults": {text: {}}, "latency_ms": {text: 2}},
                    ),
                ),
            },
            name=f"20260301T023000-{place}<img src=x onerror=window.pwned=1>",
        )
    garbage = night(store, "garbage", 3)
    garbage.config.write_text("{")
    garbage.results.write_bytes(b"\xff\xfe not json")
    return store


def results_of(run: RunDirectory) -> Any:
    """results.json as it lies there."""
    return msgspec.json.decode(run.results.read_bytes())
