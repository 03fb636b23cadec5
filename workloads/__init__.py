"""What clients do: one module a workload, with its operations, generator and checkers; they know no system."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from splitvote.workloads.together import Together, together
from splitvote.workloads.workload import Workload, WorkloadOptions

NAMES: Final = (
    "register",
    "kv",
    "watch",
    "election",
    "lease",
    "lock",
    "lock-set",
    "append",
    "wr",
    "set",
    "bank",
    "counter",
    "queue",
    "unique-ids",
    "long-fork",
    "causal",
)
"""Every workload; each is the module of that name, with a function ``workload(options)``."""

__all__ = ["NAMES", "Together", "Workload", "WorkloadOptions", "workload_named", "workloads_named"]


def workload_named(name: str, options: WorkloadOptions) -> Workload:
    """Build a workload by its name; raises KeyError for one that there is not."""
    if name not in NAMES:
        raise KeyError(name)
    made: Workload = import_module(f"splitvote.workloads.{name.replace('-', '_')}").workload(options)
    return made


def workloads_named(names: str, options: WorkloadOptions) -> Together:
    """Build the workloads of ``names`` ("kv+watch"); raises as ``together`` does."""
    return together(names, options, workload_named)
