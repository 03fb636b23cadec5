"""What raft members say to each other and keep: messages, log entries, hard state, configurations, snapshots.

Names and fields are those of etcd's raftpb; all values are immutable and shared
between members.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from splitvote.harness.simulation.interface import Command, LeaseCheckpoint, MemberInfo

if TYPE_CHECKING:
    from splitvote.harness.simulation.interface import Snapshot

NONE: Final = 0
"""No member."""

MessageType = Literal[
    "MsgHup",
    "MsgBeat",
    "MsgProp",
    "MsgApp",
    "MsgAppResp",
    "MsgVote",
    "MsgVoteResp",
    "MsgPreVote",
    "MsgPreVoteResp",
    "MsgSnap",
    "MsgSnapStatus",
    "MsgHeartbeat",
    "MsgHeartbeatResp",
    "MsgUnreachable",
    "MsgCheckQuorum",
    "MsgTransferLeader",
    "MsgTimeoutNow",
    "MsgReadIndex",
    "MsgReadIndexResp",
]

FRAME_BYTES: Final = 60
"""What a message takes on the wire beside its entries."""

ENTRY_BYTES: Final = 12
"""What an entry takes beside its data."""

MEMBER_BYTES: Final = 100
"""About what a member's description takes."""


class ConfChange(msgspec.Struct, frozen=True):
    """A single-step change of the members; ``id`` pairs it with the call that waits for it."""

    id: int
    kind: Literal["add", "add_learner", "remove", "update"]
    member: MemberInfo


class Publish(msgspec.Struct, frozen=True):
    """A member that has started tells its name and where clients reach it."""

    id: int
    member_id: int
    name: str
    client_urls: tuple[str, ...]


Data = Command | ConfChange | Publish | None
"""What an entry holds; nothing is the empty entry of a new leader."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One place in the log."""

    term: int
    index: int
    data: Data
    size_bytes: int


class HardState(msgspec.Struct, frozen=True):
    """What must be on disk before a message that follows from it is sent."""

    term: int = 0
    vote: int = NONE
    commit: int = 0


class ConfState(msgspec.Struct, frozen=True):
    """Who votes and who learns, in the order of ids."""

    voters: tuple[int, ...]
    learners: tuple[int, ...] = ()


class RaftSnapshot(msgspec.Struct, frozen=True):
    """Everything up to an index: the configuration, the members and, on the wire only, the machine."""

    index: int
    term: int
    conf_state: ConfState
    members: tuple[MemberInfo, ...]
    removed: tuple[int, ...] = ()
    machine: Snapshot | None = None


class ReadState(msgspec.Struct, frozen=True):
    """The answer to a ReadIndex request: what is applied up to ``index`` may be read."""

    index: int
    context: int


class Message(msgspec.Struct, frozen=True, gc=False):
    """One raft message.  ``source`` and ``target`` are raftpb's From and To; ``context`` names a read or a transfer.

    ``is_notice`` marks an empty MsgApp that only tells the commit index to a
    follower which is known to have everything: it is not answered (etcd's is,
    which changes nothing but the traffic).
    """

    type: MessageType
    target: int = NONE
    source: int = NONE
    term: int = 0
    log_term: int = 0
    index: int = 0
    entries: tuple[Entry, ...] = ()
    commit: int = 0
    is_reject: bool = False
    reject_hint: int = 0
    context: int = 0
    snapshot: RaftSnapshot | None = None
    is_notice: bool = False

    @property
    def size_bytes(self) -> int:
        """About what it takes on the wire, without a snapshot's machine."""
        size = FRAME_BYTES
        for entry in self.entries:
            size += entry.size_bytes
        return size


def size_of(data: Data) -> int:
    """About what an entry with this data takes on the wire and in the log."""
    if not isinstance(data, Command):
        return ENTRY_BYTES if data is None else ENTRY_BYTES + MEMBER_BYTES
    request = data.request
    if isinstance(request, LeaseCheckpoint):
        return ENTRY_BYTES + 16 * len(request.remaining_s)
    return ENTRY_BYTES + request.ByteSize()
