"""What a raft leader does with the messages it gets: proposals, replication, reads, transfers (etcd's stepLeader).

Functions of the ``Raft`` that leads, by message type in ``STEPS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal

from splitvote.harness.simulation.messages import ENTRY_BYTES, NONE, ConfChange, Data, Entry, Message, ReadState
from splitvote.harness.simulation.progress import Progress

if TYPE_CHECKING:
    from splitvote.harness.simulation.raft import Raft

MOST_ENTRIES_A_MESSAGE: Final = 256

HELD_CHECKS: Final = 3
"""Mutant: until so many checks of its quorum, an election timeout each, a new leader holds back entries of its own."""

IfEmpty = Literal["nothing", "notice", "probe"]
"""What to send a follower that lacks nothing: nothing, or an empty MsgApp that it answers (probe) or not (notice)."""


class ProposalDroppedError(Exception):
    """ErrProposalDropped: this member cannot take a proposal now."""


# Proposals


def propose(raft: Raft, message: Message) -> None:
    """MsgProp: append and replicate."""
    if raft.id not in raft.progress or raft.lead_transferee:
        raise ProposalDroppedError
    data: list[Data] = []
    sizes: list[int] = []
    for entry in message.entries:
        item, size = entry.data, entry.size_bytes
        if isinstance(item, ConfChange):
            if raft.pending_conf_index > raft.log.applied:
                item, size = None, ENTRY_BYTES  # one change at a time: a second one becomes an empty entry
            else:
                raft.pending_conf_index = raft.log.last + len(data) + 1
        data.append(item)
        sizes.append(size)
    append_entries(raft, data, sizes)
    broadcast_append(raft)


def append_entries(raft: Raft, data: Sequence[Data], sizes: Sequence[int]) -> None:
    """Give data the next places in our own log."""
    first = raft.log.last + 1
    term = raft.term
    raft.log.append(
        [Entry(term, first + place, item, size) for place, (item, size) in enumerate(zip(data, sizes, strict=True))]
    )
    raft.progress[raft.id].maybe_update(raft.log.last)
    maybe_commit(raft)  # a single voter's own log is a majority


def maybe_commit(raft: Raft) -> bool:
    """Commit what a majority has, if it is of our own term; whether that was news."""
    progress = raft.progress
    matches = sorted([progress[voter].match for voter in raft.voters])
    index = matches[(len(matches) - 1) // 2]
    if index <= raft.log.committed:
        return False
    if raft.log.term(index) != raft.term and not raft.mutants.fires("commit-by-counting-in-an-old-term"):
        return False  # an old term's entries are committed by one of our own after them (Raft, figure 8)
    raft.log.commit_to(index)
    return True


# Replication


def broadcast_append(raft: Raft) -> None:
    """Send everybody what it lacks, and the commit index."""
    for member in raft.progress:
        if member != raft.id:
            send_append(raft, member, if_empty="notice")


def send_append(raft: Raft, member: int, *, if_empty: IfEmpty) -> bool:
    """Send a follower what it lacks, unless that has to wait; whether something was sent."""
    progress = raft.progress[member]
    if progress.is_paused:
        return False
    log = raft.log
    previous = progress.next - 1
    term = log.term(previous)
    if term is None:
        return _send_snapshot(raft, member, progress)
    entries: tuple[Entry, ...] = ()
    last = log.last if raft.held_from is None else raft.held_from - 1
    if previous < last:
        entries = tuple(log.slice(previous + 1, min(last, previous + MOST_ENTRIES_A_MESSAGE)))
    elif if_empty == "nothing":
        return False
    is_streaming = progress.state == "replicate"
    raft.messages.append(
        Message(
            "MsgApp",
            member,
            raft.id,
            raft.term,
            term,
            previous,
            entries,
            log.committed,
            is_notice=is_streaming and not entries and if_empty == "notice",
        )
    )
    if not is_streaming:
        progress.is_probe_sent = True
    elif entries:
        progress.next = entries[-1].index + 1
        progress.inflight.append(progress.next - 1)
    return True


def _send_snapshot(raft: Raft, member: int, progress: Progress) -> bool:
    """Have the server send everything: the snapshot is made when the message leaves (``server``)."""
    if not progress.is_recently_active:
        return False
    progress.become_snapshot(raft.log.offset)
    raft.messages.append(Message("MsgSnap", member, raft.id, raft.term))
    return True


def _append_answer(raft: Raft, message: Message) -> None:
    progress = raft.progress.get(message.source)
    if progress is None:
        return
    progress.is_recently_active = True
    if message.is_reject:
        _append_refused(raft, progress, message)
        return
    was_paused = progress.is_paused
    if not progress.maybe_update(message.index):
        return
    if progress.state == "replicate":
        progress.free_inflight(message.index)
    elif progress.state == "probe" or progress.match >= progress.pending_snapshot:
        progress.become_replicate()
    if maybe_commit(raft):
        _release_postponed_reads(raft)
        broadcast_append(raft)
    elif was_paused:
        send_append(raft, message.source, if_empty="probe")
    while progress.next <= raft.log.last and send_append(raft, message.source, if_empty="nothing"):
        pass
    if message.source == raft.lead_transferee and progress.match == raft.log.last:
        raft.messages.append(Message("MsgTimeoutNow", message.source, raft.id, raft.term))


def _append_refused(raft: Raft, progress: Progress, message: Message) -> None:
    """Go back to where the follower's hint and our own log say that both may agree."""
    hint = message.reject_hint
    if message.log_term > 0:
        hint = raft.log.find_conflict_by_term(hint, message.log_term)
    if progress.maybe_decrease(message.index, hint):
        if progress.state == "replicate":
            progress.become_probe()
        send_append(raft, message.source, if_empty="probe")


