"""What the browser can draw: bars in rows and lines over time.

Times are ms since the start of the run, ``op`` is the index of an invocation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

Tone = Literal["truth", "belief", "idle", "bad", "warn", "ok"]

MOST_ROWS: Final = 400


class Bar(msgspec.Struct, frozen=True):
    """A stretch of a row; ``to_ms`` None: to the end of the run.  ``faint`` is for what is expected, not seen."""

    from_ms: float
    to_ms: float | None
    text: str
    tone: Tone
    note: str = ""
    op: int | None = None
    faint: bool = False


class Mark(msgspec.Struct, frozen=True):
    """A moment on a row."""

    at_ms: float
    text: str
    tone: Tone
    note: str = ""
    op: int | None = None


class Row(msgspec.Struct, frozen=True):
    """One row with its name."""

    name: str
    bars: tuple[Bar, ...] = ()
    marks: tuple[Mark, ...] = ()


class BarsView(msgspec.Struct, frozen=True, tag="bars", tag_field="kind"):
    """Rows of bars."""

    title: str
    unit: str
    rows: tuple[Row, ...]


class Line(msgspec.Struct, frozen=True):
    """A value over time as steps: pieces of points (ms, value), a gap between two pieces."""

    name: str
    pieces: tuple[tuple[tuple[float, float], ...], ...]
    note: str = ""
    op: int | None = None


class LinesView(msgspec.Struct, frozen=True, tag="lines", tag_field="kind"):
    """Lines, the first of which is the truth that the others are held against."""

    title: str
    unit: str
    lines: tuple[Line, ...]


View = BarsView | LinesView


def stacked(name: str, bars: Iterable[Bar]) -> list[Row]:
    """Rows of one name such that no two bars of a row overlap, as few as there can be."""
    rows: list[list[Bar]] = []
    for bar in sorted(bars, key=lambda bar: bar.from_ms):
        fitting = (row for row in rows if (end := row[-1].to_ms) is not None and end <= bar.from_ms)
        row = next(fitting, None)
        if row is None:
            rows.append([bar])
        else:
            row.append(bar)
    return [Row(name if place == 0 else "", tuple(row)) for place, row in enumerate(rows)]


def ms(time_ns: float) -> float:
    """A time of the run in ms, to the microsecond."""
    return round(time_ns / 1e6, 3)


def table_rows(evidence: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The rows of a table in a checker's evidence (``columns`` and ``rows``) by column; none where there is no such."""
    table = evidence.get(name)
    if not isinstance(table, dict) or not isinstance(table.get("columns"), list):
        return []
    columns = [str(column) for column in table["columns"]]
    rows = table.get("rows")
    if not isinstance(rows, list):
        return []
    return [dict(zip(columns, row, strict=True)) for row in rows if isinstance(row, list) and len(row) == len(columns)]


def whole(value: Any) -> int | None:
    """The value if it is a whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(value: Any) -> float | None:
    """The value if it is a number."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
