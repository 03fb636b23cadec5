"""etcd's sets, held in keys or in a value (the option ``held``).

``keys``: element e of set s is the key ``s/e``; an add is a Put, a read one
Range.  ``value``: set s is the key ``s``, its elements separated by commas; an
add reads it, and puts it with the element if it has not changed; an element that
is there already is not added again.
"""

from __future__ import annotations

from splitvote.harness.etcd.bindings.services import Services
from splitvote.harness.etcd.bindings.transactions import (
    Attempt,
    TransactionBinding,
    listed,
    number_in,
    numbers_of,
)
from splitvote.harness.etcd.methods import PUT
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op


def binding(services: Services) -> TransactionBinding:
    """The binding of ``set``."""
    if services.options.get("held") == "value":
        return TransactionBinding(services, "set", {"add": _add_to_value, "read": _read_value})
    return TransactionBinding(services, "set", {"add": _add_key, "read": _read_keys})


async def _add_key(attempt: Attempt) -> Op:
    element = attempt.key(f"{attempt.op.key}/{attempt.op.value}")
    return attempt.ok(await attempt.write(PUT, pb.PutRequest(key=element)))


async def _read_keys(attempt: Attempt) -> Op:
    found, answer = await attempt.read_under(f"{attempt.op.key}/")
    return attempt.ok(answer, value=[number_in(element) for element, _ in found])


async def _add_to_value(attempt: Attempt) -> Op:
    kv, answer = await attempt.read_key(attempt.op.key)
    elements = numbers_of(kv)
    if attempt.op.value in elements:
        return attempt.ok(answer)
    put = attempt.put_part(attempt.op.key, listed([*elements, attempt.op.value]))
    return await attempt.write_if({attempt.op.key: kv}, [put], value=attempt.op.value)


async def _read_value(attempt: Attempt) -> Op:
    kv, answer = await attempt.read_key(attempt.op.key)
    return attempt.ok(answer, value=numbers_of(kv))
