"""A cluster in memory that implements the capabilities, for tests of the nemesis alone.

It elects the first possible leader, answers as real members would, and passes
traffic over every link that is not cut whenever it is looked at.  A test can
break it: ``ignores`` names actions without effect, ``fails`` those that raise,
``stays_sick`` keeps it from ever recovering.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from splitvote.harness.cluster import (
    CLIENT,
    Admin,
    Auth,
    Health,
    LinkCounter,
    Links,
    LinkShape,
    Logs,
    MemberRole,
    Members,
    Pair,
    Process,
    ProcessState,
    Roles,
    SnapshotReading,
    Upkeep,
    Versions,
)
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import Failpoints, Resources
from splitvote.harness.recording import MemberReading, MemberSample
from splitvote.nemesis.quorum import Effect, possible_leaders, serving
from tests.nemesis.fake_machine import FakeFailpoints, FakeResources, FakeVersions

C = TypeVar("C")

HEARTBEAT_BYTES = 100
READ_S = 0.001


class FakeCluster:
    """Five nodes by default; every change is in ``calls``, in order."""

    name = "fake"

    def __init__(self, nodes: int = 5, *, lacks: Sequence[type[Any]] = ()) -> None:
        self.nodes = tuple(f"n{number}" for number in range(1, nodes + 1))
        self.supports = frozenset({"cut", "client", "delay", "jitter", "rate", "loss", "duplicate"})
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
        self.roles = dict.fromkeys(self.nodes, MemberRole.VOTER)
        self.data = dict.fromkeys(self.nodes, "of a member")
        self.log_folder: Path | None = None
        self.has_alarm = False
        self.asks_for_users = False
        self._offered = dict.fromkeys(
            ((a, b) for a in (*self.nodes, CLIENT) for b in (*self.nodes, CLIENT) if a != b), 0
        )
        self._delivered = dict(self._offered)
        self._lost = dict(self._offered)  # less than none where packets came twice
        self._looks = 0
        self.versions = FakeVersions(self)
        self.resources = FakeResources(self)
        self.failpoints = FakeFailpoints(self)
        provided: dict[type[Any], Any] = dict.fromkeys(
            (Process, Links, Roles, Health, Admin, Members, Upkeep, Auth), self
        )
        provided |= {Versions: self.versions, Resources: self.resources, Failpoints: self.failpoints}
        self._capabilities = {kind: provider for kind, provider in provided.items() if kind not in lacks}

    def capability(self, kind: type[C]) -> C | None:
        if kind is Logs and self.log_folder is not None:
            return cast("C", self)
        return cast("C | None", self._capabilities.get(kind))

    def does(self, action: str, *about: object) -> bool:
        """Note a call; whether it is to have its effect."""
        self.calls.append(" ".join((action, *map(str, about))))
        if action in self.fails:
            raise NemesisError(f"cannot {action}")
        return action not in self.ignores

    # Process

    async def start(self, node: str) -> None:
        if self.does("start", node) and self.states[node] is ProcessState.STOPPED:
            self._elect()  # the others have noticed that it was away
            self.states[node] = ProcessState.RUNNING
            self.versions.note_start(node)
            self.failpoints.note_start(node)
            if self.data[node] == "of a removed member":
                self._end_removed(node)
            elif not self.data[node] and self.roles[node] is MemberRole.ABSENT:
                raise NemesisError(f"{node} is no member of the cluster")
            else:
                self.data[node] = "of a member"

    async def stop(self, node: str) -> None:
        if self.does("stop", node):
            self.states[node] = ProcessState.STOPPED

    async def kill(self, node: str) -> None:
        if self.does("kill", node):
            self.states[node] = ProcessState.STOPPED

    async def pause(self, node: str) -> None:
        if self.does("pause", node):
            self.states[node] = ProcessState.PAUSED

    async def resume(self, node: str) -> None:
        if self.does("resume", node) and self.states[node] is ProcessState.PAUSED:
            self.states[node] = ProcessState.RUNNING

    async def state(self, node: str) -> ProcessState:
        return self.states[node]

    async def wipe(self, node: str) -> None:
        if self.does("wipe", node):
            assert self.states[node] is ProcessState.STOPPED
            self.data[node] = ""

    # Members

    async def roster(self, *, timeout_s: float = 2.0) -> Mapping[str, MemberRole]:
        if "roster" in self.fails:
            raise NemesisError("no member tells who is one")
        return dict(self.roles)

    async def remove(self, node: str) -> None:
        if self.does("remove", node) and self.roles[node] is not MemberRole.ABSENT:
            self.roles[node] = MemberRole.ABSENT
            self.data[node] = "of a removed member"
            self._end_removed(node)

    def _end_removed(self, node: str) -> None:
        """What a member does that finds itself removed."""
        if "end" not in self.ignores:
            self.states[node] = ProcessState.STOPPED
        if self.log_folder is not None and "say" not in self.ignores:
            with self.log_path(node).open("a") as log:
                log.write('{"msg":"server error","error":"the member has been permanently removed"}\n')

    async def add(self, node: str, role: MemberRole) -> None:
        if self.does("add", node, role):
            assert self.roles[node] is MemberRole.ABSENT
            self.roles[node] = role

    async def promote(self, node: str) -> None:
        if self.does("promote", node):
            assert self.roles[node] is not MemberRole.ABSENT
            self.roles[node] = MemberRole.VOTER

    def log_path(self, node: str) -> Path:
        assert self.log_folder is not None
        return self.log_folder / f"{node}.log"

    # Links

    async def cut(self, pairs: Iterable[Pair]) -> None:
        pairs = set(pairs)
        if self.does("cut", len(pairs)):
            self.cuts |= pairs

    async def shape(self, pairs: Iterable[Pair], shape: LinkShape) -> None:
        pairs = list(pairs)
        if self.does("shape", len(pairs)):
            self.shapes |= dict.fromkeys(pairs, shape)

    async def heal(self, pairs: Iterable[Pair] | None = None) -> None:
        pairs = set(self._offered if pairs is None else pairs)
        if self.does("heal", len(pairs)):
            self.cuts -= pairs
            for pair in pairs:
                self.shapes.pop(pair, None)

    async def counters(self) -> Mapping[Pair, LinkCounter]:
        """A heartbeat on every link between two looks, no two alike; what is held back goes once it may."""
        self._looks += 1
        heartbeat_bytes = HEARTBEAT_BYTES + self._looks % 7
        for pair in self._offered:
            self._delivered[pair] += self._due_bytes(pair)
            if self.states.get(pair[0], ProcessState.RUNNING) is ProcessState.RUNNING:
                self._offered[pair] += heartbeat_bytes
            if pair not in self.cuts and pair not in self.shapes:
                self._delivered[pair] = self._offered[pair] - self._lost[pair]
        return {pair: LinkCounter(self._offered[pair], self._delivered[pair]) for pair in self._offered}

    def _due_bytes(self, pair: Pair) -> int:
        """What a slow link has delivered since the last look: all of it, or as much as its rate allows."""
        held = self._offered[pair] - self._lost[pair] - self._delivered[pair]
        if pair in self.cuts or pair not in self.shapes:
            return 0
        lost = round(held * (self.shapes[pair].loss - self.shapes[pair].duplicate))
        self._lost[pair] += lost
        held -= lost
        return min(held, HEARTBEAT_BYTES // 2) if self.shapes[pair].rate_bytes_s else held

    # Roles and Health

    def _effect(self) -> Effect:
        down = tuple(node for node, state in self.states.items() if state is not ProcessState.RUNNING)
        voteless = tuple(node for node, role in self.roles.items() if role is not MemberRole.VOTER)
        return Effect(down, tuple(sorted(self.cuts)), absent=voteless)

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
        if (CLIENT, node) in self.cuts:
            return MemberSample(error="deadline: no answer")
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
        if self.does("compact", keep):
            self.compacted = self.revision - keep
        return self.revision - keep

    async def defragment(self, node: str, *, timeout_s: float = 10.0) -> None:
        self.does("defragment", node)
        await asyncio.sleep(0.03)
        if self.states[node] is not ProcessState.RUNNING:
            raise NemesisError(f"{node} did not finish to defragment")

    async def move_leader(self, target: str) -> None:
        if self.does("move_leader", target):
            self.leading = target
            self.term += 1

    # Upkeep and Auth

    async def save_snapshot(self, node: str, *, timeout_s: float = 10.0) -> SnapshotReading:
        if self.does("save_snapshot", node):
            return SnapshotReading(4096, 4096, is_intact=True)
        return SnapshotReading(4000, 4096, is_intact=False)

    async def alarms(self, *, timeout_s: float = 1.0) -> Mapping[str, tuple[str, ...]]:
        return dict.fromkeys(self.nodes, ("alarm:NOSPACE",) if self.has_alarm else ())

    async def raise_no_space(self, node: str) -> None:
        if self.does("raise_no_space", node):
            self.has_alarm = True

    async def disarm(self) -> None:
        if self.does("disarm"):
            self.has_alarm = False

    async def enable(self) -> None:
        if self.does("enable"):
            self.asks_for_users = True

    async def disable(self) -> None:
        if self.does("disable"):
            self.asks_for_users = False

    async def refusals(self, *, timeout_s: float = 1.0) -> Mapping[str, str | None]:
        return dict.fromkeys(self.nodes, "user-empty" if self.asks_for_users else None)


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
