"""Faults of whole processes: kill (SIGKILL), stop (SIGTERM), pause (SIGSTOP).

Proof of effect: the operating system says that the process is gone, or that
all its threads are stopped, *and* the member does not answer; when the leader
was hit and a quorum stands, that another member leads in a later term.  Proof
of the end: the process runs, and the member answers, unless another fault
keeps it from answering (an etcd that restarts without a quorum serves nobody).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from splitvote.harness.cluster import Cluster, Process, ProcessState
from splitvote.harness.errors import NemesisError
from splitvote.nemesis.fault import Plan, Request, Seen, Site, aim, prove_new_leader
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.quorum import Effect

DOWN_BOUND_S: Final = 10.0
UP_BOUND_S: Final = 30.0
"""A member that was killed replays its log before it answers."""

SELECTIONS: Final = ("one", "primaries", "minority", "majority", "all")

Action = Callable[[Process, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ProcessFault:
    """Something done to processes, and its undoing; ``state`` is what the processes are in meanwhile."""

    family: str
    summary: str
    begin: Action
    end: Action
    state: ProcessState
    selections: tuple[str, ...] = SELECTIONS
    is_brief: bool = False

    @property
    def name(self) -> str:
        """The family has this one fault."""
        return self.family

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        return None if cluster.capability(Process) else "it cannot start or end processes (Process)"

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``."""
        return await aim(request, site)

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``."""
        return Effect(down=plan.targets)

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``; a member that has ended by itself before is left as it is."""
        process = site.need(Process)
        ended = await stopped(process, plan.targets)
        await _each(self.begin, process, [node for node in plan.targets if node not in ended])
        return {"ended_before": ended}

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        down = await prove_down(plan.targets, site, self.state)
        if seen["ended_before"]:
            down = Proof(False, f"had ended before: {', '.join(seen['ended_before'])}; {down.words}", down.observed)
        return down & await prove_new_leader(plan, site, self.effect(plan)) if down.holds else down

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``; a node that another fault holds down is left to that fault.

        So is one that another has taken out of the membership, where it has nothing to be started on.
        """
        process, nodes = site.need(Process), site.spared(plan.targets)
        absent = [node for node in nodes if node in site.others.absent]
        await _each(self.end, process, [node for node in nodes if node not in absent])
        with contextlib.suppress(NemesisError):
            await _each(self.end, process, absent)
        return {}

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        return await prove_up(plan.targets, site)


async def stopped(process: Process, nodes: Sequence[str]) -> list[str]:
    """Those of these nodes whose process is gone."""
    return [node for node in nodes if await process.state(node) is ProcessState.STOPPED]


async def prove_down(targets: Sequence[str], site: Site, state: ProcessState) -> Proof:
    """Every target's process is in this state, and none of them answers."""
    process = site.need(Process)

    async def look() -> Proof:
        states = {node: await process.state(node) for node in targets}
        samples = await site.samples()
        silent = {node: samples[node].error for node in targets if node in samples}
        holds = all(now is state for now in states.values()) and all(silent.values())
        return Proof(holds, _in_words(states, silent), {"states": states, "answers": silent})

    return await await_proof(look, what=f"{', '.join(targets)} {state}", bound_s=DOWN_BOUND_S)


async def prove_up(targets: Sequence[str], site: Site) -> Proof:
    """Every target that no other fault holds down runs, and answers if the other faults leave it no excuse."""
    nodes = site.spared(targets)
    return await await_proof(lambda: _look_up(nodes, site), what=f"{', '.join(nodes)} back", bound_s=UP_BOUND_S)


async def prove_brought_up(targets: Sequence[str], site: Site) -> Proof:
    """``prove_up``, starting those again that end meanwhile: what they met was not over for them when it was undone."""
    nodes = site.spared(targets)

    async def look() -> Proof:
        await restart(site.need(Process), nodes)
        return await _look_up(nodes, site)

    return await await_proof(look, what=f"{', '.join(nodes)} back", bound_s=UP_BOUND_S)


async def _look_up(nodes: Sequence[str], site: Site) -> Proof:
    process = site.need(Process)
    states = {node: await process.state(node) for node in nodes}
    samples = await site.samples()
    errors = {node: samples[node].error for node in nodes if node in samples and site.must_serve(node)}
    holds = all(now is ProcessState.RUNNING for now in states.values()) and not any(errors.values())
    return Proof(holds, _in_words(states, errors), {"states": states, "answers": errors})


def _in_words(states: Mapping[str, ProcessState], errors: Mapping[str, str | None]) -> str:
    """Nodes of the same state and answer together: "n1, n3 stopped, no answer; n2 running, answers"."""
    together: dict[str, list[str]] = {}
    for node, state in states.items():
        answer = "" if node not in errors else ", no answer" if errors[node] else ", answers"
        together.setdefault(f"{state}{answer}", []).append(node)
    return "; ".join(f"{', '.join(nodes)} {how}" for how, nodes in together.items())


async def _each(action: Action, process: Process, nodes: Sequence[str]) -> None:
    """Do it to all nodes at once; every one is waited for before a failure is raised."""
    outcomes = await asyncio.gather(*(action(process, node) for node in nodes), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def restart(process: Process, nodes: Sequence[str]) -> None:
    """Start all of these nodes at once."""
    await _each(_start, process, nodes)


async def kill(process: Process, nodes: Sequence[str]) -> None:
    """Kill all of these nodes at once."""
    await _each(_kill, process, nodes)


async def stop(process: Process, nodes: Sequence[str]) -> None:
    """End all of these nodes in order, at once."""
    await _each(_stop, process, nodes)


async def _kill(process: Process, node: str) -> None:
    await process.kill(node)


async def _stop(process: Process, node: str) -> None:
    """End it in order; what does not end, as may be for want of its peers, is killed, as any service manager would."""
    try:
        await process.stop(node)
    except NemesisError:
        if await process.state(node) is ProcessState.STOPPED:
            raise
        await process.kill(node)


async def _pause(process: Process, node: str) -> None:
    await process.pause(node)


async def _start(process: Process, node: str) -> None:
    await process.start(node)


async def _resume(process: Process, node: str) -> None:
    await process.resume(node)


KILL: Final = ProcessFault(
    "kill", "end nodes at once (SIGKILL), and start them again", _kill, _start, ProcessState.STOPPED
)
STOP: Final = ProcessFault(
    "stop",
    "end nodes in order (SIGTERM, and SIGKILL if that does not), and start them again",
    _stop,
    _start,
    ProcessState.STOPPED,
)
PAUSE: Final = ProcessFault(
    "pause", "suspend nodes (SIGSTOP), and let them go on", _pause, _resume, ProcessState.PAUSED
)
