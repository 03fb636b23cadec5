"""What is seen of the membership: the roster, the end of a removed member, its words, and a member's full return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from splitvote.harness.cluster import Health, Logs, MemberRole, Members, Process, ProcessState
from splitvote.harness.errors import NemesisError
from splitvote.nemesis.fault import Plan, Seen, Site
from splitvote.nemesis.proof import Proof, await_proof

GONE_BOUND_S: Final = 20.0
BACK_BOUND_S: Final = 30.0
READ_TIMEOUT_S: Final = 1.0

REMOVED_WORDS: Final = (
    b"permanently removed",
    b"data-dir used by this member must be removed",
    b"failed to find local ID in cluster members",
)
"""What a member says that finds itself removed (etcd), in order, in a warning, or in a panic when it is asked for its
Status at that very moment; any will do."""

_TAIL_BYTES: Final = 256 << 10
SAID_BOUND_S: Final = 10.0


async def prove_roles(plan: Plan, site: Site, wanted: MemberRole) -> Proof:
    """The roster has the targets in this role."""

    async def look() -> Proof:
        try:
            roster = await site.need(Members).roster(timeout_s=READ_TIMEOUT_S)
        except NemesisError as failure:
            return Proof(False, str(failure))
        roles = {node: str(role) for node, role in roster.items()}
        told = ", ".join(f"{node} {roles[node]}" for node in plan.targets)
        return Proof(all(roster[node] is wanted for node in plan.targets), f"in the roster: {told}", {"roster": roles})

    return await await_proof(look, what=f"{', '.join(plan.targets)} {wanted}", bound_s=GONE_BOUND_S)


async def await_end(targets: Sequence[str], site: Site) -> Proof:
    """Wait until the processes of removed members have ended by themselves."""
    process = site.need(Process)

    async def look() -> Proof:
        states = {node: await process.state(node) for node in targets}
        running = [node for node, state in states.items() if state is not ProcessState.STOPPED]
        words = f"{', '.join(running)} still runs" if running else f"{', '.join(targets)} ended by itself"
        return Proof(not running, words)

    return await await_proof(look, what=f"the end of {', '.join(targets)}", bound_s=GONE_BOUND_S)


async def prove_ended(
    plan: Plan, site: Site, seen: Seen, *, words: Sequence[bytes] = REMOVED_WORDS, why: str = "it was removed"
) -> Proof:
    """The processes have ended, and said why where there is a log to be read: in one of these words."""
    ended = await await_end(plan.targets, site)

    async def look() -> Proof:
        said = said_since(seen["logs"], plan.targets, site, words)
        silent = [node for node, line in said.items() if line is None]
        if silent:
            return Proof(False, f"{', '.join(silent)} did not say that {why}")
        return Proof(True, "; ".join(f"{node} said: {line}" for node, line in said.items()))

    if not ended.holds:
        return ended & await look()
    # What was said on a remote node is fetched by and by.
    return ended & await await_proof(look, what="last words", bound_s=SAID_BOUND_S)


async def prove_back(targets: Sequence[str], site: Site) -> Proof:
    """Every target is a voter that runs, serves linearizable reads, and holds what the others did when this began.

    Not of those that other faults hold down or keep from serving.
    """
    members, process = site.need(Members), site.need(Process)
    held = site.spared(targets)

    async def look() -> Proof:
        try:
            roster = await members.roster(timeout_s=READ_TIMEOUT_S)
        except NemesisError as failure:
            return Proof(False, str(failure))
        stopped = [node for node in held if await process.state(node) is not ProcessState.RUNNING]
        serving = [node for node in held if site.must_serve(node)]
        unready = await site.need(Health).unready(serving, timeout_s=READ_TIMEOUT_S) if not stopped else {}
        wrong = {node: str(role) for node, role in roster.items() if node in targets and role is not MemberRole.VOTER}
        wrong |= dict.fromkeys(stopped, "does not run") | unready
        told = ", ".join(f"{node} {why}" for node, why in wrong.items()) or f"{', '.join(targets)} voter again"
        return Proof(not wrong, told, {"roster": {node: str(role) for node, role in roster.items()}})

    back = await await_proof(look, what=f"{', '.join(targets)} back as voters", bound_s=BACK_BOUND_S)
    serving = [node for node in held if site.must_serve(node)]
    return back & await prove_caught_up(serving, site) if back.holds else back


async def prove_caught_up(targets: Sequence[str], site: Site) -> Proof:
    """The targets have come to the newest revision that any other member had when this began."""
    newest = max((sample.revision or 0 for sample in (await site.samples()).values()), default=0)

    async def look() -> Proof:
        samples = await site.samples()
        revisions = {node: samples[node].revision or 0 for node in targets if node in samples}
        told = ", ".join(f"{node} at revision {revision}" for node, revision in revisions.items())
        holds = all(revision >= newest for revision in revisions.values())
        return Proof(holds, f"{told} of {newest}" if told else "", {"revisions": revisions, "newest": newest})

    return await await_proof(look, what="the members' full data", bound_s=BACK_BOUND_S)


# Logs.


def _logs(targets: Sequence[str], site: Site) -> dict[str, Path]:
    logs = site.cluster.capability(Logs)
    return {} if logs is None else {node: logs.log_path(node) for node in targets}


def log_sizes(targets: Sequence[str], site: Site) -> dict[str, int]:
    """How long each target's log is now, in bytes: what it says later comes after."""
    return {node: _size(path) for node, path in _logs(targets, site).items()}


def said_since(
    sizes: Mapping[str, int], targets: Sequence[str], site: Site, words: Sequence[bytes]
) -> dict[str, str | None]:
    """What each target has said since its log had this size, in one of these words; nothing where there are no logs."""
    return {node: _said(path, sizes[node], words) for node, path in _logs(targets, site).items()}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _said(log: Path, offset: int, words: Sequence[bytes]) -> str | None:
    """What the first line since ``offset`` says that has one of these words; None when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(offset, _size(log) - _TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return None
    return next((_message(line) for line in lines if any(word in line for word in words)), None)


def _message(line: bytes) -> str:
    """What a line of a log says: its message and error where it is JSON."""
    try:
        entry = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return line.decode(errors="replace")[:200]
    return ": ".join(str(entry[part]) for part in ("msg", "error") if part in entry)
