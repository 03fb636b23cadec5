"""Transactions that read lists and append to them, judged by Elle's method (jepsen.etcd's ``append``).

The operation is ``txn``: a list of ``["r", key, None]`` and ``["append", key,
element]`` over a few keys (``workloads.micro_ops``); every element is unique.
All of one transaction's effects take place at once; one whose keys have changed
between its reads and its writes fails.

Option ``reads=serializable``: transactions that only read may show an old
state; judged as serializable instead of strict-serializable.

Finds: lost, repeated and reordered appends, and every anomaly that rules strict
serializability out: stale reads, read and write skew, real-time violations;
lists give each key's whole history away, so that few escape.  Cannot find: what
only an intermediate write of a transaction would show, since a binding puts a
key once.
"""

from __future__ import annotations

from splitvote.checkers.isolation import ListAppendChecker
from splitvote.workloads.micro_ops import workload_of
from splitvote.workloads.workload import Workload, WorkloadOptions


def workload(options: WorkloadOptions) -> Workload:
    """The append workload."""
    return workload_of("append", options, write="append", repeats_writes=True, checker=_checker)


def _checker(serializable: bool) -> ListAppendChecker:
    return ListAppendChecker("serializable" if serializable else "strict-serializable")
