"""etcd's lists: transactions of reads and appends, as one read of every key and a guarded write.

A list is one key's value, its elements separated by commas.  One read-only Txn
reads all keys of the transaction at one revision; the micro-operations are
applied to what it saw, in their order; a second Txn puts the lists that grew if
no key of the transaction has changed, those that were only read included.  A
transaction that only reads is the first Txn alone.
"""

from __future__ import annotations

from splitvote.harness.etcd.bindings.services import Services
from splitvote.harness.etcd.bindings.transactions import (
    EVERYTHING,
    Attempt,
    TransactionBinding,
    listed,
    numbers_of,
    read_everything,
)
from splitvote.harness.op import Op


def binding(services: Services) -> TransactionBinding:
    """The binding of ``append``."""
    return TransactionBinding(services, "append", {"txn": _transact})


async def _transact(attempt: Attempt) -> Op:
    if attempt.op.value == EVERYTHING:
        return await read_everything(attempt, numbers_of)
    seen, answer = await attempt.read_keys(dict.fromkeys(key for _, key, _ in attempt.op.value))
    lists = {name: numbers_of(kv) for name, kv in seen.items()}
    grown: dict[str, list[int]] = {}
    done = []
    for f, key, element in attempt.op.value:
        if f == "append":
            grown[str(key)] = lists[str(key)] = [*lists[str(key)], element]
        done.append([f, key, element if f == "append" else lists[str(key)]])
    if not grown:
        return attempt.ok(answer, value=done)
    puts = [attempt.put_part(name, listed(elements)) for name, elements in grown.items()]
    return await attempt.write_if(seen, puts, value=done)
