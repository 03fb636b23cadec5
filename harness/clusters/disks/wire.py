"""The kernel's FUSE protocol, as far as a file system for a database needs it: requests in, replies out; no IO.

Spoken on /dev/fuse directly, since every Python binding wants a C library and
its headers (libfuse), while the protocol is a handful of fixed structs that the
kernel promises to keep.  Source: Linux, include/uapi/linux/fuse.h, version 7.31;
a newer kernel speaks the version that it is answered.

No time is ever granted for which names and attributes stay true, so that
whatever else changes the folder behind (a wipe, damage, a power loss) is seen
at once.
"""

from __future__ import annotations

import enum
import os
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

MAJOR: Final = 7
MINOR: Final = 31
ROOT: Final = 1
"""The number of the node that is mounted."""

MOST_BYTES: Final = 128 << 10
"""The most that one write carries; a kernel that is not asked for more pages gives no more."""

BUFFER_BYTES: Final = MOST_BYTES + (8 << 10)

_BIG_WRITES: Final = 1 << 5
_BACKGROUND: Final = 16

_IN_HEADER: Final = struct.Struct("<IIQQIIIHH")
_OUT_HEADER: Final = struct.Struct("<IiQ")
_ATTRIBUTES: Final = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY: Final = struct.Struct("<QQQQII")
_INIT_IN: Final = struct.Struct("<IIII")
_INIT_OUT: Final = struct.Struct("<IIIIHHIIHHI28x")
_STATFS: Final = struct.Struct("<QQQQQIIII24x")
_DIRECTORY_ENTRY: Final = struct.Struct("<QQII")
_SETATTR_IN: Final = struct.Struct("<IIQQQQQQIIIIIII")
_IO_IN: Final = struct.Struct("<QQIIQII")
_OPENED: Final = struct.Struct("<QII")
_TWO_WORDS: Final = struct.Struct("<II")
_NUMBER: Final = struct.Struct("<Q")
_FORGET_ONE: Final = struct.Struct("<QQ")


class Opcode(enum.IntEnum):
    """What the kernel asks for; others are answered ENOSYS, for which it has ways of its own."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


UNANSWERED: Final = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT})
"""The kernel waits for no reply to these."""


class Request(NamedTuple):
    """One request: what, its number, about which node, for which thread, and the rest as bytes."""

    opcode: int
    unique: int
    node: int
    thread: int
    body: memoryview | bytes

    def kept(self) -> Request:
        """The same with a copy of its bytes: those of a request that was just read are overwritten by the next."""
        return self._replace(body=bytes(self.body))


def parse(message: memoryview) -> Request:
    """Take the header off a message from the kernel."""
    length, opcode, unique, node, _uid, _gid, thread, _extra, _padding = _IN_HEADER.unpack_from(message)
    return Request(opcode, unique, node, thread, message[_IN_HEADER.size : length])


# What requests carry.


class Change(NamedTuple):
    """The attributes that SETATTR sets; None where one is left as it is.  A time is in ns, or "now"."""

    mode: int | None
    owner: int | None
    group: int | None
    size_bytes: int | None
    accessed: int | str | None
    modified: int | str | None
    handle: int | None


def change(body: memoryview | bytes) -> Change:
    """Read SETATTR's (fuse_setattr_in)."""
    valid, _, handle, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid = _SETATTR_IN.unpack_from(body)
    accessed = "now" if valid & 1 << 7 else atime * 10**9 + atime_ns if valid & 1 << 4 else None
    modified = "now" if valid & 1 << 8 else mtime * 10**9 + mtime_ns if valid & 1 << 5 else None
    return Change(
        mode=mode if valid & 1 else None,
        owner=uid if valid & 1 << 1 else None,
        group=gid if valid & 1 << 2 else None,
        size_bytes=size if valid & 1 << 3 else None,
        accessed=accessed,
        modified=modified,
        handle=handle if valid & 1 << 6 else None,
    )


def name(body: memoryview | bytes, *, at: int = 0) -> bytes:
    """The name that a request is about, from this offset on."""
    return bytes(body[at:]).split(b"\0", 1)[0]


def two_words(body: memoryview | bytes) -> tuple[int, int]:
    """What OPEN (flags), MKDIR (mode) and CREATE (flags, mode) begin with."""
    first, second = _TWO_WORDS.unpack_from(body)
    return first, second


