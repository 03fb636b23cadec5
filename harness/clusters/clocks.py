"""The capability Clock for members that are processes of this machine: their vDSO patched, their answers measured.

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

from splitvote.harness.cluster import ClockReading, ClockShape
from splitvote.harness.clusters.clockwatch import MonotonicWatch, SilentError, WallWatch
from splitvote.harness.clusters.procfs import thread_states
from splitvote.harness.clusters.vdso import TRUE, Course, PatchedProcess, is_patched, reason_against
from splitvote.harness.errors import NemesisError

SLEW: Final = 0.5
"""How much faster or slower monotonic time goes on its way to where it is to be."""

FASTEST: Final = 4.0
SLOWEST: Final = -0.7
"""What monotonic time may gain or lose a second at most: an etcd whose ticks are rarer cannot keep its followers."""

_MS: Final = 1_000_000
_SAME_NS: Final = 1_000
_TIMER_S: Final = 0.01
"""A timer may be due a little early."""


@dataclass(slots=True)
class _Node:
    """What one node was told, and the process that it was last done to; ``strobe`` and ``settling`` are tasks."""

    wall_watch: WallWatch
    monotonic_watch: MonotonicWatch
    wall: Course = TRUE
    monotonic: Course = TRUE
    is_told: bool = False
    process: PatchedProcess | None = None
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

    def let_go(self) -> None:
        """Take the patch out of its process, if it still runs."""
        process, self.process = self.process, None
        if process is not None:
            process.close()


class ProcessClocks:
    """The clocks of the nodes' processes; ``pid_of`` tells a node's, ``endpoint`` where it serves clients.

    ``note_change`` is to be called after each start of a process, ``close``
    before the processes are ended for good.
    """

    def __init__(
        self, nodes: Sequence[str], pid_of: Callable[[str], int | None], endpoint: Callable[[str], str]
    ) -> None:
        self._pid_of = pid_of
        self._nodes = {
            node: _Node(WallWatch(_at(endpoint, node)), MonotonicWatch(_at(endpoint, node))) for node in nodes
        }
        self._refusal: str | None = None
        self._is_tried = False
        self._is_followed = False

    @property
    def refusal(self) -> str | None:
        """Why clocks cannot be set on this machine, None if they can; tried at the first look."""
        if not self._is_tried:
            self._refusal = reason_against()
            self._is_tried = True
        return self._refusal

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
        self._steer(
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
            self._steer(node, wall=wall, monotonic=_way(offset_ns, aim_ns, rate, now_ns))
            next_s = max(next_s + period_s, loop.time())
            await asyncio.sleep(next_s - loop.time())

    async def reset(self, node: str) -> None:
        """See ``Clock.reset``; also undoes what a harness that is gone has done to the node's process.

        The wall's shows the truth at once, the monotonic one goes there from now on.
        """
        told = self._node(node)
        told.end_tasks()
        if self._find_patched(node):
            await self._follow_monotonic(node)
        if not told.is_told:
            return
        offset_ns, now_ns = told.offset_ns(), time.monotonic_ns()
        way = TRUE
        if abs(offset_ns) > _SAME_NS:
            way = _way(offset_ns, 0, SLEW if offset_ns < 0 else -SLEW, now_ns)
        self._steer(node, wall=TRUE, monotonic=way)
        if way is TRUE:
            self._settle(node)
        else:
            told.tasks.append(asyncio.create_task(self._settle_after(node, way.span_ns / 1e9)))

    def _find_patched(self, node: str) -> bool:
        """Take over a process that somebody else has patched, if so it is."""
        told, pid = self._nodes[node], self._pid_of(node)
        if told.is_told or pid is None or not is_patched(pid):
            return False
        told.process = PatchedProcess.of(pid)
        told.wall, told.monotonic = told.process.courses
        told.is_told = True
        return True

    async def _settle_after(self, node: str, after_s: float) -> None:
        await asyncio.sleep(after_s + _TIMER_S)
        self._settle(node)

    def _settle(self, node: str) -> None:
        """Both clocks show the truth: they need no patch for it."""
        told = self._nodes[node]
        told.wall = told.monotonic = TRUE
        told.is_told = False
        told.let_go()

    def _steer(self, node: str, *, wall: Course, monotonic: Course) -> None:
        """Tell a node's clocks how to go, and its process if it has one."""
        told = self._nodes[node]
        told.wall, told.monotonic, told.is_told = wall, monotonic, True
        process = self._process_of(node)
        if process is not None:
            try:
                process.steer(wall=wall, monotonic=monotonic)
            except ProcessLookupError:
                told.let_go()

    def _process_of(self, node: str) -> PatchedProcess | None:
        """The node's process, patched; None when it has none."""
        told, pid = self._nodes[node], self._pid_of(node)
        if told.process is not None and told.process.pid != pid:
            told.let_go()
        if told.process is None and pid is not None:
            try:
                told.process = PatchedProcess.of(pid)
            except ProcessLookupError:
                return None
        return told.process

    def note_change(self) -> None:
        """Have processes that were started since the clocks were told go like those before them."""
        for node, told in self._nodes.items():
            pid = self._pid_of(node)
            if not told.is_told or pid is None or (told.process is not None and told.process.pid == pid):
                continue
            fresh = Course(
                0, told.monotonic.rate if told.monotonic.span_ns == TRUE.span_ns else 0.0, time.monotonic_ns()
            )
            self._steer(node, wall=told.wall, monotonic=fresh)

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
        running = [node for node in self._nodes if (pid := self._pid_of(node)) and thread_states(pid) - {"T"}]
        readings = await asyncio.gather(*(self._reading(node) for node in running))
        return {node: reading for node, reading in zip(running, readings, strict=True) if reading is not None}

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

    def close(self) -> None:
        """Follow no clock any more, and have all show the truth."""
        self._is_followed = False
        for node, told in self._nodes.items():
            told.end_tasks()
            self._settle(node)
            told.monotonic_watch.close()


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
