"""Faults of clocks: the wall's and the monotonic one of some nodes put forward or back, swinging, too fast, too slow.

Proof of effect: the offsets that are *measured* (``Clock.offsets``) are what was
asked for, within a tolerance, and those of all other nodes are where they were;
of a clock that swings, that it was seen both near the truth and far from it.
Proof of the end: the measured offsets of the targets are what they were before.

etcd only tells of the wall clock (in its log), so that such a fault leaves a
cluster no excuse at all.  By the monotonic one it counts timeouts, elections and
leases: a node whose monotonic clock jumps may drop what it is doing, and is
``strained``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from splitvote.harness.cluster import Cluster
from splitvote.harness.machine import Clock, ClockReading, ClockShape
from splitvote.nemesis.fault import Plan, Request, Seen, Site, aim
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.quorum import NO_EFFECT, Effect
from splitvote.nemesis.targets import between, fraction

SHOWN_BOUND_S: Final = 25.0
TRUE_BOUND_S: Final = 45.0
"""Monotonic time may have to go slower until it is right again."""

TOLERANCE_MS: Final = 150.0
"""What a measured offset may differ by, beside the measurement's own error: a busy machine answers late."""

_POLL_S: Final = 0.25

Hand = Literal["wall", "monotonic"]
"""Which of a node's clocks."""

WALL_SELECTIONS: Final = ("one", "primaries", "minority", "majority", "all")
MONOTONIC_SELECTIONS: Final = ("one", "primaries", "minority")


