"""One whole test run: bring the cluster up, run the workload under faults, heal, judge, report.

The order is fixed, and each step's undoing is in place before the step::

    cluster up -> clients' set-up -> workload | nemesis | sampler
        -> final heal (a deadline of its own) -> recovery awaited -> final operations
        -> members settle, their final state is read -> cluster down -> checkers -> report

Whatever happens in between (Ctrl-C, a full disk, an exception of ours), faults
are healed, the cluster is taken down, and what was recorded is judged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from splitvote.harness.archive import ArchiveRecord
from splitvote.harness.client import Binding
from splitvote.harness.cluster import Archivist, Cluster, Health, Roles
from splitvote.harness.errors import SplitvoteError
from splitvote.harness.generator import Generator
from splitvote.harness.history import HistoryWriter
from splitvote.harness.jsonl import JsonLinesWriter
from splitvote.harness.lag import LagMonitor
from splitvote.harness.machine import Clock
from splitvote.harness.op import NEMESIS, Op
from splitvote.harness.recording import ClusterSample, FinalState, MemberReading
from splitvote.harness.runner import NemesisClient, Runner
from splitvote.harness.sampler import Sampler
from splitvote.harness.store import RunDirectory

C = TypeVar("C")

KeysUsed = Mapping[str | None, Sequence[Any]]

RECOVERY_BOUND_S: Final = 30.0
SETTLE_BOUND_S: Final = 15.0
HEAL_BOUND_S: Final = 60.0
ARCHIVE_BOUND_S: Final = 15.0
_POLL_S: Final = 0.1
_SET_UP_BOUND_S: Final = 30.0


class RunnableCluster(Cluster, Protocol):
    """A cluster that the harness brings up and takes down."""

    async def up(self) -> None:
        """Start every node and wait until it serves; raises EnvironmentFailure when it never does."""
        ...

    async def down(self) -> None:
        """End whatever ``up`` and the faults since have started."""
        ...


class HealingNemesis(NemesisClient, Protocol):
    """A nemesis whose faults can all be undone at once."""

    async def heal(self, deadline_s: float) -> Any:
        """Undo every fault within the deadline."""
        ...

    def close(self) -> None:
        """Close the journal."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that one run needs; ``generator`` holds the clients' and the nemesis's operations and ends by itself.

    ``nemesis`` makes the nemesis, given the run's clock in ns; ``final`` makes the
    operations after recovery from the keys that were used, by workload (None
    where the run has only one); ``clock`` measures the members' clocks, where
    faults set them.
    """

    run: RunDirectory
    cluster: RunnableCluster
    binding: Binding
    nemesis: Callable[[Callable[[], int]], HealingNemesis] | None
    generator: Generator
    final: Callable[[KeysUsed], Generator | None]
    concurrency: int
    seed: int
    backstop_s: float
    on_start: Callable[[Runner, Sampler], None] = lambda runner, sampler: None
    on_step: Callable[[str], None] = lambda step: None
    on_record: Callable[[Op], None] = lambda op: None
    wall_ns: Callable[[], int] = time.time_ns
    clock: Clock | None = None


@dataclass(slots=True)
class Account:
    """What the harness has to say of itself after a run; ``failure`` is our own side's trouble."""

    duration_s: float = 0.0
    failure: BaseException | None = None
    interrupted: bool = False
    worst_lag_ms: float = 0.0
    stalls: list[tuple[int, float]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "worst_loop_lag_ms": self.worst_lag_ms,
            "stalls": len(self.stalls),
            "stalled_ms": round(sum(duration for _, duration in self.stalls), 1),
        }


