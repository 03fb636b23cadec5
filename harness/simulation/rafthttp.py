"""What one member and its peers send each other (etcd's rafthttp, and the server's ``Process``, which it calls).

Out: raft's messages, snapshots, something over every connection from time to
time.  In: the same; a forwarded proposal takes effect once, however often the
network delivers it; who was removed is told that it is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from splitvote.harness.simulation import snapshots
from splitvote.harness.simulation.messages import FRAME_BYTES, Message
from splitvote.harness.simulation.peers import PeerCalls, SnapshotTransfer

if TYPE_CHECKING:
    from splitvote.harness.simulation.process import Process
    from splitvote.harness.simulation.server import Server

MOST_FORWARDED: Final = 4_096
"""Forwarded proposals that are remembered, to tell duplicates."""

KEEPALIVE: Final = "keepalive"
GONE: Final = "gone"
"""What a member is told that was removed."""


class PeerMessages:
    """One member's; ``calls`` are those to the leader's own service, and the answers to the peers'."""

    def __init__(self, server: Server, process: Process, calls: PeerCalls) -> None:
        self.calls = calls
        self._server = server
        self._process = process
        self._forwarded: dict[int, None] = {}

    def send(self, messages: list[Message]) -> None:
        """Send raft's messages; raft hears of a member to whose node there is no connection."""
        transport = self._server.transport
        for message in messages:
            if message.type == "MsgSnap":
                snapshots.send(self._server, message)
                continue
            size_bytes = message.size_bytes if message.entries else FRAME_BYTES
            if transport.send(message.target, message, size_bytes) == "nobody there":
                self._process.loop.post_at(self._process.loop.now_ns, self._unreachable, message.target)

    def _unreachable(self, member: int) -> None:
        self._process.deliver(self._server.node.receive, Message("MsgUnreachable", source=member))

    def keep_connections_alive(self) -> None:
        """Pass something over every connection, as etcd's streams and probes do, followers' to each other, too."""
        server = self._server
        for member in server.membership.members():
            if member.id != server.member_id:
                server.transport.send(member.id, KEEPALIVE, FRAME_BYTES)

    def receive(self, what: Any) -> None:
        """Take what a peer sent."""
        server = self._server
        if server.is_stopping:
            return
        if type(what) is Message:
            if what.type == "MsgProp" and self._is_duplicate(what):
                return
            if server.membership.is_removed(what.source):
                server.transport.send(what.source, GONE, FRAME_BYTES)
            else:
                server.node.receive(what)
        elif isinstance(what, SnapshotTransfer):
            what.is_delivered = True
            server.node.receive(what.message)
        elif what == KEEPALIVE:
            pass
        elif what == GONE:
            server.fail("the member has been permanently removed from the cluster")
        else:
            self.calls.receive(what)

    def _is_duplicate(self, forwarded: Message) -> bool:
        """Whether the network has delivered a forwarded proposal before: each is to take effect once."""
        ids = [entry.data.id for entry in forwarded.entries if entry.data is not None]
        if any(proposal in self._forwarded for proposal in ids):
            return not self._server.mutants.fires("duplicated-message-applied-twice")
        self._forwarded.update(dict.fromkeys(ids))
        while len(self._forwarded) > MOST_FORWARDED:
            del self._forwarded[next(iter(self._forwarded))]
        return False

    def stop(self) -> None:
        """Nobody is answered any more."""
        self.calls.stop()
