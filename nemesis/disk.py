"""Faults of the disks that members' data lies on: full, slow, failing, read-only, frozen; and a loss of power.

Proof of effect: what writing and syncing a small file beside the data comes to
(``Disk.probe``), which is not our own switch: an error, no answer, or an fsync
that takes its time.  A member whose log cannot be written ends by itself, when
it next writes; that is the end's affair.  Of a loss of power: the process is
gone, and when the leader was hit and a quorum stands, another leads.

The end: the disk is well, and every target runs and answers, started again
where it has ended, or ends.  Nothing of what a member has synced is ever lost here, so
that it may come back as who it was, and all at once may lose their power: what
was acknowledged has to be there (etcd's promise of durability).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from splitvote.harness.cluster import Cluster, Explaining, Process, ProcessState
from splitvote.harness.machine import Disk, DiskReading, DiskShape
from splitvote.nemesis.fault import Plan, Request, Seen, Site, aim, prove_new_leader
from splitvote.nemesis.process import prove_brought_up, prove_down, prove_up, restart
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.quorum import Effect
from splitvote.nemesis.targets import between

FAMILY: Final = "disk"
SHOWN_BOUND_S: Final = 20.0
PROBE_TIMEOUT_S: Final = 2.0

SHOWN_SHARE: Final = 0.8
"""The share of a planned delay that an fsync must take at least, and of which it must take less at the end."""

_DELAY_MS: Final = (100.0, 800.0)


@dataclass(frozen=True, slots=True)
class DiskFault:
    """One way for a disk to be broken; ``shape`` makes it from the number that stands for chance."""

    name: str
    summary: str
    shape: Callable[[int], DiskShape]
    selections: tuple[str, ...] = ("one", "primaries", "minority")
    family: str = FAMILY
    is_brief: bool = False

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        return _lacking(cluster, self.name)

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``."""
        aimed = await aim(request, site)
        return msgspec.structs.replace(
            aimed, detail=aimed.detail | {"shape": msgspec.to_builtins(self.shape(request.pick))}
        )

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``."""
        return Effect(strained=plan.targets)

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        disk, shape = site.need(Disk), _shape_of(plan)
        await asyncio.gather(*(disk.impair(node, shape) for node in plan.targets))
        return {}

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        shape = _shape_of(plan)

        def is_broken(reading: DiskReading) -> bool:
            if shape.delay_ms:
                return reading.fsync_ms is not None and reading.fsync_ms >= SHOWN_SHARE * shape.delay_ms
            return reading.error is not None

        return await _prove(plan.targets, site, is_broken, what=f"{self.name} on {', '.join(plan.targets)}")

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``; what ended for want of its disk is started again."""
        disk = site.need(Disk)
        await asyncio.gather(*(disk.restore(node) for node in plan.targets))
        await restart(site.need(Process), site.spared(plan.targets))
        return {}

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        delay_ms = _shape_of(plan).delay_ms

        def is_well(reading: DiskReading) -> bool:
            return reading.fsync_ms is not None and (not delay_ms or reading.fsync_ms < SHOWN_SHARE * delay_ms)

        well = await _prove(plan.targets, site, is_well, what=f"the disks of {', '.join(plan.targets)} well")
        return well & await _prove_back(plan.targets, site) if well.holds else well


@dataclass(frozen=True, slots=True)
class PowerLoss:
    """The process ends, and the disk has what was synced; the end is a restart."""

    name: str = "power_loss"
    summary: str = "end nodes at once and lose what they had not synced"
    selections: tuple[str, ...] = ("one", "primaries", "minority", "majority", "all")
    family: str = FAMILY
    is_brief: bool = False

    def lacks(self, cluster: Cluster) -> str | None:
        """See ``Fault``."""
        return _lacking(cluster, self.name)

    async def plan(self, request: Request, site: Site) -> Plan:
        """See ``Fault``."""
        return await aim(request, site)

    def effect(self, plan: Plan) -> Effect:
        """See ``Fault``."""
        return Effect(down=plan.targets)

    async def start(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        disk = site.need(Disk)
        lost = await asyncio.gather(*(disk.lose_power(node) for node in plan.targets))
        return {"lost": dict(zip(plan.targets, lost, strict=True))}

    async def prove_start(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        words = "; ".join(f"{node} lost {lost}" for node, lost in seen["lost"].items())
        down = Proof(True, words, dict(seen)) & await prove_down(plan.targets, site, ProcessState.STOPPED)
        return down & await prove_new_leader(plan, site, self.effect(plan)) if down.holds else down

    async def stop(self, plan: Plan, site: Site) -> Seen:
        """See ``Fault``."""
        await restart(site.need(Process), site.spared(plan.targets))
        return {}

    async def prove_stop(self, plan: Plan, site: Site, seen: Seen) -> Proof:
        """See ``Fault``."""
        return await prove_up(plan.targets, site)


async def _prove_back(targets: Sequence[str], site: Site) -> Proof:
    """Every target runs and answers; not so while another fault holds one down.

    A write that failed may end a member any time later: it may be suspended, or
    about to end.  Who is held down may end by it once it is let go.
    """
    held = [node for node in targets if node not in site.spared(targets)]
    away = Proof(not held, f"what {', '.join(held)} makes of it is not seen yet" if held else "")
    return away & await prove_brought_up(targets, site)


def _lacking(cluster: Cluster, fault: str) -> str | None:
    disk = cluster.capability(Disk)
    if disk is None:
        return "it cannot break single nodes' disks (Disk)"
    if fault not in disk.supports:
        return disk.wanting(fault) if isinstance(disk, Explaining) else f"it cannot do that to disks (Disk, {fault})"
    return None if cluster.capability(Process) else "it cannot start processes again (Process)"


def _shape_of(plan: Plan) -> DiskShape:
    return msgspec.convert(plan.detail["shape"], DiskShape)


async def _prove(targets: Sequence[str], site: Site, holds: Callable[[DiskReading], bool], *, what: str) -> Proof:
    disk = site.need(Disk)

    async def look() -> Proof:
        readings = dict(
            zip(
                targets,
                await asyncio.gather(*(disk.probe(node, timeout_s=PROBE_TIMEOUT_S) for node in targets)),
                strict=True,
            )
        )
        return Proof(all(map(holds, readings.values())), _in_words(readings), {"disks": _told(readings)})

    return await await_proof(look, what=what, bound_s=SHOWN_BOUND_S)


def _in_words(readings: Mapping[str, DiskReading]) -> str:
    return "; ".join(
        f"a small file on {node}'s disk: {reading.error or f'synced in {reading.fsync_ms:g} ms'}"
        for node, reading in readings.items()
    )


def _told(readings: Mapping[str, DiskReading]) -> dict[str, Any]:
    return {node: msgspec.to_builtins(reading) for node, reading in readings.items()}


def _slow(pick: int) -> DiskShape:
    return DiskShape("slow_fsync", round(between(pick, 0, _DELAY_MS), 1))


DISKS: Final = (
    DiskFault("full", "let no write through for want of space", lambda pick: DiskShape("full")),
    DiskFault("slow_fsync", "let every fsync take 100 to 800 ms longer", _slow),
    DiskFault("eio", "let every write fail with an input/output error", lambda pick: DiskShape("eio")),
    DiskFault("read_only", "let no write through, as on a read-only mount", lambda pick: DiskShape("read_only")),
    DiskFault("freeze", "let every write hang", lambda pick: DiskShape("freeze")),
    PowerLoss(),
)
"""All faults of disks."""