CREATE_BYTES: Final = 16
MKDIR_BYTES: Final = 8
"""What comes before the name."""


def renaming(body: memoryview | bytes) -> tuple[int, bytes, bytes]:
    """RENAME's: the new directory's node, the old name, the new name."""
    (directory,) = _NUMBER.unpack_from(body)
    old, new, *_ = bytes(body[_NUMBER.size :]).split(b"\0")
    return directory, old, new


def handle(body: memoryview | bytes) -> int:
    """The handle that RELEASE, FSYNC and their like begin with."""
    found: int = _NUMBER.unpack_from(body)[0]
    return found


def piece(body: memoryview | bytes) -> tuple[int, int, int]:
    """READ's, READDIR's and WRITE's: handle, offset, size."""
    number, offset, size, *_ = _IO_IN.unpack_from(body)
    return number, offset, size


def content(body: memoryview | bytes) -> memoryview:
    """What WRITE writes."""
    return memoryview(body)[_IO_IN.size :]


def forgotten(request: Request) -> Sequence[tuple[int, int]]:
    """FORGET's and BATCH_FORGET's: nodes, and how many of the lookups that found them are forgotten."""
    if request.opcode == Opcode.FORGET:
        return [(request.node, _NUMBER.unpack_from(request.body)[0])]
    count, _ = _TWO_WORDS.unpack_from(request.body)
    start = _TWO_WORDS.size
    size = _FORGET_ONE.size
    return [_FORGET_ONE.unpack_from(request.body, start + size * place) for place in range(count)]


# Replies.


def reply(unique: int, body: bytes = b"") -> bytes:
    """The reply that a request was done."""
    return _OUT_HEADER.pack(_OUT_HEADER.size + len(body), 0, unique) + body


def refusal(unique: int, errno: int) -> bytes:
    """The reply that it failed with this error."""
    return _OUT_HEADER.pack(_OUT_HEADER.size, -errno, unique)


def greeting(body: memoryview | bytes) -> bytes:
    """The answer to INIT: our version, and how much one write may carry."""
    _, _, readahead_bytes, offered = _INIT_IN.unpack_from(body)
    return _INIT_OUT.pack(
        MAJOR, MINOR, readahead_bytes, offered & _BIG_WRITES, _BACKGROUND, _BACKGROUND, MOST_BYTES, 1, 0, 0, 0
    )


def attributes(found: os.stat_result) -> bytes:
    """A file's attributes (fuse_attr)."""
    times_ns = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
    return _ATTRIBUTES.pack(
        found.st_ino,
        found.st_size,
        found.st_blocks,
        *(time_ns // 10**9 for time_ns in times_ns),
        *(time_ns % 10**9 for time_ns in times_ns),
        found.st_mode,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_rdev,
        found.st_blksize,
        0,
    )


def entry(node: int, found: os.stat_result) -> bytes:
    """A name that was found or made (fuse_entry_out)."""
    return _ENTRY.pack(node, 0, 0, 0, 0, 0) + attributes(found)


def attributes_reply(found: os.stat_result) -> bytes:
    """The answer to GETATTR and SETATTR (fuse_attr_out)."""
    return bytes(16) + attributes(found)


def opened(number: int) -> bytes:
    """The answer to OPEN (fuse_open_out): a handle; the kernel drops what it had cached of the file."""
    return _OPENED.pack(number, 0, 0)


def written(size: int) -> bytes:
    """The answer to WRITE."""
    return _TWO_WORDS.pack(size, 0)


def file_system(found: os.statvfs_result, *, is_full: bool) -> bytes:
    """The answer to STATFS; a full disk says so."""
    free, available = (0, 0) if is_full else (found.f_bfree, found.f_bavail)
    return _STATFS.pack(
        found.f_blocks,
        free,
        available,
        found.f_files,
        found.f_ffree,
        found.f_bsize,
        found.f_namemax,
        found.f_frsize,
        0,
    )


def directory(entries: Iterable[tuple[int, bytes, int, int]], room_bytes: int) -> bytes:
    """The answer to READDIR: (offset of the next, name, inode, file type), as many as there is room for."""
    out = bytearray()
    for offset, entry_name, inode, kind in entries:
        record = _DIRECTORY_ENTRY.pack(inode, offset, len(entry_name), kind) + entry_name
        record += bytes(-len(record) % 8)
        if len(out) + len(record) > room_bytes:
            break
        out += record
    return bytes(out)
