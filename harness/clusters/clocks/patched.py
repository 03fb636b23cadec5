"""The capability Clock for members whose processes can be patched (``patchers``); their answers are measured.

Monotonic time never goes back, since nothing that runs on a kernel could bear
that or would have to: it is put ahead at once, and comes back to the truth by
running at half its speed (``SLEW``); strobing, it runs fast and slow in turn.
A process that was just started has no monotonic time of before: it gets the
shape's drift, and none of its jump.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.clocks.clockwatch import MonotonicWatch, SilentError, WallWatch
from splitvote.harness.clusters.clocks.patchers import Patcher
from splitvote.harness.clusters.clocks.vdso import SLEW, TRUE, Course
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import ClockReading, ClockShape

FASTEST: Final = 4.0
SLOWEST: Final = -0.7
"""What monotonic time may gain or lose a second at most: an etcd whose ticks are rarer cannot keep its followers."""

_MS: Final = 1_000_000
_SAME_NS: Final = 1_000
_TIMER_S: Final = 0.01
"""A timer may be due a little early."""


@dataclass(slots=True)
class _Node:
    """What one node was told, and the process that it was last done to; what is still to come are ``tasks``."""

    wall_watch: WallWatch
    monotonic_watch: MonotonicWatch
    wall: Course = TRUE
    monotonic: Course = TRUE
    is_told: bool = False
    pid: int | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def offset_ns(self) -> int:
        """How far its monotonic clock is ahead, by what it was told."""
        return self.monotonic.offset_ns(time.monotonic_ns())

    def offset_s(self) -> float:
        """The same in seconds."""
        return self.offset_ns() / 1e9

    def end_tasks(self) -> None:
        """Change nothing any more by itself."""
        for task in self.tasks:
            task.cancel()
        self.tasks.clear()


class ProcessClocks:
    """The clocks of the nodes' processes; ``endpoint`` tells where a node serves clients.

    ``note_change`` is to be called after each start of a process, ``close``
    before the processes are ended for good.
    """

    def __init__(self, nodes: Sequence[str], patcher: Patcher, endpoint: Callable[[str], str]) -> None:
        self._patcher = patcher
        self._nodes = {
            node: _Node(WallWatch(_at(endpoint, node)), MonotonicWatch(_at(endpoint, node))) for node in nodes
        }
        self._is_followed = False

    @property
    def refusal(self) -> str | None:
        """See ``Clock.refusal``."""
        return self._patcher.refusal

    @property
    def supports(self) -> frozenset[str]:
        """See ``Clock.supports``."""
        return frozenset() if self.refusal else frozenset({"wall", "monotonic", "wall_drift", "monotonic_drift"})

    def _node(self, node: str) -> _Node:
        try:
            return self._nodes[node]
        except KeyError:
            raise NemesisError(f"there is no node {node!r}; nodes are {', '.join(self._nodes)}") from None

    # What clocks are told

    async def set(self, node: str, shape: ClockShape) -> None:
        """See ``Clock.set``; raises NemesisError for monotonic time that would go back, or go too fast or slow."""
        told = self._node(node)
        told.end_tasks()
        jump_ns = round(shape.monotonic_ms * _MS) - told.offset_ns()
        _check_monotonic(node, jump_ns, shape)
        if shape.monotonic_ms or shape.monotonic_drift:
            await self._follow_monotonic(node, jump_s=jump_ns / 1e9)
        await self._steer(
            node,
            wall=Course(round(shape.wall_ms * _MS), shape.wall_drift, time.time_ns()),
            monotonic=Course(round(shape.monotonic_ms * _MS), shape.monotonic_drift, time.monotonic_ns()),
        )

    async def strobe(self, node: str, shape: ClockShape, period_ms: float) -> None:
        """See ``Clock.strobe``; monotonic time takes a whole period to get ahead, and another to come back."""
        if period_ms <= 0:
            raise NemesisError(f"a clock cannot be strobed every {period_ms:g} ms")
        told = self._node(node)
        told.end_tasks()
        rate = shape.monotonic_ms / period_ms
        _check_monotonic(node, 0, ClockShape(monotonic_drift=rate))
        _check_monotonic(node, 0, ClockShape(monotonic_drift=-rate))
        if shape.wall_drift or shape.monotonic_drift:
            raise NemesisError(f"{node}: a clock that is strobed cannot drift")
        if shape.monotonic_ms:
            await self._follow_monotonic(node)
        task = asyncio.create_task(self._swing(node, shape, period_ms / 1e3), name=f"splitvote strobe of {node}")
        told.tasks.append(task)

    async def _swing(self, node: str, shape: ClockShape, period_s: float) -> None:
        loop, told = asyncio.get_running_loop(), self._nodes[node]
        next_s, is_ahead = loop.time(), False
        while True:
            is_ahead = not is_ahead
            wall = Course(round(shape.wall_ms * _MS)) if is_ahead else TRUE
            aim_ns = round(shape.monotonic_ms * _MS) if is_ahead else 0
            now_ns, offset_ns = time.monotonic_ns(), told.offset_ns()
            rate = shape.monotonic_ms / 1e3 / period_s * (1 if aim_ns > offset_ns else -1)
            await self._steer(node, wall=wall, monotonic=_way(offset_ns, aim_ns, rate, now_ns))
            next_s = max(next_s + period_s, loop.time())
            await asyncio.sleep(next_s - loop.time())

    async def reset(self, node: str) -> None:
        """See ``Clock.reset``; also undoes what a harness that is gone has done to the node's process.

        The wall's shows the truth at once, the monotonic one goes there from now on.
        """
        told = self._node(node)
        told.end_tasks()
        if await self._find_patched(node):
            await self._follow_monotonic(node)
        if not told.is_told:
            return
        offset_ns, now_ns = told.offset_ns(), time.monotonic_ns()
        way = TRUE
        if abs(offset_ns) > _SAME_NS:
            way = _way(offset_ns, 0, SLEW if offset_ns < 0 else -SLEW, now_ns)
        await self._steer(node, wall=TRUE, monotonic=way)
        goes = told.monotonic  # as the patcher has it, which knows better where the clock was
        if not goes.rate:
            await self._settle(node)
        else:
            after_s = max(0, goes.since_ns + goes.span_ns - time.monotonic_ns()) / 1e9
            told.tasks.append(asyncio.create_task(self._settle_after(node, after_s)))

    async def _find_patched(self, node: str) -> bool:
        """Take over a process that somebody else has patched, if so it is."""
        told, pid = self._nodes[node], await self._patcher.pid_of(node)
        if told.is_told or pid is None:
            return False
        courses = await self._patcher.courses(node, pid)
        if courses is None:
            return False
        told.wall, told.monotonic = courses
        told.pid, told.is_told = pid, True
        return True

    async def _settle_after(self, node: str, after_s: float) -> None:
        await asyncio.sleep(after_s + _TIMER_S)
        await self._settle(node)

    async def _settle(self, node: str) -> None:
        """Both clocks show the truth: they need no patch for it."""
        told = self._nodes[node]
        async with told.turn:
            told.wall = told.monotonic = TRUE
            told.is_told = False
            await self._let_go(node)

    async def _let_go(self, node: str) -> None:
        """Take the patch out of the process that it was last done to."""
        pid, self._nodes[node].pid = self._nodes[node].pid, None
        if pid is not None:
            await self._patcher.release(node, pid)

    async def _steer(self, node: str, *, wall: Course, monotonic: Course) -> None:
        """Tell a node's clocks how to go, and its process if it has one."""
        told = self._nodes[node]
        async with told.turn:
            told.wall, told.monotonic, told.is_told = wall, monotonic, True
            pid = await self._patcher.pid_of(node)
            if told.pid != pid:
                await self._let_go(node)
            if pid is not None:
                await self._steer_process(node, pid)

    async def _steer_process(self, node: str, pid: int) -> None:
        told = self._nodes[node]
        told.pid = pid  # even if nobody hears of it
        goes = await self._patcher.steer(node, pid, wall=told.wall, monotonic=told.monotonic)
        if goes is None:
            told.pid = None
        else:
            told.monotonic = goes

    async def note_change(self, *nodes: str) -> None:
        """Have these nodes' (no name: all nodes') processes that were started since then go like those before them."""
        for node in nodes or self._nodes:
            told = self._nodes[node]
            if not told.is_told:
                continue
            async with told.turn:
                pid = await self._patcher.pid_of(node)
                if pid is None or told.pid == pid or not told.is_told:
                    continue
                rate = told.monotonic.rate if told.monotonic.span_ns == TRUE.span_ns else 0.0
                told.monotonic = Course(0, rate, time.monotonic_ns())
                await self._steer_process(node, pid)

    # What clocks show

    async def _follow_monotonic(self, node: str, *, jump_s: float = 0.0) -> None:
        """Begin to measure a node's monotonic clock, and every other's as well if none was set before.

        One that is silent is tried again when it is asked.
        """
        anew = not any(told.is_told and told.monotonic != TRUE for told in self._nodes.values())
        nodes = list(self._nodes) if anew else [node]
        self._is_followed = True
        outcomes = await asyncio.gather(
            *(
                self._nodes[each].monotonic_watch.restart(self._nodes[each].offset_s, jump_s=jump_s * (each == node))
                for each in nodes
            ),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, SilentError):
                raise outcome

    async def offsets(self) -> Mapping[str, ClockReading]:
        """See ``Clock.offsets``: by the members' own answers, in about a second; who does not answer is missing.

        The monotonic clocks are None as long as none was set.
        """
        states = await asyncio.gather(*map(self._state, self._nodes))
        running = [node for node, state in zip(self._nodes, states, strict=True) if state is ProcessState.RUNNING]
        readings = await asyncio.gather(*(self._reading(node) for node in running))
        return {node: reading for node, reading in zip(running, readings, strict=True) if reading is not None}

    async def _state(self, node: str) -> ProcessState | None:
        """None when nobody can tell: what is measured is what members answer, and a silent one is no failure."""
        try:
            return await self._patcher.state(node)
        except NemesisError:
            return None

    async def _reading(self, node: str) -> ClockReading | None:
        told = self._nodes[node]
        try:
            gain = None
            if self._is_followed:
                # What it gained before it was asked a process cannot tell: that is counted as it was told.
                await told.monotonic_watch.ensure(told.offset_s)
                gain = await told.monotonic_watch.read()
            offset_ms, error_ms = await told.wall_watch.read()
        except SilentError:
            return None
        wall = ClockReading(round(offset_ms, 1), error_ms=round(error_ms, 1))
        if gain is None:
            return wall
        return msgspec.structs.replace(
            wall, monotonic_ms=round(1e3 * gain.gained_s, 1), monotonic_error_ms=round(1e3 * gain.error_s, 1)
        )

    async def close(self) -> None:
        """Follow no clock any more, and have all show the truth."""
        self._is_followed = False
        for node, told in self._nodes.items():
            told.end_tasks()
            told.monotonic_watch.close()
            await self._settle(node)


def _at(endpoint: Callable[[str], str], node: str) -> Callable[[], str]:
    return lambda: endpoint(node)


def _way(from_ns: int, to_ns: int, rate: float, now_ns: int) -> Course:
    """The course from one offset to another at a rate."""
    return Course(from_ns, rate, now_ns, 0 if not rate else round((to_ns - from_ns) / rate))


def _check_monotonic(node: str, jump_ns: int, shape: ClockShape) -> None:
    if jump_ns < -_SAME_NS:
        raise NemesisError(f"{node}: monotonic time cannot go back by {-jump_ns / _MS:g} ms; reset it first")
    if not SLOWEST <= shape.monotonic_drift <= FASTEST:
        raise NemesisError(
            f"{node}: monotonic time can gain from {SLOWEST:g} to {FASTEST:g} s a second, not {shape.monotonic_drift:g}"
        )
