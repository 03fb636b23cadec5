"""Linearizable registers: reads, writes and compare-and-sets over independent keys (Jepsen's register test).

Operations, in Jepsen's names: ``read`` (an etcd get; ok with the value, None
for an absent key), ``write`` (a put of ``value``), ``cas`` (``value`` is [old,
new]; a transaction guarded on value or mod_revision).  Every value written is
unique within the run, so that a checker can tell who wrote what was read.

A cas compares with the newest value that its key's clients have seen complete:
often right, sometimes stale, so that both outcomes occur.  After the final
heal every key is read once more, which catches writes lost after a key was done.

Finds: lost, stale, resurrected and reordered writes; cas that took effect
against its condition.  Cannot find: anomalies between keys (each key is judged
alone), and what only watches, leases or transactions over several keys show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from splitvote.checkers.linearizability import LinearizabilityChecker
from splitvote.harness.generator import Answer, Context, Generator, clients, rate
from splitvote.harness.generator.core import fill_in
from splitvote.harness.op import Op
from splitvote.workloads.by_key import over_keys
from splitvote.workloads.workload import Workload, WorkloadOptions

READ_SHARE: Final = 0.40
WRITE_SHARE: Final = 0.35
LEAST_OK: Final = {"read": 10, "write": 10, "cas": 3}


class RegisterOps(msgspec.Struct, frozen=True, gc=False):
    """An endless mix of reads, writes and compare-and-sets of one key; ``newest`` is the value last seen there."""

    newest: int | None = None
    observes: bool = True

    def op(self, ctx: Context) -> Answer:
        """A read, write or cas; the value written is the run's operation counter, which never comes twice."""
        kind = ctx.unit()
        if kind < READ_SHARE:
            template = Op(f="read")
        elif kind < READ_SHARE + WRITE_SHARE:
            template = Op(f="write", value=ctx.counter)
        else:
            template = Op(f="cas", value=[self.newest, ctx.counter])
        op = fill_in(template, ctx)
        return None if op is None else (op, self)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Remember the newest value that an operation completed with."""
        if event.type != "ok":
            return self
        value = event.value[1] if event.f == "cas" else event.value
        return self if value == self.newest else RegisterOps(value)


def workload(options: WorkloadOptions) -> Workload:
    """The register workload: ``threads_per_key`` clients on each of several keys, ``ops_per_key`` operations a key.

    The option ``cas_on`` (value, mod_revision) is what a cas compares.
    """
    options.choice("cas_on", ("value", "mod_revision"))
    return Workload(
        name="register",
        generator=rate(options.rate, over_keys(options, lambda _: RegisterOps())),
        final=_read_every_key,
        checkers=(LinearizabilityChecker(model="cas-register"),),
        least_ok=LEAST_OK,
        options=("cas_on",),
    )


def _read_every_key(keys: Sequence[Any]) -> Generator | None:
    return clients([Op(f="read", key=key) for key in keys]) if keys else None
