"""Named locks: acquired and released by the client recipe and by the server-side service, with sessions that get lost.

Operations.  A lock's name is the operation's ``key``:

===========  ==============================================================================
``acquire``  ``value`` is ``{"api": "client" | "server", "ttl_s": 2, "patience_s": 8}``.  Ok:
             the lock is held, ``value`` is the lock key's name in the store and
             ``revision`` that of the answer.  Fail: certainly not held.
``release``  ``value`` says how: ``unlock`` (the session goes on), ``close`` (the session's
             lease is revoked), ``orphan`` (the session is left to expire)
``stall``    the holder does nothing for ``value`` seconds, not even renew its lease, as in
             a pause of the client's own process; it goes on believing that it holds the lock
===========  ==============================================================================

An acquire's and a release's event tells ``{"lease": id}``, the session that it is
about to use: the key of a lock is its name and that id.

Who holds a lock is decided by revision: the key with the smallest create
revision that lives.  A client whose lease ended while it was paused, cut off or
stalled goes on believing; that such beliefs overlap is what leases promise, so
they are measured, not judged.

Finds: a lock granted while an older key lived, to two at once, out of turn, or
to a key that was not there; keys that vanish though their session lives; answers
that go back in time; locks that nobody can get any more.  Cannot find: what two
believing holders do to each other (``lock-set`` does), and leases that end too
early or too late (``lease`` does).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from splitvote.checkers.lock import LockChecker
from splitvote.harness.generator import Answer, Context, Generator, clients, each_thread, phases, rate
from splitvote.harness.generator.core import fill_in
from splitvote.harness.op import Op
from splitvote.workloads.workload import Workload, WorkloadOptions

LOCKS: Final = 5
TTL_S: Final = 2
LEAST_OK: Final = {"acquire": 10, "release": 10}

APIS: Final = {"both": ("client", "server"), "client": ("client",), "server": ("server",)}
RELEASES: Final = ("unlock",) * 17 + ("close",) * 2 + ("orphan",)
STALL_SHARE: Final = 0.02
LAST_PATIENCE_S: Final = 20.0
"""How much longer than any other the last acquire of each lock waits: after the final heal nothing excuses it."""

_KIND, _LOCK, _API, _LENGTH = range(4)
"""Lanes of the draws for one operation."""


def patience_s(ttl_s: int, timeout_s: float) -> float:
    """How long an acquire waits for the holders before it: several leases may have to expire."""
    return 3 * ttl_s + timeout_s


class LockOps(msgspec.Struct, frozen=True, gc=False):
    """One thread's operations without end: it acquires a lock, sometimes stalls, releases it."""

    locks: tuple[str, ...]
    apis: tuple[str, ...]
    ttl_s: int
    patience_s: float
    held: str | None = None
    has_stalled: bool = False
    observes: bool = True

    def op(self, ctx: Context) -> Answer:
        """What comes next for this thread."""
        if self.held is None:
            template = _acquire(ctx.choice(self.locks, _LOCK), ctx.choice(self.apis, _API), self.ttl_s, self.patience_s)
        elif not self.has_stalled and ctx.unit(_KIND) < STALL_SHARE:
            template = Op(f="stall", key=self.held, value=round((0.5 + 1.5 * ctx.unit(_LENGTH)) * self.ttl_s, 3))
        else:
            template = Op(f="release", key=self.held, value=ctx.choice(RELEASES, _KIND))
        op = fill_in(template, ctx)
        return None if op is None else (op, self)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Remember what is held; a process that ends holds nothing any more, and a failed unlock changes nothing."""
        if event.type == "invoke" or (event.type == "fail" and event.value != "close"):
            return self
        if event.type == "ok" and event.f == "stall":
            return msgspec.structs.replace(self, has_stalled=True)
        held = event.key if event.type == "ok" and event.f == "acquire" else None
        return msgspec.structs.replace(self, held=held, has_stalled=False)


def _acquire(lock: str, api: str, ttl_s: int, patience_s: float) -> Op:
    return Op(f="acquire", key=lock, value={"api": api, "ttl_s": ttl_s, "patience_s": patience_s})


def workload(options: WorkloadOptions) -> Workload:
    """The lock workload, over ``options.keys`` locks (5).

    The option ``api`` (both, client, server) is how locks are taken, ``ttl_s``
    the sessions' time to live.
    """
    apis = APIS[options.choice("api", tuple(APIS))]
    ttl_s = math.ceil(options.number("ttl_s", TTL_S))
    waits_s = patience_s(ttl_s, options.timeout_s)
    locks = tuple(f"k{number}" for number in range(options.keys or LOCKS))
    return Workload(
        name="lock",
        generator=rate(options.rate, each_thread(LockOps(locks, apis, ttl_s, waits_s))),
        final=lambda keys: _acquire_every_lock(keys, ttl_s, waits_s + LAST_PATIENCE_S),
        checkers=(LockChecker(),),
        least_ok=LEAST_OK,
        longest_op_s=waits_s + LAST_PATIENCE_S + 2 * options.timeout_s,
        options=("api", "ttl_s"),
    )


def _acquire_every_lock(locks: Sequence[Any], ttl_s: int, patience_s: float) -> Generator | None:
    """Every process ends its session, then each lock is acquired once more: none is stuck."""
    if not locks:
        return None
    last = [
        msgspec.structs.replace(_acquire(lock, "client", ttl_s, patience_s), extra={"last": True}) for lock in locks
    ]
    return clients(phases(each_thread(Op(f="release", value="close")), last))
