"""From options to runs: assembles a run's parts, carries it out, judges and reports it; heals what died."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from splitvote import __version__
from splitvote.checkers.expectation import expected_of
from splitvote.harness.backends import (
    Backend,
    backend_of,
    description,
    fired_mutants,
    known_defects,
    left_behind,
    run_in_its_time,
    wall_clock,
)
from splitvote.harness.cluster import Archivist, Data
from splitvote.harness.clusters.attached.foreign import OUR_OWN, Foreign
from splitvote.harness.errors import OWN_FAILURE_EXIT, ConfigError
from splitvote.harness.generator import Generator, clients, nemesis, time_limit
from splitvote.harness.jsonl import read_all
from splitvote.harness.judge import checkers_of_run, judge, overall, verdict_lines, workloads_of
from splitvote.harness.machine import Clock
from splitvote.harness.recording import FaultRecord, RunConfig
from splitvote.harness.result import Verdict
from splitvote.harness.run import Account, Execution, HealingNemesis, Plan
from splitvote.harness.store import Results, RunDirectory, create_run, load_recording, open_run, runs
from splitvote.nemesis import (
    ALL,
    DEFAULT_INTERVAL_S,
    Chosen,
    Journal,
    Nemesis,
    Replay,
    Site,
    Turn,
    closing,
    one_at_a_time,
    overlapping,
    parse_faults,
    read_replay,
    still_open,
    timeline,
    turns,
)

if TYPE_CHECKING:
    from rich.console import Console


Schedule = Callable[[], Iterator[Turn]] | Replay
"""Turns drawn from the seed, without end, or those of an earlier run."""

SHORTEST_INTERVAL_S: Final = 1.5
SEEN_SHARE: Final = 0.7
"""A fault that the timeline begins within this share of the time is expected to be seen: it is a rough guess."""

_SEED_BITS: Final = 31
_OPEN_OPERATION_S: Final = 5.0
"""How far beyond its own deadline the backstop lets a client operation go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """`splitvote run`'s options, as the command line checked them."""

    workload: str
    cluster: str
    nodes: int
    faults: str
    time_s: float
    rate: float
    concurrency: int
    seed: int | None
    etcd: tuple[str, ...] = ()
    etcd_args: tuple[str, ...]
    upgrade: tuple[str, ...] = ()
    store: Path
    ops_per_key: int
    keys: int | None
    avoid: tuple[str, ...]
    workload_options: Mapping[str, Any]
    interval_s: float | None
    overlap: bool
    op_timeout_s: float
    check_timeout_s: float
    dry_run: bool = False
    schedule: Path | None = None
    schedule_omit: bool = False
    control: str = "ssh"
    nodes_file: Path | None = None
    foreign: Foreign = OUR_OWN
    mutants: tuple[str, ...] = ()
    has_report: bool = True
    slo: tuple[str, ...] = ()
    junit: Path | None = None
    summary: Path | None = None


def run_once(options: RunOptions, *, command: tuple[str, ...]) -> int:
    """Run one test, judge it, report it; returns the exit code.

    ``command`` is the command line without the program's name.  Raises
    ConfigError for options that cannot be, EnvironmentFailure when the cluster
    never came up; whatever happens later is in the results.
    """
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False, markup=False)
    seed = secrets.randbits(_SEED_BITS) if options.seed is None else options.seed
    console.print(f"seed {seed}")
    return Campaign(options, seed, command, console).run()


