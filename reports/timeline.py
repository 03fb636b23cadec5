"""What the browser draws, from one stored run: operations, faults, members and our own lag on one time axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from splitvote.harness.availability import Window
from splitvote.harness.op import Op, Operation
from splitvote.harness.spans import FaultSpan
from splitvote.reports.anomalies import Card
from splitvote.reports.embedding import (
    CHUNK_OPERATIONS,
    DEFAULT_LEVEL,
    QUICK_LEVEL,
    Embedded,
    detail_chunks,
    embed_bytes,
    embed_json,
    operation_columns,
)
from splitvote.reports.stored import StoredRun
from splitvote.reports.views import views_of
from splitvote.reports.wording import plain

SCHEMA: Final = 1
_PACKED_WELL: Final = 100_000
"""Operations; with more of them their details will lie beside the page."""


def embedded_run(
    run: StoredRun,
    operations: Sequence[Operation],
    spans: Sequence[FaultSpan],
    cards: Sequence[Card],
    windows: Sequence[Window],
) -> list[Embedded]:
    """The script elements of the page: ``run``, ``columns``, ``details-0`` and on."""
    events = _events_of(run.records)
    threads = run.config.concurrency if run.config is not None else 0
    columns, described = operation_columns(operations, threads=threads)
    level = DEFAULT_LEVEL if len(operations) <= _PACKED_WELL else QUICK_LEVEL
    chunks = [
        embed_bytes(f"details-{place}", chunk, kind="json", level=level)
        for place, chunk in enumerate(detail_chunks(operations, events))
    ]
    whole = {
        "schema": SCHEMA,
        "end_ms": run.end_ns / 1e6,
        "operations": described,
        "chunk": CHUNK_OPERATIONS,
        "faults": [_fault(span) for span in spans],
        "members": _members(run),
        "unavailable": [_window(window) for window in windows],
        "views": views_of(run, operations, events),
        "marked": sorted({op.invoke.index for card in cards if not card.related for op in card.operations}),
    }
    return [embed_json("run", whole), embed_bytes("columns", columns, kind="binary", level=level), *chunks]


def _events_of(records: Iterable[Op]) -> dict[int, list[Op]]:
    events: dict[int, list[Op]] = {}
    for record in records:
        if record.type == "event" and record.of is not None:
            events.setdefault(record.of, []).append(record)
    return events


def _ms(time_ns: int | None) -> float | None:
    return None if time_ns is None else time_ns / 1e6


def _fault(span: FaultSpan) -> dict[str, Any]:
    return {
        "id": span.id,
        "family": plain(span.family, 40),
        "title": plain(span.title, 120),
        "label": plain(span.label, 120),
        "start_ms": _ms(span.start_ns),
        "healing_ms": _ms(span.healing_ns),
        "end_ms": _ms(span.end_ns),
        "proven": span.proven,
    }


def _window(window: Window) -> dict[str, Any]:
    return {
        "start_ms": _ms(window.start_ns),
        "end_ms": _ms(window.end_ns),
        "tried": window.tried,
        "planned": window.planned,
    }


def _members(run: StoredRun) -> dict[str, Any]:
    """The samples as columns a member; leaders are places in ``nodes``, -1 none, -2 no answer."""
    nodes = list(dict.fromkeys([*run.nodes, *(node for sample in run.samples for node in sample.members)]))
    place = {node: number for number, node in enumerate(nodes)}
    columns: dict[str, dict[str, list[Any]]] = {}
    for node in nodes:
        seen = [sample.members.get(node) for sample in run.samples]
        columns[node] = {
            "leader": [-2 if m is None or m.error is not None else place.get(m.leader or "", -1) for m in seen],
            "term": [None if m is None else m.term for m in seen],
            "revision": [None if m is None else m.revision for m in seen],
            "applied": [None if m is None else m.applied_index for m in seen],
        }
    return {
        "nodes": nodes,
        "time_ms": [sample.time_ns / 1e6 for sample in run.samples],
        "lag_ms": [sample.loop_lag_ms for sample in run.samples],
        "clock_ms": _offsets(nodes, [sample.clock_offsets_ms for sample in run.samples]),
        "monotonic_ms": _offsets(nodes, [sample.monotonic_offsets_ms for sample in run.samples]),
        "by_node": columns,
    }


def _offsets(nodes: Iterable[str], measured: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    """Offsets of the nodes' clocks in ms, a sample each, of the nodes for which any was measured."""
    offsets = {node: [sample.get(node) for sample in measured] for node in nodes}
    return {node: found for node, found in offsets.items() if any(offset is not None for offset in found)}
