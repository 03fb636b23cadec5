"""Faults of what members have on their disks (family ``damage``): logs and snapshots spoiled, cut off, lost.

A member that has lost a part of its log may have forgotten what it acknowledged
and whom it voted for.  It must not come back as who it was: with its vote
entries could be lost that were committed, and that would be our doing.  So it
is killed, *then* removed by the others, and only then is its log damaged; by
the time it is started on it, to see what it says, it has no vote any more, and
those who removed it have all that it ever helped to commit.  Its end is that of
every member that was removed: wiped, added and started to join.

A snapshot that is damaged costs nothing that was promised: the log is whole.
The member is started as who it was; if it does not come back it is replaced.

Proof of effect: the file and the place, and that the member ends by itself and
says why: that its log cannot be read, or was repaired, or that it was removed,
where it did not notice.  Of a snapshot: that it answers, or has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from splitvote.harness.cluster import Cluster, MemberRole, Process, ProcessState
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import Damage
from splitvote.nemesis.fault import Plan, Seen, Site
from splitvote.nemesis.member import MemberFault, RefusedError, bring_back, remove
from splitvote.nemesis.process import kill, restart
from splitvote.nemesis.proof import Proof, await_proof
from splitvote.nemesis.roster import REMOVED_WORDS, log_sizes, prove_ended

FAMILY: Final = "damage"
OUTCOME_BOUND_S: Final = 30.0
"""How long a member may take to answer, or to end: it replays its log."""

DAMAGED_WORDS: Final = (
    b"crc mismatch",
    b"failed to read WAL",
    b"failed to read the write-ahead log",
    b"file not found",
    b"unexpected EOF",
    b"repaired WAL",
    *REMOVED_WORDS,
)
"""What a member says that is started on a damaged log (etcd, and the simulation): that it cannot read it, that it cut
off what it could not read, or, where a whole end of it is missing, no more than that it was removed."""


async def _damage(node: str, kind: str, plan: Plan, site: Site) -> dict[str, Any]:
    try:
        return dict(await site.need(Damage).damage(node, kind, plan.detail["pick"]))
    except NemesisError as refusal:
        raise RefusedError(str(refusal)) from None


def _refusal(kind: str, cluster: Cluster) -> str | None:
    damage = cluster.capability(Damage)
    return None if damage is None else damage.refusal(kind)


async def _is_damageable(kind: str, node: str, site: Site) -> bool:
    return kind in await site.need(Damage).damageable(node)


# Logs.


async def _damage_logs(kind: str, plan: Plan, site: Site) -> Seen:
    process = site.need(Process)
    told: dict[str, Any] = {}
    for node in plan.targets:
        await kill(process, [node])
        await remove(node, site)
        told[node] = await _damage(node, kind, plan, site)
    logs = log_sizes(plan.targets, site)
    await restart(process, plan.targets)
    return {"damage": told, "logs": logs}


async def _prove_log_damage(plan: Plan, site: Site, seen: Seen) -> Proof:
    return _told(seen) & await prove_ended(plan, site, seen, words=DAMAGED_WORDS, why="its log is damaged")


def _told(seen: Seen) -> Proof:
    words = []
    for node, told in seen["damage"].items():
        rest = ", ".join(f"{name} {value}" for name, value in told.items() if name != "file")
        words.append(f"{told['file']} of {node} damaged ({rest})")
    return Proof(True, "; ".join(words), {"damage": seen["damage"]})


# Snapshots.


async def _damage_snapshots(kind: str, plan: Plan, site: Site) -> Seen:
    process = site.need(Process)
    await kill(process, plan.targets)
    told = {node: await _damage(node, kind, plan, site) for node in plan.targets}
    await restart(process, plan.targets)
    return {"damage": told}


async def _prove_snapshot_damage(plan: Plan, site: Site, seen: Seen) -> Proof:
    return _told(seen) & await _await_outcome(plan.targets, site)


async def _await_outcome(targets: Sequence[str], site: Site) -> Proof:
    """Each target answers, or has ended; ``observed["ended"]`` are those that have."""
    process = site.need(Process)

    async def look() -> Proof:
        ended = [node for node in targets if await process.state(node) is ProcessState.STOPPED]
        samples = await site.samples()
        silent = {node: samples[node].error for node in targets if node not in ended and samples[node].error}
        words = [f"{node} ended by itself" for node in ended] + [f"{node}: {error}" for node, error in silent.items()]
        words += [f"{node} started without it" for node in targets if node not in ended and node not in silent]
        return Proof(not silent, "; ".join(words), {"ended": ended})

    return await await_proof(look, what="an answer or an end", bound_s=OUTCOME_BOUND_S)


async def _start_or_replace(targets: Sequence[str], site: Site) -> None:
    """Have every target back as who it is; as a new member where it does not start any more."""
    await bring_back(targets, site)
    outcome = await _await_outcome(site.spared(targets), site)
    ended = outcome.observed["ended"]
    for node in ended:  # all of them first: nobody is added while too many of those who vote are down
        await remove(node, site)
    await bring_back(ended, site)


def _of_log(kind: str, summary: str) -> MemberFault:
    return MemberFault(
        kind,
        f"{summary}; start the member on it, then replace it",
        partial(_damage_logs, kind),
        _prove_log_damage,
        MemberRole.ABSENT,
        family=FAMILY,
        needs=(Damage,),
        may_hit=partial(_is_damageable, kind),
        refusal=partial(_refusal, kind),
    )


def _of_snapshot(kind: str, summary: str) -> MemberFault:
    return MemberFault(
        kind,
        f"{summary}; start the member without it, and replace it if it does not start",
        partial(_damage_snapshots, kind),
        _prove_snapshot_damage,
        MemberRole.VOTER,
        family=FAMILY,
        needs=(Damage,),
        may_hit=partial(_is_damageable, kind),
        refusal=partial(_refusal, kind),
        mend=_start_or_replace,
    )


DAMAGE: Final = (
    _of_log("wal_bit_flip", "flip a bit in members' write-ahead logs"),
    _of_log("wal_truncate", "cut off the last records of members' logs"),
    _of_log("wal_loss", "remove a file of members' logs"),
    _of_snapshot("snapshot_bit_flip", "flip a bit in members' newest snapshots"),
    _of_snapshot("snapshot_loss", "remove members' newest snapshots"),
)
"""All damages."""
