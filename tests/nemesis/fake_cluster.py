"""A cluster in memory that implements the capabilities, for tests of the nemesis alone.

It elects the first possible leader, answers as real members would, and passes
traffic over every link that is not cut whenever it is looked at.  A test can
break it: ``ignores`` names actions without effect, ``fails`` those that raise,
``stays_sick`` keeps it from ever recovering.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from splitvote.harness.cluster import Admin, Health, LinkCounter, Links, LinkShape, Pair, Process, ProcessState, Roles
from splitvote.harness.errors import NemesisError
from splitvote.harness.recording import MemberReading, MemberSample
from splitvote.nemesis.quorum import Effect, possible_leaders, serving

C = TypeVar("C")

HEARTBEAT_BYTES = 100
READ_S = 0.001


class FakeCluster:
    """Five nodes by default; every change is in ``calls``, in order."""

    name = "fake"

    def __init__(self, nodes: int = 5, *, lacks: Sequence[type[Any]] = ()) -> None:
        self.nodes = tuple(f"n{number}" for number in range(1, nodes + 1))
        self.supports = frozenset({"cut", "delay", "jitter", "rate"})
        self.calls: list[str] = []
        self.ignores: set[str] = set()
        self.fails: set[str] = set()
        self.stays_sick = False
        self.states = dict.fromkeys(self.nodes, ProcessState.RUNNING)
        self.cuts: set[Pair] = set()
        self.shapes: dict[Pair, LinkShape] = {}
        self.leading: str | None = self.nodes[0]
        self.term = 2
        self.revision = 500
        self.compacted = 1
        self._offered = dict.fromkeys(((a, b) for a in self.nodes for b in self.nodes if a != b), 0)
        self._delivered = dict(self._offered)
        self._looks = 0
        self._capabilities: dict[type[Any], Any] = {
            kind: self for kind in (Process, Links, Roles, Health, Admin) if kind not in lacks
        }

    def capability(self, kind: type[C]) -> C | None:
        return cast("C | None", self._capabilities.get(kind))

    def _does(self, action: str, *about: object) -> bool:
        """Note a call; whether it is to have its effect."""
        self.calls.append(" ".join((action, *map(str, about))))
        if action in self.fails:
            raise NemesisError(f"cannot {action}")
        return action not in self.ignores

    # Process

    async def start(self, node: str) -> None:
        if self._does("start", node) and self.states[node] is ProcessState.STOPPED:
            self.states[node] = ProcessState.RUNNING

    async def stop(self, node: str) -> None:
        if self._does("stop", node):
            self.states[node] = ProcessState.STOPPED

    async def kill(self, node: str) -> None:
        if self._does("kill", node):
            self.states[node] = ProcessState.STOPPED

    async def pause(self, node: str) -> None:
        if self._does("pause", node):
            self.states[node] = ProcessState.PAUSED

    async def resume(self, node: str) -> None:
        if self._does("resume", node) and self.states[node] is ProcessState.PAUSED:
            self.states[node] = ProcessState.RUNNING

    async def state(self, node: str) -> ProcessState:
        return self.states[node]

    async def wipe(self, node: str) -> None:
        raise NemesisError("no fault of ours wipes")

    # Links

    async def cut(self, pairs: Iterable[Pair]) -> None:
        pairs = set(pairs)
        if self._does("cut", len(pairs)):
            self.cuts |= pairs

    async def shape(self, pairs: Iterable[Pair], shape: LinkShape) -> None:
        pairs = list(pairs)
        if self._does("shape", len(pairs)):
            self.shapes |= dict.fromkeys(pairs, shape)

    async def heal(self, pairs: Iterable[Pair] | None = None) -> None:
        pairs = set(self._offered if pairs is None else pairs)
        if self._does("heal", len(pairs)):
            self.cuts -= pairs
            for pair in pairs:
                self.shapes.pop(pair, None)

    async def counters(self) -> Mapping[Pair, LinkCounter]:
        """A heartbeat on every link between two looks, no two alike; what is held back goes once it may."""
        self._looks += 1
        heartbeat_bytes = HEARTBEAT_BYTES + self._looks % 7
        for pair in self._offered:
            self._delivered[pair] += self._due_bytes(pair)
            if self.states[pair[0]] is ProcessState.RUNNING:
                self._offered[pair] += heartbeat_bytes
            if pair not in self.cuts and pair not in self.shapes:
                self._delivered[pair] = self._offered[pair]
        return {pair: LinkCounter(self._offered[pair], self._delivered[pair]) for pair in self._offered}

    def _due_bytes(self, pair: Pair) -> int:
        """What a slow link has delivered since the last look: all of it, or as much as its rate allows."""
        held = self._offered[pair] - self._delivered[pair]
        if pair in self.cuts or pair not in self.shapes:
            return 0
        return min(held, HEARTBEAT_BYTES // 2) if self.shapes[pair].rate_bytes_s else held

    # Roles and Health

    def _effect(self) -> Effect:
        down = tuple(node for node, state in self.states.items() if state is not ProcessState.RUNNING)
        return Effect(down, tuple(sorted(self.cuts)))

    def _elect(self) -> None:
        able = possible_leaders(self.nodes, self._effect())
        if self.leading not in able:
            self.leading = able[0] if able else None
            self.term += 1

    async def sample(self, *, timeout_s: float = 1.0) -> dict[str, MemberSample]:
        self._elect()
        return {node: self._sample(node) for node in self.nodes}

    def _sample(self, node: str) -> MemberSample:
        if self.states[node] is not ProcessState.RUNNING:
            return MemberSample(error="not-connected: refused")
        follows = self.leading is not None and (self.leading, node) not in self.cuts
        return MemberSample(
            leader=self.leading if follows else None, term=self.term, revision=self.revision, db_bytes=4096
        )

    async def leader(self) -> str | None:
        self._elect()
        return self.leading

    async def unready(self, nodes: Sequence[str], *, timeout_s: float = 1.0) -> dict[str, str]:
        self._elect()
        able = () if self.stays_sick else serving(self.nodes, self._effect())
        for node in nodes:
            await asyncio.sleep(READ_S + self._round_trip_s(node))
        return {node: "deadline: no answer" for node in nodes if node not in able}

    def _round_trip_s(self, node: str) -> float:
        out = [shape for pair, shape in self.shapes.items() if pair[0] == node]
        if not out:
            return 0.0
        if out[0].rate_bytes_s:
            return 200.0 / out[0].rate_bytes_s
        # Two draws that differ as jitter makes them differ, one above and one below the mean in turn.
        self._flip = -getattr(self, "_flip", 1)
        return 2 * (out[0].delay_ms + self._flip * out[0].jitter_ms / 2) / 1e3

    async def readings(self, keys: Sequence[str], *, timeout_s: float = 5.0) -> dict[str, MemberReading]:
        return {node: MemberReading(revision=self.revision, compact_revision=self.compacted) for node in self.nodes}

    # Admin

    async def compact(self, *, keep: int = 0) -> int:
        if self._does("compact", keep):
            self.compacted = self.revision - keep
        return self.revision - keep

    async def defragment(self, node: str, *, timeout_s: float = 10.0) -> None:
        self._does("defragment", node)
        await asyncio.sleep(0.03)
        if self.states[node] is not ProcessState.RUNNING:
            raise NemesisError(f"{node} did not finish to defragment")

    async def move_leader(self, target: str) -> None:
        if self._does("move_leader", target):
            self.leading = target
            self.term += 1


T = TypeVar("T")


class _Timers(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer when nothing is ready: no test waits."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0

    def time(self) -> float:
        return self._now_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now_s = max(self._now_s, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run_without_waiting(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """``asyncio.run`` where waiting takes no time."""
    with asyncio.Runner(loop_factory=_Timers) as runner:
        return runner.run(main())
