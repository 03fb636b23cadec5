"""Virtual time: order, jumps, refusals, deadlocks."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

import pytest

from splitvote.harness import clock
from splitvote.harness.clock import DeadlockError, RealWorldError, VirtualLoop


def loop() -> VirtualLoop:
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualLoop)
    return running


def test_time_jumps_to_the_next_timer() -> None:
    """An hour passes at once, and exactly."""

    async def main() -> float:
        await asyncio.sleep(3600)
        return loop().time()

    started_s = time.monotonic()
    assert clock.run(main()) == 3600.0
    assert time.monotonic() - started_s < 60


def test_timers_of_one_instant_go_in_the_order_they_were_asked_for() -> None:
    """Whatever the kind of timer."""

    async def main() -> list[int]:
        order: list[int] = []
        for number in range(50):
            if number % 2:
                loop().call_at(0.3, order.append, number)
            else:
                loop().post_at(300_000_000, order.append, number)
        await asyncio.sleep(1)
        return order

    assert clock.run(main()) == list(range(50))


def test_a_timer_never_comes_before_its_time() -> None:
    """Seconds are floats: whoever waits until ``time() >= when`` must not find that it has to wait again."""

    async def main() -> None:
        for number in range(1, 2000):
            when_s = 0.1 * number + 0.2 / number
            waiting = loop().create_future()
            loop().call_at(when_s, waiting.set_result, None)
            await waiting
            assert when_s <= loop().time() < when_s + 3e-9

    clock.run(main())


def test_what_a_timer_makes_ready_is_done_before_the_next_timer_of_the_instant() -> None:
    """An effect is complete before the next cause."""

    async def main() -> list[str]:
        order: list[str] = []

        def first(_: None) -> None:
            order.append("first")
            loop().call_soon(order.append, "its effect")

        loop().post_at(10, first, None)
        loop().post_at(10, order.append, "second")
        await asyncio.sleep(1)
        return order

    assert clock.run(main()) == ["first", "its effect", "second"]


def test_a_cancelled_timer_neither_fires_nor_lets_time_pass() -> None:
    async def main() -> float:
        fired: list[None] = []
        loop().call_later(50, fired.append, None).cancel()
        await asyncio.sleep(1)
        assert not fired
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.sleep(100)
        return loop().time()

    assert clock.run(main()) == 3.0


def test_a_deadlock_is_an_error_that_names_who_waits_and_where() -> None:
    async def main() -> None:
        forever = asyncio.get_running_loop().create_future()
        other = asyncio.create_task(asyncio.Event().wait(), name="the other one")
        await asyncio.sleep(1)
        await forever
        await other

    with pytest.raises(DeadlockError, match=r"after 1\.0+ s: 2 task\(s\) wait: .*the other one \(locks\.py:\d+\)"):
        clock.run(main())


@pytest.mark.parametrize("kind", ["callbacks", "timers"])
def test_polling_without_letting_time_pass_is_an_error(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go on for ever, since only time that passes ends it."""
    monkeypatch.setattr(clock, "MOST_STEPS_AN_INSTANT", 1000)

    async def callbacks() -> None:
        while loop().time() < 1:  # noqa: ASYNC110 - to poll is the point
            await asyncio.sleep(0)

    async def timers() -> None:
        def again(_: None) -> None:
            loop().post_at(0, again, None)

        again(None)
        await asyncio.sleep(1)

    with pytest.raises(DeadlockError, match="without letting time pass"):
        clock.run(callbacks() if kind == "callbacks" else timers())


REACHING_OUT: dict[str, Callable[[], Awaitable[object]]] = {
    "a thread": lambda: asyncio.to_thread(print),
    "a socket": lambda: asyncio.open_connection("127.0.0.1", 1),
    "a server": lambda: asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0),
    "a child process": lambda: asyncio.create_subprocess_exec("true"),
    "a name": lambda: asyncio.get_running_loop().getaddrinfo("localhost", 1),
}


@pytest.mark.parametrize("what", REACHING_OUT)
def test_the_real_world_is_refused(what: str) -> None:
    async def main() -> None:
        await REACHING_OUT[what]()

    with pytest.raises(RealWorldError, match="out of virtual time"):
        clock.run(main())


def test_what_is_left_running_is_cancelled_at_the_end() -> None:
    ended: list[str] = []

    async def lingering(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def main() -> None:
        for name in ("b", "a"):
            asyncio.create_task(lingering(name), name=name)  # noqa: RUF006 - to be left behind is the point
        await asyncio.sleep(1)

    clock.run(main())
    assert ended == ["a", "b"]


def test_an_exception_of_a_cheap_timer_ends_the_run() -> None:
    """There is no task whose failure it could be: it must not get lost."""

    def fail(_: None) -> None:
        raise LookupError("ours")

    async def main() -> None:
        loop().post_at(5, fail, None)
        await asyncio.sleep(1)

    with pytest.raises(LookupError, match="ours"):
        clock.run(main())


def test_virtual_time_does_not_begin_inside_another_loop() -> None:
    async def inner() -> None: ...

    async def main() -> None:
        clock.run(inner())

    with pytest.raises(RuntimeError, match="inside a running event loop"):
        asyncio.run(main())


def test_a_signal_is_heard_of() -> None:
    """Ctrl-C has to end a run early here, too."""

    async def main() -> bool:
        heard = asyncio.Event()
        before = signal.getsignal(signal.SIGUSR1)
        loop().add_signal_handler(signal.SIGUSR1, heard.set)
        signal.raise_signal(signal.SIGUSR1)
        await heard.wait()
        assert loop().remove_signal_handler(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is before
        return heard.is_set()

    assert clock.run(main())
