"""Watches of every kind on keys that are written, deleted and compacted; each promise of a watch is judged by name.

Operations (``checkers.watch.plan`` has their language).  Writers ``put``,
``delete``, do several of both in one ``txn``, and ``compact``; every value is
unique.  A ``watch`` is one stream with its watches, for some seconds: from now,
from past revisions, compacted ones, exactly the compact revision, the future; of
one key, some, all; with filters, previous states, fragments and progress; by
readers that stop to read for a while; on streams that are cut and resumed.  What
they see are events of the operation.  Now and then a transaction puts values so
wide that what a watch is told of it must come in fragments.

After the final heal one ``converge`` watches from the past through every member,
until each has told everything up to the newest revision.

Finds: events lost, repeated, reordered, torn apart, invented or with wrong
contents; progress that overtakes events (issue 15220); compacted starts that are
served or left without an answer; acknowledged writes that are not in the history.
Cannot find: how late an event comes, except that it comes in the end.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Final

import msgspec

from splitvote.checkers.watch import WatchChecker
from splitvote.checkers.watch.plan import Start, Watched, WatchPlan, value_of
from splitvote.harness.generator import (
    Answer,
    Context,
    Generator,
    GeneratorLike,
    clients,
    delay,
    once,
    rate,
    repeat,
    reserve,
)
from splitvote.harness.generator.core import fill_in
from splitvote.harness.op import Op
from splitvote.workloads.workload import Workload, WorkloadOptions

KEYS: Final = 40
WATCHES: Final = 300
"""The most watches on one stream, unless set."""

KINDS_IN_CROWD: Final = 20
"""The different watches of a crowded stream; each comes many times."""

LEAST_OK: Final = {"put": 10, "delete": 1, "txn": 2, "watch": 1, "converge": 1}
MOST_STREAMS_A_S: Final = 2.0
"""How many streams a watching thread begins a second at the most: one whose watches all end at once is brief."""

WATCHERS_SHARE: Final = 0.5
"""The share of the client threads that watch, unless set."""

PAST: Final = 2000
"""How far back watches go, in revisions; compaction leaves about as much."""

COMPACTIONS_A_S: Final = 0.25
WIDE_A_S: Final = 0.2
WIDTH: Final = 370_000
"""Three such values fit into a request (1.5 MiB); with their previous states they pass the server's bound on an
answer (2 MiB), so that it must be sent in fragments."""

NORMAL: Final = ("k", "l")
"""From and up to: all keys but the wide ones."""

WIDE_KEYS: Final = ("w0", "w1", "w2")
LONGEST_S: Final = 8.0
CONVERGE_BOUND_S: Final = 30.0
PROGRESS_S: Final = (0.02, 0.1, 0.5)
EVERYTHING: Final = 2**40
"""So far back that it is the beginning, or what is left of it."""

_SHARES: Final = {"put": 0.60, "txn": 0.22, "delete": 0.18}
_UNTIL: Final = tuple(zip(_SHARES, accumulate(_SHARES.values()), strict=True))
_KIND, _KEY, _SHAPE, _FAR, _COUNT, _RARE = range(6)
"""Lanes of the draws for one write."""


class WriteOps(msgspec.Struct, frozen=True, gc=False):
    """An endless mix of writes.

    ``newest`` is the newest revision that one was answered at, ``deletion`` the
    newest at which something was deleted.
    """

    keys: tuple[str, ...]
    compact_share: float
    wide_share: float
    newest: int = 1
    deletion: int = 1
    observes: bool = True

    def op(self, ctx: Context) -> Answer:
        """One write of the mix."""
        rare = ctx.unit(_RARE)
        if rare < self.compact_share:
            op = Op(f="compact", value=["compact", self._compacted(ctx)])
        elif rare < self.compact_share + self.wide_share:
            op = Op(f="txn", value=["txn", *(["put", key, f"{ctx.counter}.{key}", WIDTH] for key in WIDE_KEYS)])
        else:
            op = self._write(ctx)
        made = fill_in(op, ctx)
        return None if made is None else (made, self)

    def _write(self, ctx: Context) -> Op:
        kind = ctx.unit(_KIND)
        f = next((f for f, until in _UNTIL if kind < until), "put")
        place = ctx.below(len(self.keys), _KEY)
        key, value = self.keys[place], str(ctx.counter)
        if f == "put":
            return Op(f=f, key=key, value=["put", key, value])
        if f == "delete":
            few = ctx.unit(_SHAPE) < 0.2
            return Op(f=f, key=key, value=["delete", key, _after(self.keys, place, 4)] if few else ["delete", key])
        count = min(2 + ctx.below(4, _COUNT), len(self.keys))
        changed = [self.keys[(place + step) % len(self.keys)] for step in range(count)]
        deleted = changed[-1] if ctx.unit(_SHAPE) < 0.4 else None
        parts = [["delete", k] if k == deleted else ["put", k, f"{value}.{step}"] for step, k in enumerate(changed)]
        return Op(f=f, value=["txn", *parts])

    def _compacted(self, ctx: Context) -> int:
        """Mostly far behind the newest, so that there is a past to watch; at times right behind it.

        Or exactly at a deletion, which a watch from there must still tell (issues 18089 and 19179).
        """
        shape = ctx.unit(_SHAPE)
        if shape < 0.25:
            return self.deletion
        kept = ctx.below(20, _FAR) if shape < 0.4 else PAST // 8 + ctx.below(PAST, _FAR)
        return max(1, self.newest - kept)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Remember the newest revisions."""
        if event.type != "ok" or event.revision is None or event.revision <= self.newest:
            return self
        counts = event.value if isinstance(event.value, list) else [event.value]
        deletion = event.revision if any(counts) else self.deletion
        return WriteOps(self.keys, self.compact_share, self.wide_share, event.revision, deletion)


