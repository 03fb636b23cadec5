"""Cycles drawn: as SVG for reports, as DOT for Graphviz.  Plain strings, everything from a history escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_COLOURS: Final = {"ww": "#b3261e", "wr": "#1b6e3c", "rw": "#1f4fa3", "process": "#6b5b00", "realtime": "#5f5f5f"}
_ROW: Final = 64
_BOX_HEIGHT: Final = 40
_LEFT: Final = 12
_TOP: Final = 12
_LETTER: Final = 7.3
_MOST_LETTERS: Final = 110
_ARC: Final = 46


@dataclass(frozen=True, slots=True)
class Node:
    """One transaction of a drawing: its label ("T1"), who and when, and what it did."""

    label: str
    who: str
    what: str


@dataclass(frozen=True, slots=True)
class Arrow:
    """One dependency: places of its ends among the nodes, its kind, and what it is about ("x")."""

    source: int
    target: int
    kind: str
    about: str = ""


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 1] + "…"


def svg(nodes: Sequence[Node], arrows: Sequence[Arrow], title: str) -> str:
    """Transactions as boxes one below the other, dependencies as labelled arrows beside them.

    Arrows down are drawn to the right of the boxes, arrows up to the left.
    """
    texts = [(f"{node.label}  {node.who}", _shortened(node.what)) for node in nodes]
    letters = max(len(line) for lines in texts for line in lines)
    spans = [abs(arrow.target - arrow.source) for arrow in arrows]
    widest = max(spans, default=1)
    margin = _ARC + 14 * min(widest, 8) + 40
    box = int(letters * _LETTER) + 20
    left = _LEFT + margin
    width, height = left + box + margin + _LEFT, 2 * _TOP + _ROW * len(nodes)
    kinds = sorted({arrow.kind for arrow in arrows})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="ui-monospace, monospace" font-size="12"><title>{escape(title)}</title>',
        "<defs>" + "".join(_head(kind) for kind in kinds) + "</defs>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for place, lines in enumerate(texts):
        parts.append(_box(left, _TOP + place * _ROW, box, lines))
    parts += [_arrow(arrow, left, box) for arrow in arrows]
    return "".join(parts) + "</svg>"


def _head(kind: str) -> str:
    return (
        f'<marker id="head-{escape(kind)}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{_COLOURS.get(kind, "#000000")}"/></marker>'
    )


def _box(x: int, y: int, width: int, lines: tuple[str, str]) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{_BOX_HEIGHT}" rx="5" fill="#f5f7fa" stroke="#8a94a3"/>'
        f'<text x="{x + 10}" y="{y + 16}" fill="#4a5361">{escape(lines[0])}</text>'
        f'<text x="{x + 10}" y="{y + 32}" fill="#10151c" xml:space="preserve">{escape(lines[1])}</text>'
    )


def _arrow(arrow: Arrow, left: int, box: int) -> str:
    """One arrow: to the right of the boxes when it leads down, to the left when it leads up."""
    down = arrow.target > arrow.source
    side = left + box if down else left
    away = 1 if down else -1
    bend = side + away * (_ARC + 14 * min(abs(arrow.target - arrow.source), 8))
    # Starts and ends are apart, so that an arrow in and one out of the same box do not meet.
    start = _TOP + arrow.source * _ROW + (27 if down else 13)
    end = _TOP + arrow.target * _ROW + (13 if down else 27)
    colour = _COLOURS.get(arrow.kind, "#000000")
    label = f"{arrow.kind} {arrow.about}".strip()
    anchor = "start" if down else "end"
    x, y = (side + 3 * bend) // 4 + 4 * away, (start + end) // 2 + 4
    return (
        f'<path d="M{side} {start}C{bend} {start} {bend} {end} {side} {end}" fill="none" stroke="{colour}" '
        f'stroke-width="1.6" marker-end="url(#head-{escape(arrow.kind)})"/>'
        f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}">{escape(_shortened(label)[:14])}</text>'
    )


def dot(nodes: Sequence[Node], arrows: Sequence[Arrow], title: str) -> str:
    """The same as a Graphviz digraph."""
    lines = [f"digraph {_quoted(title)} {{", "  node [shape=box, fontname=monospace];"]
    lines += [f"  n{place} [label={_quoted(f'{n.label} {n.who}', n.what)}];" for place, n in enumerate(nodes)]
    for arrow in arrows:
        label = _quoted(f"{arrow.kind} {arrow.about}".strip())
        colour = _quoted(_COLOURS.get(arrow.kind, "#000000"))
        lines.append(f"  n{arrow.source} -> n{arrow.target} [label={label}, color={colour}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(*lines: str) -> str:
    """A DOT string of these lines."""
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'
