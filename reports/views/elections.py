"""Elections: who led by the store's own order of revisions, and which clients believed to lead meanwhile.

A client believes from the answer of its campaign until it is told otherwise:
its own resign, retire or next campaign, a refusal, or the end of its process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from splitvote.harness.op import Op, Operation
from splitvote.reports.views.revisions import RevisionClock
from splitvote.reports.views.shapes import MOST_ROWS, Bar, BarsView, Row, View, ms, stacked, table_rows, whole
from splitvote.reports.wording import plain, shown

_GIVES_UP: Final = frozenset({"resign", "retire", "campaign"})
_REFUSED: Final = ("deposed", "not-leading")


def election_views(
    operations: Sequence[Operation], evidence: Mapping[str, Any], clock: RevisionClock, end_ns: int
) -> list[View]:
    """From the checker's table of reigns and the campaigns; no view where there is neither."""
    led: dict[str, list[Bar]] = defaultdict(list)
    for reign in table_rows(evidence, "reigns"):
        if (bar := _reign(reign, clock)) is not None:
            led[str(reign.get("election"))].append(bar)
    believed: dict[str, list[Bar]] = defaultdict(list)
    for election, bar in _beliefs(operations, end_ns):
        believed[election].append(bar)
    rows: list[Row] = []
    for election in sorted(led.keys() | believed.keys()):
        rows += stacked(f"{plain(election, 24)} led", led[election])
        rows += stacked(f"{plain(election, 24)} believed", believed[election])
    if not rows:
        return []
    unit = "led by the store's revisions; believed by the clients (beliefs may overlap: that is what leases promise)"
    return [BarsView("Elections", unit, tuple(rows[:MOST_ROWS]))]


def _reign(reign: Mapping[str, Any], clock: RevisionClock) -> Bar | None:
    first, end = whole(reign.get("first")), whole(reign.get("end"))
    if first is None or (from_ns := clock.moment_ns(first)) is None:
        return None
    to_ns = None if end is None else clock.moment_ns(end)
    process = reign.get("process")
    who = "nobody's campaign" if process is None else f"process {process}"
    note = f"led from revision {first} up to {end or 'the end'}, with {plain(str(reign.get('key')), 80)}"
    return Bar(ms(from_ns), None if to_ns is None else ms(max(from_ns, to_ns)), who, "truth", note)


def _beliefs(operations: Sequence[Operation], end_ns: int) -> Iterable[tuple[str, Bar]]:
    """Every belief with its election."""
    won: dict[int, tuple[Operation, Op]] = {}
    for operation in sorted(operations, key=lambda operation: operation.invoke.index):
        completion = operation.completion
        held = won.get(operation.process)
        if held is not None and (told_ns := _told_ns(operation)) is not None:
            del won[operation.process]
            yield _belief(*held, told_ns)
        if operation.f == "campaign" and completion is not None and completion.type == "ok":
            won[operation.process] = (operation, completion)
    for operation, completion in won.values():
        yield _belief(operation, completion, end_ns)


def _told_ns(operation: Operation) -> int | None:
    """When an operation ends its client's belief; None: it does not."""
    if operation.f in _GIVES_UP:
        return operation.invoke.time_ns
    completion = operation.completion
    if completion is None or completion.type == "ok":
        return None
    if completion.type == "info" or (completion.error or "").startswith(_REFUSED):
        return completion.time_ns
    return None


def _belief(campaign: Operation, won: Op, until_ns: int) -> tuple[str, Bar]:
    note = f"campaigned with {shown(campaign.invoke.value, 60)}, told so at revision {won.revision}"
    bar = Bar(
        ms(won.time_ns),
        ms(max(until_ns, won.time_ns)),
        f"process {campaign.process}",
        "belief",
        note,
        campaign.invoke.index,
    )
    return str(campaign.key), bar
