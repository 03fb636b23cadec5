"""Lines in the nodes' logs that no healthy system writes: panics, fatal errors, data races.

Jepsen's log-file-pattern checker, with Go's and etcd's patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict

PATTERNS: Final = {
    "panic": re.compile(rb'^panic: |"level":"panic"|^fatal error: |runtime error: '),
    "fatal": re.compile(rb'"level":"fatal"'),
    "data race": re.compile(rb"^WARNING: DATA RACE"),
    "corruption": re.compile(rb"data inconsistency|database file corrupted|hash mismatch|found data inconsistency"),
}
"""What to look for in a Go server's output; etcd logs JSON lines by zap."""

_EXAMPLES: Final = 5


class LogPatternChecker:
    """INVALID where a node's log shows a panic, a fatal error or a data race.

    ``ignore`` are patterns of lines that the faults of the run explain (a
    fatal "disk full" under a disk fault).
    """

    name = "logs"

    def __init__(self, *, ignore: tuple[str, ...] = ()) -> None:
        self._ignore = [re.compile(pattern.encode()) for pattern in ignore]

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Search every node's log for the patterns."""
        anomalies = []
        lines_read = 0
        for node, path in sorted(recording.logs.items()):
            found: dict[str, list[str]] = {}
            for line in _lines(path):
                lines_read += 1
                if lines_read % 1024 == 0:
                    budget.check(1024)
                for name in self._matches(line):
                    found.setdefault(name, []).append(line.decode(errors="replace").rstrip()[:500])
            anomalies += [
                Anomaly(
                    f"log: {name}",
                    f"{node}'s log has {len(lines)} line(s) that no healthy member writes, the first: {lines[0][:200]}",
                    details={"node": node, "lines": lines[:_EXAMPLES], "count": len(lines)},
                )
                for name, lines in found.items()
            ]
        verdict = Verdict.INVALID if anomalies else Verdict.VALID
        reason = anomalies[0].story if anomalies else None
        return Result(self.name, verdict, reason, tuple(anomalies), stats={"lines": lines_read})

    def _matches(self, line: bytes) -> Iterator[str]:
        for name, pattern in PATTERNS.items():
            if pattern.search(line) and not any(ignored.search(line) for ignored in self._ignore):
                yield name


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError:
        return  # a node that never started has no log
