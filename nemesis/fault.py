"""What a fault is: a plan, a start and a stop, each with a proof of its effect.

A fault is a stateless value.  All it needs to be undone, perhaps by another
process, is in its plan, which is on disk before ``start`` is called; what
``start`` and ``stop`` return is for the proof that follows at once.

A fault hurts through capabilities only, and judges nothing: a cluster that does
not behave makes a proof that does not hold.  NemesisError is for when *we*
could not do what we wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import msgspec

from splitvote.harness.cluster import Boundaries, Cluster, Roles
from splitvote.harness.errors import NemesisError
from splitvote.harness.recording import MemberSample
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.quorum import NO_EFFECT, Effect, has_quorum, serving, union
from splitvote.nemesis.targets import choose

C = TypeVar("C")
T = TypeVar("T")

Seen = dict[str, Any]
"""What ``start`` or ``stop`` saw, for the proof that follows."""

ANSWER_TIMEOUT_S: Final = 1.0
LEADER_BOUND_S: Final = 5.0
"""How long a fault that aims at the leader waits for there to be one."""

NEW_LEADER_BOUND_S: Final = 20.0


class Request(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The value of a start operation: which fault of the family, whom to hit, and the number that stands for chance.

    ``select`` names a choice of nodes (``targets.SELECTIONS``); ``targets`` is
    a list of nodes instead of it.  With ``detail`` the fault is done to the
    targets as an earlier run's plan has it.
    """

    kind: str
    pick: int = 0
    select: str = "one"
    targets: tuple[str, ...] = ()
    detail: dict[str, Any] | None = None


class Plan(msgspec.Struct, frozen=True):
    """A fault decided upon: the nodes it aims at, and whatever else its start, stop and replay need (JSON).

    No targets means that there is nothing to be done now; ``skipped`` says why.
    """

    targets: tuple[str, ...]
    detail: dict[str, Any] = {}
    skipped: str = "every node it could hit is down already"


@dataclass(frozen=True, slots=True)
class Site:
    """Where faults strike: the cluster, and what the *other* active faults do to it."""

    cluster: Cluster
    others: Effect = NO_EFFECT

    @property
    def nodes(self) -> Sequence[str]:
        """All nodes."""
        return self.cluster.nodes

    def beside(self, others: Iterable[Effect]) -> Site:
        """The same cluster under these effects."""
        return Site(self.cluster, union(others))

    def need(self, kind: type[C]) -> C:
        """A capability; raises NemesisError when the cluster has it not."""
        capability = self.cluster.capability(kind)
        if capability is None:
            raise NemesisError(f"the {self.cluster.name} cluster lacks {kind.__name__}; choose other faults")
        return capability

    async def samples(self) -> dict[str, MemberSample]:
        """What every member says of itself; empty when the cluster cannot tell."""
        roles = self.cluster.capability(Roles)
        return {} if roles is None else await roles.sample(timeout_s=ANSWER_TIMEOUT_S)

    @property
    def has_quorum(self) -> bool:
        """Whether the other faults leave a quorum."""
        return has_quorum(self.nodes, self.others)

    def spared(self, nodes: Iterable[str]) -> list[str]:
        """Those of these nodes that no other fault holds down."""
        return [node for node in nodes if node not in self.others.down]

    def must_serve(self, node: str) -> bool:
        """Whether the other faults leave this node no excuse for not serving."""
        return node in serving(self.nodes, self.others)


class Fault(Protocol):
    """One kind of fault; see the module's docstring."""

    @property
    def family(self) -> str:
        """The family's name: operations are ``start-<family>`` and ``stop-<family>``."""
        ...

    @property
    def name(self) -> str:
        """The kind's name within the family."""
        ...

    @property
    def summary(self) -> str:
        """One line for people."""
        ...

    @property
    def selections(self) -> tuple[str, ...]:
        """Whom a schedule aims it at by default; empty when it has no choice."""
        ...

    @property
    def is_brief(self) -> bool:
        """Whether it does its harm when it starts, so that there is no use in holding it for long."""
        ...

    def lacks(self, cluster: Cluster) -> str | None:
        """What keeps this cluster from it, None if nothing does."""
        ...

    async def plan(self, request: Request, site: Site) -> Plan:
        """Decide, touching nothing; without targets the fault is skipped."""
        ...

    def effect(self, plan: Plan) -> Effect:
        """What it does while it is active."""
        ...

    async def start(self, plan: Plan, site: Site) -> Seen:
        """Hurt."""
        ...

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """Wait, under a bound, until the effect is seen."""
        ...

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """Undo; does nothing where there is nothing to undo."""
        ...

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """Wait, under a bound, until the effect is seen to be gone."""
        ...