class Execution:
    """Carries out one plan; ``interrupt`` may be called at any time while ``execute`` runs."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._runner: Runner | None = None
        self.account = Account()

    def interrupt(self) -> None:
        """End the run early: nothing more is invoked, faults are healed, what was recorded is judged."""
        self.account.interrupted = True
        if self._runner is not None:
            self._runner.stop()

    async def execute(self) -> Account:
        """Run the plan to its end; raises EnvironmentFailure only when the cluster never came up."""
        plan = self._plan
        started_s = time.monotonic()
        try:
            plan.on_step("bringing the cluster up")
            await plan.cluster.up()
            await self._run_on_the_cluster()
        finally:
            plan.on_step("taking the cluster down")
            await plan.cluster.down()
            self.account.duration_s = round(time.monotonic() - started_s, 2)
        return self.account

    async def _run_on_the_cluster(self) -> None:
        plan = self._plan
        loop = asyncio.get_running_loop()
        origin_s = loop.time()
        lag = LagMonitor(origin_s=origin_s)
        nemesis = None if plan.nemesis is None else plan.nemesis(lambda: int((loop.time() - origin_s) * 1e9))
        async with AsyncExitStack() as undo:
            history = HistoryWriter(plan.run.history)
            undo.callback(_close_quietly, history, self._fail)
            samples: JsonLinesWriter[ClusterSample] = JsonLinesWriter(plan.run.samples)
            undo.callback(_close_quietly, samples, self._fail)
            undo.push_async_callback(plan.binding.close)
            if nemesis is not None:
                undo.callback(nemesis.close)
            seen: dict[str | None, dict[Any, None]] = {}

            def note(op: Op) -> None:
                _note_key(seen, op)
                plan.on_record(op)

            runner = self._runner = Runner(
                binding=plan.binding,
                nodes=plan.cluster.nodes,
                history=history,
                concurrency=plan.concurrency,
                seed=plan.seed,
                backstop_s=plan.backstop_s,
                nemesis=nemesis,
                origin_s=origin_s,
                on_record=note,
            )
            undo.push_async_callback(runner.close)
            lag.start()
            undo.callback(lag.stop)
            sampler = Sampler(
                _need(plan.cluster, Roles),
                samples,
                now_ns=runner.now_ns,
                lag=lag,
                wall_ns=plan.wall_ns,
                clock=plan.clock,
            )
            sampling = asyncio.create_task(sampler.run(), name="splitvote sampler")
            undo.push_async_callback(_end_sampling, sampling, self._fail)
            archivist = plan.cluster.capability(Archivist)
            if archivist is not None:
                archive: JsonLinesWriter[ArchiveRecord] = JsonLinesWriter(plan.run.archive)
                undo.callback(_close_quietly, archive, self._fail)
                archivist.start(archive, runner.now_ns)
                undo.push_async_callback(_end_archiving, archivist, self._fail)
            plan.on_start(runner, sampler)
            try:
                await self._all_phases(runner, nemesis, sampler, lag, seen)
            except SplitvoteError as failure:
                self._fail(failure)
            self.account.worst_lag_ms, self.account.stalls = lag.worst_ms, lag.stalls
            if runner.failure is not None:
                self._fail(runner.failure)

    async def _all_phases(
        self,
        runner: Runner,
        nemesis: HealingNemesis | None,
        sampler: Sampler,
        lag: LagMonitor,
        seen: Mapping[str | None, Mapping[Any, None]],
    ) -> None:
        plan = self._plan
        await self._set_up_clients()
        try:
            if not self.account.interrupted:
                plan.on_step("running")
                await runner.run(plan.generator)
        finally:
            plan.on_step("healing")
            if nemesis is not None:
                await nemesis.heal(HEAL_BOUND_S)
        plan.on_step("waiting for the cluster to recover")
        final = await self._await_recovery(runner, lag)
        final_generator = plan.final({workload: list(keys) for workload, keys in seen.items()})
        if final.recovered and final_generator is not None and not self.account.interrupted:
            plan.on_step("running the final operations")
            await runner.run(final_generator)
        plan.on_step("reading every member's final state")
        final = await self._read_members(sampler, final)
        plan.run.write_json(plan.run.final, final)

    async def _set_up_clients(self) -> None:
        client = await self._plan.binding.open(0, self._plan.cluster.nodes[0])
        try:
            async with asyncio.timeout(_SET_UP_BOUND_S):
                await client.setup()
        finally:
            await client.close()

    async def _await_recovery(self, runner: Runner, lag: LagMonitor) -> FinalState:
        """Ask every member for a linearizable read until all answer, or the bound is over."""
        health = _need(self._plan.cluster, Health)
        loop = asyncio.get_running_loop()
        started_s, started_ns = loop.time(), runner.now_ns()
        while True:
            unready = await health.unready(self._plan.cluster.nodes)
            waited_s = loop.time() - started_s
            if not unready or waited_s > RECOVERY_BOUND_S:
                return FinalState(
                    recovered=not unready,
                    recovery_s=round(waited_s, 3),
                    recovery_bound_s=RECOVERY_BOUND_S,
                    not_recovered=unready,
                    stalls_ms=lag.stalls_since(started_ns),
                )
            await asyncio.sleep(_POLL_S)

    async def _read_members(self, sampler: Sampler, final: FinalState) -> FinalState:
        """Wait until all members have applied the same log and two samples are equal, then read each one's state."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + SETTLE_BOUND_S
        settled = False
        before: dict[str, tuple[int | None, int | None]] = {}
        while not settled and loop.time() < deadline_s:
            sample = await sampler.sample_once()
            now = {} if sample is None else {n: (m.revision, m.applied_index) for n, m in sample.members.items()}
            applied = {index for _, index in now.values()}
            settled = now == before and len(applied) == 1 and None not in applied
            before = now
            if not settled:
                await asyncio.sleep(_POLL_S)
        members: dict[str, MemberReading] = await _need(self._plan.cluster, Health).readings(())
        archivist = self._plan.cluster.capability(Archivist)
        if archivist is not None:
            answering = [node for node, reading in members.items() if reading.error is None]
            await archivist.finish(answering, timeout_s=ARCHIVE_BOUND_S)
        return FinalState(
            recovered=final.recovered,
            recovery_s=final.recovery_s,
            recovery_bound_s=final.recovery_bound_s,
            settled=settled,
            members=members,
            not_recovered=final.not_recovered,
            stalls_ms=final.stalls_ms,
        )

    def _fail(self, failure: BaseException) -> None:
        if self.account.failure is None:
            self.account.failure = failure


def _need(cluster: Cluster, kind: type[C]) -> C:
    capability = cluster.capability(kind)
    if capability is None:
        raise SplitvoteError(f"the {cluster.name} cluster lacks {kind.__name__}, which every run needs")
    return capability


def _note_key(seen: dict[str | None, dict[Any, None]], op: Op) -> None:
    if op.type == "invoke" and op.process != NEMESIS:
        keys = seen.setdefault(op.workload, {})
        if op.key is not None:
            keys[tuple(op.key) if isinstance(op.key, list) else op.key] = None


async def _end_archiving(archivist: Archivist, fail: Callable[[BaseException], None]) -> None:
    try:
        await archivist.stop()
    except SplitvoteError as failure:
        fail(failure)


async def _end_sampling(sampling: asyncio.Task[None], fail: Callable[[BaseException], None]) -> None:
    """End the sampler's task; if it had ended by itself (a full disk), say why."""
    sampling.cancel()
    (outcome,) = await asyncio.gather(sampling, return_exceptions=True)
    if isinstance(outcome, Exception):
        fail(outcome)


def _close_quietly(writer: JsonLinesWriter[Any], fail: Callable[[BaseException], None]) -> None:
    try:
        writer.close()
    except SplitvoteError as failure:
        fail(failure)
