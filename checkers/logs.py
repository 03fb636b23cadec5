"""Lines in the nodes' logs that no healthy system writes: panics, fatal errors, data races.

Jepsen's log-file-pattern checker, with Go's and etcd's patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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

_OF_REMOVED: Final = re.compile(
    rb'"level":"fatal".*(server is stopping|the member has been permanently removed|'
    rb"error validating peerURLs|member count is unequal)"
    rb"|failed to find local ID in cluster members"
)
EXPLAINED: Final = {
    "member": _OF_REMOVED,
    "disk:full": re.compile(rb"no space left on device"),
    "disk:eio": re.compile(rb"input/output error|^fatal error: fault$"),
    "disk:read_only": re.compile(rb"read-only file system"),
    "damage": _OF_REMOVED,
    "damage:wal_bit_flip": re.compile(rb"crc mismatch"),
    "damage:wal_loss": re.compile(rb"file not found"),
    "damage:wal_truncate": re.compile(rb"Was the raft log corrupted, truncated, or lost"),
    "damage:snapshot_bit_flip": re.compile(rb"crc mismatch"),
    "damage:snapshot_loss": re.compile(rb"no available snapshot"),
    "failpoint": re.compile(rb"failpoint panic|gofail"),
    "resource": re.compile(rb"too many open files"),
}
"""What a fault of this family, or this kind of it, makes its targets say: a disk's own errors under that error alone,
so that a loss of power explains none; a removed member that is started again on its old data ends with
a fatal error, and so does one that joins while the membership changes, or whose log was damaged; a page that cannot be
read into memory is a fault (SIGBUS); a member that is asked for its Status between
its removal and its end panics for not finding itself among the members (3.5); one that may open no file may end."""

_LAST_WORDS: Final = re.compile(rb'"level":"panic".*?"msg":"((?:[^"\\\\]|\\\\.)*)"')
"""What zap says before it panics with the message alone, which tells no error any more."""

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
            explained = _explained(recording, node)
            found: dict[str, list[str]] = {}
            excused: bytes | None = None
            for line in _lines(path):
                lines_read += 1
                if lines_read % 1024 == 0:
                    budget.check(1024)
                if excused is not None and line.rstrip() == b"panic: " + excused:
                    excused = None  # the same end, told once more
                    continue
                names = list(self._matches(line, explained))
                for name in names:
                    found.setdefault(name, []).append(line.decode(errors="replace").rstrip()[:500])
                if not names and (words := _LAST_WORDS.search(line)):
                    excused = words[1]
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

    def _matches(self, line: bytes, explained: Sequence[re.Pattern[bytes]]) -> Iterator[str]:
        for name, pattern in PATTERNS.items():
            if pattern.search(line) and not any(ignored.search(line) for ignored in (*self._ignore, *explained)):
                yield name


def _explained(recording: Recording, node: str) -> list[re.Pattern[bytes]]:
    """What the faults that hit a node make it say."""
    hit = [fault for fault in recording.faults if node in fault.targets]
    names = dict.fromkeys(name for fault in hit for name in (fault.family, f"{fault.family}:{fault.fault}"))
    return [EXPLAINED[name] for name in names if name in EXPLAINED]


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError:
        return  # a node that never started has no log
