"""Mutants: named bugs, each one switch in the code path that it breaks.

A mutant is asked for where it makes a difference and nowhere else::

    if is_stale and not mutants.fires("read-without-read-index"):
        await core.read_index()

so that ``fired`` counts how often behaviour really differed: a mutant that
needs a fault to show is silent, and counts nothing, without one.  Many have been
etcd's own bugs once; they say which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from splitvote.harness.errors import ConfigError, unknown


class Mutant(msgspec.Struct, frozen=True):
    """One bug.

    ``breaks`` is the guarantee that does not hold any more, ``how`` what the code
    does instead; ``needs`` are the families of faults of which it takes one to
    show (none: load alone), ``workloads`` those that are meant to find it, and
    ``etcd_args`` the flags under which it shows soon.
    """

    name: str
    breaks: str
    how: str
    workloads: tuple[str, ...]
    needs: tuple[str, ...] = ()
    etcd_args: tuple[str, ...] = ()


_ELECTIONS: Final = ("kill", "pause", "partition")
"""Faults that change leaders."""

_RESTARTS: Final = ("kill",)
_SNAPSHOTS: Final = ("partition", "pause", "kill")
"""Faults that leave a member so far behind that it is sent a snapshot, by ..."""

_SHORT_LOG: Final = ("--snapshot-count=100", "--experimental-snapshot-catchup-entries=50")
"""... a leader that keeps few entries."""

_MUTANTS: Final = (
    # Reads
    Mutant(
        "read-without-read-index",
        "reads are linearizable",
        "a member answers a read from what it has applied, without asking the leader",
        ("register", "kv"),
        _ELECTIONS,
    ),
    Mutant(
        "read-index-before-first-commit",
        "reads are linearizable",
        "a new leader confirms reads before it has committed an entry of its own term",
        ("kv",),
        ("partition", "packet"),
    ),
    # Raft and the log
    Mutant(
        "ack-before-fsync",
        "acknowledged writes are durable",
        "entries are acknowledged at once, and get to the disk when the kernel writes them back",
        ("register", "kv", "set"),
        ("disk",),
    ),
    Mutant(
        "ack-before-commit",
        "acknowledged writes are durable",
        "a leader answers a put when it has it in its own log",
        ("register", "kv", "set"),
        _ELECTIONS,
    ),
    Mutant(
        "two-votes-in-one-term",
        "one leader a term",
        "members, which all stand at the same time, vote for whoever asks, also when they have voted in the term",
        ("kv", "register"),
        ("kill", "packet"),
    ),
    Mutant(
        "commit-by-counting-in-an-old-term",
        "committed entries stay (Raft, figure 8)",
        "a new leader commits its predecessors' entries once a majority has them, and sends its own only later",
        ("kv", "register"),
        ("pause", "partition"),
    ),
    Mutant(
        "duplicated-message-applied-twice",
        "an operation takes effect once",
        "a forwarded proposal that the network delivers twice is appended twice",
        ("kv", "register"),
        ("packet",),
    ),
    # The backend and restarts
    Mutant(
        "reapply-after-restart",
        "an operation takes effect once on every member",
        "a restarted member applies entries again that are in its backend already",
        ("kv", "register"),
        _RESTARTS,
    ),
    Mutant(
        "consistent-index-ahead-of-data",
        "members agree (etcd 3.5.0 to 3.5.2, issue 13766)",
        "the consistent index is durable before the data that it counts",
        ("kv", "register"),
        _RESTARTS,
    ),
    Mutant(
        "revision-falls-after-crash",
        "revisions only grow, and members agree on them",
        "a restarted member takes the last put for its revision, not a deletion after it",
        ("kv", "watch"),
        _RESTARTS,
    ),
    Mutant(
        "restart-forgets-attachments",
        "a lease's keys end with it, on every member",
        "a restarted member does not attach keys to their leases again",
        ("lease", "lock"),
        _RESTARTS,
    ),
    Mutant(
        "snapshot-loses-leases",
        "leases survive, on every member",
        "a snapshot for a slow follower comes without the table of leases",
        ("lease", "lock"),
        _SNAPSHOTS,
        _SHORT_LOG,
    ),
    # Transactions and versions
    Mutant(
        "ranges-stripped-from-transactions",
        "members agree (issue 18667)",
        "who does not answer the client skips a transaction's ranges, and so the check of their revisions",
        ("kv",),
    ),
    Mutant(
        "compare-on-stale-view",
        "transactions are atomic",
        "comparisons are decided when a transaction arrives, not when it is applied",
        ("register", "kv", "append"),
        ("packet",),
    ),
    Mutant(
        "lost-update",
        "a put overwrites what was there",
        "the second of two puts of one key in consecutive revisions leaves the first one's value",
        ("register", "kv"),
    ),
    Mutant(
        "create-revision-kept",
        "a key's create revision is that of its creation",
        "a key that is put again after a deletion keeps its old create revision",
        ("kv", "watch"),
    ),
    Mutant(
        "version-not-reset",
        "a key's version begins at 1",
        "a key that is put again after a deletion goes on counting",
        ("kv", "watch"),
    ),
    # Compaction
    Mutant(
        "compaction-drops-tombstone",
        "a watch from the compact revision misses nothing (issue 19179)",
        "a deletion at exactly the compact revision is removed",
        ("watch",),
    ),
    Mutant(
        "compaction-removes-live-keys",
        "compaction removes only what was overwritten or deleted",
        "a key that was created at exactly the compact revision is removed",
        ("kv",),
    ),
    # Watches
    Mutant(
        "watch-splits-transaction",
        "watches are atomic",
        "each change of a transaction is told in an answer of its own",
        ("watch",),
    ),
    Mutant(
        "watch-restored-without-min-revision",
        "watches tell an event once",
        "after a snapshot a watch begins again where it first began",
        ("watch",),
        _SNAPSHOTS,
        _SHORT_LOG,
    ),
    Mutant(
        "full-channel-drops-events",
        "watches are reliable",
        "what a client is too slow to take is dropped, and the watch goes on",
        ("watch",),
    ),
    Mutant(
        "progress-ahead-of-events",
        "after a progress report of a revision no event of it comes (issue 15220)",
        "progress is reported for watches that are still behind",
        ("watch",),
    ),
    Mutant(
        "filter-ignored",
        "filters are honoured",
        "a watch that is caught up is told what its filters leave out",
        ("watch",),
    ),
    Mutant(
        "previous-state-from-wrong-revision",
        "prev_kv is the state before the event",
        "the state before an answer's first revision is told for all its events",
        ("watch",),
    ),
    # Leases
    Mutant(
        "stale-leader-revokes-lease",
        "only the leader lets leases expire (issue 15247)",
        "a leader that was suspended revokes by the time it slept through, though it leads no longer",
        ("lease",),
        ("pause",),
    ),
    Mutant(
        "promote-without-extension",
        "a change of leaders ends no lease early",
        "a new leader counts a lease's time from when it was granted",
        ("lease",),
        _ELECTIONS,
    ),
    Mutant(
        "lease-keys-at-different-revisions",
        "a lease's keys go at one revision",
        "each key of a revoked lease is deleted in a transaction of its own",
        ("lease",),
    ),
    Mutant(
        "keepalive-renews-revoked-lease",
        "a lease that is gone is not renewed",
        "the leader answers a keepalive of a revoked lease with the TTL that it had",
        ("lease",),
    ),
    # Elections and locks
    Mutant(
        "campaign-ignores-predecessor",
        "one leader at a time, in the order of the keys",
        "a read up to a create revision leaves out the key of exactly that revision, so that nobody is waited for",
        ("election", "lock"),
    ),
    Mutant(
        "observe-reports-deposed-leader",
        "an observer is told of leaders in their order",
        "a read of the oldest key sees one whose deletion is the last thing that happened",
        ("election",),
    ),
    Mutant(
        "proclaim-unguarded",
        "a deposed leader's writes are refused",
        "the comparison with a create revision holds where the key is gone",
        ("election", "lock-set"),
    ),
    Mutant(
        "unlock-by-non-holder",
        "an unlock removes one's own key only",
        "the deletion of a lock's key that is gone removes the next one of the same lock",
        ("lock",),
    ),
)

MUTANTS: Final[Mapping[str, Mutant]] = {mutant.name: mutant for mutant in _MUTANTS}
"""Every mutant by its name."""


class Mutants:
    """The bugs that are switched on in one cluster; none by default.  Raises ConfigError for a name there is not."""

    __slots__ = ("_active", "fired")

    def __init__(self, active: Collection[str] = ()) -> None:
        for name in active:
            if name not in MUTANTS:
                raise ConfigError(unknown("mutant", name, sorted(MUTANTS)))
        self._active = frozenset(active)
        self.fired: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        """How often each bug that is on has fired, 0 included."""
        return {name: self.fired[name] for name in sorted(self._active)}

    def has(self, name: str) -> bool:
        """Whether this bug is on: for where it has to be known before it is known to make a difference."""
        return name in self._active

    def fires(self, name: str) -> bool:
        """Whether this bug is on; counts it, so ask last, where it would make a difference."""
        if name not in self._active:
            return False
        self.fired[name] += 1
        return True
