"""What clocks are told, held against a machine that keeps it: restarts, ends of slews, and nodes out of reach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import pytest

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.clocks.patched import ProcessClocks
from splitvote.harness.clusters.clocks.vdso import TRUE, Course
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import ClockShape

S: Final = 1_000_000_000
BOUND_S: Final = 20.0
NOBODY: Final = "127.0.0.1:1"


class FakePatcher:
    """Nodes with a process each (or none), and how their clocks were told to go."""

    refusal = None

    def __init__(self) -> None:
        self.pids: dict[str, int | None] = {"n1": 1, "n2": 2}
        self.patched: dict[int, tuple[Course, Course]] = {}
        self.lost: set[str] = set()
        self.released = asyncio.Event()
        self.turns = 0  # that steering takes
        self.answers: Callable[[Course], Course] = lambda course: course

    async def pid_of(self, node: str) -> int | None:
        await asyncio.sleep(0)
        if node in self.lost:
            raise NemesisError(f"{node} is out of reach")
        return self.pids[node]

    async def state(self, node: str) -> ProcessState:
        return ProcessState.STOPPED if await self.pid_of(node) is None else ProcessState.RUNNING

    async def steer(self, node: str, pid: int, *, wall: Course, monotonic: Course) -> Course | None:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if pid not in self.pids.values():
            return None
        goes = self.answers(monotonic)
        self.patched[pid] = (wall, goes)
        return goes

    async def courses(self, node: str, pid: int) -> tuple[Course, Course] | None:
        return self.patched.get(pid)

    async def release(self, node: str, pid: int) -> None:
        await asyncio.sleep(0)
        self.patched.pop(pid, None)
        self.released.set()


def clocks(patcher: FakePatcher) -> ProcessClocks:
    return ProcessClocks(["n1", "n2"], patcher, lambda node: NOBODY)


def test_a_restarted_process_gets_its_nodes_wall_clock_and_drift_and_none_of_a_jump() -> None:
    patcher = FakePatcher()

    async def run() -> None:
        clock = clocks(patcher)
        await clock.set("n1", ClockShape(wall_ms=-5_000.0, monotonic_ms=700.0, monotonic_drift=0.25))
        wall, monotonic = patcher.patched[1]
        assert (wall.base_ns, monotonic.base_ns, monotonic.rate) == (-5 * S, 700_000_000, 0.25)
        patcher.pids["n1"] = None
        await clock.note_change("n1")
        patcher.pids = {"n1": 11, "n2": 12}
        await clock.note_change("n2")
        assert 11 not in patcher.patched
        await clock.note_change("n1")
        wall, monotonic = patcher.patched[11]
        assert (wall.base_ns, monotonic.base_ns, monotonic.rate) == (-5 * S, 0, 0.25)
        assert 12 not in patcher.patched  # nobody has told n2 anything
        await clock.close()
        assert 11 not in patcher.patched

    asyncio.run(run())


def test_a_patch_stays_until_its_clock_is_where_it_was_to_end_as_the_patcher_has_it() -> None:
    """The patcher may have had to take a longer way back than was asked for."""
    patcher = FakePatcher()

    async def run() -> None:
        clock = clocks(patcher)
        await clock.set("n1", ClockShape(monotonic_ms=10.0))
        ended_ns: list[int] = []

        def longer(course: Course) -> Course:
            longer_way = Course(course.base_ns, course.rate, course.since_ns, course.span_ns + 200_000_000)
            ended_ns.append(longer_way.since_ns + longer_way.span_ns)
            return longer_way

        patcher.answers = longer
        await clock.reset("n1")
        async with asyncio.timeout(BOUND_S):
            await patcher.released.wait()
        assert 1 not in patcher.patched
        assert time.monotonic_ns() >= ended_ns[-1]
        await clock.reset("n1")
        await clock.close()

    asyncio.run(run())


def test_a_clock_that_the_patcher_finds_ahead_is_not_let_go_of_at_once() -> None:
    """What was told says that it shows the truth; the node knows better, and has it go slower until it does."""
    patcher = FakePatcher()

    async def run() -> None:
        clock = clocks(patcher)
        await clock.set("n1", ClockShape(wall_ms=50.0))
        patcher.answers = lambda course: Course(100_000_000, -0.5, time.monotonic_ns(), 200_000_000)
        await clock.reset("n1")
        assert 1 in patcher.patched
        async with asyncio.timeout(BOUND_S):
            await patcher.released.wait()
        await clock.close()

    asyncio.run(run())


def test_what_is_told_last_is_what_a_clock_shows_though_something_before_it_was_slow() -> None:
    patcher = FakePatcher()

    async def run() -> None:
        clock = clocks(patcher)
        patcher.turns = 50
        first = asyncio.create_task(clock.set("n1", ClockShape(wall_ms=1_000.0)))
        await asyncio.sleep(0)
        patcher.turns = 0
        await asyncio.gather(first, clock.set("n1", ClockShape(wall_ms=2_000.0)))
        assert patcher.patched[1][0].base_ns == 2 * S
        await clock.reset("n1")
        assert patcher.patched == {}
        await clock.close()

    asyncio.run(run())


def test_another_harness_patch_is_found_and_taken_out() -> None:
    patcher = FakePatcher()
    patcher.patched[2] = (Course(9 * S), TRUE)

    async def run() -> None:
        clock = clocks(patcher)
        await clock.reset("n1")
        await clock.reset("n2")
        assert patcher.patched == {}
        await clock.close()

    asyncio.run(run())


def test_a_node_out_of_reach_fails_what_is_done_to_it_and_is_missing_among_measurements() -> None:
    patcher = FakePatcher()
    patcher.lost = {"n1"}

    async def run() -> None:
        clock = clocks(patcher)
        with pytest.raises(NemesisError, match="n1 is out of reach"):
            await clock.set("n1", ClockShape(wall_ms=1.0))
        assert await clock.offsets() == {}  # nobody serves at n2's address, either

    asyncio.run(run())
