"""Leases: granted, kept alive, used by keys, revoked, left to expire, while leaders come and go.

Operations.  ``key`` is the lease's id, which the workload chooses and never uses
twice; ``value`` of an invocation is the request, of an ok completion the answer:

=============  =====================================  ==========================================
``grant``      ``["grant", lease, ttl]``              the granted TTL in seconds
``again``      the same, of a lease that is there     to be refused
``keepalive``  ``["keepalive", lease]``               the TTL; one request on a stream of its own
``stream``     ``["stream", lease, bursts, size, s]`` how many renewals; each request (``["ask"]``)
                                                      and answer (``["answer", ttl]``) is an event
``revoke``     ``["revoke", lease]``                  None
``ttl``        ``["ttl", lease]``                     ``[ttl, granted, keys]``
``put``        ``["put", key, value, lease]``         None; lease 0 detaches the key
``get``        ``["get"]``                            ``[[key, value, lease], ...]`` of all keys
``leftover``   ``["ttl", lease]``                     as ``ttl``: asked at the end, of every lease
=============  =====================================  ==========================================

Leases live in slots.  One that is renewed is renewed until its time is over, by
clients at every member; then it is revoked, or left to expire.  Others are never
renewed.  Leases that are gone are still asked for, renewed and put with.

Finds: leases that end early, late, piecemeal or not at all; renewals of leases
that are gone; keys that end with a lease they were detached from, or do not end
with the one they were attached to.  Cannot find: what happens to keys that
clients delete themselves, checkpoints, leases under authentication.

A leader that is suspended for longer than a lease's TTL revokes the lease when it
goes on, even if the lease was renewed at the new leader meanwhile (issue 15247).
It needs a renewed lease whose TTL is shorter than such a pause: ``--avoid 15247``
renews only leases of 60 seconds, which no pause of a schedule lasts for (unless
``--interval`` is raised past 15 s), and leaves shorter ones to expire unrenewed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, Literal

import msgspec

from splitvote.checkers.lease import LATE_AFTER_S, LeaseChecker
from splitvote.harness.generator import Answer, Context, Generator, clients, each_thread, phases, rate, sleep
from splitvote.harness.generator.core import fill_in
from splitvote.harness.op import Op
from splitvote.workloads.workload import Workload, WorkloadOptions

SLOTS: Final = 12
KEYS_PER_LEASE: Final = 3
LEAST_OK: Final = {"grant": 5, "keepalive": 10, "stream": 2, "put": 10, "ttl": 5, "get": 2, "revoke": 1}

SHORT_TTL_S: Final = (1, 2, 2, 3, 5)
"""1 is below etcd's minimum of 1.5 election timeouts, so that the granted TTL is another than the one asked for."""

LONG_TTL_S: Final = 60
RENEWED_SHARE: Final = 0.65
HOLD_S: Final = (4.0, 24.0)
"""How long a lease is renewed: longer than a fault is held, so that some live through one."""

STREAMS: Final = ((6, 1, 0.5), (16, 1, 0.2), (2, 25, 1.5), (1, 1, 0.0))
"""Bursts, requests in a burst, seconds between bursts."""

LONGEST_STREAM_S: Final = max(bursts * every_s for bursts, _, every_s in STREAMS)
REMEMBERED: Final = 6

_SHARES: Final = {
    "keepalive": 0.34,
    "put": 0.28,
    "ttl": 0.12,
    "get": 0.06,
    "stream": 0.06,
    "detach": 0.04,
    "gone": 0.05,
    "fading": 0.03,
    "again": 0.02,
}
_UNTIL: Final = tuple(zip(_SHARES, accumulate(_SHARES.values()), strict=True))
_KIND, _SLOT, _KEY, _SHAPE, _TTL, _HOLD, _END, _RENEWED = range(8)
"""Lanes of the draws for one operation."""


