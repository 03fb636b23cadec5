"""etcd's long fork: a write is a Txn of one Put, a read one Txn of a Range for each key of the group."""

from __future__ import annotations

from splitvote.harness.etcd.bindings.services import Services
from splitvote.harness.etcd.bindings.transactions import TransactionBinding, transact


def binding(services: Services) -> TransactionBinding:
    """The binding of ``long-fork``."""
    return TransactionBinding(services, "long-fork", {"write": transact, "read": transact})
