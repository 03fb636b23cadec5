"""Mixed traffic over a few keys: reads of now and of the past, puts, deletes, cas, transactions, leases, compaction.

Operations.  ``value`` of an invocation is the request, of an ok completion the
answer, in a small language that bindings and the checker share (``checkers.kv``):

===========  ==============================  =====================================
request      ``["range", key, at, stale]``   answers ``[[key, value, create, mod, version, lease], ...]``
             ``["put", key, value, ttl]``    answers None; a ``ttl`` in seconds attaches a lease
             ``["delete", key]``             answers how many keys were deleted
             ``["txn", if, then, else]``     answers ``[succeeded, [answer, ...]]``
             ``["compact", revision]``       answers None
===========  ==============================  =====================================

Conditions are ``[key, target, relation, operand]``.  A ``key`` of None is all
keys; ``at`` is a past revision, 0 for now; ``stale`` asks for a serializable
read.  The operations are ``get``, ``range``, ``put``, ``delete``, ``cas``,
``txn`` and ``compact``.  Every value put is unique.

Finds: lost, phantom, reordered, repeated and half-done writes; wrong versions and
revisions; stale linearizable reads; serializable reads of states that never
were; members that differ; reads of the past that changed.  Cannot find: what
only a watch shows, or leases that end too early or too late.

Transactions that write and read at a revision which may be compacted diverge
members of every released etcd (issue 18667): ``--avoid 18667`` leaves them out.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Final

import msgspec

from splitvote.checkers.kv import KvChecker
from splitvote.harness.generator import Answer, Context, Generator, clients, each_thread, rate
from splitvote.harness.generator.core import fill_in
from splitvote.harness.op import Op
from splitvote.workloads.workload import Workload, WorkloadOptions

KEYS: Final = 10
LEAST_OK: Final = {"get": 5, "put": 10, "range": 3, "txn": 3, "cas": 1}
PAST: Final = 200
"""How far back reads of the past go, in revisions."""

KEPT: Final = 50
"""Revisions that a compaction leaves, at least; so that some reads of the past find theirs."""

LEASE_TTL_S: Final = (2, 5, 60)
RELATIONS: Final = ("=", "=", "=", "!=", "<", ">")

COMPACTIONS_A_S: Final = 2.0
MOST_COMPACTIONS: Final = 0.02
"""Compactions a second at the rate asked for, and their share of the operations at the most: each has every member
asked for its history first, and commits the database."""

_SHARES: Final = {"get": 0.31, "put": 0.23, "txn": 0.16, "cas": 0.12, "range": 0.10, "delete": 0.08}
_UNTIL: Final = tuple(zip(_SHARES, accumulate(_SHARES.values()), strict=True))
_KIND, _KEY, _AT, _STALE, _OTHER, _LEASE, _SHAPE, _RELATION, _RARE = range(9)
"""Lanes of the draws for one operation."""

Seen = tuple[str | None, int, int]
"""A key's value, version and mod_revision, as last seen."""

_ABSENT: Final[Seen] = (None, 0, 0)