class Slot(msgspec.Struct, frozen=True, gc=False):
    """A place for one lease at a time; 0 is no lease.  ``is_ready`` is when it was granted and is not being revoked."""

    lease: int = 0
    ttl_s: int = 0
    is_renewed: bool = False
    until_ns: int = 0
    ending: Literal["revoke", "expire"] = "expire"
    is_ready: bool = False


EMPTY: Final = Slot()


class LeaseOps(msgspec.Struct, frozen=True, gc=False):
    """An endless mix over the slots.

    ``gone`` are leases that were seen to be gone, ``fading`` those that nobody
    renews any more; ``streams`` is how many long streams are open.
    """

    slots: tuple[Slot, ...]
    keys: tuple[str, ...]
    renewed_ttls_s: tuple[int, ...]
    most_streams: int
    gone: tuple[int, ...] = ()
    fading: tuple[int, ...] = ()
    streams: int = 0
    observes: bool = True

    def op(self, ctx: Context) -> Answer:
        """One operation: first what the drawn slot needs, else one of the mix."""
        place = ctx.below(len(self.slots), _SLOT)
        slot = self.slots[place]
        template: Op
        following = self
        if not slot.lease:
            fresh = self._fresh(ctx)
            template = Op(f="grant", key=fresh.lease, value=["grant", fresh.lease, fresh.ttl_s])
            following = self._with(place, fresh)
        elif slot.is_ready and ctx.time_ns >= slot.until_ns:
            template, following = self._ended(place, slot, ctx)
        else:
            template = self._mixed(slot, ctx)
            if template.f == "stream":
                following = msgspec.structs.replace(self, streams=self.streams + 1)
        made = fill_in(template, ctx)
        if made is None:
            return None
        return made, (following if type(made) is Op else self)

    def _fresh(self, ctx: Context) -> Slot:
        is_renewed = ctx.unit(_RENEWED) < RENEWED_SHARE
        ttl_s = ctx.choice(self.renewed_ttls_s if is_renewed else SHORT_TTL_S, _TTL)
        hold_s = HOLD_S[0] + (HOLD_S[1] - HOLD_S[0]) * ctx.unit(_HOLD) if is_renewed else ttl_s * 2 * ctx.unit(_HOLD)
        return Slot(
            lease=ctx.counter + 1,
            ttl_s=ttl_s,
            is_renewed=is_renewed,
            until_ns=ctx.time_ns + int(hold_s * 1e9),
            ending="revoke" if ctx.unit(_END) < 0.4 else "expire",
        )

    def _ended(self, place: int, slot: Slot, ctx: Context) -> tuple[Op, LeaseOps]:
        if slot.ending == "revoke":
            revoke = Op(f="revoke", key=slot.lease, value=["revoke", slot.lease])
            return revoke, self._with(place, msgspec.structs.replace(slot, is_ready=False))
        fading = (*self.fading, slot.lease)[-REMEMBERED:]
        return _ttl(slot.lease), msgspec.structs.replace(self._with(place, EMPTY), fading=fading)

    def _mixed(self, slot: Slot, ctx: Context) -> Op:
        draw = ctx.unit(_KIND)
        kind = next((kind for kind, until in _UNTIL if draw < until), "get")
        if kind == "get":
            return Op(f="get", value=["get"])
        if kind == "gone" and self.gone:
            return self._of_a_gone_lease(ctx)
        if kind == "fading" and self.fading:
            lease = ctx.choice(self.fading, _SHAPE)
            return _ttl(lease) if ctx.unit(_TTL) < 0.6 else self._put(lease, ctx)
        if kind == "detach" or not slot.is_ready:
            return self._put(0, ctx)
        if kind in ("keepalive", "stream") and slot.is_renewed:
            if kind == "stream" and self.streams < self.most_streams:
                return Op(f="stream", key=slot.lease, value=["stream", slot.lease, *ctx.choice(STREAMS, _SHAPE)])
            return Op(f="keepalive", key=slot.lease, value=["keepalive", slot.lease])
        if kind == "again":
            return Op(f="again", key=slot.lease, value=["grant", slot.lease, slot.ttl_s])
        return _ttl(slot.lease) if kind == "ttl" else self._put(slot.lease, ctx)

    def _of_a_gone_lease(self, ctx: Context) -> Op:
        lease, shape = ctx.choice(self.gone, _TTL), ctx.unit(_SHAPE)
        if shape < 0.5:
            return Op(f="keepalive", key=lease, value=["keepalive", lease])
        return _ttl(lease) if shape < 0.75 else self._put(lease, ctx)

    def _put(self, lease: int, ctx: Context) -> Op:
        return Op(f="put", key=lease or None, value=["put", ctx.choice(self.keys, _KEY), str(ctx.counter), lease])

    def _with(self, place: int, slot: Slot) -> LeaseOps:
        return msgspec.structs.replace(self, slots=(*self.slots[:place], slot, *self.slots[place + 1 :]))

    def update(self, ctx: Context, event: Op) -> Generator:
        """Learn which leases there are, and which are gone."""
        if event.type == "invoke":
            return self
        known = self
        if event.f == "stream":
            known = msgspec.structs.replace(self, streams=max(0, self.streams - 1))
        place = next((place for place, slot in enumerate(self.slots) if slot.lease == event.key), None)
        if place is not None:
            return known._of_slot(place, event)
        if _says_gone(event) and event.key in self.fading:
            fading = tuple(lease for lease in self.fading if lease != event.key)
            return msgspec.structs.replace(known, fading=fading, gone=(*self.gone, event.key)[-REMEMBERED:])
        return known

    def _of_slot(self, place: int, event: Op) -> LeaseOps:
        slot = self.slots[place]
        if event.f == "grant":
            granted = msgspec.structs.replace(slot, is_ready=True) if event.type == "ok" else EMPTY
            return self._with(place, granted)
        if event.type == "ok" and event.f == "ttl" and event.value[:2] == [-1, 0]:
            # Perhaps by a leader that was left behind: it is not renewed before the store itself says that it is gone.
            return msgspec.structs.replace(self._with(place, EMPTY), fading=(*self.fading, slot.lease)[-REMEMBERED:])
        if _says_gone(event):
            gone = (*self.gone, slot.lease)[-REMEMBERED:]
            return msgspec.structs.replace(self._with(place, EMPTY), gone=gone)
        return self._with(place, EMPTY) if event.f == "revoke" else self


