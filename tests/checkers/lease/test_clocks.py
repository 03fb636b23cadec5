"""What a clock can have gained between two times is never less than what it has, and nothing where nothing was set."""

from __future__ import annotations

import random

import pytest

from splitvote.checkers.lease.clocks import TAIL_NS, MemberClocks
from splitvote.harness.recording import FaultRecord

S = 1_000_000_000
MS = 1_000_000


def fault(number: int, shape: dict[str, float], times_ns: list[int], *, period_ms: float = 0.0) -> list[FaultRecord]:
    """A clock fault with the phases that it has times for."""
    setting = {"shape": shape} | ({"period_ms": period_ms} if period_ms else {})
    phases = ("starting", "active", "healing", "healed")[: len(times_ns)]
    return [
        FaultRecord(number, "clock", "clock", phase, time_ns, ("n1",), {"setting": setting})
        for phase, time_ns in zip(phases, times_ns, strict=True)
    ]


class Path:
    """A clock as a backend may have it: set and put right at any moment that the journal allows, at once or slowly."""

    def __init__(self, rng: random.Random, shape: dict[str, float], times_ns: list[int], period_ms: float) -> None:
        self.set_ns = rng.randint(times_ns[0], times_ns[1])
        self.reset_ns = rng.randint(times_ns[2], times_ns[3])
        self.jump_ms, self.drift = shape.get("monotonic_ms", 0.0), shape.get("monotonic_drift", 0.0)
        self.period_ms = period_ms
        self.is_square = rng.random() < 0.5
        self.slew = rng.choice((None, 0.5))

    def offset_ms(self, time_ns: int) -> float:
        if time_ns < self.set_ns:
            return 0.0
        if time_ns < self.reset_ns:
            return self._told_ms(time_ns)
        left_ms = self._told_ms(self.reset_ns)
        if self.slew is None:
            return 0.0
        way_ms = self.slew * (time_ns - self.reset_ns) / MS
        return max(0.0, left_ms - way_ms) if left_ms > 0 else min(0.0, left_ms + way_ms)

    def _told_ms(self, time_ns: int) -> float:
        passed_ms = (time_ns - self.set_ns) / MS
        if not self.period_ms:
            return self.jump_ms + self.drift * passed_ms
        turns, part = divmod(passed_ms / self.period_ms, 1.0)
        is_ahead = int(turns) % 2 == 0
        if self.is_square:
            return self.jump_ms if is_ahead else 0.0
        return self.jump_ms * (part if is_ahead else 1.0 - part)


@pytest.mark.parametrize("seed", range(40))
def test_no_clock_gains_or_loses_more_than_is_allowed_for(seed: int) -> None:
    """Against clocks of every kind, by many intervals: what was really gained and lost stays within the bounds."""
    rng = random.Random(seed)
    jump, drift = {"monotonic_ms": rng.uniform(500, 3_000)}, {"monotonic_drift": rng.uniform(-0.4, 0.4)}
    shape, period_ms = rng.choice(((jump, 0.0), (drift, 0.0), (jump, rng.uniform(300, 3_000)), (jump | drift, 0.0)))
    begun_ns = rng.randint(0, 10 * S)
    times_ns = [begun_ns, begun_ns + rng.randint(0, 3 * S)]
    times_ns += [times_ns[1] + rng.randint(0, 10 * S)]
    path = Path(rng, shape, [*times_ns, times_ns[2] + S], period_ms)
    # Monotonic time that goes slowly back is healed once it is nearly there: the journal's last time is later then.
    left_ms = abs(path._told_ms(path.reset_ns)) if path.slew else 0.0
    end_ns = path.reset_ns + int(left_ms / 0.5 * MS) + rng.randint(-TAIL_NS // 2, S)
    times_ns.append(max(path.reset_ns, end_ns))
    clocks = MemberClocks(fault(1, shape, times_ns, period_ms=period_ms))
    for _ in range(400):
        start_ns, stop_ns = sorted((rng.randint(0, 40 * S), rng.randint(0, 40 * S)))
        moved_ms = path.offset_ms(stop_ns) - path.offset_ms(start_ns)
        gained_ms, lost_ms = clocks.gained_ms(start_ns, stop_ns), clocks.lost_ms(start_ns, stop_ns)
        assert gained_ms is not None
        assert lost_ms is not None
        assert -lost_ms - 0.01 <= moved_ms <= gained_ms + 0.01


def test_what_is_allowed_for_is_no_more_than_need_be() -> None:
    """A jump counts only where it is made, a drift as long as it lasts, a slow clock where it is put right."""
    jump = MemberClocks(fault(1, {"monotonic_ms": 700.0}, [10 * S, 11 * S, 20 * S, 22 * S]))
    assert jump.gained_ms(0, 9 * S) == 0.0
    assert jump.gained_ms(5 * S, 15 * S) == 700.0
    assert jump.gained_ms(12 * S, 40 * S) == 0.0
    fast = MemberClocks(fault(1, {"monotonic_drift": 0.2}, [10 * S, 11 * S, 20 * S, 22 * S]))
    assert fast.gained_ms(0, 15 * S) == pytest.approx(1_000.0)
    assert fast.gained_ms(26 * S, 40 * S) == 0.0
    slow = MemberClocks(fault(1, {"monotonic_drift": -0.2}, [10 * S, 11 * S, 20 * S, 22 * S]))
    assert slow.gained_ms(0, 19 * S) == 0.0
    assert slow.gained_ms(19 * S, 22 * S) == pytest.approx(2_400.0)
    assert slow.lost_ms(0, 15 * S) == pytest.approx(1_000.0)
    wall = MemberClocks(fault(1, {"wall_ms": 60_000.0, "wall_drift": 0.5}, [10 * S, 11 * S]))
    assert wall.gained_ms(0, 40 * S) == wall.lost_ms(0, 40 * S) == 0.0


def test_faults_add_up_and_one_that_was_never_healed_goes_on() -> None:
    records = fault(1, {"monotonic_ms": 700.0}, [10 * S, 11 * S]) + fault(2, {"monotonic_drift": 0.1}, [20 * S, 21 * S])
    clocks = MemberClocks(records)
    assert clocks.gained_ms(0, 30 * S) == pytest.approx(1_700.0)
    assert clocks.gained_ms(100 * S, 110 * S) == pytest.approx(1_000.0)


def test_of_a_plan_that_says_nothing_nobody_knows() -> None:
    clocks = MemberClocks([FaultRecord(1, "clock", "skew", "active", 10 * S, ("n1",))])
    assert clocks.gained_ms(0, 9 * S) == 0.0
    assert clocks.gained_ms(0, 11 * S) is None
    assert clocks.lost_ms(20 * S, 30 * S) is None