class KvOps(msgspec.Struct, frozen=True, gc=False):
    """An endless mix over ``count`` keys at a time, which are others after ``lifetime`` operations of the run.

    ``compact_share`` of the operations are compactions.
    ``newest`` is the newest revision seen; ``seen`` is what was seen of the keys of ``generation``.
    """

    count: int
    lifetime: int
    compact_share: float
    avoids_past_in_txn: bool
    seen: tuple[Seen, ...]
    generation: int = 0
    newest: int = 1
    observes: bool = True

    def op(self, ctx: Context) -> Answer:
        """One operation of the mix."""
        generation = ctx.counter // self.lifetime
        if generation != self.generation:
            fresh = (_ABSENT,) * self.count
            return msgspec.structs.replace(self, seen=fresh, generation=generation).op(ctx)
        f = "compact" if ctx.unit(_RARE) < self.compact_share else _kind(ctx.unit(_KIND))
        place = ctx.below(self.count, _KEY)
        key = self._name(place) if f in _SINGLE else None
        made = fill_in(Op(f=f, key=key, value=self._request(f, place, ctx)), ctx)
        return None if made is None else (made, self)

    def _name(self, place: int) -> str:
        return f"{self.generation}.{place % self.count}"

    def _request(self, f: str, place: int, ctx: Context) -> list[Any]:
        key, value = self._name(place), str(ctx.counter)
        if f == "get":
            return ["range", key, self._past(ctx), ctx.unit(_STALE) < 0.4]
        if f == "range":
            return ["range", None, self._past(ctx), ctx.unit(_STALE) < 0.4]
        if f == "put":
            ttl = ctx.choice(LEASE_TTL_S, _OTHER) if ctx.unit(_LEASE) < 0.1 else 0
            return ["put", key, value, ttl]
        if f == "delete":
            return ["delete", None if ctx.unit(_SHAPE) < 0.05 else key]
        if f == "cas":
            return ["txn", [self._compare(place, ctx)], [["put", key, value, 0]], [["range", key, 0, False]]]
        if f == "compact":
            return ["compact", max(1, self.newest - KEPT - ctx.below(PAST, _AT))]
        return self._txn(place, ctx)

    def _past(self, ctx: Context) -> int:
        """A revision to read at: now for most."""
        if ctx.unit(_SHAPE) < 0.75 or self.newest < 2:
            return 0
        return max(1, self.newest - ctx.below(PAST, _AT))

    def _compare(self, place: int, ctx: Context) -> list[Any]:
        """A condition on what was last seen of the key: often still true."""
        value, version, mod = self.seen[place % self.count]
        target = ctx.choice(("value", "version", "mod"), _OTHER)
        if target == "value" and value is None:
            target = "version"
        relation = ctx.choice(RELATIONS, _RELATION)
        return [self._name(place), target, relation, {"value": value, "version": version, "mod": mod}[target]]

    def _txn(self, place: int, ctx: Context) -> list[Any]:
        """Several parts on different keys, with a range of now or, unless avoided, of the past; some are nested."""
        here, there, further = (self._name(place + step) for step in (0, 1, 2))
        at = 0 if self.avoids_past_in_txn else self._past(ctx)
        number = ctx.counter
        then: list[Any] = [["put", here, f"{number}.0", 0], ["range", there, at, False]]
        otherwise: list[Any] = [["range", None, 0, False], ["put", there, f"{number}.1", 0]]
        shape = ctx.unit(_OTHER)
        if self.count > 2 and shape < 0.4:
            then.append(["delete", further])
        elif self.count > 2 and shape < 0.7:
            inner = [["put", further, f"{number}.2", 0]], [["range", further, 0, False]]
            then.append(["txn", [self._compare(place + 2, ctx)], *inner])
        elif shape > 0.9:
            return ["txn", [], [["range", here, self._past(ctx), False], ["range", there, 0, False]], []]
        return ["txn", [self._compare(place, ctx)], then, otherwise]

    def update(self, ctx: Context, event: Op) -> Generator:
        """Remember the newest revision, and a key's state as a read of now shows it."""
        if event.type != "ok":
            return self
        newest = self.newest if event.revision is None or event.revision < self.newest else event.revision
        seen = self._seen_after(event)
        if newest == self.newest and seen is self.seen:
            return self
        return msgspec.structs.replace(self, seen=seen, newest=newest)

    def _seen_after(self, event: Op) -> tuple[Seen, ...]:
        if event.f != "get" or not event.value:
            return self.seen
        name, value, _, mod, version, _ = event.value[0]
        generation, _, place = name.partition(".")
        if int(generation) != self.generation or mod < self.seen[int(place)][2]:
            return self.seen
        return (*self.seen[: int(place)], (value, version, mod), *self.seen[int(place) + 1 :])


def _kind(draw: float) -> str:
    return next((f for f, until in _UNTIL if draw < until), "get")


_SINGLE: Final = frozenset({"get", "put", "cas"})


def workload(options: WorkloadOptions) -> Workload:
    """The kv workload, over ``options.keys`` keys at a time (10), each for ``options.ops_per_key`` operations or so."""
    count = options.keys or KEYS
    compact_share = min(MOST_COMPACTIONS, COMPACTIONS_A_S / options.rate)
    ops = KvOps(count, count * options.ops_per_key, compact_share, "18667" in options.avoid, (_ABSENT,) * count)
    return Workload(
        name="kv",
        generator=rate(options.rate, ops),
        final=lambda _: _read_everything(),
        checkers=(KvChecker(),),
        least_ok=LEAST_OK,
    )


def _read_everything() -> Generator:
    """Every thread reads all keys: so every member is asked, both for its own state and for the cluster's."""
    reads = [Op(f="range", value=["range", None, 0, stale]) for stale in (True, False)]
    return clients(each_thread(reads))
