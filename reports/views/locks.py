"""Locks: who held each by the store's own order, and who believed to hold it meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from splitvote.reports.views.revisions import RevisionClock
from splitvote.reports.views.shapes import MOST_ROWS, Bar, BarsView, Row, View, ms, number, stacked, table_rows, whole


def lock_views(evidence: Mapping[str, Any], clock: RevisionClock) -> list[View]:
    """From the lock checker's table of holders; no view where there is none."""
    by_lock: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for holder in table_rows(evidence, "holders"):
        by_lock[str(holder.get("lock"))].append(holder)
    rows: list[Row] = []
    for lock, holders in sorted(by_lock.items()):
        rows += stacked(f"{lock} held", _held(holders, clock))
        rows += stacked(f"{lock} believed", _believed(holders))
    if not rows:
        return []
    unit = "held by the store's order; believed by the clients, in red while another believed it too"
    return [BarsView("Locks", unit, tuple(rows[:MOST_ROWS]))]


def _held(holders: Iterable[Mapping[str, Any]], clock: RevisionClock) -> Iterable[Bar]:
    """From the revision of the grant to that of the key's end, when these were first heard of."""
    for holder in holders:
        granted, ended = whole(holder.get("granted")), whole(holder.get("ended"))
        if granted is None or (from_ns := clock.moment_ns(granted)) is None:
            continue
        to_ns = None if ended is None else clock.moment_ns(ended)
        note = f"granted at revision {granted}, key created at {holder.get('created')}, gone at {ended or 'the end'}"
        yield Bar(ms(from_ns), None if to_ns is None else ms(max(from_ns, to_ns)), _who(holder), "truth", note)


def _believed(holders: Iterable[Mapping[str, Any]]) -> Iterable[Bar]:
    for holder in holders:
        since_s, until_s = number(holder.get("believed_from_s")), number(holder.get("believed_until_s"))
        if since_s is None or until_s is None:
            continue
        overlap_s = number(holder.get("overlap_s")) or 0.0
        note = f"believed from {since_s:.3f} s to {until_s:.3f} s by {holder.get('api')}, lease {holder.get('lease')}"
        if overlap_s > 0:
            note += f"; another believed it for {overlap_s:.3f} s of that"
            yield Bar(since_s * 1e3, (since_s + overlap_s) * 1e3, _who(holder), "bad", note)
        if until_s > since_s + overlap_s:
            yield Bar((since_s + overlap_s) * 1e3, until_s * 1e3, _who(holder), "belief", note)


def _who(holder: Mapping[str, Any]) -> str:
    return f"process {holder.get('process')}"
