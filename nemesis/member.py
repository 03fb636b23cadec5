"""Faults of the membership: nodes removed and added again, replaced, made learners, restarted after their removal.

Each takes voters away and gives the cluster the same voters back: its end is
that every target is a voter that runs, serves, and has caught up with what the
others held when it came back.  Whatever a killed harness left, the end can be
reached from the roster alone: a node that is absent is wiped, added and
started, a learner promoted, a voter that does not run started.

A cluster refuses changes that could cost its quorum, and for some seconds after
any trouble changes that would not; so they are tried again, under a bound.
Members are changed one after another, and none is taken where a majority of
those that are left would not stand.

Proof of effect: the roster, as another member tells it after a linearizable
read, and that the process of a removed member ends by itself and says why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from splitvote.harness.cluster import Cluster, Health, MemberRole, Members, Process, Roles
from splitvote.harness.errors import NemesisError
from splitvote.nemesis.fault import Plan, Request, Seen, Site, aim_at_serving, insist, lacking, prove_new_leader
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.quorum import Effect, has_quorum
from splitvote.nemesis.roster import (
    BACK_BOUND_S,
    await_end,
    log_sizes,
    prove_back,
    prove_caught_up,
    prove_ended,
    prove_roles,
)

CHANGE_BOUND_S: Final = 30.0
"""How long a change of the membership is tried; etcd wants 5 s of peace before one."""

HINDERED_BOUND_S: Final = 8.0
"""The same while other faults are active: they keep the cluster from agreeing, and wait for us meanwhile."""

RETRY_S: Final = 0.5
LEAST_NODES: Final = 3
"""With two, adding the second again would need its vote."""

T = TypeVar("T")

FAMILY: Final = "member"

Begin = Callable[[Plan, Site], Awaitable[Seen]]
Prove = Callable[[Plan, Site, Seen], Awaitable[Proof]]


class RefusedError(Exception):
    """The cluster would not have it, within the bound: a finding, told in the proof."""


@dataclass(frozen=True, slots=True)
class MemberFault:
    """Something done to the membership; ``leaves`` is what the targets are when it was done.

    ``needs`` are capabilities beside those of every such fault, and ``refusal``
    says what else keeps a cluster that has them from it; ``may_hit``
    tells whether it can be done to a node as that is now, and ``mend`` ends it
    where that takes other than ``bring_back``.
    """

    name: str
    summary: str
    begin: Begin
    prove: Prove
    leaves: MemberRole
    selections: tuple[str, ...] = ("one", "primaries", "minority")
    family: str = FAMILY
    is_brief: bool = False
    needs: tuple[type[Any], ...] = ()
    may_hit: Callable[[str, Site], Awaitable[bool]] | None = None
    mend: Callable[[Sequence[str], Site], Awaitable[None]] | None = None
    refusal: Callable[[Cluster], str | None] | None = None

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        if len(cluster.nodes) < LEAST_NODES:
            return f"it has {len(cluster.nodes)} nodes where {LEAST_NODES} are needed"
        missing = lacking(cluster, (Members, Process, Health, Roles, *self.needs))
        return missing if missing or self.refusal is None else self.refusal(cluster)

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``; one change at a time, and as many targets as a majority can do without."""
        if site.others.absent:
            return Plan((), {}, "the members of an earlier fault are not back yet")
        aimed = await aim_at_serving(request, site)
        targets = aimed.targets
        if self.may_hit is not None:
            targets = tuple([node for node in targets if await self.may_hit(node, site)])
            if aimed.targets and not targets:
                return Plan((), aimed.detail, f"there is nothing on {', '.join(aimed.targets)} to do it to")
        while targets and not has_quorum(site.nodes, site.others | Effect(down=targets)):
            targets = targets[:-1]
        detail = aimed.detail | {"pick": request.pick}
        return Plan(targets, detail, "the other faults leave no majority without any node it could hit")

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``; a node that was replaced is left alone as long as its replacement may be under way."""
        if self.leaves is MemberRole.VOTER:
            return Effect(down=plan.targets)
        if self.leaves is MemberRole.LEARNER:
            return Effect(absent=plan.targets)
        return Effect(down=plan.targets, absent=plan.targets)

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        logs = log_sizes(plan.targets, site)
        try:
            return {"logs": logs} | await self.begin(plan, site)
        except RefusedError as refusal:
            return {"logs": logs, "refusal": str(refusal)}

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        if "refusal" in seen:
            return Proof(False, seen["refusal"])
        done = await self.prove(plan, site, seen)
        return done & await prove_new_leader(plan, site, self.effect(plan)) if done.holds else done

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        try:
            await (self.mend or bring_back)(plan.targets, site)
        except RefusedError as refusal:
            return {"refusal": str(refusal)}
        return {}

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        return Proof(False, seen["refusal"]) if "refusal" in seen else await prove_back(plan.targets, site)


# What is done.


async def _shrink(plan: Plan, site: Site) -> Seen:
    for node in plan.targets:
        await remove(node, site)
    return {}


async def _restart_removed(plan: Plan, site: Site) -> Seen:
    await _shrink(plan, site)
    ended = await await_end(plan.targets, site)
    sizes = log_sizes(plan.targets, site)
    for node in plan.targets:
        await site.need(Process).start(node)
    return {"first_end": ended.words, "logs": sizes}


async def _replace(plan: Plan, site: Site) -> Seen:
    return await _take_out_and_put_in(plan, site, MemberRole.VOTER)


async def _make_learners(plan: Plan, site: Site) -> Seen:
    return await _take_out_and_put_in(plan, site, MemberRole.LEARNER)


async def _take_out_and_put_in(plan: Plan, site: Site, role: MemberRole) -> Seen:
    ended = []
    for node in plan.targets:
        await remove(node, site)
        ended.append(await await_end((node,), site))
        await _rejoin(node, role, site)
    return {"ended": ended}


async def bring_back(targets: Sequence[str], site: Site) -> None:
    """Make every target a voter that runs, whatever it is now."""
    members, process = site.need(Members), site.need(Process)
    for node in targets:
        role = (await _tried(site, f"who is a member beside {node}", members.roster))[node]
        if role is MemberRole.ABSENT:
            await _rejoin(node, MemberRole.VOTER, site)
        elif role is MemberRole.LEARNER:
            await process.start(node)
            await _tried(site, f"{node} made a voter", partial(members.promote, node))
        elif node not in site.others.down:
            await process.start(node)


async def remove(node: str, site: Site) -> None:
    """Have the others remove a node, unless that would cost the quorum; RefusedError when they do not."""
    await _check_majority_without(node, site, f"{node} cannot be removed")
    await _tried(site, f"{node} removed", lambda: site.need(Members).remove(node))


async def _rejoin(node: str, role: MemberRole, site: Site) -> None:
    """Add a node that is no member and start it without data, unless that would cost the quorum."""
    process, members = site.need(Process), site.need(Members)
    await _check_majority_without(node, site, f"{node} cannot be added")
    await process.kill(node)
    await process.wipe(node)
    await _tried(site, f"{node} added as a {role}", lambda: members.add(node, role))
    await _tried(site, f"{node} started", lambda: process.start(node))
    await _await_answer(node, site)


async def _check_majority_without(node: str, site: Site, what: str) -> None:
    """Whoever votes now must do without this node: it is removed, or is a voter before it runs."""
    roster = await _tried(site, "who is a member", site.need(Members).roster)
    away = tuple(other for other, role in roster.items() if role is not MemberRole.VOTER and other != node)
    if not has_quorum(site.nodes, site.others | Effect(down=(node,), absent=away)):
        raise RefusedError(f"{what} while other faults leave no majority without it")


async def _await_answer(node: str, site: Site) -> None:
    """Wait until a node that joins answers: until then another change would make it join a cluster it was not told."""

    async def look() -> Proof:
        error = (await site.samples())[node].error
        return Proof(error is None, f"{node}: {error}")

    joined = await await_proof(look, what=f"{node} in the cluster", bound_s=BACK_BOUND_S)
    if not joined.holds:
        raise RefusedError(joined.words)


async def _tried(site: Site, what: str, change: Callable[[], Awaitable[T]]) -> T:
    """Do it again until the cluster has it; RefusedError with its last words when the bound is over."""
    others = site.others
    hindered = others.down or others.cut or others.strained or others.absent
    bound_s = HINDERED_BOUND_S if hindered else CHANGE_BOUND_S
    try:
        return await insist(change, bound_s=bound_s, retry_s=RETRY_S)
    except NemesisError as refusal:
        raise RefusedError(f"not within {bound_s:g} s: {what}: {refusal}") from None


# What is seen of it.


async def _prove_gone(plan: Plan, site: Site, seen: Seen) -> Proof:
    return await prove_roles(plan, site, MemberRole.ABSENT) & await prove_ended(plan, site, seen)


async def _prove_ended_again(plan: Plan, site: Site, seen: Seen) -> Proof:
    first = Proof(True, f"removed, {seen['first_end']}; started again on the old data")
    return first & await _prove_gone(plan, site, seen)


async def _prove_replaced(plan: Plan, site: Site, seen: Seen) -> Proof:
    return _ended(seen) & await prove_back(plan.targets, site)


async def _prove_learning(plan: Plan, site: Site, seen: Seen) -> Proof:
    learning = await prove_roles(plan, site, MemberRole.LEARNER) & await prove_caught_up(plan.targets, site)
    return _ended(seen) & learning


def _ended(seen: Seen) -> Proof:
    """Whether the removed members' processes ended by themselves, before they were wiped."""
    return Proof(all(ended.holds for ended in seen["ended"]), "; ".join(ended.words for ended in seen["ended"]))


MEMBER: Final = (
    MemberFault(
        "shrink",
        "remove members, and have them back as new ones: wiped, added and started to join",
        _shrink,
        _prove_gone,
        MemberRole.ABSENT,
    ),
    MemberFault(
        "replace",
        "remove members, wipe them, add them and have them join, one after another",
        _replace,
        _prove_replaced,
        MemberRole.VOTER,
        is_brief=True,
    ),
    MemberFault(
        "learner",
        "replace a member by a learner, and promote it",
        _make_learners,
        _prove_learning,
        MemberRole.LEARNER,
        selections=("one", "primaries"),
    ),
    MemberFault(
        "restart_removed",
        "start a removed member again on its old data, which it must refuse; have it back as a new one",
        _restart_removed,
        _prove_ended_again,
        MemberRole.ABSENT,
        selections=("one", "primaries"),
    ),
)
