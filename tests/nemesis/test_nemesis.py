"""The nemesis on a cluster in memory: every fault starts, is proven, stops, is proven healed; or it is said why not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.cluster import Links, LinkShape, MemberRole, ProcessState
from splitvote.harness.errors import ConfigError, EnvironmentFailure, NemesisError
from splitvote.harness.op import NEMESIS, Op
from splitvote.harness.recording import FaultRecord
from splitvote.nemesis import (
    FAMILIES,
    HealReport,
    Journal,
    Nemesis,
    Request,
    Site,
    heal_open,
    open_faults,
    parse_faults,
    read_faults,
)
from tests.nemesis.fake_cluster import FakeCluster, run_without_waiting

EVERY_FAULT = [
    (family.name, fault.name, select)
    for family in FAMILIES.values()
    for fault in family.faults
    if fault.lacks(FakeCluster()) is None  # clocks and disks are made up in the tests of their own
    for select in fault.selections or ("one",)
]


class Bench:
    """A nemesis at work on a fake cluster, and its journal."""

    def __init__(self, path: Path, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.path = path / "faults.jsonl"
        loop = asyncio.get_running_loop()
        self.nemesis = Nemesis(
            Site(cluster),
            parse_faults("all", cluster).by_name,
            Journal(self.path),
            now_ns=lambda: int(loop.time() * 1e9),
        )

    async def start(self, family: str, kind: str | None = None, **request: Any) -> dict[str, Any]:
        value = {"kind": kind or family} | request
        done = await self.nemesis.invoke(Op(process=NEMESIS, type="info", f=f"start-{family}", value=value))
        assert done.type == "info"
        assert isinstance(done.value, dict)
        return done.value

    async def stop(self, family: str, **value: Any) -> dict[str, Any]:
        done = await self.nemesis.invoke(Op(process=NEMESIS, type="info", f=f"stop-{family}", value=value or None))
        assert isinstance(done.value, dict)
        return done.value

    @property
    def records(self) -> list[FaultRecord]:
        return read_faults(self.path)

    @property
    def phases(self) -> list[str]:
        return [record.phase for record in self.records]


def on(
    path: Path, story: Callable[[Bench], Awaitable[None]], *, nodes: int = 5, cluster: FakeCluster | None = None
) -> Bench:
    """Play a story on a fresh bench, with every wait taking no time."""
    benches = []

    async def run() -> None:
        benches.append(Bench(path, cluster or FakeCluster(nodes)))
        try:
            await benches[0].nemesis.setup()
            await story(benches[0])
        finally:
            benches[0].nemesis.close()

    run_without_waiting(run)
    return benches[0]


@pytest.mark.parametrize(("family", "kind", "select"), EVERY_FAULT)
@pytest.mark.parametrize("nodes", [3, 5])
def test_each_fault_starts_is_proven_stops_and_is_proven_healed(
    family: str, kind: str, select: str, nodes: int, tmp_path: Path
) -> None:
    async def story(bench: Bench) -> None:
        started = await bench.start(family, kind, select=select, pick=7)
        assert started["phase"] == "active"
        assert started["targets"]
        stopped = await bench.stop(family)
        assert stopped["phase"] == "healed"
        assert stopped["recovery_ms"] >= 0
        assert not bench.nemesis.active

    bench = on(tmp_path, story, nodes=nodes)
    assert bench.phases == ["starting", "active", "healing", "healed"]
    assert all(record.proof for record in bench.records if record.phase in ("active", "healed"))
    assert [record.time_ns for record in bench.records] == sorted(record.time_ns for record in bench.records)
    assert len({record.id for record in bench.records}) == 1
    assert set(bench.cluster.states.values()) == {ProcessState.RUNNING}
    assert not bench.cluster.cuts
    assert not [pair for pair, shape in bench.cluster.shapes.items() if shape != LinkShape()]


@pytest.mark.parametrize(("family", "kind", "select"), EVERY_FAULT)
def test_healing_twice_does_nothing_the_second_time(family: str, kind: str, select: str, tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start(family, kind, select=select, pick=3)
        await bench.stop(family)
        calls = len(bench.cluster.calls)
        assert await bench.stop(family) == {"healed": []}
        assert await bench.nemesis.heal(60.0) == HealReport()
        assert len(bench.cluster.calls) == calls
        (record,) = (record for record in bench.records if record.phase == "healed")
        bench.nemesis.adopt([record])  # as if it had never been known: undoing once more does no harm
        report = await bench.nemesis.heal(60.0)
        assert [healed.phase for healed in report.records] == ["healed"]

    on(tmp_path, story)


@pytest.mark.parametrize(
    ("family", "kind", "action"),
    [
        ("kill", "kill", "kill"),
        ("stop", "stop", "stop"),
        ("pause", "pause", "pause"),
        ("partition", "one", "cut"),
        ("partition", "bridge", "cut"),
        ("packet", "delay", "shape"),
        ("packet", "jitter", "shape"),
        ("packet", "rate", "shape"),
        ("packet", "loss", "shape"),
        ("packet", "duplicate", "shape"),
        ("partition", "client", "cut"),
        ("admin", "compact", "compact"),
        ("admin", "move_leader", "move_leader"),
        ("admin", "crash_during_compaction", "kill"),
    ],
)
def test_an_effect_that_does_not_show_is_recorded_as_unproven(
    family: str, kind: str, action: str, tmp_path: Path
) -> None:
    async def story(bench: Bench) -> None:
        bench.cluster.ignores.add(action)
        assert (await bench.start(family, kind, pick=1))["phase"] == "unproven"
        assert (await bench.stop(family))["phase"] == "healed"

    bench = on(tmp_path, story)
    assert bench.phases == ["starting", "unproven", "healing", "healed"]
    assert "was not seen within" in (bench.records[1].proof or "")


@pytest.mark.parametrize(
    ("family", "kind", "action"),
    [
        ("kill", "kill", "start"),
        ("pause", "pause", "resume"),
        ("partition", "halves", "heal"),
        ("packet", "delay", "heal"),
        ("packet", "loss", "heal"),
        ("partition", "client", "heal"),
    ],
)
def test_an_end_that_does_not_show_is_recorded_as_unproven_and_open(
    family: str, kind: str, action: str, tmp_path: Path
) -> None:
    async def story(bench: Bench) -> None:
        bench.cluster.ignores.add(action)
        await bench.start(family, kind, pick=1)
        assert (await bench.stop(family))["phase"] == "heal_unproven"

    bench = on(tmp_path, story)
    assert bench.phases == ["starting", "active", "healing", "heal_unproven"]
    assert "was not seen within" in (bench.records[-1].proof or "")
    assert [record.fault for record in open_faults(bench.path)] == [kind]


def test_a_cluster_that_never_recovers_is_told_and_raises_nothing(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("kill", select="one")
        bench.cluster.stays_sick = True
        stopped = await bench.stop("kill")
        assert stopped["phase"] == "healed"
        assert set(stopped["not_recovered"]) == set(bench.cluster.nodes)

    last = on(tmp_path, story).records[-1]
    assert "did not recover" in (last.proof or "")
    assert "recovery_ms" not in last.observed


def test_recovery_is_awaited_only_when_no_fault_is_left(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("kill", targets=["n1"])
        await bench.start("pause", targets=["n2"])
        assert "recovery_ms" not in await bench.stop("kill")
        assert "recovery_ms" in await bench.stop("pause")

    on(tmp_path, story)


@pytest.mark.parametrize(("family", "action"), [("kill", "kill"), ("partition", "cut")])
def test_our_own_failure_to_start_is_an_error_after_it_was_recorded(family: str, action: str, tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.cluster.fails.add(action)
        with pytest.raises(NemesisError, match=f"cannot {action}"):
            await bench.start(family, None if family == "kill" else "halves")
        assert bench.phases == ["starting", "unproven"]
        assert bench.records[-1].error == f"cannot {action}"
        await bench.nemesis.heal(60.0)

    assert on(tmp_path, story).phases[-1] == "healed"


def test_our_own_failure_to_heal_one_fault_does_not_keep_the_others(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("kill", targets=["n1"])
        await bench.start("partition", "one", targets=["n2"])
        bench.cluster.fails.add("heal")
        with pytest.raises(NemesisError, match="cannot heal"):
            await bench.nemesis.heal(120.0)

    bench = on(tmp_path, story)
    assert bench.cluster.states["n1"] is ProcessState.RUNNING
    assert {record.family: record.phase for record in bench.records} == {"kill": "healed", "partition": "heal_unproven"}


def test_the_final_heal_undoes_once_more_what_another_fault_kept_from_ending(tmp_path: Path) -> None:
    """A member is added only while all others run: what is undone first waits for what is undone last."""

    class Careful(FakeCluster):
        async def add(self, node: str, role: MemberRole) -> None:
            if any(self.states[other] is not ProcessState.RUNNING for other in self.nodes if other != node):
                raise NemesisError("unhealthy cluster")
            await super().add(node, role)

    async def story(bench: Bench) -> None:
        await bench.start("kill", targets=["n1"])
        await bench.start("member", "shrink", targets=["n2"])
        report = await bench.nemesis.heal(120.0)
        assert {record.family: record.phase for record in report.records} == {"kill": "healed", "member": "healed"}
        assert not report.not_recovered

    bench = on(tmp_path, story, cluster=Careful())
    assert bench.cluster.states == dict.fromkeys(bench.cluster.nodes, ProcessState.RUNNING)


def test_a_full_disk_under_the_journal_does_not_keep_faults_from_being_undone(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("kill", targets=["n1"])
        await bench.start("partition", "one", targets=["n2"])

        def full(record: FaultRecord) -> None:
            raise EnvironmentFailure("cannot write faults.jsonl: No space left on device")

        bench.nemesis._journal.note = full  # type: ignore[method-assign]
        with pytest.raises(EnvironmentFailure, match="No space left"):
            await bench.nemesis.heal(60.0)
        assert not bench.nemesis.active

    bench = on(tmp_path, story)
    assert bench.cluster.states["n1"] is ProcessState.RUNNING
    assert not bench.cluster.cuts
    assert [record.phase for record in open_faults(bench.path)] == ["active", "active"]


@pytest.mark.parametrize("family", ["kill", "partition", "packet"])
def test_the_journal_knows_of_a_fault_before_the_cluster_is_touched(family: str, tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        does = bench.cluster.does
        seen = []

        def noting(action: str, *about: object) -> bool:
            seen.append([record.phase for record in open_faults(bench.path)])
            return does(action, *about)

        bench.cluster.does = noting  # type: ignore[method-assign]
        await bench.start(family, FAMILIES[family].kinds[0])
        assert seen[0] == ["starting"]

    on(tmp_path, story)


def test_what_a_dead_harness_left_behind_is_healed_from_its_journal(tmp_path: Path) -> None:
    """Three harnesses die in the middle of a fault, after a fault's proof, and in the middle of the undoing."""
    cluster = FakeCluster()

    async def dies_while_starting(bench: Bench) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):  # less than the proof takes
                await bench.start("partition", "one", targets=["n1"])
        assert cluster.calls == ["cut 8"]

    async def dies_later(bench: Bench) -> None:
        await bench.start("pause", targets=["n2"])
        await bench.start("kill", targets=["n3"])
        bench.cluster.fails.add("start")
        with pytest.raises(NemesisError):
            await bench.stop("kill")
        bench.cluster.fails.clear()

    on(tmp_path, dies_while_starting, cluster=cluster)
    first = open_faults(tmp_path / "faults.jsonl")
    assert [(record.fault, record.phase) for record in first] == [("one", "starting")]
    report = run_without_waiting(lambda: heal_open(cluster, tmp_path / "faults.jsonl", 60.0))
    assert [record.phase for record in report.records] == ["healed"]
    assert not cluster.cuts

    second = tmp_path / "second"
    second.mkdir()
    on(second, dies_later, cluster=cluster)
    with (second / "faults.jsonl").open("ab") as file:
        file.write(b'{"id":3,"family":"ki')  # and its last line was torn
    assert [(record.fault, record.phase) for record in open_faults(second / "faults.jsonl")] == [
        ("pause", "active"),
        ("kill", "heal_unproven"),
    ]
    report = run_without_waiting(lambda: heal_open(cluster, second / "faults.jsonl", 60.0))
    assert report.recovery_ms is not None
    assert set(cluster.states.values()) == {ProcessState.RUNNING}
    assert open_faults(second / "faults.jsonl") == []
    times = [record.time_ns for record in read_faults(second / "faults.jsonl")]
    assert times == sorted(times)


