"""etcd's bank: an account is a key, its balance the value.

``open`` puts every account in one Txn if there is none of them; finding them
there is ok too, so that it can be asked for again.  ``transfer`` reads both
accounts at one revision and puts both if neither has changed.  ``read`` is one Range.
"""

from __future__ import annotations

from typing import Final

from splitvote.harness.etcd.bindings.services import Services
from splitvote.harness.etcd.bindings.transactions import Attempt, TransactionBinding, number_of
from splitvote.harness.etcd.methods import TXN
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.op import Op

TOO_POOR: Final = "too poor: the account's balance is less than the amount"
NO_BALANCE: Final = "no balance: an account has none that is a number"


def binding(services: Services) -> TransactionBinding:
    """The binding of ``bank``."""
    return TransactionBinding(services, "bank", {"open": _open, "transfer": _transfer, "read": _read})


async def _open(attempt: Attempt) -> Op:
    balances = attempt.op.value
    absent = [pb.Compare(target=pb.Compare.CREATE, key=attempt.key(account), create_revision=0) for account in balances]
    puts = [attempt.put_part(account, balance) for account, balance in balances.items()]
    return attempt.ok(await attempt.write(TXN, pb.TxnRequest(compare=absent, success=puts)))


async def _transfer(attempt: Attempt) -> Op:
    source, target, amount = (attempt.op.value[part] for part in ("from", "to", "amount"))
    seen, answer = await attempt.read_keys((source, target))
    has, gets = number_of(seen[source]), number_of(seen[target])
    if not isinstance(has, int) or not isinstance(gets, int):
        return attempt.failed(NO_BALANCE, revision=answer.header.revision)
    if has < amount:
        return attempt.failed(TOO_POOR, revision=answer.header.revision)
    puts = [attempt.put_part(source, has - amount), attempt.put_part(target, gets + amount)]
    return await attempt.write_if(seen, puts, value=attempt.op.value)


async def _read(attempt: Attempt) -> Op:
    found, answer = await attempt.read_under("")
    balances = {account: number_of(kv) for account, kv in found}
    return attempt.ok(answer, value={name: b if isinstance(b, int) else None for name, b in balances.items()})
