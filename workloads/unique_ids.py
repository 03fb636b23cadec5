"""Unique ids: what the store counts is handed out as ids, and no id may come twice (Jepsen's ``unique-ids``).

The one operation is ``generate``: a key is put and read back in one
transaction.  The option ``ids`` says what the id is: ``revision``, the key's
modification revision, or ``version``, the key with its version.

Finds: a revision or a version that was given to two writes: by two leaders, or
again after a restart.  Cannot find: ids that were skipped, or that went
backwards, without being given twice.
"""

from __future__ import annotations

from typing import Any, Final

from splitvote.checkers.unique_ids import UniqueIdsChecker
from splitvote.harness.generator import Context, Generator, clients, each_thread, rate, repeat
from splitvote.harness.op import Op
from splitvote.workloads.workload import Workload, WorkloadOptions

IDS: Final = ("revision", "version")
KEYS: Final = 2
LEAST_OK: Final = {"generate": 30}


def workload(options: WorkloadOptions) -> Workload:
    """The unique-ids workload, on ``options.keys`` keys (2)."""
    options.choice("ids", IDS)
    keys = options.keys or KEYS

    def generate(ctx: Context) -> dict[str, Any]:
        return {"f": "generate", "key": ctx.below(keys)}

    return Workload(
        name="unique-ids",
        generator=rate(options.rate, clients(generate)),
        final=lambda _: _generate_everywhere(),
        checkers=(UniqueIdsChecker(),),
        least_ok=LEAST_OK,
        options=("ids",),
    )


def _generate_everywhere() -> Generator:
    """A few more through every member, for ids that are given again after the faults."""
    return clients(each_thread(repeat(3, Op(f="generate", key=0))))