class Campaign:
    """One `splitvote run`."""

    def __init__(self, options: RunOptions, seed: int, command: tuple[str, ...], console: Console) -> None:
        self._options = options
        self._seed = seed
        self._command = command
        self._console = console
        self._workload = workloads_of(
            options.workload,
            concurrency=options.concurrency,
            rate=options.rate,
            time_s=options.time_s,
            options=_fields(options),
        )
        self.results: Results | None = None
        """What ``run`` found."""
        self.directory: RunDirectory | None = None
        """Where ``run`` recorded it."""

    def run(self) -> int:
        """Carry it out and return the exit code."""
        options = self._options
        # Touches nothing: what cannot be is refused before a run is made.
        probe = backend_of(options, options.store, self._seed)
        replay = self._replay(probe)
        chosen = parse_faults(options.faults, probe) if replay is None else replay.chosen
        self._say_what_runs(probe, chosen)
        schedule = self._schedule(chosen) if replay is None else replay
        if options.dry_run:
            return self._print_timeline(schedule)
        run = self.directory = create_run(options.store, options.workload, self._seed)
        cluster = backend_of(options, run.path, self._seed, probe, demands=chosen.demands)
        config = self._config(cluster, chosen, self._planned(schedule))
        run.write_json(run.config, config)
        account = run_in_its_time(cluster, self._execute(run, cluster, chosen, schedule))
        return self._conclude(run, cluster, config, account)

    def _say_what_runs(self, cluster: Backend, chosen: Chosen) -> None:
        for line in description(cluster):
            self._console.print(line)
        for family, reason in chosen.omitted.items():
            self._console.print(f"left out of the faults: {family} ({reason})")

    def _replay(self, cluster: Backend) -> Replay | None:
        options = self._options
        if options.schedule is None:
            return None
        if options.faults:
            raise ConfigError(f"--faults {options.faults} and --schedule {options.schedule}: give one of them")
        return read_replay(options.schedule, cluster, omit=options.schedule_omit)

    def _schedule(self, chosen: Chosen) -> Callable[[], Iterator[Turn]]:
        families = list(chosen.faults.values())
        interval_s = self._options.interval_s or _interval(self._options.time_s, len(families))
        return lambda: turns(families, self._seed, interval_s=interval_s)

    def _planned(self, schedule: Schedule) -> tuple[str, ...] | None:
        """Of ``--faults all``, the families of which a fault begins early enough to be seen, by the timeline.

        None for faults that were asked for by name: each of those has to be seen.
        """
        if self._options.faults.strip() != ALL:
            return None
        rows, time_s = self._timeline(schedule), self._options.time_s
        return tuple(dict.fromkeys(turn.fault for start_s, _, turn in rows if start_s <= SEEN_SHARE * time_s))

    def _timeline(self, schedule: Schedule) -> list[tuple[float, float, Turn]]:
        time_s = self._options.time_s
        return schedule.timeline(time_s) if isinstance(schedule, Replay) else timeline(schedule(), time_s)

    def _print_timeline(self, schedule: Schedule) -> int:
        rows = self._timeline(schedule)
        self._console.print(f"{'start':>8} {'end':>8}  fault" if rows else "no faults: name some with --faults")
        for start_s, end_s, turn in rows:
            self._console.print(f"{start_s:8.1f} {end_s:8.1f}  {turn.fault}:{turn.kind} (pick {turn.pick})")
        return 0

    def _config(self, cluster: Backend, chosen: Chosen, planned: tuple[str, ...] | None) -> RunConfig:
        options = self._options
        given = {name: value for name, value in _fields(options).items() if name not in _IN_CONFIG}
        command = self._command if "--seed" in self._command else (*self._command, "--seed", str(self._seed))
        return RunConfig(
            workload=options.workload,
            seed=self._seed,
            cluster=cluster.name,
            nodes=tuple(cluster.nodes),
            splitvote_version=__version__,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            faults=tuple(chosen.faults),
            planned_faults=planned,
            time_s=options.time_s,
            rate=options.rate,
            concurrency=options.concurrency,
            system_versions={node: f"etcd {version}" for node, version in cluster.versions.items()},
            known_defects=tuple(dict.fromkeys(chain.from_iterable(known_defects(cluster).values()))),
            options=given,
            command=("splitvote", *command),
        )

    async def _execute(self, run: RunDirectory, cluster: Backend, chosen: Chosen, schedule: Schedule) -> Account:
        from splitvote.harness.etcd.bindings import Services, binding_of
        from splitvote.harness.progress import Progress

        options = self._options
        progress = Progress(self._console, options.time_s)
        connections = cluster.connections()
        services = Services(
            nodes=connections,
            names=tuple(cluster.nodes),
            timeout_s=options.op_timeout_s,
            options=options.workload_options,
            avoid=frozenset(options.avoid),
            archivist=cluster.capability(Archivist),
        )
        execution = Execution(
            Plan(
                run=run,
                cluster=cluster,
                binding=binding_of([workload.name for workload in self._workload.workloads], services),
                nemesis=_nemesis_maker(run, cluster, chosen) if chosen.faults else None,
                generator=self._generator(schedule if chosen.faults else None),
                final=self._workload.final,
                concurrency=options.concurrency,
                seed=self._seed,
                backstop_s=max(options.op_timeout_s, self._workload.longest_op_s) + _OPEN_OPERATION_S,
                on_start=progress.attach,
                on_step=progress.note_step,
                on_record=progress.note_record,
                wall_ns=wall_clock(cluster),
                clock=cluster.capability(Clock) if "clock" in chosen.by_name else None,
            )
        )
        following = asyncio.create_task(progress.follow(), name="splitvote progress")
        with _interrupting(execution):
            try:
                return await execution.execute()
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                await connections.close()

    def _generator(self, schedule: Schedule | None) -> Generator:
        time_s = self._options.time_s
        if schedule is None:
            return time_limit(time_s, clients(self._workload.generator))
        if isinstance(schedule, Replay):
            return time_limit(time_s, clients(self._workload.generator, nemesis(schedule.generator(time_s))))
        lay_out = overlapping if self._options.overlap else one_at_a_time
        return time_limit(time_s, clients(self._workload.generator, nemesis(lay_out(schedule(), time_s))))

    def _conclude(self, run: RunDirectory, cluster: Backend, config: RunConfig, account: Account) -> int:
        self._console.print("checking ...")
        recording = load_recording(run.path)
        results = judge(recording, checkers_of_run(config), timeout_s=self._options.check_timeout_s)
        found = self.results = Results(
            overall(results),
            tuple(results),
            duration_s=account.duration_s,
            failure=None if account.failure is None else f"{type(account.failure).__name__}: {account.failure}",
            interrupted=account.interrupted,
            harness=account.as_json() | fired_mutants(cluster),
            expected=expected_of(results),
        )
        for line in verdict_lines(found):
            self._console.print(line)
        if (left := left_behind(cluster)) is not None:
            self._console.print(f"left behind: {left}")
        if found.failure is not None:
            self._console.print(f"the harness failed: {found.failure}; the verdict speaks of what came before")
        run.write_json(run.results, found)
        self._console.print(f"results: {run.results}")
        is_reported = self._report(run) if self._options.has_report else True
        if found.verdict is Verdict.INVALID:
            if run.data.exists():
                _keep_data(run, cluster)
                self._console.print(f"the members' data directories are kept in {run.data}")
        else:
            shutil.rmtree(run.data, ignore_errors=True)
        if found.failure is not None or not is_reported:
            return OWN_FAILURE_EXIT
        return found.verdict.exit_code

    def _report(self, run: RunDirectory) -> bool:
        """Write everything that was asked for; whether all of it could be."""
        from splitvote.reports import append_summary, write_junit, write_report

        options = self._options
        writers: dict[str, Callable[[], Path]] = {"report": lambda: write_report(run.path)}
        if (junit := options.junit) is not None:
            writers["junit"] = lambda: write_junit(run.path, junit)
        if (summary := options.summary) is not None:
            writers["summary"] = lambda: append_summary(run.path, summary)
        is_complete = True
        for name, write in writers.items():
            try:
                self._console.print(f"{name + ':':<8} {write()}")
            except Exception as crash:  # a page that cannot be drawn must not hide the verdict
                self._console.print(f"the {name} could not be written: {type(crash).__name__}: {crash}")
                is_complete = False
        return is_complete


