"""Long fork: writes of single keys, each written once, and reads of whole groups of keys (Jepsen's ``long-fork``).

Operations, on independent groups: ``write`` of ``[["w", key, value]]``, the next
key of the group; ``read`` of ``[["r", key, None], ...]``, every key of the group
in one transaction.  Two reads of a group that saw two writes in opposite orders
have forked.  Writes come in pairs, one after the other, so that they overlap
where they take longer than the rate leaves between them.

Option ``reads=serializable``: each member's own state, which may be old, but no
two members may tell the writes in different orders.

Finds: members that take in writes in different orders; reads of values that
nobody wrote.  Cannot find: reads that are merely old (a linearizable read that
misses an acknowledged write): ``append`` and ``wr`` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from splitvote.checkers.long_fork import LongForkChecker
from splitvote.harness.generator import Answer, Context, Generator, rate
from splitvote.harness.generator.core import fill_in
from splitvote.harness.op import Op
from splitvote.workloads import reads
from splitvote.workloads.by_key import for_every_key, over_keys, surely
from splitvote.workloads.workload import Workload, WorkloadOptions

LEAST_OK: Final = {"write": 5, "read": 10}
LARGEST_GROUP: Final = 64
"""Keys of a group at most: a transaction reads them all, and etcd's may have 128 parts."""

_OPS_A_KEY: Final = 8
"""A group has a key for so many of its operations; the others are reads."""

_PAIRS: Final = 1 / 14
"""The chance that an operation begins a pair of writes: two of fifteen operations are writes then, and few keys are
left unwritten when a group is done."""


class GroupOps(msgspec.Struct, frozen=True, gc=False):
    """Writes and reads of one group; ``written`` keys of it were, in their order."""

    keys: tuple[int, ...]
    serializable: bool
    written: int = 0
    observes: bool = False

    def op(self, ctx: Context) -> Answer:
        """The next write, or a read of the group."""
        writes = self.written < len(self.keys) and (self.written % 2 == 1 or ctx.unit() < _PAIRS)
        template = self._write(ctx) if writes else read_of(self.keys, serializable=self.serializable)
        op = fill_in(template, ctx)
        if type(op) is not Op:
            return None if op is None else (op, self)
        return op, GroupOps(self.keys, self.serializable, self.written + writes)

    def _write(self, ctx: Context) -> Op:
        return Op(f="write", value=[["w", self.keys[self.written], ctx.counter]])

    def update(self, ctx: Context, event: Op) -> Generator:
        """Nothing that happens changes what comes."""
        return self


def read_of(keys: Sequence[int], *, serializable: bool = False) -> Op:
    """A read of all these keys at once."""
    return Op(f="read", value=[["r", key, None] for key in keys], extra=reads.marked(serializable=serializable))


def workload(options: WorkloadOptions) -> Workload:
    """The long-fork workload, on groups of a key for every eighth of ``ops_per_key`` (2 at least, 64 at most)."""
    serializable = reads.are_serializable(options)
    size = min(LARGEST_GROUP, max(2, options.ops_per_key // _OPS_A_KEY))

    def keys_of(group: int) -> tuple[int, ...]:
        return tuple(range(group * size, (group + 1) * size))

    def read_all(groups: Sequence[Any]) -> Generator | None:
        return for_every_key(groups, lambda group: surely(read_of(keys_of(group))))

    return Workload(
        name="long-fork",
        generator=rate(options.rate, over_keys(options, lambda group: GroupOps(keys_of(group), serializable))),
        final=read_all,
        checkers=(LongForkChecker(),),
        least_ok=LEAST_OK,
        options=(reads.OPTION,),
    )
