"""Transactions of micro-operations over a few keys at a time, each key given up for a new one after a while.

A transaction is the ``value`` of an operation ``txn``: a list of ``[f, key,
value]`` with f "r" or what the workload calls a write.  An invocation's reads
have the value None, an ok completion's what was read.  ``["r", None, None]``
reads every key there is; its completion lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from splitvote.harness.generator import Answer, Context, Generator, clients, rate
from splitvote.harness.generator.core import fill_in
from splitvote.harness.op import Op
from splitvote.harness.result import Checker
from splitvote.workloads import reads
from splitvote.workloads.by_key import surely
from splitvote.workloads.workload import Workload, WorkloadOptions

LONGEST: Final = 4
"""Micro-operations of the longest transaction."""

KEYS: Final = 5
EVERYTHING: Final = [["r", None, None]]
LEAST_OK: Final = {"txn": 30}

_LENGTH: Final = 0
"""The lane of the length; each micro-operation takes the next two, for its f and its key."""


class MicroOps(msgspec.Struct, frozen=True, gc=False):
    """An endless stream of transactions.

    ``keys`` keys are in use at a time: a window that moves to the next key
    every ``ops_per_key`` micro-operations, so that each key is touched about
    that often.  ``micro_ops`` is how many there were.  A value is never written
    twice.  ``repeats_writes`` is whether one transaction may write a key twice.
    """

    write: Literal["append", "w"]
    keys: int
    ops_per_key: int
    serializable: bool
    repeats_writes: bool
    micro_ops: int = 0
    observes: bool = False

    def op(self, ctx: Context) -> Answer:
        """The next transaction."""
        value = self._transaction(ctx)
        stale = self.serializable and all(f == "r" for f, _, _ in value)
        op = fill_in(Op(f="txn", value=value, extra=reads.marked(serializable=stale)), ctx)
        if type(op) is not Op:
            return None if op is None else (op, self)
        return op, msgspec.structs.replace(self, micro_ops=self.micro_ops + len(value))

    def _transaction(self, ctx: Context) -> list[list[Any]]:
        oldest = self.micro_ops // self.ops_per_key
        made: list[list[Any]] = []
        written: list[int] = []
        for place in range(1 + ctx.below(LONGEST, _LENGTH)):
            key = oldest + ctx.below(self.keys, 2 * place + 2)
            if ctx.unit(2 * place + 1) < 0.5 or (key in written and not self.repeats_writes):
                made.append(["r", key, None])
            else:
                made.append([self.write, key, ctx.counter * LONGEST + place])
                written.append(key)
        return made

    def update(self, ctx: Context, event: Op) -> Generator:
        """Nothing that happens changes what comes."""
        return self


def workload_of(
    name: str,
    options: WorkloadOptions,
    *,
    write: Literal["append", "w"],
    repeats_writes: bool,
    checker: Callable[[bool], Checker],
) -> Workload:
    """A workload of such transactions, on ``options.keys`` keys at a time (5).

    ``checker`` makes the one who judges, given whether transactions that only read may be old.
    """
    serializable = reads.are_serializable(options)
    ops = MicroOps(write, options.keys or KEYS, options.ops_per_key, serializable, repeats_writes)
    return Workload(
        name=name,
        generator=rate(options.rate, ops),
        final=lambda _: read_everything(),
        checkers=(checker(serializable),),
        least_ok=LEAST_OK,
        options=(reads.OPTION,),
    )


def read_everything() -> Generator:
    """The final transaction: reads every key, for writes that were lost after their key's last read."""
    return clients(surely(Op(f="txn", value=EVERYTHING)))
