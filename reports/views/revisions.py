"""When which revision was first heard of: from answers, events and samples, as the bridge from revisions to time.

A revision exists a little before anybody hears of it, so every moment is an
upper bound, as exact as clients are busy.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from splitvote.harness.op import Op
from splitvote.harness.recording import ClusterSample


class RevisionClock:
    """Growing revisions, each with the time at which the first of at least that size was heard of."""

    def __init__(self, records: Iterable[Op], samples: Iterable[ClusterSample]) -> None:
        heard = [(op.time_ns, op.revision) for op in records if op.revision is not None and op.type in ("ok", "event")]
        for sample in samples:
            heard += [
                (sample.time_ns, member.revision) for member in sample.members.values() if member.revision is not None
            ]
        heard.sort()
        self.times_ns: list[int] = []
        self.revisions: list[int] = []
        for time_ns, revision in heard:
            if not self.revisions or revision > self.revisions[-1]:
                self.times_ns.append(time_ns)
                self.revisions.append(revision)

    def moment_ns(self, revision: int) -> int | None:
        """When this revision was first known to exist; None: never."""
        place = bisect_left(self.revisions, revision)
        return self.times_ns[place] if place < len(self.times_ns) else None
