"""What the nodes wrote: the tails of their logs, and the lines around a moment of the run.

Log lines carry wall-clock times.  The sampler's anchors (``wall_ns`` beside
``time_ns``) place them on the run's own clock; without anchors the start given
in config.json does, to within the second.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from splitvote.reports.stored import StoredRun
from splitvote.reports.wording import plain, shown

TAIL_LINES: Final = 150
LINE_CHARACTERS: Final = 320
_SEARCHED_BYTES: Final = 64 << 20
_TIME = re.compile(rb"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?")
_LEVEL = re.compile(rb'"level":"(debug|info|warn|error|dpanic|panic|fatal)"|^(panic|fatal error): | ([DIWENC]) \| ')
_CAPNSLOG: Final = {"D": "debug", "I": "info", "N": "info", "W": "warn", "E": "error", "C": "fatal"}
_GRAVE: Final = {"panic": "fatal", "dpanic": "fatal", "fatal error": "fatal"}


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line: when in the run (None where it has no time or there is no anchor), how grave, and the text."""

    node: str
    time_ns: int | None
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class LogTail:
    """The last lines of one node's log."""

    node: str
    file: str
    size_bytes: int
    lines: tuple[LogLine, ...]
    cut: bool


def wall_anchor_ns(run: StoredRun) -> int | None:
    """Wall-clock ns since the epoch at the run's time zero; None when nothing says."""
    offsets = [sample.wall_ns - sample.time_ns for sample in run.samples if sample.wall_ns is not None]
    if offsets:
        return round(median(offsets))
    if run.config is not None:
        try:
            started = datetime.fromisoformat(run.config.started_at)
        except ValueError:
            return None
        return int((started if started.tzinfo else started.replace(tzinfo=UTC)).timestamp() * 1e9)
    return None


def parse_line(node: str, line: bytes, anchor_ns: int | None) -> LogLine:
    """One line of a log, bytes that are no UTF-8 replaced."""
    time_ns = None
    if anchor_ns is not None and (wall_ns := _wall_ns(line)) is not None:
        time_ns = wall_ns - anchor_ns
    return LogLine(node, time_ns, _level(line), plain(_readable(line), LINE_CHARACTERS))


def _readable(line: bytes) -> str:
    """The line's text; of a line of zap's JSON the message first, then its fields, without time and level."""
    text = line.rstrip(b"\r\n").decode(errors="replace")
    if not text.startswith("{"):
        return text
    try:
        fields = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text
    fields.pop("ts", None)
    fields.pop("level", None)
    message, caller = fields.pop("msg", ""), fields.pop("caller", None)
    words = [f"{name}={value if isinstance(value, str) else shown(value)}" for name, value in fields.items()]
    return "  ".join([str(message), *words, *([f"({caller})"] if caller else [])])


def _wall_ns(line: bytes) -> int | None:
    found = _TIME.search(line[:200])
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    fraction, zone = found.group(7) or b"0", (found.group(8) or b"Z").decode()
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    offset_s = 0
    if zone != "Z":
        offset_s = (int(zone[1:3]) * 60 + int(zone[-2:])) * (-60 if zone[0] == "-" else 60)
    return (int(moment.timestamp()) - offset_s) * 1_000_000_000 + int(fraction.ljust(9, b"0"))


def _level(line: bytes) -> str:
    found = _LEVEL.search(line[:400])
    if found is None:
        return "info"
    zap, go, capnslog = (group.decode() if group else None for group in found.groups())
    name = zap or go or _CAPNSLOG.get(capnslog or "", "info")
    return _GRAVE.get(name, name)


def tails(run: StoredRun) -> list[LogTail]:
    """The last TAIL_LINES lines of every node's log."""
    anchor_ns = wall_anchor_ns(run)
    found = []
    for node, path in run.logs.items():
        lines = deque(_lines(path, TAIL_LINES * 2_000), TAIL_LINES + 1)
        kept = tuple(parse_line(node, line, anchor_ns) for line in list(lines)[-TAIL_LINES:])
        size = path.stat().st_size if path.exists() else 0
        found.append(LogTail(node, f"logs/{path.name}", size, kept, len(lines) > TAIL_LINES))
    return found


def _lines(path: Path, last_bytes: int) -> Iterator[bytes]:
    """The lines within the last bytes of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - last_bytes))
            if size > last_bytes:
                file.readline()
            while line := file.readline(1 << 20):
                yield line
    except OSError:
        return


@dataclass(frozen=True, slots=True)
class _Timed:
    time_ns: int
    node: str
    line: bytes


class LogSearch:
    """Finds the lines around a moment; reads every log once, when first asked."""

    def __init__(self, run: StoredRun) -> None:
        self._run = run
        self._timed: list[_Timed] | None = None
        self._anchor_ns = wall_anchor_ns(run)

    def around(self, start_ns: int, end_ns: int, *, margin_ns: int = 500_000_000, most: int = 14) -> list[LogLine]:
        """At most ``most`` lines of all nodes within the margin of these times, the graver and nearer preferred."""
        if self._timed is None:
            self._timed = list(self._read())
        middle_ns = (start_ns + end_ns) // 2
        found = [
            parse_line(timed.node, timed.line, self._anchor_ns)
            for timed in self._timed
            if start_ns - margin_ns <= timed.time_ns <= end_ns + margin_ns
        ]
        found.sort(key=lambda line: (_rank(line), abs((line.time_ns or 0) - middle_ns)))
        return sorted(found[:most], key=lambda line: line.time_ns or 0)

    def _read(self) -> Iterator[_Timed]:
        if self._anchor_ns is None:
            return
        for node, path in self._run.logs.items():
            for line in _lines(path, _SEARCHED_BYTES):
                if (wall_ns := _wall_ns(line)) is not None:
                    yield _Timed(wall_ns - self._anchor_ns, node, line)


def _rank(line: LogLine) -> int:
    order: Sequence[str] = ("fatal", "error", "warn", "info", "debug")
    return order.index(line.level) if line.level in order else len(order)
