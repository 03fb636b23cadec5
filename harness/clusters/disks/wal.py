"""What is in a segment of etcd's write-ahead log: its records, found by their frames; pure.

A frame is eight bytes (little-endian: 56 bits of length, and the padding in the
top byte), a protobuf record {type = 1, crc = 2, data = 3}, and its padding to a
multiple of eight.  A frame of zeros ends it: segments are preallocated.
Source: etcd, server/wal (encoder.go, walpb/record.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

ENTRY: Final = 2
"""The type of a record that has an entry of raft's."""

_FRAME: Final = struct.Struct("<Q")
_LENGTH_BITS: Final = 56
_TYPE_TAG, _CRC_TAG, _DATA_TAG = 0x08, 0x10, 0x1A


class WalRecord(NamedTuple):
    """One record: its type, and in the segment where its frame begins, where its data does, and both their ends."""

    kind: int
    start: int
    data_start: int
    data_end: int
    end: int


def records(segment: bytes) -> Iterator[WalRecord]:
    """The records of a segment, up to its end or to what is no record."""
    start = 0
    while start + _FRAME.size <= len(segment):
        (frame,) = _FRAME.unpack_from(segment, start)
        if frame == 0:
            return
        length = frame & ((1 << _LENGTH_BITS) - 1)
        padding = (frame >> _LENGTH_BITS) & 0x7 if frame >> 63 else 0
        body = start + _FRAME.size
        end = body + length + padding
        found = _fields(segment[body : body + length])
        if end > len(segment) or found is None:
            return
        kind, data_start, data_end = found
        yield WalRecord(kind, start, body + data_start, body + data_end, end)
        start = end


def _fields(record: bytes) -> tuple[int, int, int] | None:
    """A record's type, and where its data begins and ends; None for what is no record."""
    kind = data_start = data_end = at = 0
    try:
        while at < len(record):
            tag, at = record[at], at + 1
            number, at = _varint(record, at)
            if tag == _DATA_TAG:
                data_start, data_end, at = at, at + number, at + number
            elif tag == _TYPE_TAG:
                kind = number
            elif tag != _CRC_TAG:
                return None
    except IndexError:
        return None
    return (kind, data_start, data_end) if at == len(record) else None


def _varint(record: bytes, at: int) -> tuple[int, int]:
    """A number, and where what comes after it begins."""
    number = shift = 0
    while True:
        byte, at = record[at], at + 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at
