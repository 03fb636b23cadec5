"""Sets: elements are added and never removed, and every read is of a whole set (Jepsen's ``set-full``).

Operations, on independent sets: ``add`` of a unique element; ``read``, which
returns all elements.  After the final heal one more element is added to every
set and the set is read.

Options: ``held=keys`` (a key an element, an add is a put) or ``held=value`` (one
key's value, an add reads it and swaps it if it has not changed);
``reads=serializable``: reads may miss elements for a while, which is then no
violation (final reads are linearizable).

Finds: acknowledged elements that are lost, for good or for a while; elements
nobody added, or whose add had failed; elements that are there twice.  Cannot
find: wrong orders of writes, and anything between sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from splitvote.checkers.composition import Independent
from splitvote.checkers.set_full import SetFullChecker
from splitvote.harness.generator import Context, Generator, mix, rate, repeat
from splitvote.harness.op import Op
from splitvote.workloads import reads
from splitvote.workloads.by_key import for_every_key, over_keys, surely
from splitvote.workloads.workload import Workload, WorkloadOptions

HELD: Final = ("keys", "value")
LEAST_OK: Final = {"add": 10, "read": 5}
LAST: Final = -1
"""The element that is added to every set at the end, so that each has one that was surely added."""

_ADDS, _READS = 3, 1


def workload(options: WorkloadOptions) -> Workload:
    """The set workload."""
    options.choice("held", HELD)
    serializable = reads.are_serializable(options)
    read = repeat(Op(f="read", extra=reads.marked(serializable=serializable)))
    return Workload(
        name="set",
        generator=rate(options.rate, over_keys(options, lambda _: mix([_add, read], weights=[_ADDS, _READS]))),
        final=_add_and_read,
        checkers=(Independent(SetFullChecker(linearizable=not serializable)),),
        least_ok=LEAST_OK,
        options=("held", reads.OPTION),
    )


def _add(ctx: Context) -> dict[str, Any]:
    return {"f": "add", "value": ctx.counter}


def _add_and_read(keys: Sequence[Any]) -> Generator | None:
    return for_every_key(keys, lambda _: [surely(Op(f="add", value=LAST)), surely(Op(f="read"))])
