"""Sets guarded by a lock: what locks are used for, and why they need fencing.

Operations, each on the set that is its ``key``:

========  ===========================================================================
``add``   takes the set's lock, reads the set, thinks for ``extra["think_s"]``, writes
          it with ``value`` added, and lets the lock go; with ``extra["stalls"]`` it
          does not renew its lease meanwhile, as in a pause of the client's process
``read``  ``value`` of an ok is the set's elements, read without the lock
========  ===========================================================================

The set is kept in etcd, or in memory of the test (``where``), where it stands for
any resource that knows nothing of locks.  A lock is a lease: a client that is cut
off or paused for longer than the TTL has lost it and does not know, and writes
over what others added since.  In etcd the write can be *fenced*: it is a
transaction on the condition that the lock's key is still the one that was
acquired.  Then no element may be lost.  Without (``fenced=no``, and always in
memory) elements do get lost: the workload says ``expected: unsafe``, and an
INVALID shows what the lock does not promise.

Finds: fenced, every way in which a set loses what was acknowledged: a guard that
does not hold, a lock granted to two, lost and stale writes.  Cannot find: who
held the lock when (``lock`` does).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from splitvote.checkers.lock import LockSetChecker
from splitvote.harness.errors import ConfigError
from splitvote.harness.generator import Answer, Context, Generator, clients, rate
from splitvote.harness.generator.core import Pending, fill_in, replaced
from splitvote.harness.op import Op
from splitvote.workloads.lock import TTL_S, patience_s
from splitvote.workloads.workload import Workload, WorkloadOptions

SETS: Final = 3
LEAST_OK: Final = {"add": 10, "read": 10}
ADD_SHARE: Final = 0.75

SHORT_THOUGHT_S: Final = 0.02
LONG_THOUGHT_SHARE: Final = 0.10
LONG_THOUGHT_TTLS: Final = {"etcd": 1.5, "memory": 4.0}
"""The longest thought, in TTLs.  In memory nothing else keeps a holder busy, so that it must last to lose the lock."""

STALL_SHARE: Final = 0.02
STALL_TTLS: Final = (1.25, 2.0)
"""How long a client stalls, in TTLs: its lease has ended by then, and the fence has something to do in every run."""

_KIND, _SET, _LENGTH, _MANNER = range(4)
"""Lanes of the draws for one operation."""


class SetOps(msgspec.Struct, frozen=True, gc=False):
    """An endless mix of adds and reads; after ``ops_per_set`` operations a set is done with and a new one begins."""

    ops_per_set: int
    ttl_s: int
    patience_s: float
    longest_thought_s: float
    stall_share: float
    given: tuple[int, ...]
    observes: bool = False

    def op(self, ctx: Context) -> Answer:
        """An add, of a value that never comes twice, or a read."""
        count = len(self.given)
        place = ctx.below(count, _SET)
        key = place + count * (self.given[place] // self.ops_per_set)
        template = self._add(key, ctx) if ctx.unit(_KIND) < ADD_SHARE else Op(f="read", key=key)
        op = fill_in(template, ctx)
        if op is None:
            return None
        if isinstance(op, Pending):
            return op, self
        return op, msgspec.structs.replace(self, given=replaced(self.given, place, self.given[place] + 1))

    def _add(self, key: int, ctx: Context) -> Op:
        manner, length = ctx.unit(_MANNER), ctx.unit(_LENGTH)
        if stalls := manner < self.stall_share:
            think_s = self.ttl_s * (STALL_TTLS[0] + length * (STALL_TTLS[1] - STALL_TTLS[0]))
        else:
            think_s = length * (self.longest_thought_s if manner > 1 - LONG_THOUGHT_SHARE else SHORT_THOUGHT_S)
        extra = {"ttl_s": self.ttl_s, "patience_s": self.patience_s, "think_s": round(think_s, 4), "stalls": stalls}
        return Op(f="add", key=key, value=ctx.counter, extra=extra)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Nothing to learn."""
        return self


def workload(options: WorkloadOptions) -> Workload:
    """The lock-set workload, over ``options.keys`` sets at a time (3).

    ``where`` (etcd, memory) is where the sets are, ``fenced`` (yes, no) whether
    writes are guarded by the lock's key (no in memory, which cannot be guarded),
    ``stalls`` (yes, no) whether clients stall, ``ttl_s`` the sessions' time to live.
    """
    where = options.choice("where", ("etcd", "memory"))
    is_fenced = is_fenced_in(where, options)
    ttl_s = math.ceil(options.number("ttl_s", TTL_S))
    waits_s, thinks_s = patience_s(ttl_s, options.timeout_s), LONG_THOUGHT_TTLS[where] * ttl_s
    stall_share = STALL_SHARE if options.choice("stalls", ("yes", "no")) == "yes" else 0.0
    ops = SetOps(options.ops_per_key, ttl_s, waits_s, thinks_s, stall_share, (0,) * (options.keys or SETS))
    return Workload(
        name="lock-set",
        generator=rate(options.rate, ops),
        final=_read_every_set,
        checkers=(LockSetChecker(),),
        least_ok=LEAST_OK,
        longest_op_s=2 * waits_s + max(thinks_s, STALL_TTLS[1] * ttl_s) + 5 * options.timeout_s,
        expected="safe" if is_fenced else "unsafe",
        options=("where", "fenced", "stalls", "ttl_s"),
    )


def is_fenced_in(where: str, options: WorkloadOptions) -> bool:
    """Whether writes are guarded; raises ConfigError for a guard in memory."""
    if where == "etcd":
        return options.choice("fenced", ("yes", "no")) == "yes"
    if options.choice("fenced", ("no", "yes")) == "yes":
        raise ConfigError(
            "--option where=memory --option fenced=yes: a set in memory knows nothing of etcd's lock keys, so its "
            "writes cannot be fenced; leave out fenced, or keep the set in etcd"
        )
    return False


def _read_every_set(sets: Sequence[Any]) -> Generator | None:
    return clients([Op(f="read", key=key) for key in sets]) if sets else None
