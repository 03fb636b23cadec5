"""How values, times and amounts are put for people; values from the system under test are data and shown inert."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from splitvote.harness.op import Op, Operation

SHOWN_CHARACTERS: Final = 160
NOTHING: Final = "\u2013"
"""Stands where there is no value."""


def shown(value: Any, limit: int = SHOWN_CHARACTERS) -> str:
    """A value as one line of JSON, with whatever would not print (controls, direction marks, lone halves) as escapes.

    Longer than ``limit`` it is cut, with its full length in characters.
    """
    text = value if isinstance(value, str) else _json(value)
    length = len(text)
    visible = "".join(map(_visible, text[:limit]))
    if isinstance(value, str):
        visible = f'"{visible}"'
    return visible if length <= limit else f"{visible}… ({length:,} characters)"


def plain(text: str, limit: int = 4000) -> str:
    """A line of text without quotes, its unprintable characters escaped, cut at ``limit``."""
    visible = "".join(map(_visible, text[:limit]))
    return visible if len(text) <= limit else f"{visible}… ({len(text):,} characters)"


def _json(value: Any) -> str:
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    try:
        return msgspec.json.encode(value, enc_hook=repr).decode()
    except (UnicodeEncodeError, TypeError, ValueError):
        return repr(value)


def _visible(character: str) -> str:
    if character.isprintable() or character == " ":
        return character
    escapes = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    if character in escapes:
        return escapes[character]
    if unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def key_name(key: Any) -> str | None:
    """A key as it is called where keys are chosen; None for none."""
    return None if key is None else key[:200] if isinstance(key, str) else shown(key)


def seconds(time_ns: int | None) -> str:
    """A moment of the run: ``12.345 s``."""
    return NOTHING if time_ns is None else f"{time_ns / 1e9:.3f} s"


def duration(span_ns: float | None) -> str:
    """A length of time with the unit that reads best: ``3.1 ms``, ``4.20 s``, ``2 min 5 s``."""
    if span_ns is None:
        return NOTHING
    if span_ns < 1e6:
        return f"{span_ns / 1e3:.0f} µs"
    if span_ns < 1e9:
        return f"{span_ns / 1e6:.1f} ms"
    if span_ns < 90e9:
        return f"{span_ns / 1e9:.2f} s"
    minutes, rest = divmod(round(span_ns / 1e9), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """``1 fault``, ``2 faults``, ``12,000 operations``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def share(part: int, whole: int) -> str:
    """``97.3 %``, never rounded up to 100; a dash of nothing."""
    if whole == 0:
        return NOTHING
    percent = 100 * part / whole
    return "100 %" if part == whole else f"{min(percent, 99.9):.1f} %"


def listed(words: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


_LONG_LIST: Final = re.compile(r"\[((?:[^][{}\"',]{1,40},){7,}[^][{}\"',]{1,40})\]")
_ABRIDGED_CHARACTERS: Final = 50_000


def abridged(text: str) -> str:
    """A text in which long lists of plain items keep their first and their last two: ``[1, … 40 more …, 42, 43]``."""
    return _LONG_LIST.sub(_ends_of, text[:_ABRIDGED_CHARACTERS])


def _ends_of(found: re.Match[str]) -> str:
    items = [item.strip() for item in found[1].split(",")]
    return f"[{items[0]}, \u2026 {len(items) - 3} more \u2026, {items[-2]}, {items[-1]}]"


def called(op: Op) -> str:
    """An invocation in short, as in code: ``put(k3, 17)``."""
    arguments = [
        shown(part, 40) if not isinstance(part, str) else plain(part, 40)
        for part in (op.key, op.value)
        if part is not None
    ]
    return f"{plain(op.f, 40)}({', '.join(arguments)})"


def answered(operation: Operation) -> str:
    """An operation's answer in short: ``→ 17``, ``ok`` where that is all it says, ``failed``, ``unknown``."""
    completion = operation.completion
    if completion is None:
        return "never answered"
    if completion.type == "ok":
        asked = operation.invoke.value
        says_more = asked is None or completion is operation.invoke or completion.value not in (None, asked)
        return f"\u2192 {shown(completion.value, 40)}" if says_more else "ok"
    return "failed" if completion.type == "fail" else "unknown"


def times(amounts: Mapping[str, int]) -> str:
    """How often each: ``kill \u00d7 3, pause \u00d7 1``, the most frequent first."""
    ordered = sorted(amounts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} \u00d7 {amount:,}" for name, amount in ordered)


def figure(value: Any, limit: int = 400) -> str:
    """A figure of a checker or the harness: flat mappings in words (``ok 12, fail 3``), all else as JSON."""
    if (
        isinstance(value, Mapping)
        and value
        and not any(isinstance(part, (Mapping, list, tuple)) for part in value.values())
    ):
        return plain(
            ", ".join(f"{name} {part if isinstance(part, str) else _json(part)}" for name, part in value.items()), limit
        )
    return plain(value, limit) if isinstance(value, str) else shown(value, limit)


def sentence(text: str) -> str:
    """The text with a capital and a full stop, unless it ends in a mark of its own."""
    text = text[:1].upper() + text[1:]
    return text if not text or text[-1] in ".!?\u2026" else f"{text}."
