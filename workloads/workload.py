"""What a workload is: its operations as a generator, how it ends, and who judges it.  It knows no system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from splitvote.harness.generator import Generator
from splitvote.harness.result import Checker


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadOptions:
    """What a user may set: ``rate`` in ops/s over all clients; ``ops_per_key`` and ``threads_per_key`` of a key."""

    concurrency: int
    rate: float
    ops_per_key: int = 200
    threads_per_key: int = 5
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One workload, ready to run.

    ``generator`` makes the clients' operations without end (the run's time
    limit ends it); ``final`` makes the operations after the final heal, given
    the keys that were used; ``checkers`` judge it beside those of every run;
    ``least_ok`` is the least number of ok operations by f below which a run
    proves nothing.
    """

    name: str
    generator: Generator
    final: Callable[[Sequence[Any]], Generator | None]
    checkers: tuple[Checker, ...]
    least_ok: Mapping[str, int]
