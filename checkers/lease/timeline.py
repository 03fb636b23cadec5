"""Revisions against the clock: what the store surely had by a time, and what it cannot have had yet.

A revision that anybody was told of existed when the telling was recorded; a put
that was invoked later than some time got a revision that did not exist then, and
a get that was invoked later saw the newest.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping

from splitvote.checkers.truth import Truth
from splitvote.harness.archive import Archive
from splitvote.harness.op import Operation


class Timeline:
    """Built from the answers' headers and the archive's spans; knows nothing beyond what the truth does.

    ``placed`` are the revisions at which the store has puts, by the puts' values.
    """

    def __init__(
        self, operations: Iterable[Operation], archive: Archive, truth: Truth, placed: Mapping[str, int]
    ) -> None:
        known = truth.known
        told = [(span.time_ns, min(span.last, known)) for spans in archive.spans.values() for span in spans]
        beyond = []
        for operation in operations:
            if operation.f == "put" and operation.invoke.value[2] in placed:
                beyond.append((operation.invoke.time_ns, placed[operation.invoke.value[2]]))
            completion = operation.completion
            if completion is None:
                continue
            revision = completion.revision or (completion.extra or {}).get("header") or 0
            if 0 < revision <= known:
                told.append((completion.time_ns, revision))
                if operation.f == "get":
                    beyond.append((operation.invoke.time_ns, revision + 1))
        self._times_ns: list[int] = []
        self._newest: list[int] = []
        for time_ns, revision in sorted(told):
            if not self._newest or revision > self._newest[-1]:
                self._times_ns.append(time_ns)
                self._newest.append(revision)
        self._end = known if truth.doubt is None else None
        self._invoked_ns, self._lowest = _suffix_minima(beyond)

    def newest_before(self, time_ns: int) -> int:
        """The newest revision that the store surely had before this time."""
        place = bisect_left(self._times_ns, time_ns)
        return self._newest[place - 1] if place else 1

    def seen_by(self, revision: int) -> int | None:
        """The earliest time by which the revision surely existed; None when nobody ever told."""
        place = bisect_left(self._newest, revision)
        return self._times_ns[place] if place < len(self._times_ns) else None

    def last_possible_at(self, time_ns: int) -> int | None:
        """The newest revision that may have existed at this time; None when that may be one that nobody told of."""
        place = bisect_right(self._invoked_ns, time_ns)
        return self._lowest[place] - 1 if place < len(self._lowest) else self._end


def _suffix_minima(beyond: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """The times of invocation in order, and for each the lowest revision of it and all later ones."""
    beyond.sort()
    lowest = [revision for _, revision in beyond]
    for place in range(len(lowest) - 2, -1, -1):
        lowest[place] = min(lowest[place], lowest[place + 1])
    return [time_ns for time_ns, _ in beyond], lowest