def missing(cluster: Cluster, needed: Iterable[type[Any]]) -> list[str]:
    """The names of those of these capabilities that the cluster has not."""
    return [kind.__name__ for kind in needed if cluster.capability(kind) is None]


def lacking(cluster: Cluster, needed: Iterable[type[Any]]) -> str | None:
    """``missing`` as what keeps a cluster from a fault; None where nothing is."""
    names = missing(cluster, needed)
    return f"it has no {', '.join(names)}" if names else None


def refusal(fault: Fault, cluster: Cluster) -> str | None:
    """Why this fault is not for this cluster: it is forbidden there, or something lacks; None where neither is so."""
    boundaries = cluster.capability(Boundaries)
    forbidden = None if boundaries is None else boundaries.refusal(fault.family, fault.name)
    return forbidden or fault.lacks(cluster)


async def insist(change: Callable[[], Awaitable[T]], *, bound_s: float, retry_s: float) -> T:
    """Do it again until the cluster has it; raises the last NemesisError when the bound is over."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + bound_s
    while True:
        try:
            return await change()
        except NemesisError:
            if loop.time() + retry_s > deadline_s:
                raise
        await asyncio.sleep(retry_s)


async def replan(request: Request, site: Site) -> Plan:
    """An earlier run's plan as it was, but for who leads now."""
    assert request.detail is not None
    detail = dict(request.detail)
    if "leader" in detail:
        detail["leader"], detail["term"] = await find_leader(site)
    return Plan(request.targets, detail)


async def aim(request: Request, site: Site) -> Plan:
    """Choose targets among the nodes that no other fault holds down, leaving one standing unless all were asked for.

    The plan's detail tells who led, and in which term, when that was asked.
    """
    nodes, standing = site.nodes, site.spared(site.nodes)
    if request.targets:
        return Plan(tuple(node for node in nodes if node in request.targets), {"select": "list"})
    detail: dict[str, Any] = {"select": request.select, "pick": request.pick}
    leader: str | None = None
    if request.select == "primaries":
        leader, detail["term"] = await find_leader(site)
        detail["leader"] = leader
    chosen = choose(request.select, nodes, request.pick, leader=leader, among=standing)
    if request.select not in ("all", "one", "primaries") and len(chosen) == len(standing):
        chosen = chosen[:-1]
    return Plan(chosen, detail)


async def aim_at_serving(request: Request, site: Site) -> Plan:
    """``aim``, leaving out the nodes that other faults keep from serving: on them nothing could be seen."""
    plan = await aim(request, site)
    targets = tuple(node for node in plan.targets if site.must_serve(node))
    return Plan(targets, plan.detail, "other faults keep every node it could hit from serving")


async def find_leader(site: Site) -> tuple[str | None, int | None]:
    """Who leads, and the term; waits for somebody to lead, under a bound."""

    async def look() -> Proof:
        samples = await site.samples()
        known = leader_of(samples)
        return Proof(known is not None, "nobody leads", {"leader": known})

    proof = await await_proof(look, what="a leader", bound_s=LEADER_BOUND_S)
    leader, term = proof.observed["leader"] or (None, None)
    return (leader, term) if leader in site.nodes else (None, None)


def leader_of(samples: dict[str, MemberSample]) -> tuple[str, int] | None:
    """The leader named in the highest term, and that term; the first member's word among equals."""
    named = [(sample.term or 0, sample.leader) for sample in samples.values() if sample.leader is not None]
    if not named:
        return None
    term, leader = max(named, key=lambda seen: seen[0])
    return leader, term


async def prove_new_leader(plan: Plan, site: Site, effect: Effect) -> Proof:
    """For a fault that hit the leader: a member that was not hit leads, in a later term."""
    return await prove_later_term(plan, site, effect, without=plan.targets)


async def prove_later_term(plan: Plan, site: Site, effect: Effect, *, without: Sequence[str] = ()) -> Proof:
    """For a fault that hit the leader: somebody leads in a later term, and is none of ``without``, who are not asked.

    Nothing is asked for where the plan does not hit a leader, or leaves no quorum.
    """
    before, term = plan.detail.get("leader"), plan.detail.get("term") or 0
    if before not in plan.targets or not has_quorum(site.nodes, site.others | effect):
        return Proof(True, "")

    async def look() -> Proof:
        samples = await site.samples()
        beside = {node: sample for node, sample in samples.items() if node not in without}
        now = leader_of(beside)
        if now is None:
            return Proof(False, f"after {before} (term {term}) nobody is known to lead")
        leader, later = now
        seen = {"old_leader": before, "old_term": term, "new_leader": leader, "new_term": later}
        return Proof(leader not in without and later > term, f"{before} led in term {term}, {leader} in {later}", seen)

    what = "another leader" if without else "a leader in a later term"
    return await await_proof(look, what=what, bound_s=NEW_LEADER_BOUND_S)
