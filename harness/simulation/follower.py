"""What a raft follower does with the messages it gets (etcd's stepFollower): keeps up, forwards, takes over.

Functions of the ``Raft`` that follows, by message type in ``STEPS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from splitvote.harness.simulation.leader import ProposalDroppedError
from splitvote.harness.simulation.messages import NONE, Message, RaftSnapshot, ReadState

if TYPE_CHECKING:
    from splitvote.harness.simulation.raft import Raft


def _propose(raft: Raft, message: Message) -> None:
    if raft.lead == NONE:
        raise ProposalDroppedError
    _forward(raft, message)


def _forward(raft: Raft, message: Message) -> None:
    """Pass it on to the leader, if there is one: of no term, and from whom it first came."""
    if raft.lead != NONE:
        raft.messages.append(
            Message(
                message.type,
                raft.lead,
                message.source or raft.id,
                entries=message.entries,
                context=message.context,
            )
        )


def _append(raft: Raft, message: Message) -> None:
    raft.election_elapsed = 0
    raft.lead = message.source
    log = raft.log
    if message.index < log.committed:
        raft.messages.append(Message("MsgAppResp", message.source, raft.id, raft.term, index=log.committed))
        return
    last_new = log.maybe_append(message.index, message.log_term, message.commit, message.entries)
    if last_new is None:
        hint = log.find_conflict_by_term(message.index, message.log_term)
        raft.messages.append(
            Message(
                "MsgAppResp",
                message.source,
                raft.id,
                raft.term,
                log_term=log.term(hint) or 0,
                index=message.index,
                is_reject=True,
                reject_hint=hint,
            )
        )
    elif not message.is_notice:
        raft.messages.append(Message("MsgAppResp", message.source, raft.id, raft.term, index=last_new))


def _heartbeat(raft: Raft, message: Message) -> None:
    raft.election_elapsed = 0
    raft.lead = message.source
    raft.log.commit_to(message.commit)
    raft.messages.append(Message("MsgHeartbeatResp", message.source, raft.id, raft.term, context=message.context))


def _snapshot(raft: Raft, message: Message) -> None:
    raft.election_elapsed = 0
    raft.lead = message.source
    assert message.snapshot is not None
    index = raft.log.last if _restore(raft, message.snapshot) else raft.log.committed
    raft.messages.append(Message("MsgAppResp", message.source, raft.id, raft.term, index=index))


def _restore(raft: Raft, snapshot: RaftSnapshot) -> bool:
    """Become a snapshot; False when the log has all of it already."""
    if snapshot.index <= raft.log.committed:
        return False
    if raft.log.term(snapshot.index) == snapshot.term:
        raft.log.commit_to(snapshot.index)
        return False
    if raft.id in raft.voters and raft.id in snapshot.conf_state.learners:
        return False  # a voter does not become a learner by a snapshot
    raft.log.restore(snapshot)
    raft.progress = {}
    raft.configure(snapshot.conf_state)
    return True


def _timeout_now(raft: Raft, message: Message) -> None:
    raft.hup(is_transfer=True)


def _read_index_answer(raft: Raft, message: Message) -> None:
    raft.read_states.append(ReadState(message.index, message.context))


STEPS: Final[dict[str, Callable[[Raft, Message], None]]] = {
    "MsgProp": _propose,
    "MsgApp": _append,
    "MsgHeartbeat": _heartbeat,
    "MsgSnap": _snapshot,
    "MsgTransferLeader": _forward,
    "MsgTimeoutNow": _timeout_now,
    "MsgReadIndex": _forward,
    "MsgReadIndexResp": _read_index_answer,
}
