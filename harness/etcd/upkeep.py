"""An operator's other calls on an etcd cluster: snapshots, alarms, auth (capabilities Upkeep and Auth)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from splitvote.harness.cluster import SnapshotReading
from splitvote.harness.errors import NemesisError, TransportError
from splitvote.harness.etcd.methods import (
    ALARM,
    AUTH_DISABLE,
    AUTH_ENABLE,
    PROBE,
    RANGE,
    ROLE_ADD,
    SNAPSHOT,
    STATUS,
    USER_ADD,
    USER_GRANT_ROLE,
)
from splitvote.harness.etcd.outcomes import classify
from splitvote.harness.etcd.rpc import Rpc, ask_all
from splitvote.harness.etcd.stubs import rpc_pb2 as pb

CALL_TIMEOUT_S: Final = 5.0
DIGEST_BYTES: Final = hashlib.sha256().digest_size
"""A snapshot ends with the SHA-256 of all before."""

ROOT: Final = "root"
ROOT_PASSWORD: Final = "splitvote"
"""Who the harness is while auth is on: etcd wants a user of this name.  The clusters are made for a test, and ours."""


class EtcdUpkeep:
    """See ``Upkeep``."""

    def __init__(self, rpcs: Mapping[str, Rpc]) -> None:
        self._rpcs = rpcs

    async def save_snapshot(self, node: str, *, timeout_s: float = 10.0) -> SnapshotReading:
        """See ``Upkeep.save_snapshot``; hashed as it comes, so that it need not fit into memory."""
        digest, tail, size, announced = hashlib.sha256(), b"", 0, None
        try:
            async with asyncio.timeout(timeout_s):
                stream = await self._rpcs[node].stream(SNAPSHOT, pb.SnapshotRequest(), timeout_s=timeout_s)
                while (answer := await stream.receive()) is not None:
                    if announced is None:
                        announced = answer.remaining_bytes + len(answer.blob)
                    size += len(answer.blob)
                    held = tail + answer.blob
                    digest.update(held[:-DIGEST_BYTES])
                    tail = held[-DIGEST_BYTES:]
        except TransportError as error:
            raise NemesisError(f"{node} sent no snapshot: {error}") from None
        except TimeoutError:
            raise NemesisError(f"{node} sent no whole snapshot within {timeout_s:g} s, {size} bytes of it") from None
        return SnapshotReading(max(0, size - DIGEST_BYTES), announced or 0, tail == digest.digest())

    async def alarms(self, *, timeout_s: float = 1.0) -> dict[str, tuple[str, ...]]:
        """See ``Upkeep.alarms``: what Status calls errors, but for the want of a leader."""
        statuses = await ask_all(
            self._rpcs, lambda node, rpc: rpc.unary(STATUS, pb.StatusRequest(), timeout_s=timeout_s)
        )
        return {
            node: tuple(words.strip() for words in status.errors if "alarm:" in words)
            for node, status in statuses.items()
            if not isinstance(status, TransportError)
        }

    async def raise_no_space(self, node: str) -> None:
        """See ``Upkeep.raise_no_space``."""
        try:
            status = await self._rpcs[node].unary(STATUS, pb.StatusRequest(), timeout_s=CALL_TIMEOUT_S)
        except TransportError as error:
            raise NemesisError(f"{node} does not tell its member id: {error}") from None
        await ask_any(self._rpcs, lambda rpc: _alarm(rpc, pb.AlarmRequest.ACTIVATE, status.header.member_id))

    async def disarm(self) -> None:
        """See ``Upkeep.disarm``; alarms of members that are gone are called off as well."""

        async def call_off(rpc: Rpc) -> None:
            for alarm in (await _alarm(rpc, pb.AlarmRequest.GET, 0)).alarms:
                if alarm.alarm == pb.NOSPACE:
                    await _alarm(rpc, pb.AlarmRequest.DEACTIVATE, alarm.memberID)

        await ask_any(self._rpcs, call_off)


async def _alarm(rpc: Rpc, action: pb.AlarmRequest.AlarmAction, member_id: int) -> pb.AlarmResponse:
    request = pb.AlarmRequest(action=action, memberID=member_id, alarm=pb.NOSPACE)
    return await rpc.unary(ALARM, request, timeout_s=CALL_TIMEOUT_S)


class EtcdAuth:
    """See ``Auth``; ``rpcs`` authenticate as ROOT when they are asked to, ``strangers`` never do."""

    def __init__(self, rpcs: Mapping[str, Rpc], strangers: Mapping[str, Rpc]) -> None:
        self._rpcs = rpcs
        self._strangers = strangers

    async def enable(self) -> None:
        """See ``Auth.enable``."""
        await ask_any(self._rpcs, _enable)

    async def disable(self) -> None:
        """See ``Auth.disable``; the user stays, and does nothing."""
        await ask_any(
            self._rpcs, lambda rpc: rpc.unary(AUTH_DISABLE, pb.AuthDisableRequest(), timeout_s=CALL_TIMEOUT_S)
        )

    async def refusals(self, *, timeout_s: float = 1.0) -> dict[str, str | None]:
        """See ``Auth.refusals``: of a linearizable read."""
        answers = await ask_all(self._strangers, lambda node, rpc: rpc.unary(RANGE, PROBE, timeout_s=timeout_s))
        return {
            node: classify(answer, "read").text if isinstance(answer, TransportError) else None
            for node, answer in answers.items()
        }


async def _enable(rpc: Rpc) -> None:
    steps: Sequence[tuple[Any, Any]] = (
        (USER_ADD, pb.AuthUserAddRequest(name=ROOT, password=ROOT_PASSWORD)),
        (ROLE_ADD, pb.AuthRoleAddRequest(name=ROOT)),
        (USER_GRANT_ROLE, pb.AuthUserGrantRoleRequest(user=ROOT, role=ROOT)),
        (AUTH_ENABLE, pb.AuthEnableRequest()),
    )
    for method, request in steps:
        try:
            await rpc.unary(method, request, timeout_s=CALL_TIMEOUT_S)
        except TransportError as error:
            if "already exists" not in error.message:
                raise


async def ask_any(rpcs: Mapping[str, Rpc], ask: Callable[[Rpc], Awaitable[Any]]) -> None:
    """Ask one member after another until one does it; NemesisError with what they said when none does."""
    failures = []
    for node, rpc in rpcs.items():
        try:
            await ask(rpc)
        except TransportError as error:
            failures.append(f"{node}: {classify(error, 'write').text}")
        else:
            return
    raise NemesisError(f"no member would do it ({'; '.join(failures)})")
