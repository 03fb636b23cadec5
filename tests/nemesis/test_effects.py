"""Restarts, an operator's calls, versions, resources, failpoints: what proves them, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitvote.harness.cluster import Auth, ProcessState, Upkeep, Versions
from splitvote.harness.errors import ConfigError
from splitvote.harness.machine import Failpoints, Resources
from splitvote.nemesis import heal_open, parse_faults
from tests.nemesis.fake_cluster import FakeCluster, run_without_waiting
from tests.nemesis.test_nemesis import Bench, on


@pytest.mark.parametrize(
    ("family", "kind", "action", "words"),
    [
        ("restart", "restart", "stop", "gone 0 of 1 times"),
        ("restart", "crash_loop", "kill", "gone 0 of"),
        ("restart", "restart_all", "start", "stopped, no answer"),
        ("admin", "save_snapshot", "save_snapshot", "4000 of 4096 bytes announced, its digest does not fit"),
        ("admin", "no_space", "raise_no_space", "serves as ever"),
        ("admin", "auth", "enable", "serves as ever"),
        ("version", "mixed", "use", "says 1.0"),
        ("resource", "cpu", "limit", "kept waiting 0.00 s"),
        ("resource", "fds", "limit", "50 descriptors open of 1048576"),
        ("resource", "io", "limit", "bytes where"),
        ("failpoint", "sleep", "enable_point", "=off"),
        ("failpoint", "panic", "enable_point", "running"),
    ],
)
def test_an_effect_that_does_not_show_is_no_proof(
    family: str, kind: str, action: str, words: str, tmp_path: Path
) -> None:
    async def story(bench: Bench) -> None:
        bench.cluster.ignores.add(action)
        assert (await bench.start(family, kind, pick=5))["phase"] == "unproven"

    assert words in (on(tmp_path, story).records[1].proof or "")


@pytest.mark.parametrize(
    ("family", "kind", "action", "words"),
    [
        ("admin", "no_space", "disarm", "alarm:NOSPACE"),
        ("admin", "auth", "disable", "user-empty"),
        ("version", "mixed", "use", "says 1.1"),
        ("resource", "cpu", "limit", "still limited"),
        ("resource", "fds", "limit", "still limited"),
        ("failpoint", "sleep", "disable_point", "still on"),
    ],
)
def test_an_end_that_does_not_show_is_no_proof(family: str, kind: str, action: str, words: str, tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        assert (await bench.start(family, kind, pick=5))["phase"] == "active"
        bench.cluster.ignores.add(action)
        assert (await bench.stop(family))["phase"] == "heal_unproven"

    assert words in (on(tmp_path, story).records[-1].proof or "")


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("restart", "crash_loop"),
        ("admin", "no_space"),
        ("admin", "auth"),
        ("version", "rolling"),
        ("resource", "cpu"),
        ("resource", "fds"),
        ("failpoint", "sleep"),
        ("failpoint", "panic"),
    ],
)
def test_another_process_undoes_it_from_the_journal(family: str, kind: str, tmp_path: Path) -> None:
    cluster = FakeCluster()

    async def story(bench: Bench) -> None:
        await bench.start(family, kind, select="all")

    on(tmp_path, story, cluster=cluster)
    report = run_without_waiting(lambda: heal_open(cluster, tmp_path / "faults.jsonl", 120.0))
    assert [record.phase for record in report.records] == ["healed"]
    assert set(cluster.states.values()) == {ProcessState.RUNNING}
    assert not cluster.has_alarm
    assert not cluster.asks_for_users
    assert set(cluster.versions.runs.values()) == {"1.0"}
    assert not any(limits.cpus or limits.fds for limits in cluster.resources.limits.values())


def test_a_crash_loop_has_its_waits_in_its_plan(tmp_path: Path) -> None:
    """So that it can be done again: a kill more than there are waits, and a start after each."""

    async def story(bench: Bench) -> None:
        await bench.start("restart", "crash_loop", targets=["n2"], pick=11)

    bench = on(tmp_path, story)
    waits = bench.records[0].plan["waits_ms"]
    assert 2 <= len(waits) <= 5
    assert bench.cluster.calls == ["kill n2", "start n2"] * (1 + len(waits))


def test_a_node_that_had_ended_by_itself_is_not_started_by_a_restart(tmp_path: Path) -> None:
    """Its end is a finding, and must not be swept away."""
    cluster = FakeCluster()
    cluster.states["n2"] = ProcessState.STOPPED

    async def story(bench: Bench) -> None:
        assert (await bench.start("restart", "restart", targets=["n2"]))["phase"] == "unproven"

    assert "had ended before: n2" in (on(tmp_path, story, cluster=cluster).records[1].proof or "")


def test_versions_are_rolled_one_node_after_another(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("version", "rolling", select="all")

    steps = [f"{step} {node}" for node in ("n1", "n2", "n3", "n4", "n5") for step in ("stop", "use", "start")]
    expected = [step + " 1.1" if step.startswith("use") else step for step in steps]
    assert on(tmp_path, story).cluster.calls == expected


def test_a_roll_that_one_node_does_not_come_back_from_goes_no_further(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.cluster.ignores.add("start")
        assert (await bench.start("version", "rolling", select="all"))["phase"] == "unproven"

    bench = on(tmp_path, story)
    assert "with 1.1" in (bench.records[1].proof or "")
    assert [call for call in bench.cluster.calls if call.startswith("stop")] == ["stop n1"]


def test_while_all_are_refused_no_progress_is_expected(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("admin", "no_space")

    assert on(tmp_path, story).records[0].affects_quorum


@pytest.mark.parametrize(
    ("entry", "lacks", "words"),
    [
        ("admin:save_snapshot", Upkeep, "Upkeep"),
        ("admin:auth", Auth, "Auth"),
        ("version", Versions, "--upgrade"),
        ("resource:cpu", Resources, "Resources"),
        ("failpoint", Failpoints, "gofail"),
    ],
)
def test_what_a_cluster_lacks_is_refused_naming_what_provides_it(entry: str, lacks: type, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_faults(entry, FakeCluster(lacks=(lacks,)))


def test_a_resource_that_cannot_be_limited_here_is_refused_saying_why() -> None:
    cluster = FakeCluster()
    cluster.resources.supports = frozenset({"fds"})
    with pytest.raises(ConfigError, match="there is no way to limit cpus"):
        parse_faults("resource:cpu", cluster)


def test_process_is_every_family_of_processes() -> None:
    assert list(parse_faults("process", FakeCluster()).by_name) == ["kill", "stop", "pause", "restart"]
    with pytest.raises(ConfigError, match="narrow one of those"):
        parse_faults("process:primaries", FakeCluster())


@pytest.mark.parametrize(
    ("words", "phase"),
    [
        ('{"msg":"failed to save snapshot","error":"open 1.snap: too many open files"}\n', "active"),
        ('{"msg":"failed to save snapshot","error":"input/output error"}\n', "unproven"),
    ],
)
def test_a_node_that_ends_for_want_of_descriptors_and_says_so_has_felt_it(
    words: str, phase: str, tmp_path: Path
) -> None:
    cluster = FakeCluster()
    cluster.log_folder = tmp_path
    cluster.resources.last_words = words

    async def story(bench: Bench) -> None:
        assert (await bench.start("resource", "fds"))["phase"] == phase
        assert (await bench.stop("resource"))["phase"] == "healed"

    on(tmp_path, story, cluster=cluster)
    assert set(cluster.states.values()) == {ProcessState.RUNNING}
