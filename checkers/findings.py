"""What the checker has found so far: the first anomalies of each name in full, the rest counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from splitvote.harness.op import Op, Operation
from splitvote.harness.result import Anomaly

MOST_TOLD: Final = 20


class Findings:
    """Collects anomalies; ``skipped`` counts answers that could not be judged."""

    def __init__(self) -> None:
        self.anomalies: list[Anomaly] = []
        self.counts: Counter[str] = Counter()
        self.skipped = 0

    def add(self, name: str, story: str, shown_by: Sequence[Operation | Op], **details: Any) -> None:
        """Note an anomaly that these operations (or single events) show; past MOST_TOLD of a name only its number."""
        self.counts[name] += 1
        if self.counts[name] <= MOST_TOLD:
            ops: list[Op] = []
            for each in shown_by:
                if isinstance(each, Op):
                    ops.append(each)
                else:
                    ops += [each.invoke] if each.completion is None else [each.invoke, each.completion]
            ops.sort(key=lambda op: op.index)
            self.anomalies.append(Anomaly(name, story, tuple(ops), details=details))
