"""The option ``reads``: linearizable ones, or serializable ones, which show some state that was, perhaps an old one.

A serializable read is marked in its invocation's ``extra``, so that the history
tells which it was; bindings look there.  Final reads never are.
"""

from __future__ import annotations

from typing import Any, Final

from splitvote.workloads.workload import WorkloadOptions

OPTION: Final = "reads"
_KINDS: Final = ("linearizable", "serializable")


def are_serializable(options: WorkloadOptions) -> bool:
    """Whether reads may be old; raises ConfigError where the option is neither of the two."""
    return options.choice(OPTION, _KINDS) == "serializable"


def marked(*, serializable: bool) -> dict[str, Any] | None:
    """The ``extra`` of such a read's invocation."""
    return {"serializable": True} if serializable else None
