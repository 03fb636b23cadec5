"""Harm done to what a member of etcd has on its disk, while it does not run: its log, and raft's snapshots."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from splitvote.harness.clusters.disks.wal import ENTRY, records

MOST_TRUNCATED: Final = 50
"""Records at most that a truncated log lacks."""

Told = dict[str, str | int]
"""What was done: the file, the place and the sizes."""


def damageable(data: Path) -> frozenset[str]:
    """The names of the damages (``cluster.DAMAGES``) that there are files for in this data directory."""
    return frozenset(kind for kind, (folder, suffix, _) in _DAMAGES.items() if _files(data / folder, suffix))


def damage(data: Path, kind: str, pick: int) -> Mapping[str, str | int]:
    """Do one of them, where ``pick`` says.

    Raises ValueError when there is no such file, or nothing in it, and OSError.
    """
    folder, suffix, do = _DAMAGES[kind]
    found = _files(data / folder, suffix)
    if not found:
        raise ValueError(f"{kind}: there is no file in {data / folder}")
    return do(found, pick)


def _files(folder: Path, suffix: str) -> list[Path]:
    """The files that etcd would read, the newest last: their names are numbers of a fixed width."""
    return sorted(path for path in folder.glob(f"*{suffix}"))


def _told(file: Path, size_bytes: int) -> Told:
    return {"file": file.name, "size_bytes": size_bytes}


def _flip_bit_of_log(files: list[Path], pick: int) -> Told:
    """One bit of an entry in the newest segment: its checksum fits no longer."""
    content = files[-1].read_bytes()
    entries = [record for record in records(content) if record.kind == ENTRY and record.data_end > record.data_start]
    if not entries:
        raise ValueError(f"{files[-1].name} has no entries")
    chosen = entries[pick % len(entries)]
    return _flip(files[-1], content, chosen.data_start, chosen.data_end, pick // len(entries))


def _flip_bit_of_snapshot(files: list[Path], pick: int) -> Told:
    content = files[-1].read_bytes()
    return _flip(files[-1], content, 0, len(content), pick)


def _flip(file: Path, content: bytes, start: int, end: int, pick: int) -> Told:
    if end <= start:
        raise ValueError(f"{file.name} is empty")
    offset, bit = start + (pick >> 3) % (end - start), pick & 7
    with file.open("r+b") as opened:
        os.pwrite(opened.fileno(), bytes([content[offset] ^ (1 << bit)]), offset)
    return _told(file, len(content)) | {"offset": offset, "bit": bit}


def _truncate_log(files: list[Path], pick: int) -> Told:
    """Cut off the last records of the newest segment, every other time through the middle of the first of them."""
    content = files[-1].read_bytes()
    found = list(records(content))
    entries = [place for place, record in enumerate(found) if record.kind == ENTRY]
    if not entries:
        raise ValueError(f"{files[-1].name} has no entries")
    first = entries[-1 - pick % min(len(entries), MOST_TRUNCATED)]
    record = found[first]
    kept_bytes = record.start if pick & 1 else (record.data_start + record.data_end) // 2
    os.truncate(files[-1], kept_bytes)
    return _told(files[-1], found[-1].end) | {"kept_bytes": kept_bytes, "records": len(found) - first}


def _lose(files: list[Path], pick: int) -> Told:
    """Remove one of the segments; of snapshots there is only the newest to be lost."""
    file = files[pick % len(files)]
    size_bytes = file.stat().st_size
    file.unlink()
    return _told(file, size_bytes)


def _lose_newest(files: list[Path], pick: int) -> Told:
    return _lose(files[-1:], pick)


_WAL: Final = ("member/wal", ".wal")
_SNAPSHOTS: Final = ("member/snap", ".snap")

_DAMAGES: Final[Mapping[str, tuple[str, str, Callable[[list[Path], int], Told]]]] = {
    "wal_bit_flip": (*_WAL, _flip_bit_of_log),
    "wal_truncate": (*_WAL, _truncate_log),
    "wal_loss": (*_WAL, _lose),
    "snapshot_bit_flip": (*_SNAPSHOTS, _flip_bit_of_snapshot),
    "snapshot_loss": (*_SNAPSHOTS, _lose_newest),
}
