"""Faults of clocks on clocks in memory: what they set, what proves it, what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from splitvote.harness.errors import ConfigError
from splitvote.harness.machine import Clock, ClockReading, ClockShape
from splitvote.nemesis import FAMILIES, Plan, Request, Site, parse_faults
from splitvote.nemesis.clock import CLOCKS, ClockFault
from splitvote.nemesis.proof import Proof
from splitvote.nemesis.quorum import NO_EFFECT
from tests.nemesis.fake_cluster import FakeCluster, run_without_waiting

FAULTS = {fault.name: fault for fault in CLOCKS}
ALL_HANDS = frozenset({"wall", "monotonic", "wall_drift", "monotonic_drift"})


class FakeClocks:
    """Clocks that go as they are told, by the loop's time; ``change`` has them go another way."""

    def __init__(self, cluster: FakeCluster, supports: frozenset[str] = ALL_HANDS) -> None:
        self.supports = supports
        self.refusal: str | None = None
        self.change: Callable[[str, ClockShape], ClockShape] = lambda node, shape: shape
        self.silent: set[str] = set()
        self.error_ms = 10.0
        self.bias_ms = 0.0
        self._told: dict[str, tuple[float, ClockShape, float]] = {}
        self._nodes = cluster.nodes
        cluster._capabilities[Clock] = self

    async def set(self, node: str, shape: ClockShape) -> None:
        self._told[node] = asyncio.get_running_loop().time(), shape, 0.0

    async def strobe(self, node: str, shape: ClockShape, period_ms: float) -> None:
        self._told[node] = asyncio.get_running_loop().time(), shape, period_ms / 1e3

    async def reset(self, node: str) -> None:
        await self.set(node, ClockShape())

    async def offsets(self) -> Mapping[str, ClockReading]:
        await asyncio.sleep(0.7)
        return {node: self._reading(node) for node in self._nodes if node not in self.silent}

    def _reading(self, node: str) -> ClockReading:
        now_s = asyncio.get_running_loop().time()
        at_s, shape, period_s = self._told.get(node, (now_s, ClockShape(), 0.0))
        shape = self.change(node, shape)
        passed_s = now_s - at_s
        if period_s and int(passed_s / period_s) % 2:
            shape = ClockShape()
        return ClockReading(
            wall_ms=shape.wall_ms + 1e3 * shape.wall_drift * passed_s + self.bias_ms,
            monotonic_ms=shape.monotonic_ms + 1e3 * shape.monotonic_drift * passed_s,
            error_ms=self.error_ms,
            monotonic_error_ms=self.error_ms,
        )


def life(
    fault: ClockFault,
    clocks: FakeClocks,
    cluster: FakeCluster,
    *,
    pick: int = 7,
    at_end: Callable[[], Any] = lambda: None,
) -> tuple[Plan, Proof, Proof, Proof]:
    """The plan, and the proofs of a start and of an end, and of an end that comes again."""

    async def run() -> tuple[Plan, Proof, Proof, Proof]:
        site = Site(cluster)
        plan = await fault.plan(Request(fault.name, pick, "one"), site)
        begun = await fault.prove_start(plan, site, await fault.start(plan, site))
        at_end()
        ended = await fault.prove_stop(plan, site, await fault.stop(plan, site))
        again = await fault.prove_stop(plan, site, await fault.stop(plan, site))
        return plan, begun, ended, again

    return run_without_waiting(run)


@pytest.mark.parametrize("pick", range(5))
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_proven_by_what_is_measured_and_its_end_too_twice(name: str, pick: int) -> None:
    cluster = FakeCluster()
    plan, begun, ended, again = life(FAULTS[name], FakeClocks(cluster), cluster, pick=pick)
    assert len(plan.targets) == 1
    assert begun.holds, begun.words
    assert "ahead" in begun.words
    assert ended.holds, ended.words
    assert again.holds


@pytest.mark.parametrize("name", FAULTS)
def test_clocks_that_are_not_set_prove_nothing(name: str) -> None:
    """What was asked for is no evidence: the clocks show the truth, and the proof says so."""
    cluster = FakeCluster()
    clocks = FakeClocks(cluster)
    clocks.change = lambda node, shape: ClockShape()
    _, begun, _, _ = life(FAULTS[name], clocks, cluster)
    assert not begun.holds
    assert "was not seen within" in begun.words


@pytest.mark.parametrize("name", FAULTS)
def test_a_clock_that_goes_twice_as_far_is_not_what_was_asked_for(name: str) -> None:
    def doubled(node: str, shape: ClockShape) -> ClockShape:
        return ClockShape(2 * shape.wall_ms, 2 * shape.monotonic_ms, 2 * shape.wall_drift, 2 * shape.monotonic_drift)

    cluster = FakeCluster()
    clocks = FakeClocks(cluster)
    clocks.change = doubled
    assert not life(FAULTS[name], clocks, cluster)[1].holds


