"""Waiting until a cluster that was just started serves: a write is committed, and every member answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from splitvote.harness.cluster import Health, Roles
from splitvote.harness.errors import EnvironmentFailure, TransportError
from splitvote.harness.etcd.rpc import Rpc

READY_TIMEOUT_S: Final = 30.0
READY_KEY: Final = b"splitvote/ready"
"""Written when the cluster comes up, to see a write committed: once, and again only if that was not answered."""

_POLL_S: Final = 0.02
_CALL_TIMEOUT_S: Final = 2.0


async def await_ready(
    nodes: Sequence[str],
    rpcs: Mapping[str, Rpc],
    *,
    roles: Roles,
    health: Health,
    check: Callable[[], Awaitable[None]],
    words_of: Callable[[str], Awaitable[str]],
    timeout_s: float,
) -> None:
    """Wait for a leader, for one committed write, and for a linearizable read on every member.

    ``check`` raises when a member has ended, ``words_of`` tells what a member
    said last.  Raises EnvironmentFailure when it takes too long.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    is_written = False
    missing: dict[str, str] = {}
    while loop.time() < deadline_s:
        await check()
        is_written = is_written or await _write_once(rpcs, roles)
        if is_written:
            missing = await health.unready(nodes)
            if not missing:
                return
        await asyncio.sleep(_POLL_S)
    node = next(iter(missing), nodes[0])
    what = f"{', '.join(missing)} did not answer" if is_written else "no write was committed"
    raise EnvironmentFailure(f"the cluster did not come up: {what} within {timeout_s:g} s; {await words_of(node)}")


async def _write_once(rpcs: Mapping[str, Rpc], roles: Roles) -> bool:
    """Try to have the readiness write committed, once there is a leader."""
    from splitvote.harness.etcd.methods import PUT
    from splitvote.harness.etcd.stubs import rpc_pb2 as pb

    leader = await roles.leader()
    if leader is None or leader not in rpcs:
        return False
    try:
        await rpcs[leader].unary(PUT, pb.PutRequest(key=READY_KEY, value=b"1"), timeout_s=_CALL_TIMEOUT_S)
    except TransportError:
        return False
    return True
