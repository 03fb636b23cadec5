"""Leases: how long each was granted for, when it was kept alive, and when it was revoked, found gone, or its keys went.

That keys went is taken from the archive, whose members are asked every half
second: the moment shown is when the first of them told it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from splitvote.harness.archive import ArchiveRecord
from splitvote.harness.op import Op, Operation
from splitvote.reports.views.shapes import MOST_ROWS, Bar, BarsView, Mark, Row, View, ms, whole

MOST_MARKS: Final = 300
"""Of one lease; a stream renews many times a second."""


@dataclass(slots=True)
class _Life:
    """What is known of one lease; ``renewed`` has (invoked_ns, ttl_s, op) of the grant and of every renewal."""

    renewed: list[tuple[int, int, int]] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    ended_ns: int | None = None

    def end(self, time_ns: int) -> None:
        """Note that it was seen to be over by then."""
        self.ended_ns = time_ns if self.ended_ns is None else min(self.ended_ns, time_ns)


def lease_views(
    operations: Sequence[Operation], events: Mapping[int, Sequence[Op]], archive: Iterable[ArchiveRecord] = ()
) -> list[View]:
    """A row a lease, in the order of their grants."""
    lives: dict[Any, _Life] = defaultdict(_Life)
    for operation in operations:
        lease = whole(operation.key)
        if lease is not None:
            _note(lives[lease], operation, events.get(operation.invoke.index, ()))
    for gone in _gone(archive):
        if gone.lease in lives:
            _note_gone(lives[gone.lease], gone)
    rows = [_row(lease, life) for lease, life in lives.items() if life.renewed]
    if not rows:
        return []
    rows.sort(key=lambda row: row.bars[0].from_ms)
    more = f"; the first {MOST_ROWS} of {len(rows)}" if len(rows) > MOST_ROWS else ""
    unit = f"a row a lease: faint as far as its TTL reaches; ticks: renewals; orange: it, or its keys, went{more}"
    return [BarsView("Leases", unit, tuple(rows[:MOST_ROWS]))]


def _note(life: _Life, operation: Operation, events: Sequence[Op]) -> None:
    invoke, completion = operation.invoke, operation.completion
    answer = completion.value if completion is not None and completion.type == "ok" else None
    match operation.f, answer:
        case "grant", int(ttl_s):
            life.renewed.append((invoke.time_ns, ttl_s, invoke.index))
        case "keepalive", int(ttl_s) if completion is not None and ttl_s > 0:
            _renew(life, invoke.time_ns, completion.time_ns, ttl_s, invoke.index)
        case "stream", _:
            for asked, told, ttl_s in _paired(events):
                _renew(life, asked.time_ns, told.time_ns, ttl_s, invoke.index)
        case (("ttl" | "leftover"), [-1, *_]) if completion is not None:
            life.end(completion.time_ns)
            life.marks.append(Mark(ms(completion.time_ns), "found gone", "warn", "asked for its TTL", invoke.index))
        case "revoke", _ if completion is not None and completion.type == "ok":
            life.end(completion.time_ns)
            life.marks.append(Mark(ms(completion.time_ns), "revoked", "warn", "by a client", invoke.index))


class _Gone(NamedTuple):
    """Keys of a lease that were deleted at one revision, as was first told at ``time_ns``."""

    lease: int
    revision: int
    time_ns: int
    keys: int


def _gone(archive: Iterable[ArchiveRecord]) -> Iterator[_Gone]:
    """Each revision at which keys with a lease were deleted, in the archive's order."""
    holder: dict[str, int] = {}
    newest = 0
    for record in archive:
        for revision in sorted(revision for revision in record.revisions if revision > newest):
            newest = revision
            keys: Counter[int] = Counter()
            for event in record.revisions[revision]:
                if event.type == "put":
                    holder[event.key] = event.lease
                elif lease := holder.pop(event.key, 0):
                    keys[lease] += 1
            yield from (_Gone(lease, revision, record.time_ns, count) for lease, count in keys.items())


def _note_gone(life: _Life, gone: _Gone) -> None:
    life.end(gone.time_ns)
    note = f"{gone.keys} of its keys deleted at revision {gone.revision}, as a member told by then"
    life.marks.append(Mark(ms(gone.time_ns), "keys went", "warn", note))


def _renew(life: _Life, asked_ns: int, told_ns: int, ttl_s: int, index: int) -> None:
    life.renewed.append((asked_ns, ttl_s, index))
    if len(life.marks) < MOST_MARKS:
        life.marks.append(Mark(ms(told_ns), "kept alive", "ok", f"for {ttl_s} s from {asked_ns / 1e9:.3f} s", index))


def _paired(events: Iterable[Op]) -> Iterable[tuple[Op, Op, int]]:
    """Each answer of a stream that renewed, with the oldest request that had none yet."""
    waiting: list[Op] = []
    for event in events:
        match event.value:
            case ["ask", *_]:
                waiting.append(event)
            case ["answer", int(ttl_s), *_] if waiting:
                asked = waiting.pop(0)
                if ttl_s > 0:
                    yield asked, event, ttl_s


def _row(lease: int, life: _Life) -> Row:
    """The stretch in which it was there for certain, and faintly how much longer its TTL reached."""
    renewed = sorted(life.renewed)
    granted_ns, ttl_s, index = renewed[0]
    reaches_ns = max(time_ns + ttl_s * 1_000_000_000 for time_ns, ttl_s, _ in renewed)
    known_ns = max(renewed[-1][0], granted_ns + 1)
    note = f"granted for {ttl_s} s, renewed {len(renewed) - 1} times; its TTL reached to {reaches_ns / 1e9:.3f} s"
    bars = [Bar(ms(granted_ns), ms(known_ns), f"TTL {ttl_s} s", "belief", note, index)]
    until_ns = reaches_ns if life.ended_ns is None else min(reaches_ns, life.ended_ns)
    if until_ns > known_ns:
        bars.append(Bar(ms(known_ns), ms(until_ns), f"TTL {ttl_s} s", "belief", note, index, faint=True))
    return Row(str(lease), tuple(bars), tuple(life.marks))
