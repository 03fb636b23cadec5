"""Proposals: into the log by way of raft, and the wait until they are applied here (etcd's v3_server.go).

A wait ends with the outcome, with its deadline (the error says why it may have
been late), or with the server.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.context import ContextError, StoppedError
from splitvote.harness.simulation.interface import Command, Outcome, Request
from splitvote.harness.simulation.messages import ConfChange, Publish
from splitvote.harness.simulation.raft import ProposalDroppedError
from splitvote.harness.simulation.refusals import (
    PROPOSAL_DROPPED,
    STOPPED,
    TIMEOUT,
    TIMEOUT_LEADER_FAILURE,
    TOO_MANY_REQUESTS,
    Refusal,
    error,
)

if TYPE_CHECKING:
    from splitvote.harness.simulation.server import Server

MOST_BEHIND: Final = 5_000
"""Committed and not yet applied: then proposals are refused (etcd's maxGapBetweenApplyAndCommitIndex)."""


async def propose(server: Server, request: Request) -> Outcome:
    """Replicate a request, and wait for what applying it here gave; TransportError else."""
    if server.committed_index > server.progress.applied_index + MOST_BEHIND:
        raise error(TOO_MANY_REQUESTS)
    command = Command(server.next_id(), request)
    if server.mutants.has("ack-before-commit") and isinstance(request, pb.PutRequest):
        early = _early_answer(server, request)
        if early is not None:
            with contextlib.suppress(ContextError, StoppedError, ProposalDroppedError):
                await server.node.propose(server.deadlines.context(), command)
            return early
    return await await_applied(server, command)


def _early_answer(server: Server, request: pb.PutRequest) -> Outcome | None:
    """Mutant: what a leader with nothing else under way can already tell that a put will be answered."""
    raft = server.node.raft
    is_idle = raft.role == "leader" and raft.log.last == server.progress.applied_index
    is_plain = not (request.lease or request.ignore_value or request.ignore_lease)
    if not (is_idle and is_plain and server.mutants.fires("ack-before-commit")):
        return None
    before = server.machine.store.index.get(request.key) if request.prev_kv else None
    header = pb.ResponseHeader(revision=server.machine.revision + 1)
    return Outcome(pb.PutResponse(header=header, prev_kv=before))


async def await_applied(server: Server, data: Command | ConfChange | Publish) -> Outcome:
    """Propose something and wait until it is applied here."""
    if server.is_stopping:
        raise error(STOPPED)
    began_s = server.clock.now_s()
    waiter = server.waiters.register(data.id)
    context = server.deadlines.context()
    try:
        await server.node.propose(context, data)
        context.watch(waiter)
        return await waiter
    except ProposalDroppedError:
        raise error(PROPOSAL_DROPPED) from None
    except ContextError:
        raise error(_why_late(server, began_s)) from None
    except StoppedError:
        raise error(STOPPED) from None
    finally:
        server.waiters.forget(data.id)
        context.forget(waiter)


def _why_late(server: Server, began_s: float) -> Refusal:
    previous_lost_s = server.lead_elected_s - 2 * server.options.election_timeout_s
    return TIMEOUT_LEADER_FAILURE if previous_lost_s < began_s < server.lead_elected_s else TIMEOUT
