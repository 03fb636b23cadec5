"""More of an operator's calls (family ``admin``): a snapshot saved, no space left, auth switched on and off.

Proof of effect: as many bytes came as the member had announced, and their own
digest fits; every member that must serve knows of the alarm; it refuses a
caller without a user.  Proof of the end: none of them does any more.

While a cluster has no space left, clients' writes fail with an error after
which they may have happened; while it asks for users, clients, which have none,
are refused before anything is done.  Both are active for a moment only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from splitvote.harness.cluster import Auth, Cluster, Upkeep
from splitvote.harness.errors import NemesisError
from splitvote.nemesis.admin import FAMILY, AdminCall
from splitvote.nemesis.fault import Plan, Request, Seen, Site, aim_at_serving, insist, lacking
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.quorum import Effect

SNAPSHOT_TIMEOUT_S: Final = 20.0
CALL_BOUND_S: Final = 15.0
KNOWN_BOUND_S: Final = 15.0
READ_TIMEOUT_S: Final = 1.0
RETRY_S: Final = 0.3

Act = Callable[[Plan, Site], Awaitable[None]]
Look = Callable[[Site], Awaitable[Mapping[str, str | None]]]
"""What each member that answers says of the fault's being on; None when it is not, there."""


# Snapshots.


async def _save_snapshots(plan: Plan, site: Site) -> Seen:
    upkeep = site.need(Upkeep)
    saves = (upkeep.save_snapshot(node, timeout_s=SNAPSHOT_TIMEOUT_S) for node in plan.targets)
    try:
        return {"snapshots": dict(zip(plan.targets, await asyncio.gather(*saves), strict=True))}
    except NemesisError as refusal:
        return {"refusal": str(refusal)}


async def _prove_snapshots(plan: Plan, site: Site, seen: Seen) -> Proof:
    if "refusal" in seen:
        return Proof(False, seen["refusal"])
    wrong, words = [], []
    for node, snapshot in seen["snapshots"].items():
        is_whole = 0 < snapshot.size_bytes == snapshot.announced_bytes and snapshot.is_intact
        wrong += [] if is_whole else [node]
        digest = "its digest fits" if snapshot.is_intact else "its digest does not fit"
        words.append(f"{node} sent {snapshot.size_bytes} of {snapshot.announced_bytes} bytes announced, {digest}")
    sizes = {node: snapshot.size_bytes for node, snapshot in seen["snapshots"].items()}
    return Proof(not wrong, "; ".join(words), {"snapshot_bytes": sizes})


SAVE_SNAPSHOT: Final = AdminCall(
    "save_snapshot",
    "have members send their whole database, and check it",
    aim_at_serving,
    _save_snapshots,
    _prove_snapshots,
    needs=(Upkeep,),
    selections=("one", "primaries"),
)


# What is switched on for the whole cluster, and off again.


@dataclass(frozen=True, slots=True)
class Switch:
    """Something that makes the whole cluster refuse requests; ``look`` says who does so."""

    name: str
    summary: str
    on: Act
    off: Act
    look: Look
    needs: type[Any]
    selections: tuple[str, ...] = ()
    family: str = FAMILY
    is_brief: bool = True

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        return lacking(cluster, (self.needs,))

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``; one node is named in it, though it meets all of them."""
        if not site.has_quorum:
            return Plan((), skipped="the other faults leave no quorum to do it")
        aimed = await aim_at_serving(request, site)
        return Plan(tuple(site.nodes) if aimed.targets else (), aimed.detail | {"by": list(aimed.targets)})

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``."""
        return Effect(strained=plan.targets)

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        return await _switched(self.on, plan, site)

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        return await self._prove(site, seen, is_on=True)

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        return await _switched(self.off, plan, site)

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        return await self._prove(site, seen, is_on=False)

    async def _prove(self, site: Site, seen: Seen, *, is_on: bool) -> Proof:
        if "refusal" in seen:
            return Proof(False, seen["refusal"])

        async def look() -> Proof:
            told = await self.look(site)
            wrong = [node for node in site.nodes if site.must_serve(node) and (told.get(node) is not None) is not is_on]
            says = {node: told.get(node) or "serves as ever" for node in told}
            words = "; ".join(f"{node}: {what}" for node, what in says.items())
            return Proof(not wrong, words, {"says": says})

        return await await_proof(look, what=f"{self.name} {'on' if is_on else 'off'}", bound_s=KNOWN_BOUND_S)


async def _switched(act: Act, plan: Plan, site: Site) -> Seen:
    """Do it until the cluster has it, or tell what it said when the bound is over."""
    try:
        await insist(lambda: act(plan, site), bound_s=CALL_BOUND_S, retry_s=RETRY_S)
    except NemesisError as refusal:
        return {"refusal": f"not within {CALL_BOUND_S:g} s: {refusal}"}
    return {}


async def _raise_no_space(plan: Plan, site: Site) -> None:
    await site.need(Upkeep).raise_no_space(plan.detail["by"][0])


async def _disarm(plan: Plan, site: Site) -> None:
    await site.need(Upkeep).disarm()


async def _alarms(site: Site) -> Mapping[str, str | None]:
    alarms = await site.need(Upkeep).alarms(timeout_s=READ_TIMEOUT_S)
    return {node: ", ".join(known) or None for node, known in alarms.items()}


async def _auth_on(plan: Plan, site: Site) -> None:
    await site.need(Auth).enable()


async def _auth_off(plan: Plan, site: Site) -> None:
    await site.need(Auth).disable()


async def _refusals(site: Site) -> Mapping[str, str | None]:
    return await site.need(Auth).refusals(timeout_s=READ_TIMEOUT_S)


UPKEEP: Final = (
    SAVE_SNAPSHOT,
    Switch(
        "no_space",
        "raise the alarm that a member has no space left, upon which all refuse to grow",
        _raise_no_space,
        _disarm,
        _alarms,
        Upkeep,
    ),
    Switch("auth", "ask every caller for a user, which clients have not", _auth_on, _auth_off, _refusals, Auth),
)
