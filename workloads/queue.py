"""Queues: elements go in, and come out once, in their order (Jepsen's ``queue`` and ``total-queue``).

Operations, on independent queues: ``enqueue`` of a unique element; ``dequeue``,
which reads what has been there longest and deletes it if nobody else has
meanwhile (else it fails), and returns it, or None where the queue was empty.  A
dequeue of unknown outcome names what it may have taken.  After the final heal one
more element is enqueued, and every queue is emptied.

Finds: elements that are lost, come out twice, or were never put in; wrong
orders, and "empty" answers of queues that were not.  Cannot find: anything
between queues.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from splitvote.checkers.composition import Independent
from splitvote.checkers.fifo import FifoChecker
from splitvote.checkers.queues import QueueChecker, TotalQueueChecker
from splitvote.harness.generator import Answer, Context, Generator, limit, mix, rate, repeat
from splitvote.harness.generator.core import fill_in
from splitvote.harness.op import Op
from splitvote.workloads.by_key import for_every_key, over_keys, surely
from splitvote.workloads.workload import Workload, WorkloadOptions

LEAST_OK: Final = {"enqueue": 10, "dequeue": 10}
LAST: Final = -1
"""The element that is enqueued on every queue at the end, so that something surely went in and came out."""

_TRIES_TO_EMPTY: Final = 20
"""Dequeues at the end beyond one for each element that can be there, for those that fail."""


class UntilEmpty(msgspec.Struct, frozen=True, gc=False):
    """Dequeues until one found the queue empty."""

    is_empty: bool = False
    observes: bool = True

    def op(self, ctx: Context) -> Answer:
        """One more."""
        op = None if self.is_empty else fill_in(Op(f="dequeue"), ctx)
        return None if op is None else (op, self)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Look for the answer that says so."""
        is_empty = event.f == "dequeue" and event.type == "ok" and event.value is None
        return UntilEmpty(is_empty=True) if is_empty else self


def workload(options: WorkloadOptions) -> Workload:
    """The queue workload."""
    dequeue = repeat(Op(f="dequeue"))

    def empty(keys: Sequence[Any]) -> Generator | None:
        emptying = limit(options.ops_per_key + _TRIES_TO_EMPTY, UntilEmpty())
        return for_every_key(keys, lambda _: [surely(Op(f="enqueue", value=LAST)), emptying])

    return Workload(
        name="queue",
        generator=rate(options.rate, over_keys(options, lambda _: mix([_enqueue, dequeue]))),
        final=empty,
        checkers=tuple(Independent(checker) for checker in (QueueChecker(), TotalQueueChecker(), FifoChecker())),
        least_ok=LEAST_OK,
    )


def _enqueue(ctx: Context) -> dict[str, Any]:
    return {"f": "enqueue", "value": ctx.counter}
