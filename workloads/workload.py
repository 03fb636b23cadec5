"""What a workload is: its operations as a generator, how it ends, and who judges it.  It knows no system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from splitvote.harness.errors import ConfigError, unknown
from splitvote.harness.generator import Generator
from splitvote.harness.result import Checker, Expected


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadOptions:
    """What a user may set.

    ``rate`` is in ops/s over all clients of the workload, ``concurrency`` its
    client threads.  ``keys`` is how many keys are in use at a time (None: the
    workload's own choice), ``ops_per_key`` and ``threads_per_key`` are of a key
    where keys come and go.  ``timeout_s`` is an operation's deadline, ``time_s``
    the run's length.  ``avoid`` names known issues of the system (by number)
    whose triggering operations are left out.  ``extra`` are options of single
    workloads (``--option NAME=VALUE``); ``option`` reads them.
    """

    concurrency: int
    rate: float
    keys: int | None = None
    ops_per_key: int = 200
    threads_per_key: int = 5
    timeout_s: float = 2.0
    time_s: float = 60.0
    avoid: frozenset[str] = frozenset()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def need_threads(self, workload: str, least: int) -> None:
        """Raise ConfigError when the workload cannot be done with so few client threads."""
        if self.concurrency < least:
            raise ConfigError(
                f"{workload} needs {least} client threads and has {self.concurrency}; raise --concurrency "
                "(workloads that run together share it)"
            )

    def choice(self, name: str, known: Sequence[str]) -> str:
        """The option of this name, one of ``known``, the first of them by default; raises ConfigError for any other."""
        value = self.extra.get(name, known[0])
        if value not in known:
            raise ConfigError(unknown(f"--option {name}", str(value), known))
        return str(value)

    def number(self, name: str, default: float) -> float:
        """The option of this name, a positive number; raises ConfigError for anything else."""
        value = self.extra.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ConfigError(f"--option {name}={value}: give a positive number")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One workload, ready to run.

    ``generator`` makes the clients' operations without end (the run's time
    limit ends it); ``final`` makes the operations after the final heal, given
    the keys that were used; ``checkers`` judge it beside those of every run;
    ``least_ok`` is the least number of ok operations by f below which a run
    proves nothing.  ``longest_op_s`` is how long an operation may be open by
    its nature (a watch); 0: as long as an RPC.  ``expected`` is "unsafe" for a
    workload that shows what the system does not promise: an INVALID is then no
    surprise, and says so.  ``options`` are the names of the ``extra`` options it has.
    """

    name: str
    generator: Generator
    final: Callable[[Sequence[Any]], Generator | None]
    checkers: tuple[Checker, ...]
    least_ok: Mapping[str, int]
    longest_op_s: float = 0.0
    expected: Expected = "safe"
    options: tuple[str, ...] = ()