def _snapshot_status(raft: Raft, message: Message) -> None:
    progress = raft.progress.get(message.source)
    if progress is None or progress.state != "snapshot":
        return
    if message.is_reject:
        progress.pending_snapshot = 0
    progress.become_probe()
    progress.is_probe_sent = True  # wait for its answer, or the next heartbeat's, before going on


def _unreachable(raft: Raft, message: Message) -> None:
    progress = raft.progress.get(message.source)
    if progress is not None and progress.state == "replicate":
        progress.become_probe()


# Heartbeats, quorum and reads


def _beat(raft: Raft, message: Message) -> None:
    _broadcast_heartbeat(raft, raft.read_only.last_context)


def _broadcast_heartbeat(raft: Raft, context: int) -> None:
    own, term, committed = raft.id, raft.term, raft.log.committed
    for member, progress in raft.progress.items():
        if member != own:
            commit = min(progress.match, committed)
            raft.messages.append(Message("MsgHeartbeat", member, own, term, commit=commit, context=context))


def _heartbeat_answer(raft: Raft, message: Message) -> None:
    progress = raft.progress.get(message.source)
    if progress is None:
        return
    progress.is_recently_active = True
    progress.is_probe_sent = False
    progress.free_one_when_full()
    if progress.match < raft.log.last:
        send_append(raft, message.source, if_empty="probe")
    if not message.context:
        return
    acks = raft.read_only.acknowledge(message.source, message.context)
    if 2 * sum([voter in acks for voter in raft.voters]) > len(raft.voters):
        for request, index in raft.read_only.advance(message.context):
            _answer_read(raft, request, index)


def _check_quorum(raft: Raft, message: Message) -> None:
    """Step down when no majority was heard of for an election timeout."""
    progress = raft.progress
    active = sum(voter == raft.id or progress[voter].is_recently_active for voter in raft.voters)
    if 2 * active <= len(raft.voters):
        raft.become_follower(raft.term, NONE)
        return
    for other in progress.values():
        other.is_recently_active = False
    if raft.held_from is not None:
        _release_held(raft)


def _release_held(raft: Raft) -> None:
    """Mutant: at last send what a new leader held back, if what its predecessors left is committed."""
    assert raft.held_from is not None
    raft.held_checks -= 1
    if raft.held_checks <= 0 and raft.log.committed >= raft.held_from - 1:
        raft.held_from = None
        broadcast_append(raft)


def _read_index(raft: Raft, message: Message) -> None:
    if raft.voters == (raft.id,):
        _answer_read(raft, message, raft.log.committed)
    elif not _has_committed_in_its_term(raft) and not raft.mutants.fires("read-index-before-first-commit"):
        raft.postponed_reads.append(message)
    else:
        _confirm_read(raft, message)


def _has_committed_in_its_term(raft: Raft) -> bool:
    """Before that, a leader does not know what its predecessors have committed."""
    return raft.log.term(raft.log.committed) == raft.term


def _confirm_read(raft: Raft, message: Message) -> None:
    raft.read_only.add(raft.log.committed, message)
    raft.read_only.acknowledge(raft.id, message.context)
    _broadcast_heartbeat(raft, message.context)


def _release_postponed_reads(raft: Raft) -> None:
    if raft.postponed_reads and _has_committed_in_its_term(raft):
        postponed, raft.postponed_reads = raft.postponed_reads, []
        for message in postponed:
            _confirm_read(raft, message)


def _answer_read(raft: Raft, request: Message, index: int) -> None:
    if request.source in (NONE, raft.id):
        raft.read_states.append(ReadState(index, request.context))
    else:
        raft.messages.append(
            Message("MsgReadIndexResp", request.source, raft.id, raft.term, index=index, context=request.context)
        )


# Transfer and members


def _transfer(raft: Raft, message: Message) -> None:
    target = message.source
    progress = raft.progress.get(target)
    if progress is None or progress.is_learner or target in (raft.id, raft.lead_transferee):
        return
    raft.election_elapsed = 0  # the transfer has an election timeout to finish
    raft.lead_transferee = target
    if progress.match == raft.log.last:
        raft.messages.append(Message("MsgTimeoutNow", target, raft.id, raft.term))
    else:
        send_append(raft, target, if_empty="probe")


def after_conf_change(raft: Raft) -> None:
    """A smaller configuration may have committed more; a new member is sent what it lacks.

    A leader that is no voter any more stays until the next check for a quorum.
    """
    own = raft.progress.get(raft.id)
    if own is None or own.is_learner or not raft.voters:
        return
    if maybe_commit(raft):
        broadcast_append(raft)
    else:
        for member in raft.progress:
            if member != raft.id:
                send_append(raft, member, if_empty="nothing")
    if raft.lead_transferee not in raft.voters:
        raft.lead_transferee = NONE


STEPS: Final[dict[str, Callable[[Raft, Message], None]]] = {
    "MsgBeat": _beat,
    "MsgCheckQuorum": _check_quorum,
    "MsgProp": propose,
    "MsgReadIndex": _read_index,
    "MsgAppResp": _append_answer,
    "MsgHeartbeatResp": _heartbeat_answer,
    "MsgSnapStatus": _snapshot_status,
    "MsgUnreachable": _unreachable,
    "MsgTransferLeader": _transfer,
}
