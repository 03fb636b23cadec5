"""etcd's causal register: a key; positions are its mod_revisions.

A write is a Put that answers with the key before it: its ``link`` is that key's
mod_revision, its ``position`` the revision it made.  A read's link and position
are both the mod_revision that it saw.  Links are told where the invocation has one.
"""

from __future__ import annotations

from typing import Any, Final

from splitvote.harness.etcd.bindings.services import Services
from splitvote.harness.etcd.bindings.transactions import Attempt, TransactionBinding, number_of
from splitvote.harness.etcd.methods import PUT
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op

_START: Final = "init"


def binding(services: Services) -> TransactionBinding:
    """The binding of ``causal``."""
    return TransactionBinding(services, "causal", {"read-init": _read, "read": _read, "write": _write})


async def _read(attempt: Attempt) -> Op:
    kv, answer = await attempt.read_key(attempt.op.key)
    at = kv.mod_revision if kv else _START
    return attempt.ok(answer, value=number_of(kv), extra=_linked(attempt, at, at))


async def _write(attempt: Attempt) -> Op:
    put = pb.PutRequest(key=attempt.key(attempt.op.key), value=b"%d" % attempt.op.value, prev_kv=True)
    answer = await attempt.write(PUT, put)
    before = answer.prev_kv.mod_revision if answer.HasField("prev_kv") else _START
    return attempt.ok(answer, extra=_linked(attempt, before, answer.header.revision))


def _linked(attempt: Attempt, link: Any, position: Any) -> dict[str, Any] | None:
    is_linked = attempt.op.extra is not None and "link" in attempt.op.extra
    return {"link": link, "position": position} if is_linked else None