def _after(keys: tuple[str, ...], place: int, count: int) -> str:
    """The end of a range of so many keys."""
    return keys[place + count] if place + count < len(keys) else NORMAL[1]


class WatchOps(msgspec.Struct, frozen=True, gc=False):
    """An endless mix of streams of watches; ``most`` is how many watches one may have, ``longest_s`` its length."""

    keys: tuple[str, ...]
    most: int
    longest_s: float
    observes: bool = False

    def op(self, ctx: Context) -> Answer:
        """One stream."""
        made = fill_in(Op(f="watch", value=value_of(_mixed_plan(self, ctx))), ctx)
        return None if made is None else (made, self)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Nothing to learn."""
        return self


(
    _LENGTH, _SIZE, _WATCHES, _MEMBER, _CUTS, _CUT, _PAUSE, _PAUSE_AT, _PROGRESS, _EVERY, _CANCEL, _CANCELED, _RESUME,
    _LEADER, _FROM,
) = range(15)  # fmt: skip
"""Lanes of the draws for one stream; those of its watches begin at _WATCH."""
_WATCH: Final = 100
_LANES_A_WATCH: Final = 8


def _mixed_plan(ops: WatchOps, ctx: Context) -> WatchPlan:
    """A stream of any kind: crowded or not, cut or not, read slowly or not, asking for progress or not."""
    keys, most = ops.keys, ops.most
    for_s = round(ops.longest_s * (0.25 + 0.75 * ctx.unit(_LENGTH)), 2)
    size = ctx.unit(_SIZE)
    is_crowded = size < 0.12
    count = min(most, KINDS_IN_CROWD if is_crowded else 1 + ctx.below(20 if size < 0.4 else 5, _WATCHES))
    copies = most // count if is_crowded else 1
    is_from_past = ctx.unit(_FROM) < 0.4
    cuts = 1 + ctx.below(3, _CUT) if ctx.unit(_CUTS) < 0.35 else 0
    is_slow = ctx.unit(_PAUSE) < 0.2
    return WatchPlan(
        watches=tuple(
            _watch(keys, ctx, _WATCH + number * _LANES_A_WATCH, is_crowded=is_crowded, is_from_past=is_from_past)
            for number in range(count)
        ),
        for_s=for_s,
        copies=copies,
        member=ctx.below(1 << 10, _MEMBER),
        resume="next" if ctx.unit(_RESUME) < 0.5 else "same",
        cuts_s=tuple(round(for_s * (number + 1) / (cuts + 1), 2) for number in range(cuts)),
        pauses_s=((round(0.1 + ctx.unit(_PAUSE_AT), 2), round(for_s / 2, 2)),) if is_slow else (),
        cancels=((round(for_s / 2, 2), ctx.below(count * copies, _CANCELED)),) if ctx.unit(_CANCEL) < 0.2 else (),
        progress_every_s=ctx.choice(PROGRESS_S, _EVERY) if ctx.unit(_PROGRESS) < 0.6 else 0.0,
        require_leader=ctx.unit(_LEADER) < 0.15,
    )


def _watch(keys: tuple[str, ...], ctx: Context, lane: int, *, is_crowded: bool, is_from_past: bool) -> Watched:
    """One watch; in a crowd of single keys, else of some or all as well."""
    place, wide = ctx.below(len(keys), lane), ctx.unit(lane + 1)
    key: str | None = keys[place]
    end: str | None = None
    if not is_crowded and wide < 0.6:
        key, end = (None, None) if wide < 0.1 else NORMAL if wide < 0.35 else (key, _after(keys, place, 8))
    start, by = _start(ctx, lane + 2, is_from_past=is_from_past)
    draw = ctx.unit(lane + 4)
    return Watched(
        key=key,
        end=end,
        start=start,
        by=by,
        without="puts" if draw < 0.1 else "deletes" if draw < 0.2 else "nothing",
        prev_kv=ctx.unit(lane + 5) < 0.4,
        fragment=ctx.unit(lane + 6) < (0.7 if key is None else 0.3),
        progress_notify=ctx.unit(lane + 7) < 0.3,
    )


def _start(ctx: Context, lane: int, *, is_from_past: bool) -> tuple[Start, int]:
    kind, far = ctx.unit(lane), lane + 1
    if kind < 0.04:
        return "compacted", 1 + ctx.below(50, far)
    if kind < 0.12:
        return "compaction", 0
    if kind < 0.16:  # few, and near: a member withholds progress from a stream that has one
        return "future", 1 + ctx.below(100, far)
    return ("past", ctx.below(PAST, far)) if is_from_past or kind < 0.35 else ("now", 0)


def workload(options: WorkloadOptions) -> Workload:
    """The watch workload, over ``options.keys`` keys (40).

    Options: ``watchers``, the client threads that watch (half of them);
    ``watches``, the most watches on one stream (300); ``longest_s``, the seconds
    that a stream lasts at the most (8); ``watching`` (mixed, all), where "all" is
    streams of one watch each, of all normal keys from now on, for ``longest_s``.
    """
    options.need_threads("watch", 2)
    keys = tuple(f"k{number:04}" for number in range(options.keys or KEYS))
    watchers = round(options.number("watchers", max(1, int(options.concurrency * WATCHERS_SHARE))))
    options.need_threads(f"watch with {watchers} watchers", watchers + 1)
    writes = WriteOps(keys, min(0.02, COMPACTIONS_A_S / options.rate), min(0.02, WIDE_A_S / options.rate))
    longest_s = options.number("longest_s", LONGEST_S)
    streams: GeneratorLike = WatchOps(keys, round(options.number("watches", WATCHES)), longest_s)
    if options.choice("watching", ("mixed", "all")) == "all":
        streams = repeat(Op(f="watch", value=value_of(WatchPlan(watches=(Watched(*NORMAL),), for_s=longest_s))))
    return Workload(
        name="watch",
        generator=reserve(watchers, delay(1 / (MOST_STREAMS_A_S * watchers), streams), rate(options.rate, writes)),
        final=lambda _: _watch_everything(keys),
        checkers=(WatchChecker(),),
        least_ok=LEAST_OK,
        longest_op_s=CONVERGE_BOUND_S + longest_s,
        options=("watchers", "watches", "longest_s", "watching"),
    )


def _watch_everything(keys: tuple[str, ...]) -> Generator:
    """One operation that has every member tell what is left of the past, in several ways, up to the newest revision."""
    plan = WatchPlan(
        watches=(
            Watched(start="past", by=EVERYTHING, prev_kv=True, fragment=True),
            Watched(*NORMAL, start="past", by=EVERYTHING),
            Watched(*NORMAL, start="past", by=PAST, without="puts", prev_kv=True),
            Watched(*NORMAL, start="past", by=PAST, without="deletes"),
            Watched(keys[0], start="past", by=EVERYTHING, prev_kv=True),
            Watched(*NORMAL, start="past", by=100),
        ),
        for_s=CONVERGE_BOUND_S,
        progress_every_s=0.1,
    )
    return clients(once(Op(f="converge", value=value_of(plan))))
