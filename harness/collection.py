"""Python's garbage collector while a run goes on: seldom, for next to nothing that a run makes is circular."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SELDOM: Final = (100_000, 50, 100)


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Raise the collector's thresholds; it costs a run some 6 % of its time by default."""
    thresholds = gc.get_threshold()
    gc.set_threshold(*_SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
