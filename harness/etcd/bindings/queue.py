"""etcd's queues: element e of queue q is the key ``q/e``, in the order of create revisions.

``enqueue`` is a Put.  ``dequeue`` reads the key of the smallest create revision
and deletes it if it has not changed; then no smaller one can have come
meanwhile, since revisions only grow.  Where the outcome is unknown, the value is
what may have been taken.
"""

from __future__ import annotations

from typing import Final

from splitvote.harness.etcd.bindings.services import Services
from splitvote.harness.etcd.bindings.transactions import Attempt, TransactionBinding, number_in
from splitvote.harness.etcd.methods import PUT
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op

TAKEN: Final = "guard failed: somebody else has taken the element"


def binding(services: Services) -> TransactionBinding:
    """The binding of ``queue``."""
    return TransactionBinding(services, "queue", {"enqueue": _enqueue, "dequeue": _dequeue})


async def _enqueue(attempt: Attempt) -> Op:
    element = attempt.key(f"{attempt.op.key}/{attempt.op.value}")
    return attempt.ok(await attempt.write(PUT, pb.PutRequest(key=element)))


async def _dequeue(attempt: Attempt) -> Op:
    queue = f"{attempt.op.key}/"
    found, answer = await attempt.read_under(
        queue, limit=1, sort_target=pb.RangeRequest.CREATE, sort_order=pb.RangeRequest.ASCEND
    )
    if not found:
        return attempt.ok(answer, value=None)
    name, kv = found[0]
    element = attempt.value_if_unknown = number_in(name)
    delete = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=kv.key))
    return await attempt.write_if({f"{queue}{name}": kv}, [delete], value=element, otherwise=TAKEN)
