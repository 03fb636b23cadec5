"""What the members' monotonic clocks may have gained or lost between two times, by the faults that set them.

etcd counts leases by the monotonic clock of whoever leads, and a new leader
counts anew, so that what matters is how much any one clock has gained *between*
a renewal and an end: a clock that was put ahead before measures time as well as
any other.  The wall clock has no part in it.

A plan tells exactly what clocks were told, the journal when at the earliest and
the latest.  What was gained counts from the moment of its gaining: a jump when
the fault starts, a drift as long as it lasts, and all that a slow clock has lost
when it is put right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from splitvote.harness.recording import FaultRecord

TAIL_NS: Final = 3_000_000_000
"""A clock that goes back to the truth by going slower may have a little way left when its fault counts as healed."""

_FOREVER_NS: Final = 1 << 62


class ClockSetting(NamedTuple):
    """One fault of monotonic clocks: what they were told, between which times; and when they were put right."""

    jump_ms: float
    drift: float
    is_swinging: bool
    begun_ns: int
    set_ns: int
    healing_ns: int
    true_ns: int

    def gained_ms(self, start_ns: int, end_ns: int, sign: int) -> float:
        """The most that a clock can have gained (-1: lost) of it between two times."""
        if self.is_swinging:
            return abs(self.jump_ms) if _meet(start_ns, end_ns, self.begun_ns, self.true_ns) else 0.0
        gained = 0.0
        jump_ms, drift = sign * self.jump_ms, sign * self.drift
        is_put_right = _meet(start_ns, end_ns, self.healing_ns, self.true_ns)
        if (jump_ms > 0 and _meet(start_ns, end_ns, self.begun_ns, self.set_ns)) or (jump_ms < 0 and is_put_right):
            gained += abs(jump_ms)
        if drift > 0:
            gained += drift * max(0, min(end_ns, self.true_ns) - max(start_ns, self.begun_ns)) / 1e6
        elif drift < 0 and is_put_right:
            gained -= drift * (min(end_ns, self.true_ns) - self.begun_ns) / 1e6
        return gained


class MemberClocks:
    """Asked for the time between a renewal and the end that a lease was seen to have."""

    def __init__(self, faults: Iterable[FaultRecord]) -> None:
        phases: dict[int, list[FaultRecord]] = {}
        for fault in faults:
            if fault.family == "clock":
                phases.setdefault(fault.id, []).append(fault)
        self._settings: list[ClockSetting] = []
        self._unknown: list[tuple[int, int]] = []
        for records in phases.values():
            setting = _setting(records)
            if setting is None:
                self._unknown.append((records[0].time_ns, _true_ns(records)))
            elif setting.jump_ms or setting.drift:
                self._settings.append(setting)

    def gained_ms(self, start_ns: int, end_ns: int) -> float | None:
        """The most that any clock can have gained; None where nobody knows what clocks were told."""
        return self._moved_ms(start_ns, end_ns, 1)

    def lost_ms(self, start_ns: int, end_ns: int) -> float | None:
        """The most that any clock can have lost; None where nobody knows what clocks were told."""
        return self._moved_ms(start_ns, end_ns, -1)

    def _moved_ms(self, start_ns: int, end_ns: int, sign: int) -> float | None:
        if any(_meet(start_ns, end_ns, begin, end) for begin, end in self._unknown):
            return None
        return sum(setting.gained_ms(start_ns, end_ns, sign) for setting in self._settings)


def is_of_the_wall_alone(fault: FaultRecord) -> bool:
    """Whether it is a fault of wall clocks, of which no lease takes notice."""
    shape = _shape(fault)
    return fault.family == "clock" and shape is not None and not any(name.startswith("monotonic") for name in shape)


def _shape(fault: FaultRecord) -> Mapping[str, float] | None:
    """What a fault told the clocks; None when its plan does not say."""
    told: Any = fault.plan.get("setting")
    shape = told.get("shape") if isinstance(told, Mapping) else None
    return shape if isinstance(shape, Mapping) else None


def _setting(records: list[FaultRecord]) -> ClockSetting | None:
    """One fault, by its records; None when its plan does not say what clocks were told."""
    shape, told = _shape(records[0]), records[0].plan.get("setting")
    if shape is None or told is None:
        return None
    return ClockSetting(
        jump_ms=float(shape.get("monotonic_ms", 0.0)),
        drift=float(shape.get("monotonic_drift", 0.0)),
        is_swinging=bool(told.get("period_ms")),
        begun_ns=records[0].time_ns,
        set_ns=records[1].time_ns if len(records) > 1 else _FOREVER_NS,
        healing_ns=min((record.time_ns for record in records if record.phase == "healing"), default=_FOREVER_NS),
        true_ns=_true_ns(records),
    )


def _true_ns(records: list[FaultRecord]) -> int:
    """When its end was proven; never, if it was not."""
    last = records[-1]
    return last.time_ns + TAIL_NS if last.phase == "healed" else _FOREVER_NS


def _meet(start_ns: int, end_ns: int, begin_ns: int, until_ns: int) -> bool:
    return begin_ns <= end_ns and until_ns >= start_ns
