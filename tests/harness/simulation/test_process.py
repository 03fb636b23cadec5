"""A process has a clock of its own, stands still while it is paused, and does nothing after its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from splitvote.harness import clock
from splitvote.harness.clock import VirtualLoop
from splitvote.harness.simulation.process import NodeClock, Process

Body = Callable[[VirtualLoop, NodeClock, Process], Awaitable[None]]


def on_process(body: Body) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        node_clock = NodeClock(loop)
        await body(loop, node_clock, Process(loop, node_clock, "n1"))

    clock.run(main())


@pytest.mark.parametrize("rate", [1.0, 0.5, 2.0, 1.0001, 0.9999, 1 / 3, 1.7])
def test_time_passes_by_the_nodes_own_clock(rate: float) -> None:
    """A second of a fast clock is shorter; whatever the rate, every timer comes, and not before its time."""

    async def body(loop: VirtualLoop, node_clock: NodeClock, process: Process) -> None:
        node_clock.set(offset_ns=123_456_789, rate=rate)
        for number in range(1, 200):
            before_s, shown_s = loop.time(), process.now_s()
            await process.sleep(0.001 * number)
            assert process.now_s() - shown_s == pytest.approx(0.001 * number, abs=1e-6)
            assert loop.time() - before_s == pytest.approx(0.001 * number / rate, abs=1e-6)

    on_process(body)


def test_a_clock_that_jumps_makes_timers_due() -> None:
    async def body(loop: VirtualLoop, node_clock: NodeClock, process: Process) -> None:
        fired: list[float] = []
        process.call_later(10, lambda: fired.append(loop.time()))
        await asyncio.sleep(1)
        node_clock.set(offset_ns=20_000_000_000, rate=1.0)
        process.clock_was_set()
        await asyncio.sleep(1)
        assert fired == [1.0]
        node_clock.set(offset_ns=0, rate=1.0)
        process.clock_was_set()
        process.call_later(1, lambda: fired.append(loop.time()))
        await asyncio.sleep(3)
        assert fired == [1.0, 3.0]

    on_process(body)


def test_a_paused_process_does_everything_when_it_is_resumed_and_in_order() -> None:
    async def body(loop: VirtualLoop, node_clock: NodeClock, process: Process) -> None:
        done: list[object] = []
        process.call_later(1, done.append, "timer of 1 s")
        process.call_later(2, done.append, "timer of 2 s").cancel()
        process.pause()
        process.deliver(done.append, "first message")
        await asyncio.sleep(5)
        process.deliver(done.append, "second message")
        assert done == []
        process.resume()
        assert done == ["timer of 1 s", "first message", "second message"]
        process.call_later(1, done.append, "afterwards")
        await asyncio.sleep(2)
        assert done[-1] == "afterwards"

    on_process(body)


def test_nothing_happens_in_a_process_that_has_ended() -> None:
    async def body(loop: VirtualLoop, node_clock: NodeClock, process: Process) -> None:
        done: list[object] = []

        async def work() -> None:
            await process.sleep(1)
            done.append("task")

        process.spawn(work(), "work")
        process.call_later(1, done.append, "timer")
        process.end()
        process.deliver(done.append, "message")
        await asyncio.sleep(5)
        assert done == []
        assert process.open_tasks == 0

    on_process(body)


def test_a_task_that_fails_ends_the_run() -> None:
    """It is our own failure, whatever the member is doing."""

    async def body(loop: VirtualLoop, node_clock: NodeClock, process: Process) -> None:
        async def work() -> None:
            raise LookupError("ours")

        process.spawn(work(), "work")
        await asyncio.sleep(1)

    with pytest.raises(LookupError, match="ours"):
        on_process(body)
