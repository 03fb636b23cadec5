"""etcd's unique ids: one Txn puts a key and reads it back; the id is its mod_revision, or the key with its version."""

from __future__ import annotations

from functools import partial

from splitvote.harness.etcd.bindings.services import Services
from splitvote.harness.etcd.bindings.transactions import Attempt, TransactionBinding, kv_of
from splitvote.harness.etcd.methods import TXN
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op


def binding(services: Services) -> TransactionBinding:
    """The binding of ``unique-ids``; the option ``ids`` says what the id is."""
    generate = partial(_generate, by_version=services.options.get("ids") == "version")
    return TransactionBinding(services, "unique-ids", {"generate": generate})


async def _generate(attempt: Attempt, *, by_version: bool) -> Op:
    key = attempt.op.key
    parts = [attempt.put_part(key, ""), attempt.range_part(key)]
    answer = await attempt.write(TXN, pb.TxnRequest(success=parts))
    kv = kv_of(answer.responses[1])
    if kv is None:
        return attempt.ok(answer, value=None)
    return attempt.ok(answer, value=[key, kv.version] if by_version else kv.mod_revision)
