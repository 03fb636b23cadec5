"""Revoking expired leases: by proposals, on the leader only, a bounded number at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.stubs import rpc_pb2 as pb

if TYPE_CHECKING:
    from splitvote.harness.simulation.server import Server

MOST_PENDING_REVOKES: Final = 16


def revoke(server: Server, leases: Sequence[int]) -> None:
    """Propose to revoke expired leases, a bounded number at a time; what is left is found expired again."""
    for lease in leases:
        if lease not in server.revoking and len(server.revoking) < MOST_PENDING_REVOKES:
            server.revoking[lease] = None
            server.spawn(_revoke_one(server, lease), f"revoke {lease:x}")


async def _revoke_one(server: Server, lease: int) -> None:
    try:
        if await _leads_for_sure(server):
            await server.propose(pb.LeaseRevokeRequest(ID=lease))
    except TransportError as failure:
        server.log.write("warn", "failed to revoke lease", **{"lease-id": f"{lease:016x}", "error": str(failure)})
    finally:
        del server.revoking[lease]


async def _leads_for_sure(server: Server) -> bool:
    """Whether this member leads, confirmed by a quorum: it may have been suspended, and deposed (issue 15247)."""
    if server.is_leader:
        with contextlib.suppress(TransportError):
            await server.read_index()
            if server.is_leader:
                return True
    return server.mutants.fires("stale-leader-revokes-lease")
