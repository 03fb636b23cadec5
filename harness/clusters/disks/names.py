"""Changes of names that are not on the disk yet: made, moved and removed ones, in their order, to be taken back.

The order is a journal's, as ext4's is.  To sync a file or a directory makes
durable what had been done to names by the time it was itself last changed: its
content, its names, the names in it.  Everything that came later may be lost,
but never what came before something that is kept.  That is the least that ext4
keeps, and more than POSIX asks for: a file that was made and synced has its
name without its directory's being synced.

What a name led to before it was removed or replaced is put aside into a folder
beside, from where it comes back, or is removed when the change is durable.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from dataclasses import dataclass

from splitvote.harness.clusters.disks.unsynced import Inode, inode_of


@dataclass(frozen=True, slots=True)
class _Place:
    """A name in a directory, by a descriptor of our own, which a rename of the directory does not lead astray."""

    directory: int
    name: bytes

    def found(self) -> os.stat_result:
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def is_there(self) -> bool:
        try:
            self.found()
        except FileNotFoundError:
            return False
        return True

    def move(self, to: _Place) -> None:
        os.rename(self.name, to.name, src_dir_fd=self.directory, dst_dir_fd=to.directory)

    def remove(self) -> None:
        if stat.S_ISDIR(self.found().st_mode):
            os.rmdir(self.name, dir_fd=self.directory)
        else:
            os.unlink(self.name, dir_fd=self.directory)


@dataclass(frozen=True, slots=True)
class _Change:
    """One change: ``old`` is the name that went, ``new`` the one that came, ``aside`` where what it led to is now.

    ``inodes`` is what it changed: the files and the directories.
    """

    old: _Place | None
    new: _Place | None
    aside: _Place | None
    inodes: frozenset[Inode]
    since_s: float

    def undo(self) -> None:
        """Take it back; those that came later have been."""
        if self.old is not None and self.new is not None:
            self.new.move(self.old)
        elif self.new is not None:
            self.new.remove()
        if self.aside is not None:
            lost = self.new or self.old
            assert lost is not None
            self.aside.move(lost)

    def close(self) -> None:
        """Let go of what was put aside, unless it is back, and of the directories."""
        if self.aside is not None and self.aside.is_there():
            self.aside.remove()
        for place in (self.old, self.new):
            if place is not None:
                os.close(place.directory)


class Names:
    """The changes of one disk's names; ``aside`` is a folder on the same file system (a descriptor).

    Directories are descriptors, which may be of the kind O_PATH.  ``position``
    counts all changes ever made.
    """

    def __init__(self, aside: int) -> None:
        self._aside = aside
        self._changes: deque[_Change] = deque()
        self._put_aside = 0
        self.position = 0

    def __len__(self) -> int:
        return len(self._changes)

    def made(self, directory: int, name: bytes, *, now_s: float) -> None:
        """Note that this name was made."""
        self._note(None, self._place(directory, name), None, now_s)

    def remove(self, directory: int, name: bytes, *, now_s: float) -> None:
        """Remove a file's name, or an empty directory; raises OSError as that would."""
        place = self._place(directory, name)
        try:
            aside = self._keep(place)
            inode = inode_of(aside.found())
            if place.is_there():  # a file, which has two names now
                place.remove()
        except BaseException:
            os.close(place.directory)
            raise
        self._note(place, None, aside, now_s, inode)

    def move(self, directory: int, name: bytes, to_directory: int, to_name: bytes, *, now_s: float) -> None:
        """Rename; what the new name led to goes.  Raises OSError as that would."""
        old, new = self._place(directory, name), self._place(to_directory, to_name)
        try:
            moved = inode_of(old.found())
            is_same = new.is_there() and inode_of(new.found()) == moved
            if not is_same:
                aside = self._keep(new) if new.is_there() else None
                replaced = () if aside is None else (inode_of(aside.found()),)
                self._move(old, new, aside)
        except BaseException:
            os.close(old.directory)
            os.close(new.directory)
            raise
        if is_same:  # two names of one file: nothing is done
            os.close(old.directory)
            os.close(new.directory)
        else:
            self._note(old, new, aside, now_s, moved, *replaced)

    @staticmethod
    def _move(old: _Place, new: _Place, aside: _Place | None) -> None:
        try:
            old.move(new)
        except OSError:
            if aside is not None:
                if new.is_there():
                    aside.remove()
                else:
                    aside.move(new)
            raise

    def _place(self, directory: int, name: bytes) -> _Place:
        return _Place(os.dup(directory), name)

    def _keep(self, place: _Place) -> _Place:
        """Put aside what a name leads to: a file under a second name, so that at no moment there is none."""
        aside = _Place(self._aside, str(self._put_aside).encode())
        self._put_aside += 1
        if not stat.S_ISDIR(place.found().st_mode):
            os.link(
                place.name,
                aside.name,
                src_dir_fd=place.directory,
                dst_dir_fd=aside.directory,
                follow_symlinks=False,
            )
            return aside
        place.move(aside)
        if _is_blank(aside):
            return aside
        aside.move(place)
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))

    def _note(self, old: _Place | None, new: _Place | None, aside: _Place | None, now_s: float, *inodes: Inode) -> None:
        changed = set(inodes)
        for place in (old, new):
            if place is not None:
                changed.add(inode_of(os.fstat(place.directory)))
        if new is not None:
            changed.add(inode_of(new.found()))
        self.position += 1
        self._changes.append(_Change(old, new, aside, frozenset(changed), now_s))

    def synced(self, inode: Inode, written_at: int = 0) -> None:
        """Make durable what had been done when this file or directory was last changed.

        ``written_at`` is the position at which its content was.
        """
        first = self.position - len(self._changes)
        last = max(
            (first + place for place, change in enumerate(self._changes, 1) if inode in change.inodes), default=0
        )
        self._settle(max(last, written_at) - first)

    def settle_older_than(self, since_s: float) -> None:
        """Make durable what was done before then."""
        self._settle(sum(change.since_s <= since_s for change in self._changes))

    def _settle(self, count: int) -> None:
        for _ in range(min(count, len(self._changes))):
            self._changes.popleft().close()

    def lose(self) -> int:
        """Take back every change that is not durable, the latest first; how many there were."""
        count = len(self._changes)
        while self._changes:
            change = self._changes.pop()
            change.undo()
            change.close()
        return count


def _is_blank(place: _Place) -> bool:
    directory = os.open(place.name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=place.directory)
    try:
        return not os.listdir(directory)
    finally:
        os.close(directory)
