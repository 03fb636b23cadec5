"""EDN, Clojure's data notation: the printer.

Prints what ``edn.EXACT`` reads back unchanged, and plain Python values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from splitvote.harness.formats.edn import Keyword, Symbol, Tagged

_ESCAPED: Final = re.compile(r'["\\\n\t\r\b\f]')
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f"}
_KEYWORD: Final = re.compile(r"[^\s,\"()\[\]{};\\^:#][^\s,\"()\[\]{};\\^]*")


def edn_text(value: Any) -> str:
    """Print a value; a list prints as a vector, a tuple as a list ``( )``, what EDN has not as a string of its repr."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text_of_str(value)
    if isinstance(value, (int, Fraction)):
        return str(value)
    if isinstance(value, float):
        return _text_of_float(value)
    if isinstance(value, Decimal):
        return f"{value}M"
    if isinstance(value, Tagged):
        return f"#{value.tag} {edn_text(value.value)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{edn_text(key)} {edn_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + " ".join(map(edn_text, value)) + "]"
    if isinstance(value, tuple):
        return "(" + " ".join(map(edn_text, value)) + ")"
    if isinstance(value, (set, frozenset)):
        return "#{" + " ".join(sorted(map(edn_text, value))) + "}"
    return edn_text(repr(value))


def _text_of_str(value: str) -> str:
    if isinstance(value, Keyword):
        return f":{value}"
    if isinstance(value, Symbol):
        return str(value)
    return '"' + _ESCAPED.sub(lambda match: _ESCAPES[match.group()], value) + '"'


def _text_of_float(value: float) -> str:
    if math.isnan(value):
        return "##NaN"
    if math.isinf(value):
        return "##Inf" if value > 0 else "##-Inf"
    return repr(value)


def is_keyword_name(name: str) -> bool:
    """Whether ``:name`` reads back as one keyword."""
    return _KEYWORD.fullmatch(name) is not None