def test_the_final_heal_keeps_its_deadline(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("kill", select="minority")
        bench.cluster.ignores.add("start")
        before_s = asyncio.get_running_loop().time()
        report = await bench.nemesis.heal(5.0)
        assert asyncio.get_running_loop().time() - before_s <= 5.1
        assert [record.phase for record in report.records] == ["heal_unproven"]
        assert "deadline of 5 s" in (report.records[0].proof or "")
        bench.cluster.ignores.clear()
        assert [record.phase for record in (await bench.nemesis.heal(60.0)).records] == ["healed"]

    on(tmp_path, story)


def test_the_leader_is_asked_for_when_the_fault_starts_and_another_must_follow(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.cluster.leading, bench.cluster.term = "n4", 9
        started = await bench.start("partition", "primaries", select="primaries")
        assert started["targets"] == ["n4"]

    observed = on(tmp_path, story).records[1].observed
    assert (observed["old_leader"], observed["old_term"]) == ("n4", 9)
    assert observed["new_leader"] != "n4"
    assert observed["new_term"] > 9


def test_without_a_leader_one_node_is_taken_for_it(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.cluster.ignores.add("elect")
        bench.cluster._elect = lambda: None  # type: ignore[method-assign]
        bench.cluster.leading = None
        started = await bench.start("pause", select="primaries")
        assert len(started["targets"]) == 1

    assert on(tmp_path, story).records[0].plan["leader"] is None


def test_a_member_that_ended_by_itself_is_no_proof_of_ours(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.cluster.states["n3"] = ProcessState.STOPPED
        assert (await bench.start("pause", targets=["n3"]))["phase"] == "unproven"
        assert "pause n3" not in bench.cluster.calls

    assert "n3" in (on(tmp_path, story).records[1].proof or "")


def test_faults_together_take_the_quorum_and_the_last_one_says_so(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("kill", targets=["n1", "n2"])
        await bench.start("partition", "one", targets=["n3"])

    starts = [record for record in on(tmp_path, story).records if record.phase == "starting"]
    assert [record.affects_quorum for record in starts] == [False, True]


@pytest.mark.parametrize(("select", "takes_it"), [("minority", False), ("majority", True), ("all", True)])
def test_a_majority_down_is_told_to_take_the_quorum(select: str, takes_it: bool, tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("pause", select=select)

    assert on(tmp_path, story).records[0].affects_quorum is takes_it


def test_one_node_is_left_standing_unless_all_were_asked_for(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("pause", targets=["n1", "n2"])
        assert len((await bench.start("kill", select="majority"))["targets"]) == 2
        assert ProcessState.RUNNING in bench.cluster.states.values()
        await bench.stop("kill")
        assert set((await bench.start("kill", select="all"))["targets"]) == {"n3", "n4", "n5"}
        assert (await bench.start("stop", select="all"))["skipped"]

    on(tmp_path, story)


def test_a_node_without_clients_leads_on_and_is_asked_for_nothing_else(tmp_path: Path) -> None:
    """Clients cut off from the leader cost it neither its office nor the cluster its quorum."""

    async def story(bench: Bench) -> None:
        started = await bench.start("partition", "client", select="primaries")
        assert started["phase"] == "active"
        (leader,) = started["targets"]
        assert bench.cluster.leading == leader
        assert len(bench.cluster.cuts) == 2
        assert "from serving" in (await bench.start("packet", "delay", targets=[leader]))["skipped"]
        assert (await bench.start("kill", targets=[leader]))["phase"] == "active"
        assert (await bench.stop("kill"))["phase"] == "healed"
        assert (await bench.stop("partition"))["phase"] == "healed"

    bench = on(tmp_path, story)
    assert bench.records[0].affects_quorum is False


def test_ending_one_fault_leaves_what_another_does_to_the_same_links(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("partition", "one", targets=["n1"])
        await bench.start("packet", "delay", targets=["n1"], pick=1)
        shapes = dict(bench.cluster.shapes)
        await bench.stop("packet")
        assert len(bench.cluster.cuts) == 8
        assert not any(shape.delay_ms for shape in bench.cluster.shapes.values())
        await bench.start("packet", "delay", targets=["n1"], pick=1)
        assert bench.cluster.shapes == shapes
        await bench.stop("partition")
        assert not bench.cluster.cuts
        assert bench.cluster.shapes == shapes

    on(tmp_path, story)


def test_a_stop_works_on_a_node_that_was_changed_meanwhile(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("pause", targets=["n1"])
        await bench.start("kill", targets=["n1"])
        await bench.stop("pause")
        assert bench.cluster.states["n1"] is ProcessState.STOPPED  # the kill's, until that ends
        assert (await bench.stop("kill"))["phase"] == "healed"
        assert bench.cluster.states["n1"] is ProcessState.RUNNING

    on(tmp_path, story)


def test_a_member_that_does_not_end_in_order_is_killed(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.cluster.fails.add("stop")
        assert (await bench.start("stop", targets=["n1"]))["phase"] == "active"
        assert bench.cluster.calls == ["stop n1", "kill n1"]
        assert (await bench.stop("stop"))["phase"] == "healed"

    on(tmp_path, story)


@pytest.mark.parametrize("kind", ["compact", "move_leader"])
def test_what_needs_a_quorum_is_skipped_while_other_faults_take_it(kind: str, tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("kill", select="majority")
        assert "no quorum" in (await bench.start("admin", kind))["skipped"]
        assert bench.phases == ["starting", "active"]

    on(tmp_path, story)


@pytest.mark.parametrize(("family", "kind"), [("packet", "delay"), ("packet", "rate"), ("admin", "defragment")])
def test_what_could_not_be_seen_on_nodes_that_do_not_serve_is_skipped(family: str, kind: str, tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("partition", "one", targets=["n1"])
        assert (await bench.start(family, kind, targets=["n2", "n1"]))["targets"] == ["n2"]
        await bench.stop(family)
        assert "from serving" in (await bench.start(family, kind, targets=["n1"]))["skipped"]

    on(tmp_path, story)


def test_links_between_nodes_that_are_down_are_not_cut(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("kill", targets=["n1", "n2", "n3", "n4"])
        assert "end of every link" in (await bench.start("partition", "halves"))["skipped"]
        assert not bench.cluster.cuts

    on(tmp_path, story)


def test_an_end_that_cannot_be_seen_is_unproven_until_the_final_heal(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("packet", "delay", targets=["n1"])
        await bench.start("partition", "one", targets=["n1"])
        assert (await bench.stop("packet"))["phase"] == "heal_unproven"
        assert {record.id for record in bench.nemesis.active} == {2}
        report = await bench.nemesis.heal(60.0)
        assert [(record.id, record.phase) for record in report.records] == [(1, "healed"), (2, "healed")]
        assert await bench.nemesis.heal(60.0) == HealReport()

    assert open_faults(on(tmp_path, story).path) == []


def test_one_of_several_faults_of_a_family_can_be_stopped_by_id(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        first = await bench.start("kill", targets=["n1"])
        await bench.start("kill", targets=["n2"])
        await bench.stop("kill", ids=[first["id"]])
        assert [record.targets for record in bench.nemesis.active] == [("n2",)]
        await bench.start("kill", targets=["n3"])
        assert len((await bench.stop("kill"))["healed"]) == 2

    on(tmp_path, story)


@pytest.mark.parametrize(
    ("op", "said"),
    [
        (Op(f="begin-kill"), "cannot do 'begin-kill'"),
        (Op(f="start-kil", value={"kind": "kill"}), "did you mean 'kill'"),
        (Op(f="start-partition", value={"kind": "brige"}), "did you mean 'bridge'"),
        (Op(f="start-kill", value=None), "cannot be asked None"),
        (Op(f="start-kill", value={"kind": "kill", "who": 1}), "who"),
        (Op(f="start-kill", value={"kind": "kill", "select": "nobody"}), "unknown selection"),
    ],
)
def test_an_operation_that_makes_no_sense_is_refused_in_words(op: Op, said: str, tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(NemesisError, match=said):
            await bench.nemesis.invoke(op)

    assert on(tmp_path, story).phases == []


def test_a_fault_that_the_cluster_lacks_is_refused_before_the_run(tmp_path: Path) -> None:
    async def run() -> None:
        cluster = FakeCluster(lacks=(Links,))
        journal = Journal(tmp_path / "faults.jsonl")
        with pytest.raises(ConfigError, match="cannot do partition:one"):
            await Nemesis(Site(cluster), {"partition": FAMILIES["partition"].faults}, journal, now_ns=lambda: 0).setup()
        journal.close()

    asyncio.run(run())


def test_a_crash_during_a_call_hits_at_the_planned_moment(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.start("admin", "crash_during_defragment", select="one", pick=5)

    bench = on(tmp_path, story)
    active = bench.records[1]
    assert 0 <= active.plan["crash_ms"] <= 60
    assert active.observed["in_flight"] == (active.plan["crash_ms"] < 30)
    calls = [call.split()[0] for call in bench.cluster.calls]
    assert calls[:2] == ["defragment", "kill"]


def test_a_request_survives_json() -> None:
    import msgspec

    request = Request("bridge", 12, "one", ("n1",))
    assert msgspec.json.decode(msgspec.json.encode(request), type=Request) == request
