"""Faults of resources: nodes short of processor time, of file descriptors, of the disk's bandwidth.

Proof of effect: what the operating system says that the process used over a
window, held against what it was allowed; and that it had to wait for more (for
processors), or has come up to its limit (for descriptors), or has ended and says
that it was for want of them.  Proof of the end: the limit is gone, and the member
serves.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from splitvote.harness.cluster import Cluster, Process
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import Limits, Resources, Usage
from splitvote.nemesis.fault import Plan, Request, Seen, Site, aim_at_serving
from splitvote.nemesis.process import prove_up
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.quorum import Effect
from splitvote.nemesis.roster import log_sizes, said_since
from splitvote.nemesis.targets import between

CPUS: Final = (1.0, 3.0)
"""Of the least that a node can be left with."""

IO_BYTES_S: Final = (20_000.0, 100_000.0)
SHARE_OF_FDS: Final = 0.7
WINDOW_S: Final = 1.0
SHORT_BOUND_S: Final = 20.0
TOLERANCE: Final = 1.25
SLACK_S: Final = 0.1
"""What a process may use beyond its share: a period's worth, and clock ticks."""

SLACK_BYTES: Final = 1 << 18
FELT: Final = 0.3
"""The share of what it may write that a process writes at least that is held up by that."""

IO_WINDOW_S: Final = 5.0
"""Writes come in bursts, so that a rate shows only over a while."""

ENDED_WORDS: Final = (b"too many open files",)
"""What a member says that cannot go on without another descriptor."""

FAMILY: Final = "resource"


@dataclass(frozen=True, slots=True)
class ResourceFault:
    """One of ``Limits`` set for the targets, and lifted.

    ``range`` is between which amounts it is chosen: of processors in the least that nodes can be left with.
    """

    name: str
    field: str
    summary: str
    range: tuple[float, float] | None
    selections: tuple[str, ...] = ("one", "primaries", "minority")
    family: str = FAMILY
    is_brief: bool = False

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        resources = cluster.capability(Resources)
        if resources is None or cluster.capability(Process) is None:
            return "it cannot limit what nodes use (Resources)"
        if self.field in resources.supports:
            return None
        return f"it cannot limit {self.name}: {resources.refusal(self.field)} (Resources, {self.field})"

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``; descriptors are limited to fewer than are open now: those stay, and not one is to be had."""
        aimed = await aim_at_serving(request, site)
        if self.range is not None:
            unit = site.need(Resources).least_cpus if self.field == "cpus" else 1.0
            amounts = dict.fromkeys(aimed.targets, unit * between(request.pick, 0, self.range))
        else:
            usage = {node: await _usage_of(node, site) for node in aimed.targets}
            amounts = {node: int(SHARE_OF_FDS * used.fds) for node, used in usage.items() if used is not None}
        detail = aimed.detail | {"field": self.field, "amounts": amounts}
        return Plan(tuple(amounts), detail, "every node it could hit is down, or is kept from serving")

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``."""
        return Effect(strained=plan.targets)

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        logs = log_sizes(plan.targets, site)
        for node in plan.targets:
            await site.need(Resources).limit(node, Limits(**{self.field: plan.detail["amounts"][node]}))
        return {"logs": logs}

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        loop = asyncio.get_running_loop()
        first, since_s = {node: await _usage_of(node, site) for node in plan.targets}, loop.time()

        async def look() -> Proof:
            usage = {node: await _usage_of(node, site) for node in plan.targets}
            passed_s = loop.time() - since_s
            said = said_since(seen["logs"], plan.targets, site, ENDED_WORDS) if self.field == "fds" else {}
            parts = []
            for node in plan.targets:
                before, now = first[node], usage[node]
                if before is not None and now is not None:
                    parts.append(self._held(node, before, now, passed_s, plan))
                else:
                    words = said.get(node)
                    parts.append(Proof(words is not None, f"{node} does not run, and said: {words or 'nothing of it'}"))
            words = f"in {passed_s:.1f} s " + "; ".join(part.words for part in parts)
            observed: dict[str, Any] = {"usage": {node: msgspec.to_builtins(used) for node, used in usage.items()}}
            window_s = IO_WINDOW_S if self.field == "io_bytes_s" else WINDOW_S
            return Proof(passed_s >= window_s and all(part.holds for part in parts), words, observed)

        return await await_proof(look, what=f"{self.name} used up", bound_s=SHORT_BOUND_S)

    def _held(self, node: str, before: Usage, now: Usage, passed_s: float, plan: Plan) -> Proof:
        """Whether one node was held to its limit, and felt it."""
        amount: float = plan.detail["amounts"][node]
        if self.field == "cpus":
            used_s, waited_s = now.cpu_s - before.cpu_s, now.throttled_s - before.throttled_s
            words = f"{node} used {used_s:.2f} s of processors where {amount * passed_s:.2f} s were allowed, "
            kept = used_s <= TOLERANCE * amount * passed_s + SLACK_S and now.most_cpus is not None
            return Proof(kept and waited_s > 0, words + f"and was kept waiting {waited_s:.2f} s")
        if self.field == "fds":
            words = f"{node} has {now.fds} descriptors open of {now.most_fds} that it may have"
            return Proof(now.most_fds <= amount and now.fds >= now.most_fds, words)
        written = now.written_bytes - before.written_bytes
        words = f"{node} wrote {written} bytes where {amount * passed_s:.0f} were allowed"
        # Less than that it may have written for want of something to write.
        felt = written >= FELT * amount * passed_s and now.most_io_bytes_s is not None
        return Proof(felt and written <= amount * passed_s + SLACK_BYTES, words)

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``; a node that ended for want of what it needs is started again."""
        for node in plan.targets:
            await site.need(Resources).limit(node, Limits())
            if node not in site.others.down:
                await site.need(Process).start(node)
        return {}

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        back = await prove_up(plan.targets, site)
        if not back.holds:
            return back
        held = site.spared(plan.targets)
        now = {node: await _usage_of(node, site) for node in held}
        amounts = plan.detail["amounts"]
        limited = [node for node, used in now.items() if used is None or self._is_limited(used, amounts[node])]
        words = f"{', '.join(limited)} still limited, or gone" if limited else f"no limit on {', '.join(held)}"
        return back & Proof(not limited, words)

    def _is_limited(self, used: Usage, amount: float) -> bool:
        if self.field == "fds":
            return used.most_fds <= amount
        return (used.most_cpus if self.field == "cpus" else used.most_io_bytes_s) is not None


async def _usage_of(node: str, site: Site) -> Usage | None:
    """None for a process that does not run."""
    try:
        return await site.need(Resources).usage(node)
    except NemesisError:
        return None


RESOURCE: Final = (
    ResourceFault("cpu", "cpus", "leave nodes a few hundredths of a processor", CPUS),
    ResourceFault("fds", "fds", "let nodes open no file and no connection beside those they have", None),
    ResourceFault("io", "io_bytes_s", "let nodes write only so many bytes a second", IO_BYTES_S),
)
