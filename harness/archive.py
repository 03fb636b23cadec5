"""The store's history as the members themselves tell it: every revision's events, and who tells them otherwise.

While a run goes on, an archivist asks every member again and again for the
events since it last asked (``splitvote.harness.etcd.archivist``), and keeps
them in archive.jsonl.  The revisions that all members tell alike are written
once; a member that tells one differently is written down with its own account.

This is the truth by revision that checkers of watches, elections, leases and
mixed traffic hold the clients' answers against.  It is no circle (SOUNDNESS
13): the archive comes from the members' stores, by requests that no workload
makes, so that a write whose answer was lost and that every watcher missed is in
it, and a phantom event that one watcher saw is not.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import msgspec


class StoreEvent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One change of one key.  Keys and values are text (``harness.etcd.text``); a delete has neither value nor version.

    ``mod_revision`` is the revision of the change itself; ``create_revision``
    and ``version`` are the key's after it, ``lease`` the one it is attached to
    (0: none).
    """

    type: Literal["put", "delete"]
    key: str
    mod_revision: int
    value: str = ""
    create_revision: int = 0
    version: int = 0
    lease: int = 0


class ArchiveRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of archive.jsonl: ``node`` has told every revision from ``first`` to ``last``.

    ``revisions`` holds the events of those that nobody had told before and those
    that it tells differently from the first who did, in the order of the
    answer; any other revision of the range it tells as the first did.  A
    ``hole`` is a range that was compacted before the member could be asked.
    With ``is_before`` the range was there before the run, in a store that others
    use too: nothing in it is the run's, and what they write goes on to show as
    revisions without events.
    """

    node: str
    time_ns: int
    first: int
    last: int
    revisions: dict[int, tuple[StoreEvent, ...]] = {}
    is_hole: bool = False
    is_before: bool = False


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A revision that ``node`` tells as ``tells``, and ``first_node``, who was asked before it, as ``first_told``."""

    revision: int
    node: str
    tells: tuple[StoreEvent, ...]
    first_node: str
    first_told: tuple[StoreEvent, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Revisions ``first`` to ``last`` (both included), told by a member at ``time_ns``."""

    first: int
    last: int
    time_ns: int


@dataclass(frozen=True)
class Archive:
    """What all members told: ``told`` has every told revision's events by the first member that told it.

    ``spans`` are each member's told ranges, oldest first; a revision without
    events is in ``told`` with an empty tuple.  ``base`` is the last revision
    that was there before the run, 0 where the store is the run's own.
    """

    told: Mapping[int, tuple[StoreEvent, ...]] = field(default_factory=dict)
    spans: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    disagreements: tuple[Disagreement, ...] = ()
    base: int = 0

    @property
    def is_shared(self) -> bool:
        """Whether others use the store as well: then revisions without events are theirs."""
        return self.base > 0

    @cached_property
    def revisions(self) -> tuple[int, ...]:
        """Every told revision, in order."""
        return tuple(sorted(self.told))

    @property
    def newest(self) -> int:
        """The newest revision that any member told; 0 when none did."""
        return self.revisions[-1] if self.told else 0

    def events(self, prefix: str = "") -> Iterator[StoreEvent]:
        """Every event of the keys with this prefix, in the store's order."""
        for revision in self.revisions:
            for event in self.told[revision]:
                if event.key.startswith(prefix):
                    yield event

    def untold(self, first: int, last: int) -> list[tuple[int, int]]:
        """The ranges between these revisions (both included) that no member told, as far as the run made them."""
        first = max(first, self.base + 1)
        known = self.revisions
        gaps, expected = [], first
        for revision in known[bisect_left(known, first) : bisect_right(known, last)]:
            if revision > expected:
                gaps.append((expected, revision - 1))
            expected = revision + 1
        return gaps if expected > last else [*gaps, (expected, last)]


def archive_of(records: Iterable[ArchiveRecord]) -> Archive:
    """Put an archive together from its records, in the order in which they were written."""
    told: dict[int, tuple[StoreEvent, ...]] = {}
    teller: dict[int, str] = {}
    spans: dict[str, list[Span]] = {}
    disagreements = []
    base = 0
    for record in records:
        if record.is_before:
            base = max(base, record.last)
        if record.is_hole or record.is_before:
            continue
        spans.setdefault(record.node, []).append(Span(record.first, record.last, record.time_ns))
        for revision in range(record.first, record.last + 1):
            if revision not in told:
                told[revision] = record.revisions.get(revision, ())
                teller[revision] = record.node
            elif revision in record.revisions and record.revisions[revision] != told[revision]:
                disagreements.append(
                    Disagreement(revision, record.node, record.revisions[revision], teller[revision], told[revision])
                )
    return Archive(told, {node: tuple(theirs) for node, theirs in spans.items()}, tuple(disagreements), base)
