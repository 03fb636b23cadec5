"""Counters: numbers are added, and reads must lie between what had surely been added and what may have been.

Operations, on independent counters (Jepsen's ``counter``): ``add`` of a number,
a negative one too; it reads the count and swaps it if it has not changed, and
fails otherwise.  ``read`` returns the count.  After the final heal every counter
is read once more.

Finds: lost adds, adds that took effect twice or though they had failed, stale
reads, as far as they leave the bounds.  Cannot find: what adds of unknown
outcome could explain; the bounds of a counter widen with each of them, and are
narrow again on the next counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from splitvote.checkers.composition import Independent
from splitvote.checkers.counter import CounterChecker
from splitvote.harness.generator import Context, Generator, mix, rate, repeat
from splitvote.harness.op import Op
from splitvote.workloads.by_key import for_every_key, over_keys, surely
from splitvote.workloads.workload import Workload, WorkloadOptions

AMOUNTS: Final = (1, 2, 3, 4, 5, -1, -2)
LEAST_OK: Final = {"add": 10, "read": 5}

_ADDS, _READS = 3, 2


def workload(options: WorkloadOptions) -> Workload:
    """The counter workload."""
    read = repeat(Op(f="read"))
    return Workload(
        name="counter",
        generator=rate(options.rate, over_keys(options, lambda _: mix([_add, read], weights=[_ADDS, _READS]))),
        final=_read_all,
        checkers=(Independent(CounterChecker()),),
        least_ok=LEAST_OK,
    )


def _add(ctx: Context) -> dict[str, Any]:
    return {"f": "add", "value": ctx.choice(AMOUNTS)}


def _read_all(keys: Sequence[Any]) -> Generator | None:
    return for_every_key(keys, lambda _: surely(Op(f="read")))
