"""Leases: granted and revoked through the log, renewed and expired by the leader's own clock alone.

A lessor is *primary* on the leader.  Only a primary one lets leases expire: a
pass every ``PASS_S`` names what is over to the host, which revokes it by
proposals; what is not gone ``RETRY_S`` later is named again.  On promotion every
lease gets its full TTL (or what the last checkpoint left of it) and an extension
anew, since the new leader does not know when it was renewed last; a demoted
lessor expires nothing, ever.  A renewal of an expired lease waits for the
revocation that is under way.  Source: etcd's server/lease/lessor.go.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from splitvote.harness.simulation.backend import Backend, StoredLease
from splitvote.harness.simulation.interface import Host, LeaseCheckpoint, Timer
from splitvote.harness.simulation.refusals import LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE, error

PASS_S: Final = 0.5
EXPIRIES_A_PASS: Final = 500
EXPIRIES_A_SECOND: Final = 1000
RETRY_S: Final = 3.0
STALL_S: Final = 0.3
"""A pass that is so late (three heartbeats) comes from a process that was suspended."""

MAX_TTL_S: Final = 9_000_000_000
CHECKPOINTS_AN_ENTRY: Final = 1000

FOREVER_S: Final = math.inf


class NotPrimary(Exception):
    """A lessor is not, or no longer, the leader's: ask the leader's."""


class Lease:
    """One lease; times are by the member's own clock, and ``expires_s`` means something on the leader only.

    ``granted_s`` is when this process first knew of it.
    """

    __slots__ = ("checkpoint_s", "ends", "expires_s", "granted_s", "id", "keys", "remaining_s", "retry_s", "ttl_s")

    def __init__(self, lease_id: int, ttl_s: int, remaining_s: int = 0, *, granted_s: float) -> None:
        self.id = lease_id
        self.ttl_s = ttl_s
        self.granted_s = granted_s
        self.remaining_s = remaining_s
        self.expires_s = FOREVER_S
        self.retry_s = -FOREVER_S
        self.checkpoint_s = FOREVER_S
        self.keys: dict[bytes, None] = {}
        self.ends: list[asyncio.Future[bool]] = []

    def settle(self, is_revoked: bool) -> None:
        """Tell the renewals that wait for the lease's end."""
        for waiting in self.ends:
            if not waiting.done():
                waiting.set_result(is_revoked)
        self.ends.clear()


