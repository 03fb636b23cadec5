"""Faults inside the binary: points where it was built to fail (gofail), switched on and off.

A binary without such points has this family refused, naming what provides it.
Which points there are is asked when the fault is planned; the choice and its
terms are in the plan.

Proof of effect: the member's own list has the point with these terms; of a
panic, that its process ends by itself.  Proof of the end: the point is off, and
the member runs and serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from splitvote.harness.cluster import Cluster, Process, ProcessState
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import Failpoints
from splitvote.nemesis.fault import Plan, Request, Seen, Site, aim_at_serving
from splitvote.nemesis.process import prove_up
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.quorum import Effect
from splitvote.nemesis.targets import between, fraction

REACHED_BOUND_S: Final = 20.0
"""How long a point that panics may take to be come by."""

KNOWN_BOUND_S: Final = 5.0
SLEEP_MS: Final = (20, 500)
FAMILY: Final = "failpoint"


@dataclass(frozen=True, slots=True)
class FailpointFault:
    """One point by chance, with terms that the kind gives; ``sleeps`` for a time that is drawn, else it panics."""

    name: str
    summary: str
    sleeps: bool
    selections: tuple[str, ...] = ("one", "primaries")
    family: str = FAMILY
    is_brief: bool = False

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        if cluster.capability(Failpoints) is None or cluster.capability(Process) is None:
            return "its binary has no failpoints (Failpoints): give --etcd one built with gofail (make gofail-enable)"
        return None

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``; a point that every target has, in the order of their names."""
        aimed = await aim_at_serving(request, site)
        known = [set(await _known(node, site)) for node in aimed.targets]
        points = sorted(set.intersection(*known)) if known else []
        if not points:
            return Plan((), aimed.detail, "the binary of the nodes it could hit has no point")
        point = points[int(fraction(request.pick, 0) * len(points))]
        terms = f"sleep({int(between(request.pick, 1, SLEEP_MS))})" if self.sleeps else "panic"
        return Plan(aimed.targets, aimed.detail | {"point": point, "terms": terms})

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``."""
        return Effect(strained=plan.targets) if self.sleeps else Effect(down=plan.targets)

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``; that a point cannot be switched on is told, be it that the member is gone."""
        try:
            for node in plan.targets:
                await site.need(Failpoints).enable(node, plan.detail["point"], plan.detail["terms"])
        except NemesisError as refusal:
            return {"refusal": str(refusal)}
        return {}

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        if "refusal" in seen:
            return Proof(False, seen["refusal"])
        return await (self._prove_terms(plan, site) if self.sleeps else self._prove_ended(plan, site))

    async def _prove_terms(self, plan: Plan, site: Site) -> Proof:
        point, terms = plan.detail["point"], plan.detail["terms"]

        async def look() -> Proof:
            has = {node: (await _known(node, site)).get(point) for node in plan.targets}
            words = ", ".join(f"{node} has {point}={found or 'off'}" for node, found in has.items())
            return Proof(all(found == terms for found in has.values()), words, {"terms": has})

        return await await_proof(look, what=f"{point} on", bound_s=KNOWN_BOUND_S)

    async def _prove_ended(self, plan: Plan, site: Site) -> Proof:
        async def look() -> Proof:
            states = {node: await site.need(Process).state(node) for node in plan.targets}
            ended = all(state is ProcessState.STOPPED for state in states.values())
            words = ", ".join(f"{node} {state}" for node, state in states.items())
            return Proof(ended, f"{words} after {plan.detail['point']} was to panic", {"states": states})

        return await await_proof(look, what=f"a panic at {plan.detail['point']}", bound_s=REACHED_BOUND_S)

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``; points are off in a process that is started anew."""
        process = site.need(Process)
        for node in plan.targets:
            if await process.state(node) is ProcessState.RUNNING:
                try:
                    await site.need(Failpoints).disable(node, plan.detail["point"])
                except NemesisError:
                    if await process.state(node) is ProcessState.RUNNING:
                        raise
            if node not in site.others.down:
                await process.start(node)
        return {}

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        back = await prove_up(plan.targets, site)
        on = [node for node in site.spared(plan.targets) if (await _known(node, site)).get(plan.detail["point"])]
        words = f"{plan.detail['point']} still on on {', '.join(on)}" if on else f"{plan.detail['point']} off"
        return back & Proof(not on, words)


async def _known(node: str, site: Site) -> dict[str, str]:
    """The member's points; none when it does not answer."""
    try:
        return dict(await site.need(Failpoints).known(node))
    except NemesisError:
        return {}


FAILPOINT: Final = (
    FailpointFault("sleep", "have a point inside the binary take its time, whenever it is come by", sleeps=True),
    FailpointFault("panic", "have the binary panic at a point inside it", sleeps=False),
)
