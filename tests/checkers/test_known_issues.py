"""Known issues of etcd are named where their fingerprint fits, and excuse nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from splitvote.checkers.known_issues import AVOIDABLE, ISSUES, name_known_issues
from splitvote.harness.history import History
from splitvote.harness.op import Op
from splitvote.harness.recording import FaultRecord, Recording, RunConfig
from splitvote.harness.result import Anomaly, Result, Verdict

SPLIT = "store history: disagreement"


def recording(version: str, ops: tuple[Op, ...] = (), faults: tuple[str, ...] = ()) -> Recording:
    config = RunConfig("kv", 1, "local", ("n1",), "0", "2026-01-01", system_versions={"n1": f"etcd {version}"})
    records = tuple(
        FaultRecord(number, fault.partition(":")[0], fault.partition(":")[2] or fault, "active", 0)
        for number, fault in enumerate(faults)
    )
    return Recording(History(ops), config=config, faults=records)


def named(anomaly: str, told: Recording) -> str | None:
    result = Result("kv", Verdict.INVALID, "", (Anomaly(anomaly, "a story"),))
    (judged,) = name_known_issues([result], told)
    assert judged.verdict is Verdict.INVALID
    issue = judged.anomalies[0].details.get("known_issue")
    return None if issue is None else str(issue).partition(":")[0]


def refused_txn(
    request: list[Any], error: str = "compacted: etcdserver: mvcc: required revision has been compacted"
) -> Any:
    invoke = Op(0, 0, 0, "invoke", "txn", value=request)
    return invoke, Op(1, 1, 0, "info", "txn", value=request, error=error)


PUT_AND_PAST = ["txn", [], [["put", "a", "1", 0], ["range", "b", 3, False]], []]


def test_a_split_after_a_refused_txn_that_writes_and_reads_the_past_is_18667() -> None:
    assert named(SPLIT, recording("3.5.30", refused_txn(PUT_AND_PAST))) == "18667"


@pytest.mark.parametrize(
    "ops",
    [
        (),
        refused_txn(["txn", [], [["put", "a", "1", 0], ["range", "b", 0, False]], []]),
        refused_txn(["txn", [], [["range", "b", 3, False]], []]),
        refused_txn(PUT_AND_PAST, "deadline: Deadline Exceeded"),
    ],
    ids=["no such txn", "reads now", "writes nothing", "was not refused"],
)
def test_a_split_without_the_trigger_of_18667_is_not_excused(ops: tuple[Op, ...]) -> None:
    assert named(SPLIT, recording("3.5.30", ops)) is None


def test_a_nested_txn_can_trigger_18667() -> None:
    nested = ["txn", [], [["txn", [], [["range", "b", 3, False]], []], ["delete", "a"]], []]
    assert named(SPLIT, recording("3.5.30", refused_txn(nested))) == "18667"


@pytest.mark.parametrize(
    ("anomaly", "version", "faults", "issue"),
    [
        ("watch: bookmarkable", "3.4.23", (), "15220"),
        ("watch: bookmarkable", "3.5.1", (), "15220"),
        ("watch: bookmarkable", "3.5.30", (), None),
        ("lease: ttl", "3.4.23", (), "17642"),
        ("lease: ttl", "3.5.30", (), None),
        (SPLIT, "3.5.1", ("kill",), "13766"),
        (SPLIT, "3.5.1", ("admin:crash_during_defragment",), "14685"),
        (SPLIT, "3.5.1", ("partition",), None),
        (SPLIT, "3.5.30", ("kill", "admin:crash_during_defragment"), None),
        ("kv: stale read", "3.5.1", ("kill",), None),
    ],
)
def test_an_issue_is_named_on_its_versions_by_its_trigger(
    anomaly: str, version: str, faults: tuple[str, ...], issue: str | None
) -> None:
    assert named(anomaly, recording(version, faults=faults)) == issue


@pytest.mark.parametrize(("seen_s", "issue"), [(9.9, None), (10.0, "15247"), (12.0, "15247"), (16.0, None)], ids=str)
def test_a_lease_that_goes_when_a_paused_member_goes_on_is_15247(seen_s: float, issue: str | None) -> None:
    fault = FaultRecord(1, "pause", "pause", "healing", 10_000_000_000, targets=("n1",))
    told = replace(recording("3.5.30"), faults=(fault,))
    anomaly = Anomaly("lease: early expiry", "a story", details={"seen_gone_ns": int(seen_s * 1e9)})
    (judged,) = name_known_issues([Result("lease", Verdict.INVALID, "", (anomaly,))], told)
    found = judged.anomalies[0].details.get("known_issue")
    assert (None if found is None else found.partition(":")[0]) == issue


def test_a_run_with_mixed_versions_has_the_issues_of_each() -> None:
    told = recording("3.5.30", faults=("kill",))
    assert told.config is not None
    told.config.system_versions["n2"] = "etcd 3.5.1"
    assert named(SPLIT, told) == "13766"


def test_every_issue_has_a_number_of_its_own() -> None:
    assert len({issue.number for issue in ISSUES}) == len(ISSUES)
    assert set(AVOIDABLE) == {"18667", "15247"}