def _ttl(lease: int) -> Op:
    return Op(f="ttl", key=lease, value=["ttl", lease])


def _says_gone(event: Op) -> bool:
    """Whether a completion says that its lease is not there any more."""
    if event.f == "revoke" and event.type == "ok":
        return True
    return event.type == "fail" and (event.error or "").startswith("lease-not-found")


def workload(options: WorkloadOptions) -> Workload:
    """The lease workload; ``options.keys`` is how many leases live at a time (12)."""
    options.need_threads("lease", 2)
    slots = options.keys or SLOTS
    ops = LeaseOps(
        slots=(EMPTY,) * slots,
        keys=tuple(f"k{number}" for number in range(slots * KEYS_PER_LEASE)),
        renewed_ttls_s=(LONG_TTL_S,) if "15247" in options.avoid else SHORT_TTL_S,
        most_streams=max(1, options.concurrency // 3),
    )
    return Workload(
        name="lease",
        generator=rate(options.rate, ops),
        final=_look_for_leftovers,
        checkers=(LeaseChecker(),),
        least_ok=LEAST_OK,
        longest_op_s=LONGEST_STREAM_S + options.timeout_s,
    )


def _look_for_leftovers(leases: Sequence[Any]) -> Generator:
    """Wait for what nobody renews to expire, then ask for every lease, and let every thread read all keys."""
    asked = [Op(f="leftover", key=lease, value=["ttl", lease]) for lease in leases]
    return clients(phases(sleep(max(SHORT_TTL_S) + LATE_AFTER_S), asked, each_thread(Op(f="get", value=["get"]))))
