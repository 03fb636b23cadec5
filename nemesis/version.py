"""Faults of the version: nodes stopped in order and started with another binary, and back again.

One node after another, and the next only when the one before serves again, as
an operator rolls an upgrade.  While it is held the cluster runs the other
version, or both of them side by side.

Proof of effect, and of its end: every target's own answer tells the version,
and it serves linearizable reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from splitvote.harness.cluster import Cluster, Process, Versions
from splitvote.nemesis.fault import Plan, Request, Seen, Site, aim_at_serving, missing
from splitvote.nemesis.process import prove_up, stop, stopped
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.quorum import NO_EFFECT, Effect, has_quorum

SAYS_BOUND_S: Final = 20.0
READ_TIMEOUT_S: Final = 1.0
FAMILY: Final = "version"


@dataclass(frozen=True, slots=True)
class VersionFault:
    """Targets moved to another version, and back."""

    name: str
    summary: str
    selections: tuple[str, ...]
    family: str = FAMILY
    is_brief: bool = False

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        if names := missing(cluster, (Versions, Process)):
            return f"it has no second version to start nodes with ({', '.join(names)}); --upgrade names one"
        return None

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``; the other version is the newest of those that none of the targets runs."""
        aimed = await aim_at_serving(request, site)
        versions = site.need(Versions)
        before = {node: versions.in_use(node) for node in aimed.targets}
        others = [version for version in versions.available if version not in before.values()]
        detail = aimed.detail | {"from": before, "to": others[-1] if others else versions.available[-1]}
        targets = tuple(node for node in aimed.targets if before[node] != detail["to"])
        return Plan(targets, detail, "every node it could hit runs that version, or is kept from serving")

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``; nodes are away one at a time, and only while it begins and ends."""
        return NO_EFFECT

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``; a member that has ended by itself before is left as it is."""
        process = site.need(Process)
        if ended := await stopped(process, plan.targets):
            return {"failure": f"had ended before: {', '.join(ended)}"}
        return await _roll(dict.fromkeys(plan.targets, plan.detail["to"]), site)

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        return await _prove(dict.fromkeys(plan.targets, plan.detail["to"]), site, seen)

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        return await _roll(_before(plan), site)

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        return await _prove(_before(plan), site, seen)


def _before(plan: Plan) -> dict[str, str]:
    return {node: plan.detail["from"][node] for node in plan.targets}


async def _roll(wanted: Mapping[str, str], site: Site) -> Seen:
    """Bring each node to its version, one after another; ends at the first that does not come back."""
    versions, process = site.need(Versions), site.need(Process)
    for node in site.spared(wanted):
        running = (await versions.running(timeout_s=READ_TIMEOUT_S)).get(node)
        if running == wanted[node] == versions.in_use(node):
            continue
        if running is not None and not has_quorum(site.nodes, site.others | Effect(down=(node,))):
            return {"failure": f"{node} cannot be stopped while other faults leave no majority without it"}
        await stop(process, (node,))
        await versions.use(node, wanted[node])
        await process.start(node)
        back = await prove_up((node,), site)
        if not back.holds:
            return {"failure": f"with {wanted[node]}: {back.words}"}
    return {}


async def _prove(wanted: Mapping[str, str], site: Site, seen: Seen) -> Proof:
    if "failure" in seen:
        return Proof(False, seen["failure"])
    held = site.spared(wanted)

    async def look() -> Proof:
        running = await site.need(Versions).running(timeout_s=READ_TIMEOUT_S)
        says = {node: running.get(node) for node in held}
        words = ", ".join(f"{node} says {version or 'nothing'}" for node, version in says.items())
        return Proof(all(says[node] == wanted[node] for node in held), words, {"versions": says})

    told = await await_proof(look, what="the other version", bound_s=SAYS_BOUND_S)
    return told & await prove_up(held, site) if told.holds else told


VERSION: Final = (
    VersionFault("rolling", "bring every node to another version, one after another, and back", ("all",)),
    VersionFault("mixed", "bring some nodes to another version, and back", ("one", "primaries", "minority")),
)
