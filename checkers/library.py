"""Jepsen's library by name, for judging histories from elsewhere.

The checkers' modules are imported when one is made, not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from splitvote.harness.result import Checker

_CLASSES: Final[dict[str, tuple[str, str]]] = {
    "set": ("sets", "SetChecker"),
    "set-full": ("set_full", "SetFullChecker"),
    "queue": ("queues", "QueueChecker"),
    "total-queue": ("queues", "TotalQueueChecker"),
    "fifo": ("fifo", "FifoChecker"),
    "counter": ("counter", "CounterChecker"),
    "unique-ids": ("unique_ids", "UniqueIdsChecker"),
    "bank": ("bank", "BankChecker"),
    "long-fork": ("long_fork", "LongForkChecker"),
    "causal": ("causal", "CausalChecker"),
    "causal-reverse": ("causal", "CausalReverseChecker"),
    "adya-g2": ("adya", "G2Checker"),
}

NAMES: Final = tuple(_CLASSES)
"""Every checker of the library; each result carries the same name."""


def checker_named(name: str, options: Mapping[str, Any] | None = None) -> Checker:
    """Make a checker, with its class's options if any; raises KeyError for a name that is not in NAMES."""
    module, class_name = _CLASSES[name]
    made: Checker = getattr(import_module(f"splitvote.checkers.{module}"), class_name)(**(options or {}))
    return made
