"""What a checker says: verdicts, anomalies, results, and the budget a checker runs under.

A cluster's misbehaviour is a ``Result``; our own trouble is an exception.  A
checker that crashes or runs out of its budget answers UNKNOWN with the reason.
"""

from __future__ import annotations

import enum
import resource
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from splitvote.harness.op import Op

if TYPE_CHECKING:
    from splitvote.harness.recording import Recording


Expected = Literal["safe", "unsafe"]
"""What is expected of a workload: that nothing is found, or that something may well be."""


class Verdict(enum.StrEnum):
    """A checker's answer; ``worst`` ranks INVALID > UNKNOWN > SLO_MISSED > VALID."""

    VALID = "VALID"
    SLO_MISSED = "SLO_MISSED"
    UNKNOWN = "UNKNOWN"
    INVALID = "INVALID"

    @property
    def exit_code(self) -> int:
        """The command's exit status for this verdict."""
        return _EXIT_CODES[self]


_EXIT_CODES = {Verdict.VALID: 0, Verdict.INVALID: 1, Verdict.UNKNOWN: 2, Verdict.SLO_MISSED: 4}
_SEVERITY = {verdict: rank for rank, verdict in enumerate(Verdict)}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest of the verdicts; VALID when there is none."""
    return max(verdicts, key=_SEVERITY.__getitem__, default=Verdict.VALID)


class Anomaly(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that went wrong.

    ``name`` is the property broken, in the field's words ("nonlinearizable",
    "G1c", "watch: atomic").  ``story`` says in plain words what happened.
    ``ops`` is the smallest set of records found that shows it, in history
    order.  ``details`` is JSON for the report (keys, members, cycles, states).
    """

    name: str
    story: str
    ops: tuple[Op, ...] = ()
    key: Any = None
    details: dict[str, Any] = {}


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """A checker's verdict with its evidence.

    ``reason`` says why the verdict is not VALID in one line (required for
    UNKNOWN).  ``evidence`` and ``stats`` are JSON for reports and tools.
    ``expected`` is "unsafe" where the workload shows what the system does not
    promise: INVALID is still the verdict, and no surprise.
    """

    checker: str
    verdict: Verdict
    reason: str | None = None
    anomalies: tuple[Anomaly, ...] = ()
    evidence: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    expected: Expected = "safe"


class BudgetExceeded(Exception):
    """Raised by ``Budget.check``; the text is the reason of the UNKNOWN verdict."""


class Budget:
    """A bound on one check: wall-clock seconds, bytes of resident memory, and steps.

    On the simulation only ``max_steps`` is given, since there time would not be
    deterministic.  ``check`` is cheap enough to call every few hundred steps.
    """

    def __init__(
        self,
        *,
        time_s: float | None = None,
        memory_bytes: int | None = None,
        max_steps: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.time_s = time_s
        self.memory_bytes = memory_bytes
        self.max_steps = max_steps
        self.steps = 0
        self._clock = clock
        self._deadline = None if time_s is None else clock() + time_s

    def check(self, steps: int = 0) -> None:
        """Count ``steps`` more; raise BudgetExceeded when a bound is passed."""
        self.steps += steps
        if self.max_steps is not None and self.steps > self.max_steps:
            raise BudgetExceeded(f"gave up after {self.steps} steps (bound {self.max_steps}; raise --check-steps)")
        if self._deadline is not None and self._clock() > self._deadline:
            raise BudgetExceeded(f"gave up after {self.time_s:g} s (raise --timeout-s)")
        if self.memory_bytes is not None and _resident_bytes() > self.memory_bytes:
            raise BudgetExceeded(f"gave up past {self.memory_bytes >> 20} MiB of memory (raise --check-memory-mb)")

    @property
    def remaining_s(self) -> float | None:
        """Seconds left, never negative; None when time is unbounded."""
        return None if self._deadline is None else max(0.0, self._deadline - self._clock())


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:  # not Linux: the peak is the best there is
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class Checker(Protocol):
    """A pure judge of a recorded run."""

    @property
    def name(self) -> str:
        """The name results and reports carry."""
        ...

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge the recording; raise BudgetExceeded when out of budget, never for what the cluster did."""
        ...


def run_checker(checker: Checker, recording: Recording, budget: Budget) -> Result:
    """Run one checker: a crash or a spent budget becomes UNKNOWN, with the reason."""
    started = time.perf_counter()
    try:
        result = checker.check(recording, budget)
    except BudgetExceeded as exceeded:
        result = Result(checker.name, Verdict.UNKNOWN, reason=str(exceeded))
    except Exception as crash:
        result = Result(
            checker.name,
            Verdict.UNKNOWN,
            reason=f"the checker crashed: {type(crash).__name__}: {crash} (a defect of splitvote, please report it)",
            evidence={"traceback": _traceback(crash)},
        )
    return msgspec.structs.replace(result, stats=result.stats | {"check_s": round(time.perf_counter() - started, 4)})


def _traceback(crash: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(crash))
