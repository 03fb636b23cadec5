"""Transactions that read and write registers, judged by Elle's method (jepsen.etcd's ``wr``).

The operation is ``txn``: a list of ``["r", key, None]`` and ``["w", key,
value]`` over a few keys (``workloads.micro_ops``); every value is unique, and a
transaction writes a key once.  Unlike ``append``, where reads come first and a
guarded write after them, a transaction is one step of the system: its reads
take place between its writes, and nothing makes it fail.

The order of a register's versions is inferred from transactions that read what
they overwrite, and by taking each key to be linearizable, as is claimed.

Option ``reads=serializable``: transactions that only read may show an old
state; judged as serializable, and keys are not taken to be linearizable.

Finds: reads of what was never written, failed writes that were read, lost
updates, stale reads, read and write skew, real-time violations.  Cannot find:
anomalies among versions whose order nobody shows; ``append`` sees more of those.
"""

from __future__ import annotations

from splitvote.checkers.isolation import RwRegisterChecker
from splitvote.workloads.micro_ops import workload_of
from splitvote.workloads.workload import Workload, WorkloadOptions


def workload(options: WorkloadOptions) -> Workload:
    """The wr workload."""
    return workload_of("wr", options, write="w", repeats_writes=False, checker=_checker)


def _checker(serializable: bool) -> RwRegisterChecker:
    if serializable:
        return RwRegisterChecker("serializable", key_orders=["wfr"])
    return RwRegisterChecker("strict-serializable", key_orders=["wfr", "sequential", "linearizable"])
