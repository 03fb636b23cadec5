"""Many simulated runs at once: one seed is one task, on processes of this machine or on a Dask cluster.

A worker that dies takes nothing with it but its seed: ``Pool`` finds out which
task it was by giving each that was under way another try alone, and goes on
with the others.  Only so many tasks are handed out ahead as keep the workers
busy, so that memory stays flat however many seeds there are.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

import msgspec

from splitvote.harness.errors import ConfigError, SplitvoteError
from splitvote.harness.result import Result, Verdict

if TYPE_CHECKING:
    from types import TracebackType

    from splitvote.harness.campaign import RunOptions

T = TypeVar("T")
R = TypeVar("R")

Keep = Literal["nothing", "failures", "everything"]
"""Which runs' directories are left in the store."""

AHEAD: Final = 2
"""Tasks handed out for every worker: one that it does, one that waits."""

PROCESS: Final = "process"
DASK: Final = "dask:"

_PRELOADED: Final = ("splitvote.harness.campaign", "splitvote.harness.simulation.cluster", "splitvote.harness.judge")
"""What every worker needs, imported once by the process that they are forked from."""


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """One name of anomaly that a checker found: how many, and the virtual second by which the first had happened."""

    checker: str
    anomaly: str
    count: int
    at_s: float | None = None


class SeedOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one seed.

    ``failure`` is our own side's trouble; ``reasons`` say why a checker's
    verdict is not VALID; ``mutants`` how often each planted bug fired; ``run``
    is the run's directory where it was kept.
    """

    seed: int
    verdict: Verdict | None = None
    found: tuple[Found, ...] = ()
    reasons: dict[str, str] = {}
    mutants: dict[str, int] = {}
    wall_s: float = 0.0
    run: str | None = None
    failure: str | None = None


# One seed.


def run_seed(options: RunOptions, seed: int, keep: Keep) -> SeedOutcome:
    """Run one seed to its verdict in this process; what is kept moves into the store, with its report.

    Raises ConfigError for options that cannot be; all else is in the outcome.
    """
    from rich.console import Console

    from splitvote.harness.campaign import Campaign
    from splitvote.reports import write_report

    started_s = time.perf_counter()
    options.store.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".seed-{seed}-", dir=options.store))
    try:
        own = replace(options, seed=seed, store=scratch, has_report=False)
        campaign = Campaign(own, seed, command_of(options, seed), Console(file=io.StringIO(), soft_wrap=True))
        campaign.run()
        assert campaign.results is not None, "a campaign that ends has results"
        assert campaign.directory is not None, "a campaign that ends has recorded them"
        results = campaign.results
        outcome = SeedOutcome(
            seed,
            results.verdict,
            tuple(found for result in results.results for found in _found(result)),
            {each.checker: each.reason or "" for each in results.results if each.verdict is not Verdict.VALID},
            results.harness.get("mutants", {}),
            failure=results.failure or ("interrupted: only a part of it was run" if results.interrupted else None),
        )
        is_bad = outcome.failure is not None or results.verdict is not Verdict.VALID
        if keep == "everything" or (keep == "failures" and is_bad):
            kept = options.store / campaign.directory.test / campaign.directory.path.name
            kept.parent.mkdir(exist_ok=True)
            campaign.directory.path.rename(kept)
            write_report(kept)
            outcome = msgspec.structs.replace(outcome, run=str(kept))
    except ConfigError:
        raise
    except SplitvoteError as failure:
        outcome = SeedOutcome(seed, failure=f"{type(failure).__name__}: {failure}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return msgspec.structs.replace(outcome, wall_s=round(time.perf_counter() - started_s, 3))


def _found(result: Result) -> Iterator[Found]:
    """A checker's anomalies by name."""
    ends_ns: dict[str, list[int | None]] = {}
    for anomaly in result.anomalies:
        ends_ns.setdefault(anomaly.name, []).append(max((op.time_ns for op in anomaly.ops), default=None))
    for name, ends in ends_ns.items():
        first_ns = min((end for end in ends if end is not None), default=None)
        yield Found(result.checker, name, len(ends), None if first_ns is None else round(first_ns / 1e9, 3))


def settled(seed: int, outcome: SeedOutcome | BaseException) -> SeedOutcome:
    """What a pool gave for a seed: the end of its worker is the seed's failure, and our own errors are raised."""
    if isinstance(outcome, SplitvoteError):
        raise outcome
    if isinstance(outcome, BaseException):
        return SeedOutcome(seed, failure=f"{type(outcome).__name__}: {outcome}")
    return outcome


