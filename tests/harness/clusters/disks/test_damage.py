"""Damage to logs and snapshots: exactly what is told, where it hurts, and nowhere else."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from splitvote.harness.clusters.disks.damage import damage, damageable
from splitvote.harness.clusters.disks.wal import ENTRY, records
from splitvote.harness.machine import DAMAGES

SEGMENT_BYTES = 64 << 10
METADATA, STATE, CRC = 1, 3, 4


def frame(kind: int, data: bytes) -> bytes:
    """A record as etcd's encoder frames it; nobody here looks at its checksum."""
    record = bytes([0x08, kind, 0x10]) + b"\xff\xff\xff\xff\x0f"
    if data:
        record += b"\x1a" + _varint(len(data)) + data
    padding = -len(record) % 8
    head = len(record) | ((0x80 | padding) << 56 if padding else 0)
    return struct.pack("<Q", head) + record + bytes(padding)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def segment(entries: int) -> bytes:
    """A preallocated segment with so many entries, each followed by a hard state, and zeros to its end."""
    content = frame(CRC, b"") + frame(METADATA, b"who and where")
    for number in range(entries):
        content += frame(ENTRY, b"entry %d " % number * (number % 40 + 1)) + frame(STATE, b"\x08\x01")
    return content.ljust(SEGMENT_BYTES, b"\0")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder in ("wal", "snap"):
        (tmp_path / "member" / folder).mkdir(parents=True)
    return tmp_path


def in_wal(data: Path, content: bytes, name: str = "0000000000000000-0000000000000000.wal") -> Path:
    path = data / "member" / "wal" / name
    path.write_bytes(content)
    return path


def in_snap(data: Path, content: bytes, name: str) -> Path:
    path = data / "member" / "snap" / name
    path.write_bytes(content)
    return path


def test_every_record_is_found_up_to_the_zeros() -> None:
    """With its data where it is; what is cut off in the middle is none."""
    content = segment(70)
    found = list(records(content))
    assert [record.kind for record in found] == [CRC, METADATA, *[ENTRY, STATE] * 70]
    assert content[found[4].data_start : found[4].data_end] == b"entry 1 " * 2
    assert not any(content[found[-1].end :])
    assert list(records(content[: found[9].end - 1])) == found[:9]
    assert list(records(b"\x05\0\0\0\0\0\0\0\x42")) == []


@pytest.mark.parametrize("pick", [0, 1, 77, 123_456_789])
def test_a_flipped_bit_is_in_an_entry_of_the_newest_segment(data: Path, pick: int) -> None:
    """So that its checksum fits no longer, and no length is another."""
    older, content = in_wal(data, segment(3)), segment(30)
    newest = in_wal(data, content, "0000000000000001-0000000000000004.wal")
    told = damage(data, "wal_bit_flip", pick)
    spoilt = newest.read_bytes()
    changed = [place for place in range(len(content)) if content[place] != spoilt[place]]
    assert changed == [told["offset"]]
    (place,) = changed
    assert (content[place] ^ spoilt[place]).bit_count() == 1
    assert any(one.kind == ENTRY and one.data_start <= place < one.data_end for one in records(content))
    assert older.read_bytes() == segment(3)


@pytest.mark.parametrize("pick", [0, 1, 20, 21])
def test_a_truncated_log_has_all_before_the_cut(data: Path, pick: int) -> None:
    """Between two records, or through one; at least an entry is gone."""
    content = segment(30)
    path = in_wal(data, content)
    told = damage(data, "wal_truncate", pick)
    kept = path.read_bytes()
    assert content.startswith(kept)
    assert len(kept) == told["kept_bytes"]
    left = list(records(kept))
    assert left == list(records(content))[: len(left)]
    assert sum(record.kind == ENTRY for record in left) < 30
    assert (left[-1].end == len(kept)) is bool(pick & 1)


def test_files_are_lost_whole(data: Path) -> None:
    """Of snapshots the newest."""
    first, second = in_wal(data, segment(3)), in_wal(data, segment(3), "0000000000000001-0000000000000004.wal")
    assert damage(data, "wal_loss", 1)["file"] == second.name
    assert first.exists()
    assert not second.exists()
    old, new = in_snap(data, b"old", "1-1.snap"), in_snap(data, b"new", "1-2.snap")
    damage(data, "snapshot_bit_flip", 12)
    assert new.read_bytes() != b"new"
    assert damage(data, "snapshot_loss", 12)["file"] == new.name
    assert old.read_bytes() == b"old"
    assert not new.exists()


def test_what_is_not_there_is_not_damaged(data: Path) -> None:
    """And is told before: files that are made are none yet."""
    in_wal(data, b"", "0.tmp")
    in_snap(data, b"", "db")
    assert damageable(data) == frozenset()
    for kind in DAMAGES:
        with pytest.raises(ValueError, match="there is no file"):
            damage(data, kind, 0)
    in_wal(data, frame(METADATA, b"who").ljust(SEGMENT_BYTES, b"\0"))
    assert damageable(data) == {"wal_bit_flip", "wal_truncate", "wal_loss"}
    for kind in ("wal_bit_flip", "wal_truncate"):
        with pytest.raises(ValueError, match="has no entries"):
            damage(data, kind, 0)
    in_snap(data, b"content", "1-1.snap")
    assert damageable(data) == set(DAMAGES)
