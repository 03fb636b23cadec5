"""Several workloads on one cluster at once: threads of their own, keys of their own, one schedule of faults.

``kv+watch`` is the workloads ``kv`` and ``watch``: the client threads and the
rate are shared out evenly, each operation carries its workload's name, and each
workload is judged by its own checkers on its own operations.  The store's
revision is shared, so that a single workload sees gaps in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from splitvote.checkers.expectation import ExpectedUnsafe
from splitvote.checkers.projection import ProjectedChecker
from splitvote.harness.errors import ConfigError
from splitvote.harness.generator import Generator, clients, map_ops, phases, reserve
from splitvote.harness.op import Op
from splitvote.harness.result import Checker
from splitvote.workloads.workload import Workload, WorkloadOptions

SEPARATOR: Final = "+"


@dataclass(frozen=True, slots=True)
class Together:
    """One or more workloads as a run sees them; ``threads`` are each one's client threads."""

    workloads: tuple[Workload, ...]
    threads: tuple[int, ...]

    @property
    def name(self) -> str:
        """The workloads' names, joined."""
        return SEPARATOR.join(workload.name for workload in self.workloads)

    @property
    def generator(self) -> Generator:
        """Everybody's operations, each workload on threads reserved for it."""
        if len(self.workloads) == 1:
            return self.workloads[0].generator
        shares: list[Any] = []
        for workload, threads in zip(self.workloads, self.threads, strict=True):
            shares += [threads, _labelled(workload.name, workload.generator)]
        return reserve(*shares)

    @property
    def checkers(self) -> tuple[Checker, ...]:
        """Each workload's checkers, on its own operations where there are others, and saying so where it is unsafe."""
        if len(self.workloads) == 1:
            return tuple(_checkers_of(self.workloads[0]))
        return tuple(
            ProjectedChecker(workload.name, checker)
            for workload in self.workloads
            for checker in _checkers_of(workload)
        )

    @property
    def least_ok(self) -> dict[str, int]:
        """The least number of ok operations, by f or, where there are several workloads, by ``workload/f``."""
        if len(self.workloads) == 1:
            return dict(self.workloads[0].least_ok)
        return {f"{workload.name}/{f}": least for workload in self.workloads for f, least in workload.least_ok.items()}

    @property
    def longest_op_s(self) -> float:
        """How long an operation may be open by its nature."""
        return max(workload.longest_op_s for workload in self.workloads)

    def final(self, keys: Mapping[str | None, Sequence[Any]]) -> Generator | None:
        """Everybody's final operations, one workload after another, given the keys that each used."""
        if len(self.workloads) == 1:
            return self.workloads[0].final(keys.get(None, ()))
        endings = [
            _labelled(workload.name, ending)
            for workload in self.workloads
            if (ending := workload.final(keys.get(workload.name, ()))) is not None
        ]
        return clients(phases(*endings)) if endings else None


def _checkers_of(workload: Workload) -> Sequence[Checker]:
    if workload.expected == "safe":
        return workload.checkers
    return [ExpectedUnsafe(checker) for checker in workload.checkers]


def _labelled(name: str, generator: Generator) -> Generator:
    def label(op: Op) -> Op:
        return msgspec.structs.replace(op, workload=name)

    return map_ops(label, generator)


def together(names: str, options: WorkloadOptions, make: Callable[[str, WorkloadOptions], Workload]) -> Together:
    """Build the workloads of ``names`` ("kv+watch"), each with its share of threads and rate.

    Raises KeyError for a name that ``make`` does not know, ConfigError for
    options that none of them has, a workload named twice, or too few threads.
    """
    each = names.split(SEPARATOR)
    if len(set(each)) < len(each):
        raise ConfigError(f"{names} names a workload twice; once is enough")
    if options.concurrency < len(each):
        raise ConfigError(f"{names} needs a client thread each; raise --concurrency to {len(each)} at least")
    share, odd = divmod(options.concurrency, len(each))
    threads = tuple(share + (number < odd) for number in range(len(each)))
    made = tuple(
        make(name, replace(options, concurrency=theirs, rate=options.rate / len(each)))
        for name, theirs in zip(each, threads, strict=True)
    )
    known = sorted({option for workload in made for option in workload.options})
    for option in options.extra:
        if option not in known:
            raise ConfigError(f"--option {option}: {names} has {', '.join(known) or 'no options of its own'}")
    return Together(made, threads)
