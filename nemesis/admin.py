"""The operator's calls that hurt: compact, defragment, move the leader, and a crash in the middle of one.

Proof of effect: every member that must serve reports the new compact revision;
the member that was defragmented answered, with its database's size before and
after; the leader is the one it was moved to; the crashed processes are gone.
These do their harm when they start; there is nothing to undo but the crashes.

A call that the cluster refuses is a finding about the cluster, so that its
error goes into the proof that does not hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitvote.harness.cluster import Admin, Cluster, Health, Process, ProcessState, Roles
from splitvote.harness.errors import NemesisError
from splitvote.nemesis.fault import (
    Plan,
    Request,
    Seen,
    Site,
    aim,
    aim_at_serving,
    find_leader,
    lacking,
    prove_new_leader,
)
from splitvote.nemesis.process import kill, prove_down, prove_up, restart
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.quorum import NO_EFFECT, Effect
from splitvote.nemesis.targets import choose, fraction

COMPACT_BOUND_S: Final = 20.0
MOVE_BOUND_S: Final = 20.0
DEFRAGMENT_TIMEOUT_S: Final = 20.0
CALL_BOUND_S: Final = 5.0
"""How long a call that a crash interrupted may take to fail."""

MOST_KEPT_REVISIONS: Final = 100
LATEST_CRASH_S: Final = 0.060
READINGS_TIMEOUT_S: Final = 1.0
PROBE_KEY: Final = "splitvote/compaction"
"""Never written; readings want a key, so as not to read the whole store."""

FAMILY: Final = "admin"

Decide = Callable[[Request, Site], Awaitable[Plan]]
Act = Callable[[Plan, Site], Awaitable[Seen]]
Prove = Callable[[Plan, Site, Seen], Awaitable[Proof]]


@dataclass(frozen=True, slots=True)
class AdminCall:
    """One call, and how its effect is seen; nothing is left to undo."""

    name: str
    summary: str
    decide: Decide
    act: Act
    prove: Prove
    needs: tuple[type[Any], ...]
    least_nodes: int = 1
    selections: tuple[str, ...] = ()
    family: str = FAMILY
    is_brief: bool = True

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        if len(cluster.nodes) < self.least_nodes:
            return f"it has {len(cluster.nodes)} nodes where {self.least_nodes} are needed"
        return lacking(cluster, self.needs)

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``."""
        return await self.decide(request, site)

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``."""
        return NO_EFFECT

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        return await self.act(plan, site)

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        return await self.prove(plan, site, seen)

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        return {}

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        return Proof(True, "nothing to undo")


# Compaction.


_NO_QUORUM: Final = Plan((), skipped="the other faults leave no quorum to do it")


async def _plan_compact(request: Request, site: Site) -> Plan:
    if not site.has_quorum:
        return _NO_QUORUM
    keep = int(fraction(request.pick, 0) * MOST_KEPT_REVISIONS)
    return Plan(tuple(site.nodes), {"pick": request.pick, "keep": keep})


async def _compact(plan: Plan, site: Site) -> Seen:
    admin = site.need(Admin)
    try:
        revision = await admin.compact(keep=plan.detail["keep"])
        return {"revision": revision or await admin.compact()}  # a young store has no more than is to be kept
    except NemesisError as refusal:
        return {"refusal": str(refusal)}


async def _prove_compact(plan: Plan, site: Site, seen: Seen) -> Proof:
    if not seen.get("revision"):
        return Proof(False, seen.get("refusal") or "there was nothing to compact", dict(seen))
    revision: int = seen["revision"]

    async def look() -> Proof:
        readings = await site.need(Health).readings((PROBE_KEY,), timeout_s=READINGS_TIMEOUT_S)
        compacted = {node: reading.compact_revision for node, reading in readings.items()}
        behind = [node for node, at in compacted.items() if site.must_serve(node) and (at is None or at < revision)]
        words = f"compacted to revision {revision}, says {', '.join(node for node in compacted if node not in behind)}"
        if behind:
            words += f"; not yet {', '.join(behind)}"
        return Proof(not behind, words, {"revision": revision, "compact_revisions": compacted})

    return await await_proof(
        look, what=f"compact revision {revision} on every member", bound_s=COMPACT_BOUND_S, poll_s=0.3
    )


# Defragmentation.


async def _sizes(plan: Plan, site: Site) -> dict[str, int | None]:
    samples = await site.samples()
    return {node: samples[node].db_bytes for node in plan.targets if node in samples}


async def _defragment(plan: Plan, site: Site) -> Seen:
    admin = site.need(Admin)
    loop = asyncio.get_running_loop()
    before, started_s = await _sizes(plan, site), loop.time()
    try:
        await asyncio.gather(*(admin.defragment(node, timeout_s=DEFRAGMENT_TIMEOUT_S) for node in plan.targets))
    except NemesisError as refusal:
        return {"refusal": str(refusal)}
    return {"bytes_before": before, "took_ms": round(1e3 * (loop.time() - started_s), 1)}


async def _prove_defragment(plan: Plan, site: Site, seen: Seen) -> Proof:
    if "refusal" in seen:
        return Proof(False, seen["refusal"], dict(seen))
    before, after = seen["bytes_before"], await _sizes(plan, site)
    sizes = ", ".join(f"{node}'s database went from {before.get(node)} to {after.get(node)} bytes" for node in after)
    return Proof(True, f"it answered after {seen['took_ms']:g} ms; {sizes}", seen | {"bytes_after": after})


# Leader transfer.


async def _plan_move(request: Request, site: Site) -> Plan:
    if not site.has_quorum:
        return _NO_QUORUM
    leader, term = await find_leader(site)
    others = [node for node in site.nodes if node != leader and site.must_serve(node)]
    targets = request.targets or choose("one", site.nodes, request.pick, among=others)
    return Plan(tuple(targets[:1]), {"pick": request.pick, "leader": leader, "term": term})


async def _move(plan: Plan, site: Site) -> Seen:
    return {}


async def _prove_move(plan: Plan, site: Site, seen: Seen) -> Proof:
    """Ask until the target leads: a transfer may time out, and another election come between."""
    target = plan.targets[0]
    refusals = 0

    async def look() -> Proof:
        nonlocal refusals
        words = ""
        try:
            await site.need(Admin).move_leader(target)
        except NemesisError as refusal:
            refusals += 1
            words = f" ({refusal})"
        now = await site.need(Roles).leader()
        told = f"{plan.detail['leader']} led, {now or 'nobody'} leads after {refusals} refusals{words}"
        return Proof(
            now == target, told, {"old_leader": plan.detail["leader"], "new_leader": now, "refusals": refusals}
        )

    return await await_proof(look, what=f"{target} as the leader", bound_s=MOVE_BOUND_S, poll_s=0.3)


async def _plan_aimed(request: Request, site: Site) -> Plan:
    return await aim_at_serving(request, site)


# Crashes in the middle of a call.


@dataclass(frozen=True, slots=True)
class CrashDuring:
    """SIGKILL 0-60 ms (by ``pick``) after a call was sent; the end is a restart."""

    name: str
    summary: str
    call: Callable[[Admin, Sequence[str]], Awaitable[Any]]
    selections: tuple[str, ...] = ("one", "primaries", "minority", "all")
    family: str = FAMILY
    is_brief: bool = True

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        return lacking(cluster, (Admin, Process))

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``."""
        aimed = await aim(request, site)
        crash_ms = round(1e3 * LATEST_CRASH_S * fraction(request.pick, 0), 2)
        return Plan(aimed.targets, aimed.detail | {"crash_ms": crash_ms})

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``."""
        return Effect(down=plan.targets)

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        calling = asyncio.ensure_future(_outcome(self.call(site.need(Admin), plan.targets)))
        try:
            await asyncio.sleep(plan.detail["crash_ms"] / 1e3)
            in_flight = not calling.done()
            await kill(site.need(Process), plan.targets)
            async with asyncio.timeout(CALL_BOUND_S):
                answer = await calling
        except TimeoutError:
            answer = f"no answer within {CALL_BOUND_S:g} s"
        finally:
            calling.cancel()
        return {"in_flight": in_flight, "call": answer}

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        when = "in the middle of the call" if seen["in_flight"] else "after the call had been answered"
        sent = Proof(True, f"SIGKILL {plan.detail['crash_ms']:g} ms after it was sent, {when}", dict(seen))
        down = sent & await prove_down(plan.targets, site, ProcessState.STOPPED)
        return down & await prove_new_leader(plan, site, self.effect(plan)) if down.holds else down

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        await restart(site.need(Process), site.spared(plan.targets))
        return {}

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        return await prove_up(plan.targets, site)


async def _outcome(call: Awaitable[Any]) -> str:
    """How a call ended, in words: it was meant to be cut short."""
    try:
        await call
    except NemesisError as refusal:
        return str(refusal)
    return "answered"


async def _compact_all(admin: Admin, targets: Sequence[str]) -> None:
    await admin.compact()


async def _defragment_all(admin: Admin, targets: Sequence[str]) -> None:
    calls = (admin.defragment(node, timeout_s=CALL_BOUND_S) for node in targets)
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


ADMIN: Final = (
    AdminCall(
        "compact",
        "forget the history up to some of the latest revisions",
        _plan_compact,
        _compact,
        _prove_compact,
        needs=(Admin, Health),
    ),
    AdminCall(
        "defragment",
        "rewrite a member's database, which serves nothing meanwhile",
        _plan_aimed,
        _defragment,
        _prove_defragment,
        needs=(Admin,),
        selections=("one", "primaries"),
    ),
    AdminCall(
        "move_leader",
        "have the leader hand over to another member",
        _plan_move,
        _move,
        _prove_move,
        needs=(Admin, Roles),
        least_nodes=2,
    ),
    CrashDuring("crash_during_compaction", "kill members within 60 ms after a compaction was asked for", _compact_all),
    CrashDuring(
        "crash_during_defragment", "kill members within 60 ms after they were asked to defragment", _defragment_all
    ),
)
