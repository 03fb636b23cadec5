"""JSON lines on disk: the one way a run streams records and reads them back.

A record is one line.  Writers hand whole lines to the kernel, so that a
harness killed with SIGKILL loses at most what it has not flushed; a full disk
or a crash of the machine can tear the last line only.  Readers drop a torn last
line and say how long it was; garbage anywhere else is an error naming the line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Generic, TypeVar

import msgspec

from splitvote.harness.errors import EnvironmentFailure, HistoryError

T = TypeVar("T")

FLUSH_BYTES: Final = 1 << 18
_CHUNK_BYTES: Final = 1 << 18


class JsonLinesWriter(Generic[T]):
    """Appends records to a new file, buffered until ``flush``.

    Raises EnvironmentFailure when the disk is full or gone; what was written
    before stays readable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("ab", buffering=0)
        self._encoder = msgspec.json.Encoder(enc_hook=_encode_foreign)
        self._buffer = bytearray()
        self._line = bytearray()

    def append(self, record: T) -> None:
        """Add one record; it is safe from our own death with the next flush."""
        self._encoder.encode_into(record, self._line)
        self._line += b"\n"
        self._buffer += self._line
        if len(self._buffer) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand every whole line to the kernel."""
        while self._buffer:
            try:
                written = self._file.write(self._buffer)
            except OSError as failure:
                raise EnvironmentFailure(
                    f"cannot write {self.path}: {failure.strerror}; free some space or choose another --store"
                ) from failure
            del self._buffer[:written]

    def sync(self) -> None:
        """Flush, and wait until the disk has it: safe from the machine's death, too."""
        self.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close; closing twice does nothing."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._file.close()


def _encode_foreign(value: Any) -> Any:
    """JSON for what is none: a value from the system under test may be anything."""
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    return repr(value)


def read_chunks(path: Path, kind: type[T]) -> Iterator[tuple[list[T], int]]:
    """Yield (records, length in bytes of a torn last line) chunk by chunk; the length is 0 but for the last chunk.

    Raises HistoryError naming file and line where anything else is no record.
    """
    try:
        file = path.open("rb")
    except OSError as failure:
        raise HistoryError(f"cannot read {path}: {failure.strerror}; give a run directory or a history file") from None
    before = 0
    with file:
        while lines := file.readlines(_CHUNK_BYTES):
            torn = 0 if lines[-1].endswith(b"\n") else len(lines.pop())
            yield _decode_lines(lines, kind, before, path), torn
            before += len(lines)


def read_all(path: Path, kind: type[T]) -> tuple[list[T], int]:
    """Every record of the file, and the length in bytes of a torn last line."""
    records: list[T] = []
    torn_bytes = 0
    for chunk, torn in read_chunks(path, kind):
        records.extend(chunk)
        torn_bytes = torn
    return records, torn_bytes


def _decode_lines(lines: list[bytes], kind: type[T], before: int, path: Path) -> list[T]:
    """Decode a chunk as one array, which is twice as fast as line by line; that is left for naming the bad line."""
    try:
        whole: list[T] = msgspec.json.decode(b"[%b]" % b",".join(lines), type=list[kind])  # type: ignore[valid-type]
    except (msgspec.DecodeError, UnicodeDecodeError):
        whole = []
    if len(whole) == len(lines):
        return whole
    decode = msgspec.json.Decoder(kind).decode
    records: list[T] = []
    try:
        for line in lines:
            records.append(decode(line))  # noqa: PERF401 - the records so far tell which line failed
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        number = before + len(records) + 1
        raise HistoryError(
            f"{path}:{number}: not a record ({problem}): {lines[len(records)][:60]!r}; the {number - 1} lines "
            "before it are intact: cut the file there, or restore it from the run's store"
        ) from None
    return records