_IN_CONFIG: Final = frozenset(
    {"workload", "seed", "cluster", "time_s", "rate", "concurrency", "store", "dry_run", "junit", "summary"}
    | {"has_report"}
)  # these have fields of their own in RunConfig, or say nothing about the run


def _interval(time_s: float, families: int) -> float:
    """Seconds between faults such that a run of this length sees every family, on a slow machine, too."""
    return min(DEFAULT_INTERVAL_S, max(SHORTEST_INTERVAL_S, time_s / (5 * max(1, families))))


def _fields(options: RunOptions) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = msgspec.to_builtins(
        {name: getattr(options, name) for name in options.__slots__}, enc_hook=str
    )
    return fields


def _keep_data(run: RunDirectory, cluster: Backend) -> None:
    """Replace the data directories by copies without the preallocated space, a hundredth of the size.

    Where that fails (a full disk), the originals stay.
    """
    data, kept = cluster.capability(Data), run.path / "data.kept"
    if data is None:
        return
    try:
        asyncio.run(data.keep_data(kept))
        shutil.rmtree(run.data)
        kept.rename(run.data)
    except OSError:
        shutil.rmtree(kept, ignore_errors=True)


def _nemesis_maker(
    run: RunDirectory, cluster: Backend, chosen: Chosen
) -> Callable[[Callable[[], int]], HealingNemesis]:
    return lambda now_ns: Nemesis(Site(cluster), chosen.by_name, Journal(run.faults), now_ns=now_ns)


@contextmanager
def _interrupting(execution: Execution) -> Iterator[None]:
    """Take the first Ctrl-C (or SIGTERM) as the wish to end the run early, the second as the wish to end at once.

    Signals are the main thread's; a run on another one (a worker of Dask) is not asked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    seen: list[int] = []

    def on_signal(number: int) -> None:
        seen.append(number)
        if len(seen) == 1:
            execution.interrupt()
        else:
            task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def heal_runs(path: Path | None, store: Path) -> list[str]:
    """Undo what killed runs left behind and close their journals; a line for each thing done."""
    from splitvote.harness.clusters.attached.cluster import heal_attached
    from splitvote.harness.clusters.local import heal_leftovers
    from splitvote.harness.clusters.remote.cluster import heal_nodes

    lines = []
    for run in [open_run(path)] if path is not None else list(runs(store)):
        undone = [line for heal in (heal_leftovers, heal_nodes, heal_attached) for line in asyncio.run(heal(run.path))]
        faults = still_open(read_all(run.faults, FaultRecord)[0]) if run.faults.exists() else []
        if faults:
            journal = Journal(run.faults)
            for fault in faults:
                journal.note(closing(fault, "found ended by `splitvote heal`: nothing of the run is left"))
            journal.close()
        lines += [f"{run.path}: {line}" for line in undone]
        lines += [f"{run.path}: closed the journal's fault {fault.id} ({fault.fault})" for fault in faults]
    return lines or ["nothing to heal"]
