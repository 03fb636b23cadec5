"""What was written and not synced: the memory of what files held before, so that a power loss can take it back.

Writes reach the files at once; of every page that is written for the first time
since the file was last synced its old content is kept, and the file's old size.
An fsync forgets them; a power loss puts them back.  So nothing is lost when this
process dies, reads need no merging, and the memory used is at most what the
files held.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Final

PAGE_BYTES: Final = 4096
_STEP_BYTES: Final = 1 << 20

Inode = tuple[int, int]
"""A file or directory, whatever its names: device and inode."""


def inode_of(found: os.stat_result) -> Inode:
    """Which file these attributes are of."""
    return found.st_dev, found.st_ino


class Before:
    """What one file held when it was last synced, as far as it has been changed since.

    ``position`` is how many changes of names had been made when it was last
    written; ``since_s`` is when it was first.
    """

    __slots__ = ("descriptor", "pages", "position", "since_s", "size_bytes", "written_bytes")

    def __init__(self, descriptor: int, size_bytes: int, since_s: float) -> None:
        self.descriptor = os.dup(descriptor)  # keeps the inode's number from being another file's
        self.size_bytes = size_bytes
        self.since_s = since_s
        self.position = 0
        self.pages: dict[int, bytes] = {}
        self.written_bytes = 0

    def keep(self, offset: int, size_bytes: int) -> None:
        """Keep the pages that this range touches, before it is written."""
        for page in range(offset // PAGE_BYTES, -(-(offset + size_bytes) // PAGE_BYTES)):
            if page not in self.pages and page * PAGE_BYTES < self.size_bytes:
                content = os.pread(self.descriptor, PAGE_BYTES, page * PAGE_BYTES)
                self.pages[page] = content.ljust(PAGE_BYTES, b"\0")  # what was cut off and not kept was zeros

    def keep_from(self, offset: int) -> None:
        """Keep all from here to the end, before the file is cut; holes need not be, since they come back as zeros."""
        at = self._next_data(offset - offset % PAGE_BYTES)
        while at is not None and (piece := os.pread(self.descriptor, _STEP_BYTES, at)):
            for start in range(0, len(piece), PAGE_BYTES):
                page, content = (at + start) // PAGE_BYTES, piece[start : start + PAGE_BYTES]
                # A page that begins past the size it had then was nothing: it goes with the old size.
                if page * PAGE_BYTES < self.size_bytes and content.count(0) < len(content):
                    self.pages.setdefault(page, content.ljust(PAGE_BYTES, b"\0"))
            at = self._next_data(at + len(piece))

    def _next_data(self, at: int) -> int | None:
        """Where, from here on, something is that is no hole, at a page's beginning; None where nothing is."""
        try:
            found = os.lseek(self.descriptor, at, os.SEEK_DATA)
        except OSError as failure:
            if failure.errno != errno.ENXIO:
                raise
            return None
        return found - found % PAGE_BYTES

    def put_back(self) -> None:
        """Make the file what it was."""
        for page, content in self.pages.items():
            os.pwrite(self.descriptor, content, page * PAGE_BYTES)
        os.ftruncate(self.descriptor, self.size_bytes)


class Unsynced:
    """All files of one disk that have been changed since they were last synced."""

    def __init__(self) -> None:
        self._files: dict[Inode, Before] = {}

    def _before(self, descriptor: int, position: int, now_s: float) -> Before:
        found = os.fstat(descriptor)
        inode = inode_of(found)
        before = self._files.get(inode)
        if before is None:
            before = self._files[inode] = Before(descriptor, found.st_size, now_s)
        before.position = position
        return before

    def writing(self, descriptor: int, offset: int, size_bytes: int, *, position: int, now_s: float) -> None:
        """Note a write that is about to be made through this descriptor, which must be open to read and write."""
        before = self._before(descriptor, position, now_s)
        before.keep(offset, size_bytes)
        before.written_bytes += size_bytes

    def resizing(self, descriptor: int, size_bytes: int, *, position: int, now_s: float) -> None:
        """Note that the file is about to be given this size."""
        self._before(descriptor, position, now_s).keep_from(size_bytes)

    def synced(self, inode: Inode) -> int:
        """Note that the file is as it is for good: how many changes of names had been made when it was last written.

        0 where nothing was to be synced.
        """
        before = self._files.pop(inode, None)
        if before is None:
            return 0
        os.close(before.descriptor)
        return before.position

    def older_than(self, since_s: float) -> list[Inode]:
        """The files that were changed before then, and are not synced yet."""
        return [inode for inode, before in self._files.items() if before.since_s <= since_s]

    def lose(self) -> Mapping[str, int]:
        """Put every file back to what it was when it was last synced: the bytes written since, by path."""
        lost: dict[str, int] = {}
        for before in self._files.values():
            before.put_back()
            lost[os.readlink(f"/proc/self/fd/{before.descriptor}")] = before.written_bytes
            os.close(before.descriptor)
        self._files.clear()
        return lost
