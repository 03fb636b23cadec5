"""Snapshots: our own, so that the log can be compacted; and for a follower that lacks what was compacted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from splitvote.harness.simulation.disk import DiskError
from splitvote.harness.simulation.interface import Snapshot
from splitvote.harness.simulation.messages import Message, RaftSnapshot
from splitvote.harness.simulation.peers import SnapshotTransfer

if TYPE_CHECKING:
    from splitvote.harness.simulation.server import Server


def send(server: Server, message: Message) -> None:
    """Send a follower everything, as it is applied by now, in place of a MsgSnap without a snapshot."""
    snapshot = _snapshot(server, server.machine.snapshot())
    server.node.raft.progress[message.target].pending_snapshot = snapshot.index
    whole = Message("MsgSnap", message.target, message.source, message.term, snapshot=snapshot)
    transfer = SnapshotTransfer(whole)
    assert snapshot.machine is not None
    server.transport.send(message.target, transfer, snapshot.machine.size_bytes)
    server.log.write("info", "sending database snapshot", to=f"{message.target:x}", index=snapshot.index)
    server.clock.call_later(server.options.election_timeout_s, _report, server, transfer)


def _report(server: Server, transfer: SnapshotTransfer) -> None:
    """Tell raft whether a snapshot got through."""
    if not server.is_stopping:
        target = transfer.message.target
        server.node.receive(Message("MsgSnapStatus", source=target, is_reject=not transfer.is_delivered))


def _snapshot(server: Server, machine: Snapshot | None) -> RaftSnapshot:
    """Everything that is applied; on disk the machine's part is the backend."""
    progress, membership = server.progress, server.membership
    return RaftSnapshot(
        progress.applied_index,
        progress.applied_term,
        progress.conf_state,
        membership.members(),
        membership.removed,
        machine,
    )


def is_due(server: Server) -> bool:
    """Whether enough was applied, or is about to be, since the last one."""
    return server.committed_index - server.progress.disk_snapshot_index > server.options.snapshot_count


def trigger(server: Server) -> None:
    """Make a snapshot if one is due, and compact the log but for what followers may still lack."""
    if not is_due(server):
        return
    progress = server.progress
    server.machine.commit()
    snapshot = _snapshot(server, None)
    try:
        server.disk.write(None, (), snapshot)
    except DiskError as failure:
        server.disk_failed(failure)
        return
    progress.disk_snapshot_index = progress.memory_snapshot_index = snapshot.index
    log = server.node.raft.log
    # Raft takes entries for applied when their Ready is done, which may be after the machine applied them.
    log.compact(max(1, min(snapshot.index - server.options.catch_up_entries, log.applied)))