@pytest.mark.parametrize("name", FAULTS)
def test_a_clock_of_another_node_that_moves_spoils_the_proof(name: str) -> None:
    cluster = FakeCluster()
    clocks = FakeClocks(cluster)
    hurt: list[str] = []

    async def run() -> Proof:
        site = Site(cluster)
        plan = await FAULTS[name].plan(Request(name, 7, "one"), site)
        seen = await FAULTS[name].start(plan, site)
        bystander = next(node for node in cluster.nodes if node not in plan.targets)
        hurt.append(bystander)
        await clocks.set(bystander, ClockShape(wall_ms=400.0, monotonic_ms=400.0))
        return await FAULTS[name].prove_start(plan, site, seen)

    proof = run_without_waiting(run)
    assert not proof.holds
    assert "others up to 400 ms off" in proof.words


@pytest.mark.parametrize("error_ms", [240.0, 10.0])
def test_a_bad_measurement_before_the_fault_counts_as_one(error_ms: float) -> None:
    """What was measured before is as uncertain as its own error says, however well the end is measured."""
    cluster = FakeCluster()
    clocks = FakeClocks(cluster)
    clocks.error_ms, clocks.bias_ms = error_ms, -220.0

    def measured_well() -> None:
        clocks.error_ms, clocks.bias_ms = 10.0, 0.0

    fault = next(fault for fault in CLOCKS if fault.hand == "wall" and fault.needs == "wall")
    _, _, ended, again = life(fault, clocks, cluster, at_end=measured_well)
    assert (ended.holds, again.holds) == ((True, True) if error_ms > 220 else (False, False)), ended.words


@pytest.mark.parametrize("name", FAULTS)
def test_an_end_is_not_proven_while_the_clock_is_off_or_silent(name: str) -> None:
    cluster = FakeCluster()
    clocks = FakeClocks(cluster)

    def stuck() -> None:
        clocks.change = lambda node, shape: ClockShape(wall_ms=-500.0, monotonic_ms=-500.0)

    assert not life(FAULTS[name], clocks, cluster, at_end=stuck)[2].holds
    clocks = FakeClocks(cluster)
    assert not life(FAULTS[name], clocks, cluster, at_end=lambda: clocks.silent.update(cluster.nodes))[2].holds


def test_what_was_off_before_is_no_effect_of_the_fault() -> None:
    """A node whose wall clock was wrong all along, as on hosts of their own, is measured against that."""
    cluster = FakeCluster()
    clocks = FakeClocks(cluster)
    clocks.change = lambda node, shape: ClockShape(shape.wall_ms + 3_000.0)
    _, begun, ended, _ = life(FAULTS["wall_bump"], clocks, cluster)
    assert begun.holds, begun.words
    assert ended.holds, ended.words


def test_a_coarse_measurement_does_not_tell_a_small_offset() -> None:
    """Where the error is as large as the offset nothing is proven."""
    cluster = FakeCluster()
    clocks = FakeClocks(cluster)
    clocks.error_ms = 500.0
    small = next(pick for pick in range(100) if abs(FAULTS["wall_bump"].draw(pick).shape.wall_ms) < 1_000)
    assert not life(FAULTS["wall_bump"], clocks, cluster, pick=small)[1].holds


def test_only_monotonic_clocks_excuse_anything() -> None:
    """Of the wall clock etcd only tells: a member whose wall clock is wrong serves as well as any."""
    for fault in CLOCKS:
        effect = fault.effect(Plan(("n2",)))
        assert (effect == NO_EFFECT) == (fault.hand == "wall")
        assert effect.down == ()
        assert effect.strained == (() if fault.hand == "wall" else ("n2",))


def test_monotonic_time_is_never_put_back() -> None:
    for pick in range(200):
        assert FAULTS["monotonic_bump"].draw(pick).shape.monotonic_ms > 0
        strobe = FAULTS["monotonic_strobe"].draw(pick)
        assert 0 < strobe.shape.monotonic_ms < strobe.period_ms
        assert -1 < FAULTS["monotonic_drift"].draw(pick).shape.monotonic_drift < 1


def test_a_cluster_that_cannot_is_refused_with_its_reason() -> None:
    """By name it is refused before a run; what is missing of the family is told."""
    with pytest.raises(ConfigError, match="it cannot set single nodes' clocks"):
        parse_faults("clock", FakeCluster())
    cluster = FakeCluster()
    clocks = FakeClocks(cluster, frozenset())
    clocks.refusal = "its vDSO cannot be patched"
    with pytest.raises(ConfigError, match="its vDSO cannot be patched"):
        parse_faults("clock:wall_bump", cluster)
    FakeClocks(cluster, frozenset({"wall", "wall_drift"}))
    chosen = parse_faults("clock", cluster)
    assert [fault.name for fault in chosen.by_name["clock"]] == ["wall_bump", "wall_strobe", "wall_drift"]
    assert set(chosen.omitted) == {"clock:monotonic_bump", "clock:monotonic_strobe", "clock:monotonic_drift"}
    assert FAMILIES["clock"].kinds == tuple(FAULTS)
