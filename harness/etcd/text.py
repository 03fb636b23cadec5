"""Keys and values as JSON can hold them, without loss.

etcd's keys and values are bytes, JSON's strings are text.  UTF-8 bytes are
their own text; anything else (and text that would be mistaken for it) is
written as ``base64:`` and its base64.
"""

from __future__ import annotations

import base64
from typing import Final

_PREFIX: Final = "base64:"


def text_of(raw: bytes) -> str:
    """The text that stands for these bytes; ``bytes_of`` undoes it."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = _PREFIX
    return _PREFIX + base64.b64encode(raw).decode("ascii") if text.startswith(_PREFIX) else text


def bytes_of(text: str) -> bytes:
    """The bytes this text stands for; ValueError where it says base64 and is not."""
    if text.startswith(_PREFIX):
        return base64.b64decode(text[len(_PREFIX) :], validate=True)
    return text.encode()
