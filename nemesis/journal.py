"""The journal of faults: faults.jsonl, one line for each fault reaching each phase.

``starting`` is on the disk before the cluster is touched, so that whoever finds
the file after a crash of the harness knows all there may be to undo.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from splitvote.harness.jsonl import JsonLinesWriter, read_all
from splitvote.harness.recording import FaultRecord


class Journal:
    """Appends to a faults.jsonl; raises EnvironmentFailure when the disk is full or gone.

    A torn last line that a killed harness left is cut off first, or the next
    record would end up on it.
    """

    def __init__(self, path: Path) -> None:
        _cut_torn_line(path)
        self._writer: JsonLinesWriter[FaultRecord] = JsonLinesWriter(path)

    def note(self, record: FaultRecord) -> None:
        """Write one phase of one fault; returns once the disk has it when the fault is about to start."""
        self._writer.append(record)
        if record.phase == "starting":
            self._writer.sync()
        else:
            self._writer.flush()

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        self._writer.close()


def read_faults(path: Path) -> list[FaultRecord]:
    """Every record of a journal, none where there is no file; a torn last line is dropped."""
    return read_all(path, FaultRecord)[0] if path.exists() else []


def still_open(records: Iterable[FaultRecord]) -> list[FaultRecord]:
    """The latest record of each fault that is not known to be undone, in the order they began.

    A fault whose end could not be proven counts as open: undoing it once more
    does no harm.
    """
    latest: dict[int, FaultRecord] = {}
    for record in records:
        latest[record.id] = record
    return [record for record in latest.values() if record.phase != "healed"]


def open_faults(path: Path) -> list[FaultRecord]:
    """``still_open`` of a journal on disk."""
    return still_open(read_faults(path))


def closing(record: FaultRecord, proof: str) -> FaultRecord:
    """The last record of a fault that was found to be over, which ``proof`` tells in words."""
    return msgspec.structs.replace(record, phase="healed", proof=proof, observed={}, error=None)


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
