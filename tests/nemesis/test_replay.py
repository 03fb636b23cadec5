"""The faults of an earlier run again: the same ones, at the same nodes by their order, at the same times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from splitvote.harness.cli import cli
from splitvote.harness.cluster import Links
from splitvote.harness.errors import ConfigError
from splitvote.harness.generator import nemesis
from splitvote.harness.generator.simulation import invocations, quick
from splitvote.harness.recording import FaultRecord
from splitvote.nemesis import read_faults, read_replay
from tests.nemesis.fake_cluster import FakeCluster
from tests.nemesis.test_nemesis import Bench, on

S = 1_000_000_000


def record(number: int, family: str, kind: str, phase: Any, at_s: float, *targets: str, **plan: Any) -> FaultRecord:
    return FaultRecord(number, family, kind, phase, int(at_s * S), targets, plan)


def journal(path: Path, *records: FaultRecord) -> Path:
    file = path / "faults.jsonl"
    file.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in records))
    return file


def killed(*targets: str, number: int = 1, at_s: float = 1.0, until_s: float = 3.0) -> list[FaultRecord]:
    return [
        record(number, "kill", "kill", "starting", at_s, *targets, pick=9),
        record(number, "kill", "kill", "active", at_s + 0.2, *targets, pick=9),
        record(number, "kill", "kill", "healing", until_s, *targets, pick=9),
        record(number, "kill", "kill", "healed", until_s + 0.2, *targets, pick=9),
    ]


def test_each_fault_begins_and_ends_when_it_did(tmp_path: Path) -> None:
    file = journal(tmp_path, *killed("n2"), *killed("n3", "n4", number=2, at_s=5.5, until_s=9.25))
    replay = read_replay(file, FakeCluster())
    ops = invocations(quick(nemesis(replay.generator(60.0)), concurrency=1))
    assert [(op.f, op.time_ns) for op in ops] == [
        ("start-kill", S),
        ("stop-kill", 3 * S),
        ("start-kill", int(5.5 * S)),
        ("stop-kill", int(9.25 * S)),
    ]
    rows = replay.timeline(60.0)
    assert [(start, end, turn.request.targets) for start, end, turn in rows] == [
        (1.0, 3.0, ("n2",)),
        (5.5, 9.25, ("n3", "n4")),
    ]


def test_a_fault_that_begins_too_late_is_left_out_and_one_that_never_ended_lasts(tmp_path: Path) -> None:
    file = journal(tmp_path, *killed("n2")[:2], *killed("n3", number=2, at_s=30.0, until_s=40.0))
    replay = read_replay(file, FakeCluster())
    assert [(start, end) for start, end, _ in replay.timeline(20.0)] == [(1.0, 20.0)]


def test_plans_are_done_as_they_were_whatever_chance_would_have_chosen(tmp_path: Path) -> None:
    file = journal(tmp_path, *killed("n4", "n2"))
    request = read_replay(file, FakeCluster()).faults[0].turn.request

    async def story(bench: Bench) -> None:
        value = msgspec.to_builtins(request)
        started = await bench.start("kill", **value)
        assert started["targets"] == ["n4", "n2"]
        assert (await bench.stop("kill"))["phase"] == "healed"

    (tmp_path / "again").mkdir()
    bench = on(tmp_path / "again", story)
    assert bench.records[0].plan == {"pick": 9}


def test_who_leads_is_looked_up_anew(tmp_path: Path) -> None:
    """The earlier run's leader and term would prove nothing here; the node hit is the same."""
    plan = {"pick": 1, "leader": "n3", "term": 77}
    file = journal(tmp_path, record(1, "kill", "kill", "starting", 1.0, "n3", **plan))
    request = read_replay(file, FakeCluster()).faults[0].turn.request

    async def story(bench: Bench) -> None:
        assert (await bench.start("kill", **msgspec.to_builtins(request)))["phase"] == "active"

    (tmp_path / "again").mkdir()
    bench = on(tmp_path / "again", story)
    assert bench.records[0].targets == ("n3",)
    assert (bench.records[0].plan["leader"], bench.records[0].plan["term"]) == ("n1", 2)


def test_nodes_go_by_their_order(tmp_path: Path) -> None:
    """Names of the earlier run, wherever they stand in a plan, become those of this one."""
    file = journal(tmp_path, record(1, "partition", "one", "starting", 1.0, "b", pairs=[["a", "b"], ["b", "a"]]))
    config = {"workload": "register", "seed": 1, "cluster": "compose", "nodes": ["a", "b", "c"]}
    config |= {"splitvote_version": "0", "started_at": "then"}
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config))
    fault = read_replay(file, FakeCluster()).faults[0]
    assert fault.targets == ("n2",)
    assert fault.detail == {"pairs": [["n1", "n2"], ["n2", "n1"]]}


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "no faults"),
        (killed("n9"), "hits n9"),
        ([record(1, "weather", "rain", "starting", 1.0, "n1")], "weather"),
        ([record(1, "version", "mixed", "starting", 1.0, "n1", **{"from": {"n1": "1.0"}, "to": "9.9"})], "not 9.9"),
    ],
)
def test_what_cannot_be_replayed_is_refused_up_front(records: list[FaultRecord], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        read_replay(journal(tmp_path, *records), FakeCluster())


def test_a_fault_that_the_cluster_lacks_is_refused_or_left_out_with_a_word(tmp_path: Path) -> None:
    file = journal(tmp_path, record(1, "partition", "one", "starting", 1.0, "n1"), *killed("n2", number=2))
    poor = FakeCluster(lacks=(Links,))
    with pytest.raises(ConfigError, match="--schedule-omit"):
        read_replay(file, poor)
    replay = read_replay(file, poor, omit=True)
    assert [fault.family for fault in replay.faults] == ["kill"]
    assert list(replay.chosen.omitted) == ["partition:one"]
    assert list(replay.chosen.by_name) == ["kill"]


def test_a_run_on_the_simulation_has_the_same_faults_at_the_same_nodes_when_it_is_replayed(tmp_path: Path) -> None:
    def run(store: Path, *options: str) -> list[FaultRecord]:
        arguments = ["run", "register", "--cluster", "sim", "--time", "25", "--seed", "5", "--store", str(store)]
        result = CliRunner().invoke(cli, [*arguments, *options])
        assert result.exit_code == 0, result.output
        return [each for each in read_faults(store / "latest" / "faults.jsonl") if each.phase == "starting"]

    first = run(tmp_path / "first", "--faults", "kill,pause,partition,member")
    again = run(tmp_path / "again", "--schedule", str(tmp_path / "first" / "latest"))
    assert len(first) >= 3
    assert [(each.family, each.fault, each.targets) for each in first] == [
        (each.family, each.fault, each.targets) for each in again
    ]
    assert all(abs(one.time_ns - two.time_ns) < 2 * S for one, two in zip(first, again, strict=True))
