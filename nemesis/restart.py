"""Faults of processes that come back at once: a restart in order, a crash loop, all nodes at the same time.

A node that is away for a moment only meets other code than one that stays away:
it is back before anybody has noticed, votes in the election that its own death
began, and is sent what it missed.

Proof of effect: each process was seen to be gone as often as it was ended, and
runs and answers now; where the leader was hit, that somebody leads in a later
term.  There is nothing to undo, unless the harness ended in the middle of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Literal

from splitvote.harness.cluster import Cluster, Process
from splitvote.nemesis.fault import Plan, Request, Seen, Site, aim, prove_later_term
from splitvote.nemesis.process import kill, prove_up, restart, stop, stopped
from splitvote.nemesis.proof import Proof
from splitvote.nemesis.quorum import NO_EFFECT, Effect
from splitvote.nemesis.targets import fraction

FEWEST_CRASHES: Final = 3
MOST_CRASHES: Final = 6
LATEST_CRASH_S: Final = 1.0
"""A crash loop's next crash comes up to so long after the start: while the log is replayed, or after."""

FAMILY: Final = "restart"


@dataclass(frozen=True, slots=True)
class RestartFault:
    """Nodes ended and started again at once, as often as the plan says."""

    name: str
    summary: str
    by: Literal["stop", "kill"]
    selections: tuple[str, ...]
    is_loop: bool = False
    family: str = FAMILY
    is_brief: bool = True

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        return None if cluster.capability(Process) else "it cannot start or end processes (Process)"

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``; the plan has the waits between the starts and the next crashes."""
        aimed = await aim(request, site)
        crashes = 1
        if self.is_loop:
            crashes = FEWEST_CRASHES + int(fraction(request.pick, 0) * (MOST_CRASHES - FEWEST_CRASHES + 1))
        waits = [round(1e3 * LATEST_CRASH_S * fraction(request.pick, crash), 1) for crash in range(1, crashes)]
        return Plan(aimed.targets, aimed.detail | {"waits_ms": waits}, aimed.skipped)

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``."""
        return Effect(down=plan.targets)

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``; a member that has ended by itself before is left as it is."""
        process = site.need(Process)
        ended = await stopped(process, plan.targets)
        nodes = [node for node in plan.targets if node not in ended]
        gone: dict[str, int] = dict.fromkeys(nodes, 0)
        for wait_ms in (0.0, *plan.detail["waits_ms"]):
            await asyncio.sleep(wait_ms / 1e3)
            await (stop if self.by == "stop" else kill)(process, nodes)
            for node in await stopped(process, nodes):
                gone[node] += 1
            await restart(process, nodes)
        return {"ended_before": ended, "gone": gone}

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        wanted, ended = 1 + len(plan.detail["waits_ms"]), seen["ended_before"]
        gone: dict[str, int] = seen["gone"]
        words = [f"had ended before: {', '.join(ended)}"] if ended else []
        words += [f"{node} was gone {times} of {wanted} times" for node, times in gone.items()]
        was = Proof(not ended and all(times == wanted for times in gone.values()), "; ".join(words), {"gone": gone})
        back = was & await prove_up(plan.targets, site)
        # The leader may lead again: it was back for the election.
        return back & await prove_later_term(plan, site, NO_EFFECT) if back.holds else back

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        await restart(site.need(Process), site.spared(plan.targets))
        return {}

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        return await prove_up(plan.targets, site)


RESTART: Final = (
    RestartFault(
        "restart", "end nodes in order (SIGTERM) and start them at once", "stop", ("one", "primaries", "minority")
    ),
    RestartFault(
        "crash_loop",
        "kill nodes three to six times, each time up to a second after they were started",
        "kill",
        ("one", "primaries", "minority"),
        is_loop=True,
    ),
    RestartFault("restart_all", "kill every node at the same time, and start them at once", "kill", ("all",)),
)
