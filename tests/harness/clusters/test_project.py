"""A user's own compose project: processes by the engine, links by helpers beside the nodes, nothing left of either."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from splitvote.harness.cluster import LinkCounter, LinkShape, Process, ProcessState
from splitvote.harness.clusters.attached.containers import ContainerProcess
from splitvote.harness.clusters.attached.ground import Limits
from splitvote.harness.clusters.attached.project import Project, helper_facts, project_of
from splitvote.harness.clusters.attached.project_nodes import find_project
from splitvote.harness.clusters.attached.sidecars import NODE_LABEL, RUN_LABEL, Sidecars
from splitvote.harness.clusters.network.packetfilter import FILTERS
from splitvote.harness.clusters.remote.node_facts import SCRIPT, read_facts
from splitvote.harness.errors import NemesisError
from tests.harness.clusters.fake_engine import NETWORK, FakeEngine, container

TOKEN = "run-1"
NODES = ("etcd1", "etcd2", "etcd3")
IDS = {name: f"id-{name}" for name in NODES}


def three() -> FakeEngine:
    return FakeEngine([container(name) for name in NODES])


def sidecars(engine: FakeEngine) -> Sidecars:
    return Sidecars(engine, IDS, image="helper", token=TOKEN, packets=FILTERS["nft"], transport=engine.transport)


def project(engine: FakeEngine) -> Project:
    facts = read_facts(engine.run_once("helper", SCRIPT))
    return Project(engine, find_project(engine, "shop"), token=TOKEN, facts=facts, sidecars=sidecars(engine))


def on_project(engine: FakeEngine, body: Callable[[Project, list[tuple[str, str | None]]], Awaitable[None]]) -> Project:
    """Run a body on a project that was opened; it is told where nodes were said to have moved."""
    ground = project(engine)

    async def main() -> None:
        moves: list[tuple[str, str | None]] = []

        async def moved(node: str, place: str | None) -> None:
            moves.append((node, place))

        try:
            await ground.open(moved)
            await body(ground, moves)
        finally:
            await ground.close()

    asyncio.run(main())
    return ground


def process_of(ground: Project) -> Process:
    process = ground.capabilities()[Process]
    assert isinstance(process, Process)
    return process


# Processes.


@pytest.mark.parametrize(
    ("how", "call", "state"),
    [
        ("kill", "kill id-etcd1", ProcessState.STOPPED),
        ("stop", "stop id-etcd1", ProcessState.STOPPED),
        ("pause", "pause id-etcd1", ProcessState.PAUSED),
    ],
)
def test_processes_are_hurt_through_the_engine_and_healed(how: str, call: str, state: ProcessState) -> None:
    engine = three()

    async def body(ground: Project, moves: object) -> None:
        process = process_of(ground)
        await getattr(process, how)("etcd1")
        await getattr(process, how)("etcd1")  # idempotent
        assert engine.calls == [call]
        assert await process.state("etcd1") is state
        assert await process.state("etcd2") is ProcessState.RUNNING
        await (process.resume if how == "pause" else process.start)("etcd1")
        await (process.resume if how == "pause" else process.start)("etcd1")
        assert await process.state("etcd1") is ProcessState.RUNNING
        assert len(engine.calls) == 2

    on_project(engine, body)


def test_a_process_that_something_starts_again_at_once_was_not_killed() -> None:
    """It runs by the time it is looked at, with another pid: a kill that nobody can see is none."""
    engine = three()
    engine.watched.add("id-etcd1")

    async def body(ground: Project, moves: object) -> None:
        with pytest.raises(NemesisError, match=r"\(shop_etcd1_1\) was started again at once, not by us \(pid 101"):
            await process_of(ground).kill("etcd1")

    on_project(engine, body)


def test_a_container_that_docker_is_about_to_restart_has_no_process() -> None:
    async def unexpected(node: str) -> None:
        raise AssertionError(node)

    engine = FakeEngine([container("etcd1", status="restarting")])
    state = asyncio.run(ContainerProcess(engine, IDS, unexpected).state("etcd1"))
    assert state is ProcessState.STOPPED


def test_members_whose_data_end_with_them_are_not_ended() -> None:
    engine = FakeEngine([container("etcd1", tmpfs=("/",)), container("etcd2"), container("etcd3")])
    limits = Limits(project(engine).forbidden, ("compact",))
    for family, fault in (("kill", "kill"), ("stop", "stop"), ("restart", "crash_loop")):
        assert "what etcd1 hold may be lost when they end" in (limits.refusal(family, fault) or "")
    assert limits.refusal("admin", "crash_during_compaction") is not None
    assert limits.refusal("admin", "compact") is None
    assert limits.refusal("pause", "pause") is None


def test_data_is_never_wiped() -> None:
    async def body(ground: Project, moves: object) -> None:
        with pytest.raises(NemesisError, match="is not the harness's, and is not wiped"):
            await process_of(ground).wipe("etcd1")

    on_project(three(), body)


# Links.


def test_every_node_has_a_helper_by_whose_rules_links_are_cut() -> None:
    engine = three()

    async def body(ground: Project, moves: object) -> None:
        labels = [labels for labels, _ in engine.helpers.values()]
        assert sorted(each[NODE_LABEL] for each in labels) == list(NODES)
        assert {each[RUN_LABEL] for each in labels} == {TOKEN}
        assert ground.links is not None
        await ground.links.cut([("etcd1", "etcd2")])
        assert "ip saddr 172.20.0.1 drop" in engine.namespaces["id-etcd2"].rules
        assert engine.namespaces["id-etcd1"].rules == ""
        await ground.links.heal()
        assert engine.namespaces["id-etcd2"].rules == ""

    on_project(engine, body)
    assert engine.helpers == {}


def test_a_node_that_comes_back_elsewhere_is_hurt_and_counted_as_before() -> None:
    """A restart makes a new namespace, perhaps with another address: rules and queues are made there anew, the other
    nodes learn the address, what was counted is not forgotten, and clients are sent to the new port.
    """
    engine = three()

    async def body(ground: Project, moves: list[tuple[str, str | None]]) -> None:
        links = ground.links
        assert links is not None
        await links.cut([("etcd1", "etcd2"), ("etcd2", "etcd1")])
        await links.shape([("etcd1", "etcd3"), ("etcd3", "etcd1")], LinkShape(delay_ms=50))
        engine.namespaces["id-etcd1"].counters["to_etcd2"] = 500
        engine.namespaces["id-etcd2"].counters["from_etcd1"] = 300
        assert (await links.counters())["etcd1", "etcd2"] == LinkCounter(500, 300)

        engine.moves["id-etcd1"] = ("172.20.0.9", "127.0.0.1:40000")
        await process_of(ground).kill("etcd1")
        assert (await links.counters())["etcd1", "etcd2"] == LinkCounter(500, 300)  # of a namespace that is held still
        assert moves == [("etcd1", None)]  # before another one can have its address
        await process_of(ground).start("etcd1")

        assert moves == [("etcd1", None), ("etcd1", "127.0.0.1:40000")]
        assert ground.endpoints()["etcd1"] == "127.0.0.1:40000"
        assert "ip saddr 172.20.0.9 drop" in engine.namespaces["id-etcd2"].rules
        assert "ip saddr 172.20.0.2 drop" in engine.namespaces["id-etcd1"].rules
        assert any("netem" in line and "delay 50ms" in line for line in engine.namespaces["id-etcd1"].queues)
        assert any("172.20.0.9/32" in line for line in engine.namespaces["id-etcd3"].queues)
        engine.namespaces["id-etcd1"].counters["to_etcd2"] = 7
        engine.namespaces["id-etcd2"].counters["from_etcd1"] = 2
        assert (await links.counters())["etcd1", "etcd2"] == LinkCounter(507, 302)
        assert len(engine.helpers) == 3

    on_project(engine, body)


def test_a_link_is_shaped_while_its_end_is_down_and_is_so_when_that_is_back() -> None:
    engine = three()

    async def body(ground: Project, moves: object) -> None:
        assert ground.links is not None
        await process_of(ground).kill("etcd1")
        await ground.links.shape([("etcd1", "etcd2")], LinkShape(delay_ms=40))
        await process_of(ground).start("etcd1")
        assert any("delay 40ms" in line for line in engine.namespaces["id-etcd1"].queues)

    on_project(engine, body)


def test_a_container_that_came_back_by_itself_is_followed() -> None:
    """The engine may restart a container that crashed: nobody told us, and its links are to be hurt all the same."""
    engine = three()

    async def body(ground: Project, moves: list[tuple[str, str | None]]) -> None:
        assert ground.links is not None
        await ground.links.cut([("etcd2", "etcd1")])
        engine.moves["id-etcd1"] = ("172.20.0.1", "127.0.0.1:40000")
        engine.watched.add("id-etcd1")
        engine._end("id-etcd1")
        async with asyncio.timeout(60):
            while not (moves and engine.namespaces["id-etcd1"].rules):  # noqa: ASYNC110  # a fake has no events
                await asyncio.sleep(0.01)
        assert moves == [("etcd1", "127.0.0.1:40000")]

    on_project(engine, body)


def test_without_a_helper_links_are_refused_with_the_reason() -> None:
    engine = three()
    engine.facts = "filter=iptables\n"
    facts, reason = helper_facts(engine, "helper", find_project(engine, "shop"))
    assert facts is None
    ground = Project(engine, find_project(engine, "shop"), token=TOKEN, facts=facts, no_links=reason)
    limits = Limits(ground.forbidden, ())
    for family, fault in (("packet", "delay"), ("partition", "halves")):
        assert "nft does not work in containers of the image helper" in (limits.refusal(family, fault) or "")
    assert limits.refusal("partition", "client") is None
    assert limits.refusal("kill", "kill") is None


def test_one_node_has_no_links() -> None:
    engine = FakeEngine([container("etcd1")])
    assert helper_facts(engine, "helper", find_project(engine, "shop")) == (None, "it has no links: it is one node")


# Leaving.


def test_it_is_left_as_it_was_found_by_whoever_does_it() -> None:
    """Another process, of which the first one's helpers know nothing, unpauses, starts, lifts the rules and removes
    every helper of the run, and no other; a second time there is nothing to be done.
    """
    engine = three()
    stranger = engine.join_network("id-etcd1", image="helper", labels={RUN_LABEL: "run-2"})
    ground = project(engine)

    async def hurt() -> dict[str, object]:
        async def moved(node: str, place: str | None) -> None: ...

        await ground.open(moved)
        assert ground.links is not None
        await ground.links.cut([("etcd1", "etcd3")])
        await process_of(ground).pause("etcd1")
        await process_of(ground).kill("etcd2")
        described = ground.described()
        await ground._end_watch()  # as SIGKILL does
        return described

    described = asyncio.run(hurt())
    assert len(engine.helpers) == 4

    async def heal() -> list[str]:
        healer = project_of(described, TOKEN, engine)
        healer._sidecars = sidecars(engine)
        done = await healer.restore()
        await healer.close()
        return done

    done = asyncio.run(heal())
    assert done[:2] == ["unpaused etcd1 (shop_etcd1_1)", "started etcd2 (shop_etcd2_1), which was exited"]
    assert done[2:] == ["removed 3 helper containers, and all rules for packets"]
    assert all(each.status == "running" for each in engine.containers.values())
    assert all(space.rules == "" and space.queues == [] for space in engine.namespaces.values())
    assert list(engine.helpers) == [stranger]
    assert asyncio.run(heal()) == []


def test_logs_are_fetched_of_every_node(tmp_path: Path) -> None:
    engine = three()

    async def body(ground: Project, moves: object) -> None:
        await ground.save_logs(tmp_path, 0.0)

    on_project(engine, body)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["etcd1.log", "etcd2.log", "etcd3.log"]


def test_the_network_that_nodes_share_is_the_one_whose_addresses_count() -> None:
    engine = FakeEngine(
        [container(name, addresses={"a_public": "10.9.9.9", NETWORK: f"172.20.0.{name[-1]}"}) for name in NODES[:1]]
        + [container(name) for name in NODES[1:]]
    )

    async def body(ground: Project, moves: object) -> None:
        assert ground.links is not None
        await ground.links.cut([("etcd1", "etcd2")])
        assert "ip saddr 172.20.0.1 drop" in engine.namespaces["id-etcd2"].rules
        await ground.links.shape([("etcd1", "etcd2")], LinkShape(delay_ms=9))
        assert all("dev eth1" in line for line in engine.namespaces["id-etcd1"].queues)

    on_project(engine, body)
