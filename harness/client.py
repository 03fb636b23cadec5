"""The seam between workloads and a system under test.

A workload names operations; a *binding* (``harness/etcd/bindings/register.py``
for etcd's register) turns them into RPCs.  One client serves one process: when
an operation ends in ``info`` its client is closed and the thread goes on with
a new one, sharing the node's channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from splitvote.harness.op import Op

Emit = Callable[[Op], None]
"""Records an event of the operation that is open: give an ``op.completed("event", ...)``."""


class Client(Protocol):
    """One process's connection to the system under test."""

    async def setup(self) -> None:
        """Prepare what the workload needs; called once a run, on one client, before anything else."""
        ...

    async def invoke(self, op: Op, emit: Emit) -> Op:
        """Do the operation and return its completion (``op.completed(...)``), within the call's own deadline.

        Failures of the transport or the system are outcomes (fail or info by
        the system's error table), not exceptions; anything raised ends the run.
        """
        ...

    async def teardown(self) -> None:
        """Undo ``setup``; called once, after the last operation."""
        ...

    async def close(self) -> None:
        """Let go of whatever belongs to this process alone."""
        ...


class Binding(Protocol):
    """How one system serves one workload's operations: opens clients against nodes."""

    async def open(self, process: int, node: str) -> Client:
        """A client for this process, talking to this node.  Must not wait for the node to be up."""
        ...

    async def close(self) -> None:
        """Close whatever the clients shared (channels)."""
        ...
