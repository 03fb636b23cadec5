"""Causal order: one client writes and reads a register, and sees its own operations in their order.

Operations, on independent registers, each used by one client at a time (Jepsen's
``causal``): ``read-init`` first, then ``write`` of a unique value and ``read``.
An ok completion carries in ``extra`` the store's ``position`` of what it wrote
or read, and the ``link``: the position that it replaced or saw, which must be
that of the client's operation before.  Once a write's outcome is unknown, the
register's operations carry no links (it may take effect at any later time).  After
any operation of unknown outcome the thread goes on with a new client, mostly
through another member.  After the final heal every register is read once more.

Finds: a client that does not read its own writes, or reads them in another
order, also after it has moved to another member; writes that replaced something
else than what the client had seen.  Cannot find: what only several clients of
one key would see; ``register`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from splitvote.checkers.causal import CausalChecker
from splitvote.checkers.composition import Independent
from splitvote.harness.generator import Answer, Context, Generator, rate
from splitvote.harness.generator.core import fill_in
from splitvote.harness.op import Op
from splitvote.workloads.by_key import for_every_key, over_keys, surely
from splitvote.workloads.workload import Workload, WorkloadOptions

LEAST_OK: Final = {"read": 10, "write": 10}
START: Final = "init"
"""The position of a register that was never written."""


class SiteOps(msgspec.Struct, frozen=True, gc=False):
    """One client's operations on its register; ``position`` is None once a write's outcome is unknown."""

    is_first: bool = True
    position: Any = START
    observes: bool = True

    def op(self, ctx: Context) -> Answer:
        """A read or a write, linked to the operation before."""
        extra = None if self.position is None else {"link": self.position}
        if self.is_first:
            template = Op(f="read-init", extra=extra)
        elif ctx.unit() < 0.5:
            template = Op(f="write", value=ctx.counter, extra=extra)
        else:
            template = Op(f="read", extra=extra)
        op = fill_in(template, ctx)
        if type(op) is not Op:
            return None if op is None else (op, self)
        return op, msgspec.structs.replace(self, is_first=False)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Remember the position that an ok operation told."""
        if event.type == "info" and event.f == "write":
            return msgspec.structs.replace(self, position=None)
        if event.type != "ok" or self.position is None:
            return self
        return msgspec.structs.replace(self, position=(event.extra or {}).get("position", START))


def workload(options: WorkloadOptions) -> Workload:
    """The causal workload: a register a client thread."""
    alone = replace(options, threads_per_key=1, keys=None)
    return Workload(
        name="causal",
        generator=rate(options.rate, over_keys(alone, lambda _: SiteOps())),
        final=_read_all,
        checkers=(Independent(CausalChecker(initial=None)),),
        least_ok=LEAST_OK,
    )


def _read_all(keys: Sequence[Any]) -> Generator | None:
    return for_every_key(keys, lambda _: surely(Op(f="read")))
