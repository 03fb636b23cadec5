"""etcd's registers in transactions: each is one Txn of Ranges and Puts, without a condition."""

from __future__ import annotations

from splitvote.harness.etcd.bindings.services import Services
from splitvote.harness.etcd.bindings.transactions import TransactionBinding, transact


def binding(services: Services) -> TransactionBinding:
    """The binding of ``wr``."""
    return TransactionBinding(services, "wr", {"txn": transact})
