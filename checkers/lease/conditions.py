"""What the run was like at a time: faults, leaders, our own stalls, the members' clocks (``clocks``).

Leases are a matter of clocks and of whoever takes itself for the leader.  A
member that led until it was suspended or cut off answers from its own memory
for a moment after it is back.  etcd promises no better of TimeToLive, so that
such answers may be as old as the *trouble* they fall into: a fault that leaves
processes alive, a change of leaders, a member that did not answer, a time of
which there are no samples.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from splitvote.checkers.lease.clocks import MemberClocks, is_of_the_wall_alone
from splitvote.checkers.restarts import LASTING
from splitvote.harness.recording import ClusterSample, FaultRecord, MemberSample, Recording

_S: Final = 1_000_000_000
_ELECTION_FLAG: Final = "--election-timeout="
DEFAULT_ELECTION_S: Final = 1.0

HEAD_NS: Final = 2 * _S
"""A leader may have been left behind this long before a fault is on record or a sample tells of it."""

TAIL_NS: Final = 3 * _S
"""How long it may take it to notice when it is back."""

SAMPLE_BOUND_NS: Final = _S
"""A sample tells of the members at most so long after its time."""

LONGEST_GAP_NS: Final = 3 * _S
"""Between samples: beyond it nobody knows what was."""


class Allowance(NamedTuple):
    """What an apparent earliness is forgiven: the members' clocks, and our own stalls."""

    clock_ms: float
    stall_ms: float

    @property
    def total_ns(self) -> int:
        """Both together."""
        return int((self.clock_ms + self.stall_ms) * 1e6)


class Conditions:
    """See the module's docstring; ``election_s`` is the members' election timeout."""

    def __init__(self, recording: Recording) -> None:
        self.election_s = _election_s(recording)
        self._samples = recording.samples
        self._times_ns = [sample.time_ns for sample in recording.samples]
        self._settled = list(_settled(recording.samples))
        self.clocks = MemberClocks(recording.faults)
        lasting = [fault for fault in recording.faults if fault.family in LASTING and not is_of_the_wall_alone(fault)]
        self._troubles = [(start - HEAD_NS, end + TAIL_NS) for start, end in _intervals(lasting)]
        self._troubles += _unsettled(recording.samples)
        self.last_heal_ns = max((fault.time_ns for fault in recording.faults), default=0)
        self.changes = list(_leader_changes(recording.samples))

    def trouble_began(self, start_ns: int, end_ns: int) -> int:
        """When the earliest trouble of this time began; ``start_ns`` itself when there is none, or a later one."""
        began = (begin for begin, end in self._troubles if begin <= end_ns and end >= start_ns)
        return min(start_ns, min(began, default=start_ns))

    def allowance(self, start_ns: int, end_ns: int) -> Allowance | None:
        """For a lease that was renewed and seen gone at these times; None where a clock was set nobody knows how far.

        Our own stalls make renewals look earlier and endings later than they
        were, never the other way round; the worst of the time is forgiven all
        the same, lest a defect of our own clock look like the cluster's.
        """
        clock_ms = self.clocks.gained_ms(start_ns, end_ns)
        if clock_ms is None:
            return None
        seen = self._between(start_ns - _S, end_ns + _S)
        return Allowance(clock_ms, max((sample.loop_lag_ms for sample in seen), default=0.0))

    def stalled_ns(self, start_ns: int, end_ns: int) -> int:
        """How long our own loop stalled in this time, all in all."""
        return int(sum(sample.loop_lag_ms for sample in self._between(start_ns, end_ns)) * 1e6)

    def leader_at(self, time_ns: int) -> str | None:
        """Who led, by the last sample before."""
        place = bisect_right(self._times_ns, time_ns)
        leading = _leading(self._samples[place - 1].members) if place else None
        return None if leading is None else leading[1]

    def settled_since(self, until_ns: int) -> int | None:
        """Since when all members have named the same leader up to this time; None when they did not at the end."""
        place = bisect_right(self._times_ns, until_ns)
        if not place or until_ns - self._times_ns[place - 1] > LONGEST_GAP_NS:
            return None
        return self._settled[place - 1]

    def _between(self, start_ns: int, end_ns: int) -> Sequence[ClusterSample]:
        return self._samples[bisect_left(self._times_ns, start_ns) : bisect_right(self._times_ns, end_ns)]


def _election_s(recording: Recording) -> float:
    given = recording.config.options.get("etcd_args", ()) if recording.config is not None else ()
    for flag in given or ():
        if str(flag).startswith(_ELECTION_FLAG):
            return float(str(flag).removeprefix(_ELECTION_FLAG)) / 1e3
    return DEFAULT_ELECTION_S


def _intervals(faults: Iterable[FaultRecord]) -> Iterator[tuple[int, int]]:
    """(first record, last record) of each fault; one that was never healed goes on."""
    begun: dict[int, int] = {}
    ended: dict[int, int] = {}
    for fault in faults:
        begun.setdefault(fault.id, fault.time_ns)
        ended[fault.id] = fault.time_ns if fault.phase in ("healed", "heal_unproven") else 1 << 62
    for number, start_ns in begun.items():
        yield start_ns, ended[number]


def _leading(members: Mapping[str, MemberSample]) -> tuple[int, str] | None:
    """The highest term in which somebody is said to lead, and who."""
    named = [(member.term or 0, member.leader) for member in members.values() if member.leader is not None]
    return max(named, default=None)


def _are_settled(before: ClusterSample, after: ClusterSample) -> bool:
    """Whether nobody but one leader led between two samples, as far as every member knows."""
    if after.time_ns - before.time_ns > LONGEST_GAP_NS:
        return False
    told = {
        (member.term, member.leader, member.error is None)
        for sample in (before, after)
        for member in sample.members.values()
    }
    return len(told) == 1 and all(leader is not None for _, leader, _ in told)


def _settled(samples: Sequence[ClusterSample]) -> Iterator[int | None]:
    """At each sample since when all was settled, by a time at which the members had surely told so."""
    since: int | None = None
    for place, sample in enumerate(samples):
        if place and _are_settled(samples[place - 1], sample):
            since = sample.time_ns + SAMPLE_BOUND_NS if since is None else since
        else:
            since = None
        yield since


def _unsettled(samples: Sequence[ClusterSample]) -> Iterator[tuple[int, int]]:
    for before, after in pairwise(samples):
        if not _are_settled(before, after):
            yield before.time_ns - HEAD_NS, after.time_ns + TAIL_NS


def _leader_changes(samples: Sequence[ClusterSample]) -> Iterator[tuple[int, int]]:
    """(last time with the old leader, first time with the new) of each change that the samples tell."""
    last: tuple[int, tuple[int, str]] | None = None
    for sample in samples:
        leading = _leading(sample.members)
        if leading is None:
            continue
        if last is not None and leading != last[1]:
            yield last[0], sample.time_ns + SAMPLE_BOUND_NS
        last = sample.time_ns, leading
