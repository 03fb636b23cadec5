"""What a member said before it ended, in one line, from its log: etcd's JSON lines, or Go's plain ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

MOST_LINES: Final = 2
LINE_CHARACTERS: Final = 240
_TAIL_BYTES: Final = 256 << 10
_GRAVE: Final = ("warn", "error", "dpanic", "panic", "fatal")


def last_words(log: Path, offset: int = 0) -> str:
    """The gravest of the last lines from ``offset`` (bytes) on, and the first plain one, which is Go's own.

    A panic is both; a rejected command line is one plain line, followed by the whole usage.
    """
    lines = [line for line in _tail(log, offset).splitlines() if line.strip()]
    plain = [_shortened(line.strip()) for line in lines if not line.startswith("{")][:1]
    entries = [entry for line in lines if (entry := _entry(line)) is not None]
    grave = [entry for entry in entries if entry.get("level") in _GRAVE]
    chosen = grave if plain else grave or entries
    words = [_phrase(entry) for entry in chosen[len(plain) - MOST_LINES :]] + plain
    return "; ".join(words) or "nothing"


def _tail(log: Path, offset: int) -> str:
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(offset, size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError as failure:
        return f"(its log cannot be read: {failure.strerror})"


def _entry(line: str) -> dict[str, object] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _phrase(entry: dict[str, object]) -> str:
    error = entry.get("error")
    return _shortened(str(entry.get("msg", "")) + (f": {error}" if error else ""))


def _shortened(text: str) -> str:
    return text if len(text) <= LINE_CHARACTERS else text[: LINE_CHARACTERS - 3] + "..."
