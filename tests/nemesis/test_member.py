"""Faults of the membership on a cluster in memory: proven by the roster and the log, undone from whatever was left."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitvote.harness.cluster import MemberRole, ProcessState
from splitvote.nemesis import heal_open
from tests.nemesis.fake_cluster import FakeCluster, run_without_waiting
from tests.nemesis.test_nemesis import Bench, on

ALL_VOTERS = {MemberRole.VOTER}


def proof_of(bench: Bench, phase: str) -> str:
    return next(str(record.proof) for record in bench.records if record.phase == phase)


def test_a_replaced_minority_is_never_away_together(tmp_path: Path) -> None:
    """Each is removed, wiped, added and started before the next is removed."""

    async def story(bench: Bench) -> None:
        assert (await bench.start("member", "replace", targets=["n1", "n2"]))["phase"] == "active"

    bench = on(tmp_path, story)
    steps = ("remove", "kill", "wipe", "add", "start")
    expected = [f"{step} {node}" + (" voter" if step == "add" else "") for node in ("n1", "n2") for step in steps]
    assert bench.cluster.calls == expected


def test_what_a_removed_member_says_is_part_of_the_proof(tmp_path: Path) -> None:
    cluster = FakeCluster()
    cluster.log_folder = tmp_path

    async def story(bench: Bench) -> None:
        assert (await bench.start("member", "restart_removed"))["phase"] == "active"

    proof = proof_of(on(tmp_path, story, cluster=cluster), "active")
    assert "said: server error: the member has been permanently removed" in proof


@pytest.mark.parametrize("kind", ["shrink", "restart_removed"])
@pytest.mark.parametrize(("broken", "words"), [("say", "did not say that it was removed"), ("end", "still runs")])
def test_a_removed_member_that_is_silent_or_goes_on_is_no_proof(
    kind: str, broken: str, words: str, tmp_path: Path
) -> None:
    cluster = FakeCluster()
    cluster.log_folder = tmp_path
    cluster.ignores.add(broken)

    async def story(bench: Bench) -> None:
        assert (await bench.start("member", kind))["phase"] == "unproven"

    assert words in proof_of(on(tmp_path, story, cluster=cluster), "unproven")


@pytest.mark.parametrize("kind", ["replace", "learner"])
def test_a_removed_member_that_had_to_be_killed_is_no_proof_of_a_replacement(kind: str, tmp_path: Path) -> None:
    cluster = FakeCluster()
    cluster.ignores.add("end")

    async def story(bench: Bench) -> None:
        assert (await bench.start("member", kind))["phase"] == "unproven"
        assert (await bench.stop("member"))["phase"] == "healed"

    assert "still runs" in proof_of(on(tmp_path, story, cluster=cluster), "unproven")


def test_a_removal_without_effect_is_no_proof(tmp_path: Path) -> None:
    cluster = FakeCluster()
    cluster.ignores.add("remove")

    async def story(bench: Bench) -> None:
        assert (await bench.start("member", "shrink"))["phase"] == "unproven"

    assert "voter" in proof_of(on(tmp_path, story, cluster=cluster), "unproven")


def test_what_the_cluster_refuses_is_told_and_nobody_is_wiped(tmp_path: Path) -> None:
    """A refusal is a finding about the cluster, no exception; without a removal no data is touched."""
    cluster = FakeCluster()
    cluster.fails.add("remove")

    async def story(bench: Bench) -> None:
        assert (await bench.start("member", "replace"))["phase"] == "unproven"
        assert (await bench.stop("member"))["phase"] == "healed"

    bench = on(tmp_path, story, cluster=cluster)
    assert "cannot remove" in proof_of(bench, "unproven")
    assert not [call for call in cluster.calls if call.startswith("wipe")]


def test_no_member_is_taken_where_no_majority_would_be_left(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("kill", targets=["n4", "n5"])
        skipped = await bench.start("member", "shrink", select="minority")
        assert skipped["targets"] == []
        assert "no majority" in skipped["skipped"]

    assert not [call for call in on(tmp_path, story).cluster.calls if call.startswith("remove")]


def test_a_minority_is_cut_short_to_what_a_majority_can_do_without(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("kill", targets=["n5"])
        assert len((await bench.start("member", "shrink", select="minority"))["targets"]) == 1

    on(tmp_path, story)


def test_one_change_of_the_membership_at_a_time(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("member", "shrink")
        assert "not back yet" in (await bench.start("member", "learner"))["skipped"]

    on(tmp_path, story)


@pytest.mark.parametrize("kind", ["shrink", "learner", "restart_removed", "replace"])
def test_another_process_undoes_it_from_the_journal(kind: str, tmp_path: Path) -> None:
    """Whatever a killed harness left behind: voters again, all of them running, with data of a member."""
    cluster = FakeCluster()

    async def story(bench: Bench) -> None:
        await bench.start("member", kind, targets=["n2"])

    on(tmp_path, story, cluster=cluster)
    report = run_without_waiting(lambda: heal_open(cluster, tmp_path / "faults.jsonl", 60.0))
    assert [record.phase for record in report.records] == ["healed"]
    assert set(cluster.roles.values()) == ALL_VOTERS
    assert set(cluster.states.values()) == {ProcessState.RUNNING}
    assert set(cluster.data.values()) == {"of a member"}


@pytest.mark.parametrize("step", ["wipe", "add", "start"])
def test_an_end_that_broke_off_anywhere_is_reached_all_the_same(step: str, tmp_path: Path) -> None:
    """The harness is killed between any two steps of bringing a member back; ``splitvote heal`` goes on from there."""
    cluster = FakeCluster()

    async def story(bench: Bench) -> None:
        await bench.start("member", "shrink", targets=["n2"])
        await cluster.wipe("n2")
        if step != "wipe":
            await cluster.add("n2", MemberRole.VOTER)
        if step == "start":
            await cluster.start("n2")

    on(tmp_path, story, cluster=cluster)
    report = run_without_waiting(lambda: heal_open(cluster, tmp_path / "faults.jsonl", 60.0))
    assert [record.phase for record in report.records] == ["healed"]
    assert set(cluster.roles.values()) == ALL_VOTERS
    assert set(cluster.states.values()) == {ProcessState.RUNNING}


def test_a_member_that_could_not_come_back_is_tried_again_with_the_next_of_its_family(tmp_path: Path) -> None:
    """While other faults keep the cluster from agreeing to it; until then it counts as away."""
    cluster = FakeCluster()

    async def story(bench: Bench) -> None:
        await bench.start("member", "shrink", targets=["n1"])
        cluster.fails.add("add")
        assert (await bench.stop("member"))["phase"] == "heal_unproven"
        assert (await bench.start("kill", select="all"))["targets"] == ["n2", "n3", "n4", "n5"]
        await bench.stop("kill")
        cluster.fails.clear()
        assert (await bench.stop("member"))["phase"] == "healed"
        assert not (await bench.nemesis.heal(60.0)).records

    on(tmp_path, story, cluster=cluster)
    assert set(cluster.roles.values()) == ALL_VOTERS


def test_a_kill_of_a_node_that_a_replacement_left_blank_leaves_it_to_that_one(tmp_path: Path) -> None:
    """It cannot be started, being no member: that is no failure of ours, and whoever took it out has it back."""
    cluster = FakeCluster()

    async def story(bench: Bench) -> None:
        cluster.fails.add("add")
        assert (await bench.start("member", "learner", targets=["n2"]))["phase"] == "unproven"
        assert (cluster.roles["n2"], cluster.data["n2"]) == (MemberRole.ABSENT, "")
        await bench.start("kill", targets=["n2"])
        await bench.stop("kill")
        cluster.fails.clear()
        await bench.stop("member")

    on(tmp_path, story, cluster=cluster)
    assert cluster.roles["n2"] is MemberRole.VOTER
    assert cluster.states["n2"] is ProcessState.RUNNING
