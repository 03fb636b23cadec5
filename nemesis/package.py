"""The nemesis: serves start and stop operations, keeps the journal, heals everything at the end.

Operations, all of type info: ``start-<family>`` with a ``Request`` as value,
``stop-<family>`` (value None: every active fault of the family, or
``{"ids": [...]}``).  The completion's value tells the fault's id, kind,
targets, phase and proof.

What the cluster does is recorded, whatever it is: a fault whose effect does not
show is ``unproven``, a cluster that does not recover is told in the record.
NemesisError is raised only where our own side fails, and after the record was
written, so that the final heal knows of it.

Once no fault is active full health is required: every member serves a
linearizable read, and all name one leader.  The time from the beginning of the
undoing to that is ``observed["recovery_ms"]`` of the fault's last record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from splitvote.harness.cluster import Cluster, Health
from splitvote.harness.errors import ConfigError, EnvironmentFailure, NemesisError
from splitvote.harness.op import Op
from splitvote.harness.recording import FaultPhase, FaultRecord, MemberSample
from splitvote.nemesis.families import fault_of, find_fault
from splitvote.nemesis.fault import Fault, Plan, Request, Site, refusal, replan
from splitvote.nemesis.journal import Journal, open_faults
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.quorum import has_quorum, union

RECOVERY_BOUND_S: Final = 30.0
READ_TIMEOUT_S: Final = 1.0


@dataclass(slots=True)
class _Active:
    """A fault between its start and its proven end; ``record`` is the latest that was written."""

    fault: Fault
    plan: Plan
    record: FaultRecord


class HealReport(msgspec.Struct, frozen=True):
    """What the final heal did: the last record of each fault that was still open, and who did not recover."""

    records: tuple[FaultRecord, ...] = ()
    recovery_ms: float | None = None
    not_recovered: dict[str, str] = {}


class Nemesis:
    """One nemesis for any number of families; serves one operation at a time.

    ``faults`` are those it may start, by family (``Chosen.by_name``);
    ``now_ns`` is the run's clock.  ``close`` closes the journal.
    """

    def __init__(
        self,
        site: Site,
        faults: Mapping[str, Sequence[Fault]],
        journal: Journal,
        *,
        now_ns: Callable[[], int],
        recovery_bound_s: float = RECOVERY_BOUND_S,
    ) -> None:
        self._base = site
        self._faults = {family: tuple(kinds) for family, kinds in faults.items()}
        self._journal = journal
        self._now_ns = now_ns
        self._recovery_bound_s = recovery_bound_s
        self._active: dict[int, _Active] = {}
        self._doubtful: dict[int, _Active] = {}
        """Faults that were undone, but not proven to be: they are undone once more with the next of their family,
        and by the final heal; until then their effect may last."""
        self._next_id = 1

    async def setup(self) -> None:
        """Check that the cluster can do every fault; raises ConfigError."""
        cluster = self._base.cluster
        for fault in (fault for kinds in self._faults.values() for fault in kinds):
            if (reason := refusal(fault, cluster)) is not None:
                raise ConfigError(f"the {cluster.name} cluster cannot do {fault.family}:{fault.name}: {reason}")

    @property
    def active(self) -> tuple[FaultRecord, ...]:
        """The latest record of each fault that has not ended, in the order they began."""
        return tuple(active.record for active in self._active.values())

    def adopt(self, records: Iterable[FaultRecord]) -> None:
        """Take over faults that an earlier nemesis left open, so that ``heal`` undoes them."""
        for record in records:
            self._active[record.id] = _Active(fault_of(record), Plan(record.targets, record.plan), record)
            self._next_id = max(self._next_id, record.id + 1)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    async def invoke(self, op: Op) -> Op:
        """Serve ``start-<family>`` or ``stop-<family>``; every wait is bounded."""
        verb, _, family = op.f.partition("-")
        if verb == "start":
            return op.completed("info", value=await self._start(family, op.value))
        if verb == "stop":
            return op.completed("info", value=await self._stop(family, op.value))
        raise NemesisError(f"the nemesis cannot do {op.f!r}; its operations are start-<family> and stop-<family>")

    # Starting

    async def _start(self, family: str, value: Any) -> dict[str, Any]:
        try:
            request = msgspec.convert(value, Request)
        except msgspec.ValidationError as problem:
            raise NemesisError(f"start-{family} cannot be asked {value!r}: {problem}") from None
        fault = find_fault(family, request.kind, self._faults)
        site = self._site()
        plan = await (fault.plan(request, site) if request.detail is None else replan(request, site))
        if not plan.targets:
            return {"kind": fault.name, "targets": [], "skipped": plan.skipped}
        active = self._enter(fault, plan)
        try:
            proof = await fault.prove_start(plan, site, await fault.start(plan, site))
        except NemesisError as failure:
            self._note(active, "unproven", error=str(failure))
            raise
        self._note(active, "active" if proof.holds else "unproven", proof)
        return _summary(active.record)

    def _enter(self, fault: Fault, plan: Plan) -> _Active:
        """Put the fault into the journal before anything is touched."""
        unended = (*self._doubtful.values(), *self._active.values())
        effects = [active.fault.effect(active.plan) for active in unended]
        record = FaultRecord(
            id=self._next_id,
            family=fault.family,
            fault=fault.name,
            phase="starting",
            time_ns=self._now_ns(),
            targets=plan.targets,
            plan=plan.detail,
            affects_quorum=not has_quorum(self._base.nodes, union((*effects, fault.effect(plan)))),
        )
        self._next_id += 1
        self._journal.note(record)
        self._active[record.id] = active = _Active(fault, plan, record)
        return active

    # Stopping

    async def _stop(self, family: str, value: Any) -> dict[str, Any]:
        unended = {**self._doubtful, **self._active}
        wanted = set(value.get("ids", unended)) if isinstance(value, dict) else set(unended)
        chosen = [active for active in unended.values() if active.fault.family == family and active.record.id in wanted]
        records = [await self._end(active) for active in chosen]
        if len(records) == 1:
            return _summary(records[0])
        return {"healed": [_summary(record) for record in records]}

    async def _end(self, active: _Active) -> FaultRecord:
        """Undo one fault and prove its end; wait for full health where it was the last."""
        started_s = asyncio.get_running_loop().time()
        self._note(active, "healing")
        site = self._site(without=active)
        try:
            proof = await active.fault.prove_stop(active.plan, site, await active.fault.stop(active.plan, site))
        except NemesisError as failure:
            self._note(active, "heal_unproven", error=str(failure))
            raise
        ended_ns = self._now_ns()
        for unended in (self._active, self._doubtful):
            unended.pop(active.record.id, None)
        if not proof.holds:
            self._doubtful[active.record.id] = active
        others = [number for number in (*self._active, *self._doubtful) if number != active.record.id]
        recovery = {} if others else await self._recovery(started_s, self._recovery_bound_s)
        self._note_end(active, proof, recovery, ended_ns)
        return active.record

    async def heal(self, deadline_s: float) -> HealReport:
        """Undo every fault whose end is not proven, prove it, and wait for full health, all within the deadline.

        Nothing that fails keeps the other faults from being undone, be it a
        fault's undoing or the journal on a full disk; the first failure is
        raised when all is done.
        """
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        chosen = [*self._doubtful.values(), *self._active.values()]
        failures: list[Exception] = []
        recovery: dict[str, Any] = {}
        try:
            async with asyncio.timeout(deadline_s):
                proofs = await self._undo_twice(chosen, failures)
                if chosen:
                    left_s = max(0.0, started_s + deadline_s - loop.time())
                    recovery = await self._recovery(started_s, min(self._recovery_bound_s, 0.9 * left_s))
        except TimeoutError:
            proofs = [Proof(False, f"not healed within the deadline of {deadline_s:g} s")] * len(chosen)
        for active, proof in zip(chosen, proofs, strict=True):
            try:
                self._note_end(active, proof, recovery, self._now_ns())
            except EnvironmentFailure as failure:
                failures.append(failure)
            if proof.holds:
                self._active.pop(active.record.id, None)
                self._doubtful.pop(active.record.id, None)
        if failures:
            raise failures[0]
        return HealReport(tuple(active.record for active in chosen), **recovery)

    async def _undo_twice(self, chosen: Sequence[_Active], failures: list[Exception]) -> list[Proof]:
        """Undo all, and those once more whose end does not show: what was undone after them may have kept them from it.

        A member is added only where all others run, a node started only where it is a member.
        """
        first: list[Exception] = []
        proofs = await self._undo(chosen, first)
        again = [place for place, proof in enumerate(proofs) if not proof.holds]
        if not again:
            failures += first
            return proofs
        failures += [failure for failure in first if isinstance(failure, EnvironmentFailure)]
        for place, proof in zip(again, await self._undo([chosen[place] for place in again], failures), strict=True):
            proofs[place] = proof
        return proofs

    async def _undo(self, chosen: Sequence[_Active], failures: list[Exception]) -> list[Proof]:
        """Undo all, the latest first; then prove each end."""
        site = self._base.beside(())  # nothing is to be left of any fault
        seen = {}
        for active in reversed(chosen):
            try:
                self._note(active, "healing")
            except EnvironmentFailure as failure:
                failures.append(failure)
            try:
                seen[active.record.id] = await active.fault.stop(active.plan, site)
            except Exception as failure:
                failures.append(failure)

        async def prove(active: _Active) -> Proof:
            if active.record.id not in seen:
                return Proof(False, "it could not be undone")
            try:
                return await active.fault.prove_stop(active.plan, site, seen[active.record.id])
            except Exception as failure:
                failures.append(failure)
                return Proof(False, str(failure))

        return await asyncio.gather(*map(prove, chosen))

    # What is left

    def _site(self, without: _Active | None = None) -> Site:
        """The cluster under all faults but one that are active, or may be for all that was seen."""
        others = (active for active in (*self._doubtful.values(), *self._active.values()) if active is not without)
        return self._base.beside(active.fault.effect(active.plan) for active in others)

    async def _recovery(self, since_s: float, bound_s: float) -> dict[str, Any]:
        """Wait for full health; how long it took since ``since_s``, or who has not recovered within the bound."""
        health = self._base.cluster.capability(Health)
        if health is None:
            return {}

        async def look() -> Proof:
            unready = await health.unready(self._base.nodes, timeout_s=READ_TIMEOUT_S)
            return _agreed(await self._base.samples()) if not unready else Proof(False, "", dict(unready))

        proof = await await_proof(look, what="full health", bound_s=bound_s)
        if not proof.holds:
            return {"not_recovered": proof.observed}
        return {"recovery_ms": round(1e3 * (asyncio.get_running_loop().time() - since_s), 1)}

    # The journal

    def _note(
        self,
        active: _Active,
        phase: FaultPhase,
        proof: Proof | None = None,
        *,
        error: str | None = None,
        time_ns: int | None = None,
    ) -> None:
        active.record = msgspec.structs.replace(
            active.record,
            phase=phase,
            time_ns=self._now_ns() if time_ns is None else time_ns,
            proof=proof.words if proof else None,
            observed=proof.observed if proof else {},
            error=error,
        )
        self._journal.note(active.record)

    def _note_end(self, active: _Active, proof: Proof, recovery: dict[str, Any], time_ns: int) -> None:
        """Write the last phase: whether the effect is gone, and how the cluster recovered."""
        told = Proof(True, _recovery_words(recovery), recovery)
        self._note(active, "healed" if proof.holds else "heal_unproven", proof & told, time_ns=time_ns)


def _agreed(samples: Mapping[str, MemberSample]) -> Proof:
    """Every member that can be asked answers and names the same leader."""
    wrong = {node: sample.error or "knows no leader" for node, sample in samples.items() if sample.leader is None}
    if not wrong and len({sample.leader for sample in samples.values()}) > 1:
        wrong = {node: f"takes {sample.leader} for the leader" for node, sample in samples.items()}
    return Proof(not wrong, "", wrong)


def _recovery_words(recovery: dict[str, Any]) -> str:
    if "recovery_ms" in recovery:
        return (
            f"every member serves again and names the same leader, {recovery['recovery_ms']:g} ms after the end began"
        )
    missing = recovery.get("not_recovered", {})
    return (
        "the cluster did not recover: " + ", ".join(f"{node} ({why})" for node, why in missing.items())
        if missing
        else ""
    )


def _summary(record: FaultRecord) -> dict[str, Any]:
    """A completion's value."""
    told = {"id": record.id, "kind": record.fault, "targets": list(record.targets), "phase": record.phase}
    return told | {"proof": record.proof} | {k: record.observed[k] for k in _TOLD if k in record.observed}


_TOLD: Final = ("recovery_ms", "not_recovered")


async def heal_open(cluster: Cluster, path: Path, deadline_s: float) -> HealReport:
    """Undo on this cluster what a journal's nemesis left behind, adding the ends to the journal.

    The run's clock is gone: it goes on from the latest time in the journal.
    """
    loop = asyncio.get_running_loop()
    records = open_faults(path)
    origin_s = loop.time() - max((record.time_ns for record in records), default=0) / 1e9
    journal = Journal(path)
    nemesis = Nemesis(Site(cluster), {}, journal, now_ns=lambda: int((loop.time() - origin_s) * 1e9))
    try:
        nemesis.adopt(records)
        return await nemesis.heal(deadline_s)
    finally:
        nemesis.close()
