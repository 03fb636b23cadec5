"""Elections: candidates campaign, proclaim, resign and lose their sessions, over and over; observers follow.

Each client thread is a candidate or an observer for the whole run; a candidate
stands in one election at a time, and campaigns again after it has ceased to
lead, as a service would.  ``key`` is the election.

============  =====================  ===============================================
operation     ``value``              ok means
============  =====================  ===============================================
``campaign``  the value to proclaim  the client was told that it leads
``proclaim``  the new value          the leader's key has it
``write``     what to write          it was written, guarded by the leader's key
``resign``    None                   the leader's key was given up
``abandon``   None                   the session is renewed no more, and expires; its
                                     client goes on as if nothing had happened
``retire``    None                   the session was ended with its keys
``leader``    None                   ``value`` is who leads, None for nobody
``observe``   for how long, in s     ``value`` is how many leaders and values were
                                     seen; each is an event of the operation
============  =====================  ===============================================

A leader or a value seen is ``[key, value, create_revision, mod_revision]``.  Every
value is unique within the run.  ``extra["api"]`` says how: by the client's own
recipe ("client") or by the server-side service ("server"), which contend in the
same elections unless ``--option api`` chooses one.

Finds: two leaders at one revision, leaders out of turn, lost and phantom keys
and values, writes of deposed leaders that their guard let through, observers
that are told of leaders that never were or in the wrong order, elections that
never recover.  Cannot find: leases that expire too early or too late (measured
here as overlapping beliefs; the lease workload judges them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from splitvote.checkers.election import DEPOSED, NOT_LEADING, ElectionChecker
from splitvote.harness.generator import (
    Answer,
    Context,
    Generator,
    clients,
    concurrency_limit,
    each_thread,
    limit,
    phases,
    rate,
    reserve,
    until_ok,
)
from splitvote.harness.generator.core import fill_in
from splitvote.harness.op import Op
from splitvote.workloads.workload import Workload, WorkloadOptions

ELECTIONS: Final = 2
LEAST_OK: Final = {"campaign": 5, "proclaim": 5, "write": 5, "resign": 2, "observe": 2, "leader": 3}
CAMPAIGN_S: Final = 10.0
TTL_S: Final = 2
"""What sessions ask for; the server grants no less than one and a half election timeouts."""

FINAL_CAMPAIGN_S: Final = 20.0
FINAL_TRIES: Final = 3

_APIS: Final = {"both": ("client", "server"), "client": ("client",), "server": ("server",)}
_END_SHARE: Final = 0.08
"""How likely a leader's next operation ends its reign."""

_ENDS: Final = ("resign", "resign", "abandon", "retire")
_REIGN: Final = ("write", "write", "proclaim")
_OBSERVE_S: Final = (1, 2, 4)
_LEADER_READS: Final = 0.6
_ENDS_REIGN: Final = frozenset({"resign", "retire"})
_WHAT, _WHERE, _HOW, _LENGTH = range(4)
"""Lanes of the draws for one operation."""


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One candidate without end; ``leads`` is the election that it believes to lead, None while it does not."""

    elections: tuple[str, ...]
    apis: tuple[str, ...]
    campaign_s: float
    ttl_s: int
    leads: str | None = None
    has_abandoned: bool = False
    observes: bool = True

    def op(self, ctx: Context) -> Answer:
        """Campaign while it does not lead; else reign, until it ends that or learns that it was deposed."""
        made = fill_in(self._campaign(ctx) if self.leads is None else self._reign(ctx), ctx)
        return None if made is None else (made, self)

    def _campaign(self, ctx: Context) -> Op:
        return campaign(
            ctx,
            ctx.choice(self.elections, _WHERE),
            api=ctx.choice(self.apis, _HOW),
            within_s=self.campaign_s,
            ttl_s=self.ttl_s,
        )

    def _reign(self, ctx: Context) -> Op:
        if not self.has_abandoned and ctx.unit(_WHAT) < _END_SHARE:
            return Op(f=ctx.choice(_ENDS, _HOW), key=self.leads)
        return Op(f=ctx.choice(_REIGN, _HOW), key=self.leads, value=str(ctx.counter))

    def update(self, ctx: Context, event: Op) -> Generator:
        """Learn from its own operations whether it leads; a new process starts without anything."""
        if event.type == "info":
            return self._now(None)
        if event.type == "fail":
            is_deposed = (event.error or "").startswith((DEPOSED, NOT_LEADING))
            return self._now(None) if is_deposed or event.f in _ENDS_REIGN else self
        if event.type != "ok":
            return self
        if event.f == "campaign":
            return self._now(event.key)
        if event.f == "abandon":
            return self._now(self.leads, has_abandoned=True)
        return self._now(None) if event.f in _ENDS_REIGN else self

    def _now(self, leads: str | None, *, has_abandoned: bool = False) -> Candidate:
        return msgspec.structs.replace(self, leads=leads, has_abandoned=has_abandoned)


class Observer(msgspec.Struct, frozen=True, gc=False):
    """One observer without end: follows an election for some seconds, or asks once who leads."""

    elections: tuple[str, ...]
    apis: tuple[str, ...]
    observes: bool = False

    def op(self, ctx: Context) -> Answer:
        """An ``observe`` or a ``leader``."""
        extra = {"api": ctx.choice(self.apis, _HOW)}
        election = ctx.choice(self.elections, _WHERE)
        if ctx.unit(_WHAT) < _LEADER_READS:
            template = Op(f="leader", key=election, extra=extra)
        else:
            template = Op(f="observe", key=election, value=ctx.choice(_OBSERVE_S, _LENGTH), extra=extra)
        made = fill_in(template, ctx)
        return None if made is None else (made, self)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Nothing to learn."""
        return self


