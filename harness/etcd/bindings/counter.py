"""etcd's counters: a counter is a key, absent at 0; an add reads it, and puts the sum if it has not changed."""

from __future__ import annotations

from typing import Final

from splitvote.harness.etcd.bindings.services import Services
from splitvote.harness.etcd.bindings.transactions import Attempt, TransactionBinding, number_of
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op

NO_NUMBER: Final = "no number: the counter holds none"


def binding(services: Services) -> TransactionBinding:
    """The binding of ``counter``."""
    return TransactionBinding(services, "counter", {"add": _add, "read": _read})


async def _add(attempt: Attempt) -> Op:
    kv, answer = await attempt.read_key(attempt.op.key)
    count = _count(kv)
    if not isinstance(count, int):
        return attempt.failed(NO_NUMBER, revision=answer.header.revision)
    put = attempt.put_part(attempt.op.key, count + attempt.op.value)
    return await attempt.write_if({attempt.op.key: kv}, [put], value=attempt.op.value)


async def _read(attempt: Attempt) -> Op:
    kv, answer = await attempt.read_key(attempt.op.key)
    return attempt.ok(answer, value=_count(kv))


def _count(kv: pb.KeyValue | None) -> int | str | None:
    return 0 if kv is None else number_of(kv)