def command_of(options: RunOptions, seed: int) -> tuple[str, ...]:
    """The command line, without the program's name, that runs one seed of these options again."""
    words = ["run", options.workload, "--cluster", options.cluster, "--seed", str(seed), "--nodes", str(options.nodes)]
    for flag, value in (
        ("--faults", options.faults),
        ("--avoid", ",".join(options.avoid)),
        ("--interval", "" if options.interval_s is None else f"{options.interval_s:g}"),
        ("--keys", "" if options.keys is None else str(options.keys)),
    ):
        words += [flag, value] if value else []
    words += ["--time", f"{options.time_s:g}", "--rate", f"{options.rate:g}"]
    words += ["--concurrency", str(options.concurrency), "--ops-per-key", str(options.ops_per_key)]
    words += ["--op-timeout", f"{options.op_timeout_s:g}"]
    words += ["--overlap"] if options.overlap else []
    for flag, values in (("--etcd-arg", options.etcd_args), ("--mutant", options.mutants), ("--slo", options.slo)):
        words += [f"{flag}={value}" for value in values]
    return (*words, *(f"--option={name}={value}" for name, value in options.workload_options.items()))


def replay(options: RunOptions, seed: int) -> str:
    """``command_of`` as typed in a shell."""
    return shlex.join(("splitvote", *command_of(options, seed)))


# Many.


class Pool(Generic[T, R]):
    """Workers that do one function; ``kind`` is "process" or "dask:ADDRESS".

    ``done`` yields each task with its result, or the exception that it ended in,
    in the order of completion.  Use it as a context manager; leaving it early
    abandons what has not begun.  Raises ConfigError for a kind there is not, and
    where Dask is asked for and not installed or not reached.
    """

    def __init__(self, function: Callable[[T], R], *, kind: str = PROCESS, jobs: int | None = None) -> None:
        self._function = function
        self._kind = kind
        self._jobs = jobs or os.cpu_count() or 1
        self._executor = self._make()
        self._open: dict[Future[R], T] = {}

    def __enter__(self) -> Pool[T, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for future in self._open:
            future.cancel()  # Dask's executor has no cancel_futures
        self._executor.shutdown(wait=failure is None)

    def _make(self, jobs: int | None = None) -> Executor:
        if self._kind == PROCESS:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(list(_PRELOADED))
            return ProcessPoolExecutor(jobs or self._jobs, mp_context=context)
        if not self._kind.startswith(DASK):
            raise ConfigError(f"--executor {self._kind}: give process, or dask:ADDRESS of a scheduler")
        executor, self._jobs = _dask(self._kind.removeprefix(DASK))
        return executor

    def done(self, tasks: Iterable[T]) -> Iterator[tuple[T, R | BaseException]]:
        """Do every task."""
        waiting = iter(tasks)
        while True:
            handed_out = list(islice(waiting, self._jobs * AHEAD - len(self._open)))
            try:
                for task in handed_out:
                    self._open[self._executor.submit(self._function, task)] = task
                if not self._open:
                    return
                finished, _ = wait(self._open, return_when=FIRST_COMPLETED)
                outcomes = [(each, _outcome(each)) for each in finished]
                is_broken = any(isinstance(outcome, BrokenExecutor) for _, outcome in outcomes)
            except BrokenExecutor:
                is_broken = True
            if is_broken:
                begun = list(self._open.values())
                self._open.clear()
                yield from self._one_by_one([*begun, *(task for task in handed_out if task not in begun)])
                continue
            for future, outcome in outcomes:
                yield self._open.pop(future), outcome

    def _one_by_one(self, suspects: Sequence[T]) -> Iterator[tuple[T, R | BaseException]]:
        """A worker died and took its like with it: whose task it was shows when each has a worker to itself."""
        for task in suspects:
            self._executor.shutdown(wait=True)
            self._executor = self._make(1)
            alone = self._executor.submit(self._function, task)
            yield task, _outcome(alone)
        self._executor.shutdown(wait=True)
        self._executor = self._make()


def _outcome(future: Future[Any]) -> Any:
    """What a task returned, or the exception that it ended in."""
    try:
        return future.result()
    except Exception as failure:
        return failure


def _dask(address: str) -> tuple[Executor, int]:
    """An executor on a Dask cluster, and how many tasks it does at once."""
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError(f"--executor {DASK}{address}: Dask is missing; pip install 'splitvote[dask]'") from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as failure:
        raise ConfigError(f"--executor {DASK}{address}: no scheduler answers there ({failure})") from None
    return client.get_executor(), sum(client.ncores().values()) or 1
