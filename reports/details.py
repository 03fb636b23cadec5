"""What a checker knows beside the story: an anomaly's details as tables, figures and blocks of text.

Nothing here knows a checker by name.  Mappings of mappings become tables whose
odd cells are marked, lists of texts become blocks, all else figures; what the
diagrams of a card draw already is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitvote.reports.wording import plain, shown

_ROWS_SHOWN: Final = 60
_LINES_SHOWN: Final = 20
_SHORT_CHARACTERS: Final = 100
_DRAWN: Final = frozenset({"prefix_tail", "candidates", "cannot_be_placed", "core", "known_issue", "svg", "dot"})


@dataclass(frozen=True, slots=True)
class Table:
    """One of the details as rows and columns; cells are text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    odd: frozenset[tuple[int, int]] = frozenset()
    """Cells (row, column) that differ from what most columns of their row say."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The details, sorted by how they are shown."""

    tables: tuple[Table, ...]
    facts: tuple[tuple[str, Any], ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]


def sorted_details(details: Mapping[str, Any], *, drawn: frozenset[str] = frozenset()) -> Shown:
    """Sort an anomaly's details by how they are shown; those in ``drawn`` are left out too."""
    tables, facts, lines = [], [], []
    for name, value in details.items():
        title = name.replace("_", " ")
        if name in _DRAWN | drawn or value in ({}, [], (), None):
            continue
        if name == "possible_states" and isinstance(value, (list, tuple)) and len(value) == 1:
            continue  # it is the state, told already
        if isinstance(value, dict):
            tables.append(_table(title, value))
        elif isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            if sum(map(len, value)) <= _SHORT_CHARACTERS:
                facts.append((title, ", ".join(value)))
                continue
            lines.append((title, tuple(plain(item, 600) for item in value[:_LINES_SHOWN])))
        else:
            facts.append((title, value))
    return Shown(tuple(tables), tuple(facts), tuple(lines))


def _table(title: str, value: Mapping[str, Any]) -> Table:
    """A mapping of mappings as a grid; a flat one as a single row of cells."""
    columns: tuple[str, ...]
    if all(isinstance(inner, dict) for inner in value.values()):
        columns = tuple(sorted({name for inner in value.values() for name in inner}))
        found = [(name, [inner.get(column) for column in columns]) for name, inner in value.items()]
    else:
        columns, found = tuple(value), [("", list(value.values()))]
    rows = tuple((name, tuple(map(_cell, cells))) for name, cells in found[:_ROWS_SHOWN])
    return Table(title, columns, rows, _odd_cells(rows))


def _cell(value: Any) -> str:
    """A cell in words; a key's state on a member is ``[value, mod_revision, version, create_revision]``."""
    if value is None:
        return "absent"
    if isinstance(value, list) and len(value) == 4 and all(type(part) is int for part in value[1:]):
        state, mod, version, create = value
        return f"{shown(state, 60)} (mod {mod}, version {version}, create {create})"
    return plain(value, 120) if isinstance(value, str) else shown(value, 120)


def _odd_cells(rows: Sequence[tuple[str, tuple[str, ...]]]) -> frozenset[tuple[int, int]]:
    odd = set()
    for place, (_, cells) in enumerate(rows):
        most = max(cells, key=cells.count, default="")
        if cells.count(most) > 1:
            odd |= {(place, column) for column, text in enumerate(cells) if text != most}
    return frozenset(odd)
