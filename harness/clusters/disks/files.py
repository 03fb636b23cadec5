"""A folder's files as a file system serves them: nodes, handles and what can be done to them, passed through at once.

What was done and not synced can be taken back (``lose``).  All failures are
OSError, as the folder's own file system has them.

A sync reaches no further than this module: the folder's file system is not asked
for it, since no power is ever lost but by us.  What nobody syncs is on the disk
after some seconds (``write_back``), as the kernel writes back what is dirty.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from splitvote.harness.clusters.disks.names import Names
from splitvote.harness.clusters.disks.unsynced import Inode, Unsynced, inode_of
from splitvote.harness.clusters.disks.wire import ROOT, Change

WRITE_BACK_S: Final = 5.0
"""When what nobody syncs is on the disk (ext4's commit interval)."""

_WITHOUT: Final = os.O_APPEND | os.O_TRUNC | os.O_CREAT | os.O_EXCL | os.O_DIRECT | os.O_SYNC | os.O_NOFOLLOW
"""Flags of an open file that are the kernel's affair, which says where each write goes."""


class _Node:
    """What the kernel knows by a number: a descriptor of the kind O_PATH, and how often it was looked up."""

    __slots__ = ("descriptor", "inode", "lookups")

    def __init__(self, descriptor: int, inode: Inode) -> None:
        self.descriptor = descriptor
        self.inode = inode
        self.lookups = 0


@dataclass(frozen=True, slots=True)
class Lost:
    """What a loss of power took: the bytes written and not synced, by file, and how many changes of names."""

    bytes_by_file: dict[str, int]
    names: int


class Files:
    """The files below ``root``; ``aside`` is a folder on the same file system, for what was removed and may come back.

    ``now_s`` is the clock that write-back goes by.  Raises OSError.
    """

    def __init__(self, root: str, aside: str, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._aside = os.open(aside, os.O_PATH | os.O_DIRECTORY)
        self._names = Names(self._aside)
        self._unsynced = Unsynced()
        self._nodes: dict[int, _Node] = {}
        self._numbers: dict[Inode, int] = {}
        self._next_node = count(ROOT)
        self._handles: dict[int, int] = {}
        self._listings: dict[int, list[tuple[bytes, int, int]]] = {}
        self._next_handle = count(1)
        self._known(os.open(root, os.O_PATH | os.O_DIRECTORY)).lookups = 1

    def close(self) -> None:
        """Let go of everything; what is not durable stays as it is."""
        self.settle()
        for descriptor in (*self._handles.values(), *(node.descriptor for node in self._nodes.values()), self._aside):
            os.close(descriptor)
        self._handles.clear()
        self._nodes.clear()
        self._numbers.clear()

    # Nodes.

    def _known(self, descriptor: int) -> _Node:
        """The node that this descriptor leads to, which is ours from now on."""
        inode = inode_of(os.fstat(descriptor))
        number = self._numbers.get(inode)
        if number is not None:
            os.close(descriptor)
            return self._nodes[number]
        number = self._numbers[inode] = next(self._next_node)
        node = self._nodes[number] = _Node(descriptor, inode)
        return node

    def look_up(self, directory: int, name: bytes) -> tuple[int, os.stat_result]:
        """The node of a name, and its attributes."""
        node = self._known(os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self._nodes[directory].descriptor))
        node.lookups += 1
        return self._numbers[node.inode], os.fstat(node.descriptor)

    def forget(self, number: int, lookups: int) -> None:
        """Note that the kernel has forgotten so many lookups of a node."""
        node = self._nodes.get(number)
        if node is None:
            return
        node.lookups -= lookups
        if node.lookups <= 0 and number != ROOT:
            os.close(node.descriptor)
            del self._nodes[number], self._numbers[node.inode]

    def attributes(self, number: int) -> os.stat_result:
        """A node's attributes."""
        return os.fstat(self._nodes[number].descriptor)

    def change(self, number: int, change: Change) -> os.stat_result:
        """Set attributes; what they are then.  Only a size can be lost again."""
        node = self._nodes[number]
        path = f"/proc/self/fd/{node.descriptor}"
        if change.mode is not None:
            os.chmod(path, change.mode & 0o7777)
        if change.owner is not None or change.group is not None:
            os.chown(path, _or_same(change.owner), _or_same(change.group))
        if change.size_bytes is not None:
            self._resize(path, change.size_bytes)
        if change.accessed is not None or change.modified is not None:
            now_ns, found = time.time_ns(), os.fstat(node.descriptor)
            accessed = found.st_atime_ns if change.accessed is None else change.accessed
            modified = found.st_mtime_ns if change.modified is None else change.modified
            times = tuple(now_ns if when == "now" else int(when) for when in (accessed, modified))
            os.utime(path, ns=(times[0], times[1]))
        return os.fstat(node.descriptor)

    def _resize(self, path: str, size_bytes: int) -> None:
        descriptor = os.open(path, os.O_RDWR)
        try:
            self._unsynced.resizing(descriptor, size_bytes, position=self._names.position, now_s=self._now_s())
            os.ftruncate(descriptor, size_bytes)
        finally:
            os.close(descriptor)

    # Names.

    def make_directory(self, directory: int, name: bytes, mode: int) -> tuple[int, os.stat_result]:
        """Make a directory, and look it up."""
        parent = self._nodes[directory].descriptor
        os.mkdir(name, mode, dir_fd=parent)
        self._names.made(parent, name, now_s=self._now_s())
        return self.look_up(directory, name)

    def create(self, directory: int, name: bytes, flags: int, mode: int) -> tuple[int, os.stat_result, int]:
        """Make a file, look it up, and open it: its node, attributes and handle."""
        parent = self._nodes[directory].descriptor
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode, dir_fd=parent))
        self._names.made(parent, name, now_s=self._now_s())
        node, found = self.look_up(directory, name)
        return node, found, self.open(node, flags)

    def remove(self, directory: int, name: bytes) -> None:
        """Remove a file's name, or an empty directory."""
        self._names.remove(self._nodes[directory].descriptor, name, now_s=self._now_s())

    def rename(self, directory: int, name: bytes, to_directory: int, to_name: bytes) -> None:
        """Move a name to another, in place of what that leads to."""
        parent, to_parent = self._nodes[directory].descriptor, self._nodes[to_directory].descriptor
        moved = inode_of(os.stat(name, dir_fd=parent, follow_symlinks=False))
        replaces = _exists(to_parent, to_name)
        self._names.move(parent, name, to_parent, to_name, now_s=self._now_s())
        if replaces:
            # ext4 writes a file's content before it puts the file in another's place (auto_da_alloc).
            self._unsynced.synced(moved)

    # Handles.

    def open(self, number: int, flags: int) -> int:
        """Open a file: a handle.  What may write may read as well, to keep what is overwritten."""
        flags &= ~_WITHOUT
        if flags & os.O_ACCMODE == os.O_WRONLY:
            flags = flags & ~os.O_ACCMODE | os.O_RDWR
        handle = next(self._next_handle)
        self._handles[handle] = os.open(f"/proc/self/fd/{self._nodes[number].descriptor}", flags)
        return handle

    def read(self, handle: int, offset: int, size_bytes: int) -> bytes:
        """Read so much at most."""
        return os.pread(self._handles[handle], size_bytes, offset)

    def write(self, handle: int, offset: int, content: memoryview | bytes) -> int:
        """Write all of it; how much that was."""
        descriptor = self._handles[handle]
        self._unsynced.writing(descriptor, offset, len(content), position=self._names.position, now_s=self._now_s())
        done = 0
        while done < len(content):
            done += os.pwrite(descriptor, content[done:], offset + done)
        return done

    def release(self, handle: int) -> None:
        """Close a file or a directory."""
        self._listings.pop(handle, None)
        os.close(self._handles.pop(handle))

    def open_directory(self, number: int) -> int:
        """Open a directory: a handle."""
        handle = next(self._next_handle)
        flags = os.O_RDONLY | os.O_DIRECTORY
        self._handles[handle] = os.open(f"/proc/self/fd/{self._nodes[number].descriptor}", flags)
        return handle

    def listing(self, handle: int, offset: int) -> list[tuple[int, bytes, int, int]]:
        """A directory's entries from an offset on: (offset of the next, name, inode, type).

        They are those it had when it was read from the start.
        """
        if offset == 0 or handle not in self._listings:
            descriptor = self._handles[handle]
            own = os.fstat(descriptor).st_ino
            entries = [(b".", own, _DIRECTORY), (b"..", own, _DIRECTORY)]
            with os.scandir(descriptor) as found:
                entries += [(os.fsencode(entry.name), entry.inode(), _kind(entry)) for entry in found]
            self._listings[handle] = entries
        entries = self._listings[handle]
        return [(place + 1, *entries[place]) for place in range(offset, len(entries))]

    def space(self) -> os.statvfs_result:
        """The folder's file system."""
        return os.statvfs(f"/proc/self/fd/{self._nodes[ROOT].descriptor}")

    # What a loss of power takes.

    def sync(self, handle: int) -> None:
        """Make durable what this file or directory is."""
        self._settle(inode_of(os.fstat(self._handles[handle])))

    def _settle(self, inode: Inode) -> None:
        self._names.synced(inode, self._unsynced.synced(inode))

    def write_back(self) -> None:
        """Make durable what has been waiting for long."""
        since_s = self._now_s() - WRITE_BACK_S
        self._names.settle_older_than(since_s)
        for inode in self._unsynced.older_than(since_s):
            self._settle(inode)

    def settle(self) -> None:
        """Make durable all there is."""
        for inode in self._unsynced.older_than(float("inf")):
            self._unsynced.synced(inode)
        self._names.settle_older_than(float("inf"))

    def lose(self) -> Lost:
        """Take back what is not durable; tells what that was."""
        root = os.readlink(f"/proc/self/fd/{self._nodes[ROOT].descriptor}")
        lost = {os.path.relpath(path, root): size for path, size in self._unsynced.lose().items()}
        return Lost(lost, self._names.lose())


def _or_same(owner: int | None) -> int:
    return -1 if owner is None else owner


def _exists(directory: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


_DIRECTORY, _FILE, _LINK, _OTHER = 4, 8, 10, 0
"""The types of directory entries (DT_DIR, DT_REG, DT_LNK, DT_UNKNOWN)."""


def _kind(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return _LINK
    if entry.is_dir():
        return _DIRECTORY
    return _FILE if entry.is_file() else _OTHER
