"""Watches: how far each watcher was, against the revisions that clients knew of by then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from splitvote.harness.op import Op, Operation
from splitvote.reports.views.revisions import RevisionClock
from splitvote.reports.views.shapes import Line, LinesView, View, ms
from splitvote.reports.wording import plain

MOST_WATCHERS: Final = 60
_MOST_POINTS: Final = 1_500
_WATCHING: Final = frozenset({"watch", "converge"})
_TELLS: Final = frozenset({"events", "progress"})


def watch_views(
    operations: Sequence[Operation], events: Mapping[int, Sequence[Op]], clock: RevisionClock
) -> list[View]:
    """The truth and every watcher's position, the watchers that were told most if they are too many."""
    watching = [operation for operation in operations if operation.f in _WATCHING]
    told = [(operation, list(_told(events.get(operation.invoke.index, ())))) for operation in watching]
    told = [each for each in told if each[1]]
    if not told:
        return []
    kept = sorted(told, key=lambda each: -len(each[1]))[:MOST_WATCHERS]
    lines = [_line(operation, seen) for operation, seen in sorted(kept, key=lambda each: each[0].invoke.index)]
    truth = list(zip(clock.times_ns, clock.revisions, strict=True))
    first = Line("known to some client", (_points(truth),), "the newest revision that anybody had heard of")
    more = f"; {MOST_WATCHERS} of {len(told)} watchers" if len(told) > MOST_WATCHERS else ""
    unit = f"revision each was told up to; black: the newest that anybody knew{more}"
    return [LinesView("Watchers", unit, (first, *lines))]


def _told(events: Iterable[Op]) -> Iterable[Op]:
    """The records that say how far a watcher is."""
    for event in events:
        match event.value:
            case [str(kind), *_] if kind in _TELLS and event.revision is not None:
                yield event


def _line(operation: Operation, told: Sequence[Op]) -> Line:
    """One watcher's position; a new stream is a new piece."""
    by_stream: dict[int | None, list[tuple[int, int]]] = {}
    for event in told:
        if event.revision is not None:
            by_stream.setdefault(event.stream, []).append((event.time_ns, event.revision))
    node = told[0].node or operation.invoke.node
    name = f"process {operation.process}{f' at {plain(node, 20)}' if node else ''}, op {operation.invoke.index}"
    streams = "one stream" if len(by_stream) == 1 else f"{len(by_stream)} streams"
    return Line(
        name,
        tuple(_points(points) for points in by_stream.values()),
        f"{len(told):,} answers on {streams}",
        operation.invoke.index,
    )


def _points(found: Sequence[tuple[int, int]]) -> tuple[tuple[float, float], ...]:
    """Points in ms, evenly thinned out where they are too many; the last one stays."""
    every = -(-len(found) // _MOST_POINTS)
    kept = list(found[::every])
    if found and kept[-1] != found[-1]:
        kept.append(found[-1])
    return tuple((ms(time_ns), float(revision)) for time_ns, revision in kept)
