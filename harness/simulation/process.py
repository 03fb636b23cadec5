"""A member's process as its operating system sees it: running, paused or gone, with a clock of its own.

Everything that happens to a process goes through ``deliver`` (a message, the
disk's answer), its clock's timers or its tasks; so that a paused process does
nothing at all, and does what has piled up when it is resumed; and nothing
happens in one that has ended.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from typing import Any, Final

from splitvote.harness.clock import VirtualLoop
from splitvote.harness.cluster import ProcessState

_RUNNING: Final = ProcessState.RUNNING
"""Looked up once: every message asks for it."""


class PanicError(Exception):
    """Go's panic: what a process found in itself cannot be, so it ends; the words are for its log."""


class NodeClock:
    """A node's clock: ``offset_ns`` beside true time, running at ``rate`` of it; survives processes."""

    __slots__ = ("_at_ns", "_loop", "_shown_ns", "rate")

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.rate = 1.0
        self._at_ns = 0
        self._shown_ns = 0

    def now_ns(self) -> int:
        """What it shows now."""
        passed_ns = self._loop.now_ns - self._at_ns
        return self._shown_ns + (passed_ns if self.rate == 1.0 else int(passed_ns * self.rate))

    def when_ns(self, shown_ns: int) -> int:
        """The true time at which it will show this, if nobody sets it before."""
        left_ns = shown_ns - self._shown_ns
        return self._at_ns + (left_ns if self.rate == 1.0 else -int(-left_ns // self.rate))

    @property
    def offset_ns(self) -> int:
        """How far it is ahead of true time."""
        return self.now_ns() - self._loop.now_ns

    def set(self, *, offset_ns: int, rate: float) -> None:
        """Put it so far ahead of true time, and let it run at this rate from now on."""
        self._at_ns = self._loop.now_ns
        self._shown_ns = self._at_ns + offset_ns
        self.rate = rate


class _Timer:
    """Something to be done at a time; see ``interface.Timer``."""

    __slots__ = ("args", "callback")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args

    def cancel(self) -> None:
        """See ``interface.Timer``."""
        self.callback = None
        self.args = ()


class Process:
    """One process, from its start to its end; also its ``interface.Clock``.

    ``on_panic`` ends it; it is told the words of the PanicError that something raised.
    """

    def __init__(self, loop: VirtualLoop, clock: NodeClock, name: str) -> None:
        self.name = name
        self.loop = loop
        self.state = ProcessState.RUNNING
        self._clock = clock
        self._due: list[tuple[int, int, _Timer]] = []
        self._sequence = 0
        self._armed = 0
        self._armed_ns: int | None = None
        self._held: list[tuple[Callable[[Any], object], Any]] = []
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.on_panic: Callable[[str], object] = _raise_panic

    # What happens to it

    def deliver(self, callback: Callable[[Any], object], argument: Any) -> None:
        """Have it do something now: when it is resumed if it is paused, never if it has ended."""
        if self.state is _RUNNING:
            try:
                callback(argument)
            except PanicError as panic:
                self.on_panic(str(panic))
        elif self.state is ProcessState.PAUSED:
            self._held.append((callback, argument))

    def pause(self) -> None:
        """Stand still."""
        if self.state is ProcessState.RUNNING:
            self.state = ProcessState.PAUSED

    def resume(self) -> None:
        """Do all that has piled up, timers first, and go on."""
        if self.state is not ProcessState.PAUSED:
            return
        self.state = ProcessState.RUNNING
        self._fire(self._armed)
        held, self._held = self._held, []
        for callback, argument in held:
            self.deliver(callback, argument)

    def end(self) -> None:
        """Be gone, tasks and all."""
        self.state = ProcessState.STOPPED
        self._due.clear()
        self._held.clear()
        tasks, self._tasks = self._tasks, {}
        for task in tasks:
            task.cancel()

    async def wind_down(self) -> None:
        """End every task but the caller's, after those have answered that have just been told to."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        current = asyncio.current_task()
        others = [task for task in self._tasks if task is not current]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self.state is ProcessState.STOPPED

    # Tasks

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """See ``interface.Host.spawn``."""
        task: asyncio.Task[None] = self.loop.create_task(work, name=f"{self.name} {name}")
        self._tasks[task] = None
        task.add_done_callback(self._note_done)
        if self.has_ended:
            task.cancel()  # asked for by what was under way when the process ended: it does not begin
        return task

    def _note_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, PanicError):
            self.on_panic(str(failure))
        elif failure is not None:
            self.loop.post_at(self.loop.now_ns, _raise, failure)

    @property
    def open_tasks(self) -> int:
        """How many tasks have not ended."""
        return len(self._tasks)

    # Its clock

    def now_s(self) -> float:
        """See ``interface.Clock``."""
        return self._clock.now_ns() / 1e9

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> _Timer:
        """See ``interface.Clock``."""
        timer = _Timer(callback, args)
        shown_ns = self._clock.now_ns() + max(0, round(delay_s * 1e9))
        self._sequence += 1
        heapq.heappush(self._due, (shown_ns, self._sequence, timer))
        if self._armed_ns is None or shown_ns < self._armed_ns:
            self._arm(shown_ns)
        return timer

    async def sleep(self, delay_s: float) -> None:
        """See ``interface.Clock``."""
        waiting: asyncio.Future[None] = self.loop.create_future()
        timer = self.call_later(delay_s, _settle, waiting)
        try:
            await waiting
        finally:
            timer.cancel()

    def clock_was_set(self) -> None:
        """The node's clock was set: what is due by it has to be found anew."""
        self._armed_ns = None
        if self._due:
            self._arm(self._due[0][0])

    def _arm(self, shown_ns: int) -> None:
        self._armed += 1
        self._armed_ns = shown_ns
        when_ns = self._clock.when_ns(shown_ns)
        if when_ns <= self.loop.now_ns and shown_ns > self._clock.now_ns():
            when_ns = self.loop.now_ns + 1  # a clock at another rate rounds: let time pass, or it will never be due
        self.loop.post_at(when_ns, self._fire, self._armed)

    def _fire(self, armed: int) -> None:
        """Do what is due; ``armed`` tells an arming that is still in force from older ones."""
        if armed != self._armed or self.state is not ProcessState.RUNNING:
            return
        due = self._due
        asked_before = self._sequence  # what is asked for meanwhile has its own turn, or nothing else might ever have
        while due and due[0][0] <= self._clock.now_ns() and due[0][1] <= asked_before:
            timer = heapq.heappop(due)[2]
            if timer.callback is not None:
                try:
                    timer.callback(*timer.args)
                except PanicError as panic:
                    self.on_panic(str(panic))
            if self.state is not ProcessState.RUNNING:
                return
        while due and due[0][2].callback is None:
            heapq.heappop(due)
        self._armed_ns = None
        if due:
            self._arm(due[0][0])


def _settle(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _raise_panic(words: str) -> None:
    raise PanicError(words)


def _raise(failure: BaseException) -> None:
    raise failure