class Lessor:
    """The leases of one member.

    ``is_doubtful`` is whether the process may have slept through a change of
    leaders: a pass came late, and nobody has confirmed the lead since.

    ``min_ttl_s`` is what shorter TTLs are raised to; ``checkpoint_interval_s``
    the time between checkpoints of a long lease, None (as etcd's default) for none.
    """

    def __init__(
        self, backend: Backend, host: Host, *, min_ttl_s: int, checkpoint_interval_s: float | None = None
    ) -> None:
        self._backend = backend
        self._host = host
        self._min_ttl_s = min_ttl_s
        self._checkpoint_interval_s = checkpoint_interval_s
        self._is_primary = False
        self.is_doubtful = False
        self._due_s = 0.0
        self._timer: Timer | None = None
        self._leases: dict[int, Lease] = {}
        self._lease_of: dict[bytes, int] = {}
        self._ttl_of_revoked: dict[int, int] = {}
        self.recover()

    def recover(self) -> None:
        """Build the leases anew from what the backend holds; the store attaches their keys."""
        for lease in self._leases.values():
            lease.settle(is_revoked=False)
        now_s = self._host.clock.now_s()
        self._leases = {
            lease_id: Lease(lease_id, max(stored.ttl_s, self._min_ttl_s), stored.remaining_s, granted_s=now_s)
            for lease_id, stored in self._backend.leases.items()
        }
        self._lease_of.clear()

    @property
    def is_primary(self) -> bool:
        """Whether this is the leader's lessor."""
        return self._is_primary

    # ---- through the log, on every member alike

    def grant(self, lease_id: int, ttl_s: int) -> Lease:
        """Grant a lease; raises what etcd answers for an id in use or a TTL that is too large."""
        if lease_id == 0:
            raise error(LEASE_NOT_FOUND)
        if ttl_s > MAX_TTL_S:
            raise error(LEASE_TTL_TOO_LARGE)
        if lease_id in self._leases:
            raise error(LEASE_EXISTS)
        lease = Lease(lease_id, max(ttl_s, self._min_ttl_s), granted_s=self._host.clock.now_s())
        self._leases[lease_id] = lease
        self._backend.set_lease(lease_id, StoredLease(lease.ttl_s))
        if self._is_primary:
            self._refresh(lease, 0.0)
            self._schedule_checkpoint(lease)
        return lease

    def remove(self, lease_id: int) -> list[bytes]:
        """Forget a lease; returns its keys in order, to be deleted in one transaction."""
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            raise error(LEASE_NOT_FOUND)
        self._backend.set_lease(lease_id, None)
        lease.settle(is_revoked=True)
        if self._host.mutants.has("keepalive-renews-revoked-lease"):
            self._ttl_of_revoked[lease_id] = lease.ttl_s
        return sorted(lease.keys)

    def checkpoint(self, lease_id: int, remaining_s: int) -> None:
        """Note how much of a lease is left, for the next promotion."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return
        lease.remaining_s = remaining_s
        self._backend.set_lease(lease_id, StoredLease(lease.ttl_s, remaining_s))
        if self._is_primary:
            self._schedule_checkpoint(lease)

    def attach(self, lease_id: int, key: bytes) -> None:
        """A key belongs to a lease."""
        lease = self._leases.get(lease_id)
        if lease is not None:
            lease.keys[key] = None
            self._lease_of[key] = lease_id

    def detach(self, key: bytes) -> None:
        """A key belongs to no lease any more."""
        lease = self._leases.get(self._lease_of.pop(key, 0))
        if lease is not None:
            lease.keys.pop(key, None)

    # ---- on this member

    def get(self, lease_id: int) -> Lease | None:
        """A lease, if there is one."""
        return self._leases.get(lease_id)

    def leases(self) -> list[Lease]:
        """All of them, the first to expire first."""
        return sorted(self._leases.values(), key=lambda lease: (lease.expires_s, lease.id))

    def remaining_s(self, lease: Lease) -> float:
        """How long until a lease expires, by this member's clock."""
        return lease.expires_s - self._host.clock.now_s()

    async def renew(self, lease_id: int) -> int:
        """Give a lease its full TTL again; returns it in seconds.

        Raises TransportError when there is no such lease (any more), NotPrimary
        when this lessor does not lead.
        """
        if not self._is_primary:
            raise NotPrimary
        lease = self._leases.get(lease_id)
        if lease is None:
            ttl_s = self._ttl_of_revoked.get(lease_id)
            if ttl_s is not None and self._host.mutants.fires("keepalive-renews-revoked-lease"):
                return ttl_s
            raise error(LEASE_NOT_FOUND)
        clears_remaining = lease.remaining_s > 0
        if self.remaining_s(lease) <= 0:
            end = asyncio.get_running_loop().create_future()
            lease.ends.append(end)
            if await end:
                raise error(LEASE_NOT_FOUND)
            raise NotPrimary
        if clears_remaining:
            lease.remaining_s = 0
            self._host.checkpoint(LeaseCheckpoint(((lease.id, 0),)))
        self._refresh(lease, 0.0)
        return lease.ttl_s

    def promote(self, extend_s: float) -> None:
        """Become primary: every lease begins anew, with an extension."""
        self._is_primary = True
        for lease in self._leases.values():
            self._refresh(lease, extend_s)
            if lease.granted_s + lease.ttl_s < lease.expires_s and self._host.mutants.fires(
                "promote-without-extension"
            ):
                lease.expires_s = lease.granted_s + lease.ttl_s
            self._schedule_checkpoint(lease)
        if len(self._leases) >= EXPIRIES_A_SECOND:
            self._spread(extend_s)
        self.is_doubtful = False
        if self._timer is None:
            self._schedule_pass()

    def demote(self) -> None:
        """Be primary no more: no lease expires here."""
        self._is_primary = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for lease in self._leases.values():
            lease.expires_s = lease.checkpoint_s = FOREVER_S
            lease.settle(is_revoked=False)

    def _schedule_pass(self) -> None:
        self._due_s = self._host.clock.now_s() + PASS_S
        self._timer = self._host.clock.call_later(PASS_S, self._pass)

    def _refresh(self, lease: Lease, extend_s: float) -> None:
        lease.expires_s = self._host.clock.now_s() + extend_s + (lease.remaining_s or lease.ttl_s)
        lease.retry_s = -FOREVER_S

    def _spread(self, extend_s: float) -> None:
        """Delay leases that would expire in one second with too many others (etcd's Promote)."""
        a_second = 3 * EXPIRIES_A_SECOND // 4
        leases = self.leases()
        base_s = self.remaining_s(leases[0])
        next_s, count = base_s + 1.0, 0
        for lease in leases:
            remaining_s = self.remaining_s(lease)
            if remaining_s > next_s:
                base_s, next_s, count = remaining_s, remaining_s + 1.0, 1
                continue
            count += 1
            if count > a_second:
                delay_s = count / a_second - (remaining_s - base_s)
                next_s = base_s + delay_s
                self._refresh(lease, extend_s + delay_s)

    def _pass(self) -> None:
        """Name what has expired, and what is to be checkpointed, to the host."""
        now_s = self._host.clock.now_s()
        self.is_doubtful |= now_s - self._due_s > STALL_S
        self._schedule_pass()
        expired = [lease for lease in self.leases() if lease.expires_s <= now_s and lease.retry_s <= now_s]
        if expired:
            for lease in expired[:EXPIRIES_A_PASS]:
                lease.retry_s = now_s + RETRY_S
            self._host.revoke_expired([lease.id for lease in expired[:EXPIRIES_A_PASS]])
        if self._checkpoint_interval_s is not None:
            self._checkpoint_due(now_s)

    def _schedule_checkpoint(self, lease: Lease) -> None:
        interval_s = self._checkpoint_interval_s
        if interval_s is not None and (lease.remaining_s or lease.ttl_s) > interval_s:
            lease.checkpoint_s = self._host.clock.now_s() + interval_s

    def _checkpoint_due(self, now_s: float) -> None:
        due = [lease for lease in self._leases.values() if lease.checkpoint_s <= now_s < lease.expires_s]
        for lease in due:
            lease.checkpoint_s = FOREVER_S
        left = [(lease.id, math.ceil(lease.expires_s - now_s)) for lease in due]
        left = [(lease_id, left_s) for lease_id, left_s in left if left_s < self._leases[lease_id].ttl_s]
        for first in range(0, len(left), CHECKPOINTS_AN_ENTRY):
            self._host.checkpoint(LeaseCheckpoint(tuple(left[first : first + CHECKPOINTS_AN_ENTRY])))
