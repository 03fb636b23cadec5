"""Errors that no table knows, and exceptions in our own clients: they must be seen, whatever the verdict.

The binding writes the error's class in front of the message (``class: message``).
A class of "unlisted" is an answer the error table has no row for; "crash" is an
exception of our own client code, which the runner turned into ``info``.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from splitvote.harness.op import Op
from splitvote.harness.recording import Recording
from splitvote.harness.result import Budget, Result, Verdict

UNLISTED: Final = ("unlisted", "crash")
_EXAMPLES: Final = 3


def error_class(error: str) -> str:
    """The class of an error: what stands before its first colon."""
    return error.split(":", 1)[0]


class UnhandledErrorsChecker:
    """UNKNOWN when an error was met that nobody has classified; the counts by class are in the stats."""

    name = "errors"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Count errors by class and list those that no table knows."""
        counts: Counter[str] = Counter()
        examples: dict[str, list[Op]] = {}
        for op in recording.history:
            if op.error is not None and op.is_completion:
                name = error_class(op.error)
                counts[name] += 1
                if name in UNLISTED and len(examples.setdefault(name, [])) < _EXAMPLES:
                    examples[name].append(op)
        unlisted = {name: counts[name] for name in UNLISTED if counts[name]}
        if not unlisted:
            return Result(self.name, Verdict.VALID, stats={"by_class": dict(counts.most_common())})
        first = next(op for ops in examples.values() for op in ops)
        return Result(
            self.name,
            Verdict.UNKNOWN,
            reason=f"{sum(unlisted.values())} errors that no table knows, the first: {first.error}",
            evidence={"examples": examples},
            stats={"by_class": dict(counts.most_common())},
        )
