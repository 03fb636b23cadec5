"""The operator's calls on a server: members, transfer of the lead, defragmentation (from etcd's server.go)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

from splitvote.harness.generator.randomness import op_entropy
from splitvote.harness.simulation.interface import MemberInfo
from splitvote.harness.simulation.messages import ConfChange, Message
from splitvote.harness.simulation.proposals import await_applied
from splitvote.harness.simulation.refusals import (
    BAD_LEADER_TRANSFEREE,
    LEARNER_NOT_READY,
    MEMBER_NOT_FOUND,
    NOT_A_LEARNER,
    NOT_ENOUGH_STARTED,
    NOT_LEADER,
    STOPPED,
    TIMEOUT_LEADER_TRANSFER,
    UNHEALTHY,
    error,
)

if TYPE_CHECKING:
    from splitvote.harness.simulation.server import Server

LEARNER_READY: Final = 0.9
"""The share of the leader's log that a learner must have to become a voter."""

DEFRAGMENT_S_PER_BYTE: Final = 20e-9
"""Defragmenting rewrites the database: about 50 MB a second."""

DEFRAGMENT_LEAST_S: Final = 0.02
_POLL_S: Final = 0.05


async def defragment(server: Server) -> None:
    """Apply nothing while the database is rewritten."""
    server.machine.commit()
    server.scheduler.hold()
    try:
        await server.clock.sleep(DEFRAGMENT_LEAST_S + server.database_bytes * DEFRAGMENT_S_PER_BYTE)
        server.disk.backend.defragment()
    finally:
        server.scheduler.release()


async def move_leader(server: Server, target_id: int) -> None:
    """Transfer the lead, and wait until it has changed."""
    if server.leader_id != server.member_id:
        raise error(NOT_LEADER)
    target = server.membership.get(target_id)
    if target is None or target.is_learner:
        raise error(BAD_LEADER_TRANSFEREE)
    deadline_s = server.clock.now_s() + server.options.election_timeout_s
    server.node.receive(Message("MsgTransferLeader", source=target_id))
    while server.leader_id != target_id:
        if server.is_stopping:
            raise error(STOPPED)
        if server.clock.now_s() >= deadline_s:
            raise error(TIMEOUT_LEADER_TRANSFER)
        await server.clock.sleep(_POLL_S)


async def add_member(server: Server, peer_urls: Sequence[str], *, is_learner: bool) -> MemberInfo:
    """Add a member, unless too few are known to run for that, or not all are connected."""
    _check_addable(server, is_learner=is_learner)
    # etcd hashes URLs, cluster and time; a fresh id does for the latter two.
    member_id = op_entropy(server.next_id(), 1)
    member = MemberInfo(member_id, "", tuple(peer_urls), (), is_learner)
    await _change(server, "add_learner" if is_learner else "add", member)
    return member


async def remove_member(server: Server, member_id: int) -> None:
    """Remove a member, unless the rest would have no quorum of members that run."""
    member = server.membership.get(member_id)
    if member is None:
        raise error(MEMBER_NOT_FOUND)
    if not member.is_learner:
        _check_removable(server, member_id)
    await _change(server, "remove", member)


async def promote_member(server: Server, member_id: int) -> None:
    """Make a learner a voter; only the leader knows whether it is ready."""
    if server.leader_id != server.member_id:
        raise error(NOT_LEADER)
    member = server.membership.get(member_id)
    if member is None:
        raise error(MEMBER_NOT_FOUND)
    if not member.is_learner:
        raise error(NOT_A_LEARNER)
    progress = server.node.raft.progress
    if progress[member_id].match < LEARNER_READY * progress[server.member_id].match:
        raise error(LEARNER_NOT_READY)
    await _change(server, "add", MemberInfo(member.id, member.name, member.peer_urls, member.client_urls))


async def update_member(server: Server, member_id: int, peer_urls: Sequence[str]) -> None:
    """Change where a member's peers reach it."""
    member = server.membership.get(member_id)
    if member is None:
        raise error(MEMBER_NOT_FOUND)
    await _change(server, "update", MemberInfo(member.id, member.name, tuple(peer_urls)))


async def _change(server: Server, kind: Literal["add", "add_learner", "remove", "update"], member: MemberInfo) -> None:
    outcome = await await_applied(server, ConfChange(server.next_id(), kind, member))
    if outcome.error is not None:
        raise outcome.error


def _check_addable(server: Server, *, is_learner: bool) -> None:
    """strict-reconfig-check: a new voter must not take the quorum away; all that vote now must be connected.

    etcd wants to have been connected for 5 s.
    """
    voters = [member for member in server.members() if not member.is_learner]
    started = sum(bool(member.name) for member in voters)
    if not is_learner and started < (len(voters) + 1) // 2 + 1 and len(voters) > 1:
        raise error(NOT_ENOUGH_STARTED)
    if _connected(server, [member.id for member in voters]) < len(voters):
        raise error(UNHEALTHY)


def _check_removable(server: Server, member_id: int) -> None:
    """strict-reconfig-check: those that stay and run must be a quorum of those that stay."""
    rest = [member.id for member in server.members() if not member.is_learner and member.id != member_id]
    if rest and 2 * _connected(server, rest) <= len(rest):
        raise error(UNHEALTHY)


def _connected(server: Server, voters: Sequence[int]) -> int:
    return sum(voter == server.member_id or server.transport.is_connected(voter) for voter in voters)