class Setting(msgspec.Struct, frozen=True, omit_defaults=True):
    """What clocks are told: a shape, and how long they show it, and then the truth, if they swing."""

    shape: ClockShape
    period_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class ClockFault:
    """One thing done to clocks; ``needs`` is what ``Clock.supports`` must hold for it, ``draw`` how much of it."""

    name: str
    summary: str
    hand: Hand
    needs: str
    draw: Callable[[int], Setting]
    selections: tuple[str, ...]
    family: str = "clock"
    is_brief: bool = False

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        clock = cluster.capability(Clock)
        if clock is None:
            return "it cannot set single nodes' clocks (Clock)"
        if self.needs not in clock.supports:
            return clock.refusal or f"it cannot do that to clocks (Clock, {self.needs})"
        return None

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``; measures where all wall clocks are before."""
        aimed = await aim(request, site)
        if not aimed.targets:
            return aimed
        detail: dict[str, Any] = {"setting": msgspec.to_builtins(self.draw(request.pick))}
        if self.hand == "wall":  # the monotonic clocks' offsets count from when one is first set
            before = await site.need(Clock).offsets()
            detail["before_ms"] = {node: reading.wall_ms for node, reading in before.items()}
            detail["before_error_ms"] = {node: reading.error_ms for node, reading in before.items()}
        return Plan(aimed.targets, aimed.detail | detail)

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``."""
        return NO_EFFECT if self.hand == "wall" else Effect(strained=plan.targets)

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``; tells when the clocks were set, at the earliest and the latest."""
        clock, loop, setting = site.need(Clock), asyncio.get_running_loop(), _setting(plan)
        earliest_s = loop.time()
        for node in plan.targets:
            if setting.period_ms:
                await clock.strobe(node, setting.shape, setting.period_ms)
            else:
                await clock.set(node, setting.shape)
        return {"earliest_s": earliest_s, "latest_s": loop.time()}

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        if _setting(plan).period_ms:
            return await self._prove_swing(plan, site)
        return await self._prove_offset(plan, site, seen)

    async def _prove_offset(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """Every target's offset is as far as the shape has brought it by now, and far enough to be told from none."""
        clock, loop = site.need(Clock), asyncio.get_running_loop()
        base_ms, drift = _asked(_setting(plan).shape, self.hand)

        async def look() -> Proof:
            from_s = loop.time()
            readings = await clock.offsets()
            least_s, most_s = from_s - seen["latest_s"], loop.time() - seen["earliest_s"]
            ends = sorted((base_ms + 1e3 * drift * least_s, base_ms + 1e3 * drift * most_s))
            found = _measured(readings, plan, self.hand)
            holds = all(
                node in found
                and ends[0] - error_ms <= found[node][0] <= ends[1] + error_ms
                and abs(found[node][0]) > 2 * error_ms
                for node in plan.targets
                for error_ms in (_tolerance_ms(found, node),)
            )
            return Proof(holds, f"{_in_words(found, plan)}; asked for: {_range(*ends)}", _told(found)) & _others(
                found, plan
            )

        return await await_proof(look, what="clocks as they were set", bound_s=SHOWN_BOUND_S, poll_s=_POLL_S)

    async def _prove_swing(self, plan: Plan, site: Site) -> Proof:
        """Every target was seen near the truth and near the other end."""
        clock = site.need(Clock)
        base_ms, _ = _asked(_setting(plan).shape, self.hand)
        nearest: dict[str, float] = {}
        farthest: dict[str, float] = {}

        async def look() -> Proof:
            found = _measured(await clock.offsets(), plan, self.hand)
            for node in plan.targets:
                if node in found:
                    share = found[node][0] / base_ms
                    nearest[node] = min(nearest.get(node, share), share)
                    farthest[node] = max(farthest.get(node, share), share)
            holds = nearest.keys() >= set(plan.targets) and all(
                farthest[node] - nearest[node] >= SWING and nearest[node] >= -0.5 and farthest[node] <= 1.5
                for node in plan.targets
            )
            words = "; ".join(
                f"{node} was seen {nearest[node] * base_ms:.0f} ms and {farthest[node] * base_ms:.0f} ms ahead"
                for node in nearest
            )
            return Proof(holds, f"{words}; asked for: {base_ms:g} ms and back", _told(found)) & _others(found, plan)

        return await await_proof(look, what="clocks that swing", bound_s=SHOWN_BOUND_S, poll_s=_POLL_S)

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        for node in plan.targets:
            await site.need(Clock).reset(node)
        return {}

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``; a target that another fault holds down cannot be asked, and is left out."""
        nodes = site.spared(plan.targets)
        if not nodes:
            return Proof(False, "not measured, since other faults hold every target down")
        clock = site.need(Clock)

        async def look() -> Proof:
            readings = await clock.offsets()
            found = _measured(readings, plan, self.hand)
            # Without a monotonic reading nobody has set that clock in this process's life, nor has anybody before us.
            unset = [node for node in nodes if node in readings and node not in found]
            holds = all(
                node in unset or (node in found and abs(found[node][0]) <= _tolerance_ms(found, node)) for node in nodes
            )
            return Proof(holds, _in_words(found, plan), _told(found))

        return await await_proof(look, what="clocks as they were before", bound_s=TRUE_BOUND_S, poll_s=_POLL_S)


SWING: Final = 0.4
"""The share of a swing that must be seen: monotonic time is measured over a second, in which it swings itself."""

Found = Mapping[str, tuple[float, float]]
"""How far ahead each node's clock is of where it was before the fault, and the measurement's error (ms)."""


def _of(reading: ClockReading, hand: Hand) -> tuple[float, float] | None:
    """One clock's offset and error (ms); None when it was not measured."""
    if hand == "wall":
        return reading.wall_ms, reading.error_ms
    return None if reading.monotonic_ms is None else (reading.monotonic_ms, reading.monotonic_error_ms)


def _measured(readings: Mapping[str, ClockReading], plan: Plan, hand: Hand) -> dict[str, tuple[float, float]]:
    """Differences, each with the errors of both measurements: that before the fault may have been a bad one, too."""
    before, before_error = plan.detail.get("before_ms", {}), plan.detail.get("before_error_ms", {})
    found = {}
    for node, reading in readings.items():
        told = _of(reading, hand)
        if told is not None:
            offset_ms = told[0] - before.get(node, 0.0)
            found[node] = round(offset_ms, 1), round(told[1] + before_error.get(node, 0.0), 1)
    return found


def _tolerance_ms(found: Found, node: str) -> float:
    return TOLERANCE_MS + found[node][1] if node in found else 0.0


def _others(found: Found, plan: Plan) -> Proof:
    """The clocks of all nodes but the targets, as far as they answer, are where they were."""
    moved = [node for node in found if node not in plan.targets and abs(found[node][0]) > _tolerance_ms(found, node)]
    beside = {node: found[node][0] for node in found if node not in plan.targets}
    most_ms = max(map(abs, beside.values()), default=0.0)
    words = f"others up to {most_ms:.0f} ms off" if beside else ""
    return Proof(not moved, words)


def _setting(plan: Plan) -> Setting:
    return msgspec.convert(plan.detail["setting"], Setting)