def campaign(ctx: Context, election: str, *, api: str, within_s: float, ttl_s: int, **extra: Any) -> Op:
    """A campaign with a value that never comes twice."""
    extra |= {"api": api, "within_s": within_s, "ttl_s": ttl_s}
    return Op(f="campaign", key=election, value=str(ctx.counter), extra=extra)


def workload(options: WorkloadOptions) -> Workload:
    """The election workload, over ``options.keys`` elections (2, or 1 where there are few clients).

    The option ``api`` (both, client, server) chooses how candidates and
    observers go about it; ``ttl_s`` is their sessions' TTL, ``campaign_s`` a
    campaign's patience.
    """
    options.need_threads("election", 3)
    observers = max(1, options.concurrency // 4)
    candidates = options.concurrency - observers
    count = options.keys or (ELECTIONS if candidates >= 2 * ELECTIONS else 1)
    elections = tuple(f"e{number}" for number in range(count))
    apis = _APIS[options.choice("api", tuple(_APIS))]
    campaign_s = options.number("campaign_s", CAMPAIGN_S)
    ttl_s = round(options.number("ttl_s", TTL_S))
    shares = reserve(
        observers,
        each_thread(Observer(elections, apis)),
        candidates,
        each_thread(Candidate(elections, apis, campaign_s, ttl_s)),
    )
    return Workload(
        name="election",
        generator=rate(options.rate, shares),
        final=lambda used: _ending(used, apis, ttl_s),
        checkers=(ElectionChecker(),),
        least_ok=LEAST_OK,
        longest_op_s=max(campaign_s, FINAL_CAMPAIGN_S),
        options=("api", "campaign_s", "ttl_s"),
    )


def _ending(used: Sequence[Any], apis: tuple[str, ...], ttl_s: int) -> Generator | None:
    """Everybody retires; then each election must be won once more, and every client asks who leads it."""
    if not used:
        return None
    retire = each_thread({"f": "retire"})
    wins = [_one_by_one(_final_campaigns(election, apis[0], ttl_s)) for election in used]
    reads = each_thread([Op(f="leader", key=election, extra={"api": apis[-1]}) for election in used])
    return clients(phases(retire, *wins, reads))


def _one_by_one(campaigns: Any) -> Generator:
    """One campaign after the other until one is won."""
    return until_ok(limit(FINAL_TRIES, concurrency_limit(1, campaigns)))


def _final_campaigns(election: str, api: str, ttl_s: int) -> Any:
    def campaign_of(ctx: Context) -> Op:
        return campaign(ctx, election, api=api, within_s=FINAL_CAMPAIGN_S, ttl_s=ttl_s, is_final=True)

    return campaign_of
