"""The kernel's protocol: requests are read as the kernel packs them, replies have the sizes and places it reads."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from splitvote.harness.clusters.disks import wire
from splitvote.harness.clusters.disks.wire import Opcode, Request

HEADER = struct.Struct("<IIQQIIIHH")


def message(opcode: int, body: bytes, *, node: int = 1, unique: int = 7, thread: int = 42) -> memoryview:
    """A request as it comes from the kernel, in a buffer that has more behind it."""
    packed = HEADER.pack(HEADER.size + len(body), opcode, unique, node, 1000, 1000, thread, 0, 0) + body
    return memoryview(packed + b"left over from before")


def test_a_request_has_its_own_bytes_only() -> None:
    """And keeps them when the buffer is used again, if it is to wait."""
    buffer = bytearray(message(Opcode.LOOKUP, b"name\0"))
    request = wire.parse(memoryview(buffer))
    kept = request.kept()
    buffer[HEADER.size :] = b"x" * (len(buffer) - HEADER.size)
    assert (kept.opcode, kept.unique, kept.node, kept.thread) == (Opcode.LOOKUP, 7, 1, 42)
    assert wire.name(kept.body) == b"name"
    assert wire.name(request.body) != b"name"


def test_a_newer_kernel_is_answered_our_version_and_only_what_we_asked_for() -> None:
    """INIT of a kernel that offers everything: it will speak 7.31, with writes of 128 kB."""
    offer = struct.pack("<IIII", 7, 44, 1 << 17, 0xFFFF_FFFF) + bytes(48)
    answer = wire.greeting(wire.parse(message(Opcode.INIT, offer)).body)
    major, minor, readahead, flags, _, _, most = struct.unpack_from("<IIIIHHI", answer)
    assert len(answer) == 64
    assert (major, minor, readahead, most) == (7, 31, 1 << 17, wire.MOST_BYTES)
    assert flags == 1 << 5


def test_replies_have_their_length_and_errors_their_sign() -> None:
    assert struct.unpack("<IiQ", wire.refusal(9, 28)) == (16, -28, 9)
    assert struct.unpack_from("<IiQ", wire.reply(9, b"body")) == (20, 0, 9)


def test_attributes_are_where_the_kernel_reads_them(tmp_path: Path) -> None:
    """A file's own, as fuse_attr, alone and in the answers that carry it."""
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    found = file.stat()
    attributes = wire.attributes(found)
    assert len(attributes) == 88
    assert struct.unpack_from("<QQ", attributes) == (found.st_ino, 5)
    (mode,) = struct.unpack_from("<I", attributes, 60)
    assert mode == found.st_mode
    assert wire.attributes_reply(found)[16:] == attributes
    entry = wire.entry(3, found)
    assert (len(entry), entry[40:]) == (128, attributes)
    assert struct.unpack_from("<QQQQ", entry) == (3, 0, 0, 0), "nothing may be taken for true for any time"


def test_what_setattr_does_not_name_is_left_alone() -> None:
    """Each bit of ``valid`` by itself."""
    packed = struct.Struct("<IIQQQQQQIIIIIII")

    def change(valid: int) -> wire.Change:
        return wire.change(packed.pack(valid, 0, 11, 4096, 0, 5, 6, 0, 7, 8, 0, 0o600, 0, 100, 200) + bytes(4))

    assert change(0) == wire.Change(None, None, None, None, None, None, None)
    assert change(1 << 3 | 1 << 6) == wire.Change(None, None, None, 4096, None, None, 11)
    assert change(0b111) == wire.Change(0o600, 100, 200, None, None, None, None)
    assert change(1 << 4 | 1 << 5).accessed == 5 * 10**9 + 7
    assert change(1 << 7 | 1 << 8)[4:6] == ("now", "now")


def test_names_pieces_and_forgotten_nodes_are_read() -> None:
    assert wire.renaming(struct.pack("<Q", 5) + b"old\0new\0") == (5, b"old", b"new")
    write = struct.pack("<QQIIQII", 3, 8192, 4, 0, 0, 0, 0) + b"data"
    assert wire.piece(write) == (3, 8192, 4)
    assert bytes(wire.content(write)) == b"data"
    assert wire.forgotten(Request(Opcode.FORGET, 0, 9, 0, struct.pack("<Q", 2))) == [(9, 2)]
    batch = struct.pack("<II", 2, 0) + struct.pack("<QQQQ", 4, 1, 6, 3)
    assert wire.forgotten(Request(Opcode.BATCH_FORGET, 0, 0, 0, batch)) == [(4, 1), (6, 3)]


def test_a_directory_is_read_in_as_many_pieces_as_there_is_room_for() -> None:
    """Entries are padded to eight bytes, and none is cut."""
    entries = [(1, b".", 10, 4), (2, b"a file", 11, 8), (3, b"another", 12, 8)]
    whole = wire.directory(entries, 4096)
    assert len(whole) % 8 == 0
    inode, offset, length, kind = struct.unpack_from("<QQII", whole)
    assert (inode, offset, length, kind) == (10, 1, 1, 4)
    first = wire.directory(entries, 32 + 31)
    assert whole.startswith(first)
    assert len(first) == 32
    assert wire.directory(entries[1:], 4096) == whole[32:]
    assert wire.directory(entries, 8) == b""


def test_a_full_disk_says_that_it_is(tmp_path: Path) -> None:
    space = os.statvfs(tmp_path)
    blocks, free, available = struct.unpack_from("<QQQ", wire.file_system(space, is_full=True))
    assert (blocks, free, available) == (space.f_blocks, 0, 0)
    assert len(wire.file_system(space, is_full=False)) == 80