def _asked(shape: ClockShape, hand: Hand) -> tuple[float, float]:
    """How far ahead (ms), and how much more a second (s)."""
    return (shape.wall_ms, shape.wall_drift) if hand == "wall" else (shape.monotonic_ms, shape.monotonic_drift)


def _range(least_ms: float, most_ms: float) -> str:
    return f"{least_ms:.0f} ms" if most_ms - least_ms < 1 else f"{least_ms:.0f} to {most_ms:.0f} ms"


def _in_words(found: Found, plan: Plan) -> str:
    return "; ".join(
        f"{node} is {found[node][0]:.0f} ms ahead" if node in found else f"{node} does not answer"
        for node in plan.targets
    )


def _told(found: Found) -> dict[str, Any]:
    return {"offsets_ms": {node: offset_ms for node, (offset_ms, _) in found.items()}}


# How far, how fast.

_WALL_MS: Final = (500.0, 60_000.0)
_WALL_SWING_MS: Final = (3_000.0, 30_000.0)
_WALL_PERIOD_MS: Final = (300.0, 1_200.0)
_WALL_DRIFT: Final = (0.1, 0.5)
_MONOTONIC_MS: Final = (500.0, 3_000.0)
_MONOTONIC_PERIOD_MS: Final = (1_500.0, 3_000.0)
_MONOTONIC_DRIFT: Final = (0.1, 0.4)


def _between_logs(bounds: tuple[float, float], pick: int, lane: int) -> float:
    """A number between the bounds, as likely to be near the lower one by its logarithm."""
    low, high = bounds
    return math.exp(between(pick, lane, (math.log(low), math.log(high))))


def _sign(pick: int) -> int:
    return 1 if fraction(pick, 1) < 0.5 else -1


def wall_bump(pick: int) -> Setting:
    """Half a second to a minute, forward or back."""
    return Setting(ClockShape(wall_ms=round(_sign(pick) * _between_logs(_WALL_MS, pick, 0))))


def wall_strobe(pick: int) -> Setting:
    """Far enough to be told from the truth by a single answer."""
    shape = ClockShape(wall_ms=round(_sign(pick) * _between_logs(_WALL_SWING_MS, pick, 0)))
    return Setting(shape, round(_between_logs(_WALL_PERIOD_MS, pick, 2)))


def wall_drift(pick: int) -> Setting:
    """A tenth to a half too fast or too slow."""
    return Setting(ClockShape(wall_drift=round(_sign(pick) * _between_logs(_WALL_DRIFT, pick, 0), 3)))


def monotonic_bump(pick: int) -> Setting:
    """Forward only: nothing is built for monotonic time that goes back."""
    return Setting(ClockShape(monotonic_ms=round(_between_logs(_MONOTONIC_MS, pick, 0))))


def monotonic_strobe(pick: int) -> Setting:
    """Half as fast again for a period, and half as fast for another."""
    period_ms = round(_between_logs(_MONOTONIC_PERIOD_MS, pick, 2))
    return Setting(ClockShape(monotonic_ms=period_ms / 2), period_ms)


def monotonic_drift(pick: int) -> Setting:
    """Up to two fifths too fast or too slow; slower, a leader could not keep its followers."""
    return Setting(ClockShape(monotonic_drift=round(_sign(pick) * _between_logs(_MONOTONIC_DRIFT, pick, 0), 3)))


CLOCKS: Final = (
    ClockFault("wall_bump", "nodes' wall clocks jump", "wall", "wall", wall_bump, WALL_SELECTIONS),
    ClockFault("wall_strobe", "nodes' wall clocks jump to and fro", "wall", "wall", wall_strobe, WALL_SELECTIONS),
    ClockFault("wall_drift", "nodes' wall clocks go wrong", "wall", "wall_drift", wall_drift, WALL_SELECTIONS),
    ClockFault(
        "monotonic_bump",
        "nodes' monotonic clocks jump ahead",
        "monotonic",
        "monotonic",
        monotonic_bump,
        MONOTONIC_SELECTIONS,
    ),
    ClockFault(
        "monotonic_strobe",
        "nodes' monotonic clocks run fast and slow in turn",
        "monotonic",
        "monotonic",
        monotonic_strobe,
        MONOTONIC_SELECTIONS,
    ),
    ClockFault(
        "monotonic_drift",
        "nodes' monotonic clocks run too fast or too slow",
        "monotonic",
        "monotonic_drift",
        monotonic_drift,
        MONOTONIC_SELECTIONS,
    ),
)
