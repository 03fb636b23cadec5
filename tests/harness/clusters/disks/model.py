"""What a correct disk must have after a loss of power: every state there was is kept, and the right one looked up.

Nothing is undone here.  After each change of names the whole tree is kept; a
loss of power leaves the tree of the latest change that was made durable, and of
each file what it held when it was last synced.

``promises`` are the bare requirement: a file that was synced, and neither
changed nor renamed since, is there under its name, whatever became of the
directories on the way to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DIRECTORY = -1
Tree = dict[str, int]
"""Files' numbers, or DIRECTORY, by path."""


@dataclass(slots=True)
class Model:
    """One disk.  Paths are names joined by slashes; the root is ``""``."""

    tree: Tree = field(default_factory=dict)
    content: dict[int, bytes] = field(default_factory=dict)
    synced: dict[int, bytes] = field(default_factory=dict)
    trees: list[Tree] = field(default_factory=lambda: [{}])
    durable: int = 0
    touched: dict[object, int] = field(default_factory=dict)
    """How many changes of names there were when a file, or a directory by its first path, was last changed."""

    promises: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    """What must be there: names and contents, by the files' numbers."""

    folders: dict[str, object] = field(default_factory=lambda: {"": "root"})
    """Which directory it is that has this path now: directories keep who they are when they are moved."""

    made: int = 0

    def _identity(self, path: str) -> Any:
        return self.tree[path] if self.tree.get(path, DIRECTORY) != DIRECTORY else self.folders[path]

    def _renamed(self, *touched: object) -> None:
        self.trees.append(dict(self.tree))
        self.touched.update(dict.fromkeys(touched, len(self.trees) - 1))

    def create(self, path: str) -> int:
        self.made += 1
        self.tree[path] = self.made
        self.content[self.made] = self.synced[self.made] = b""
        self._renamed(self.made, self._identity(parent(path)))
        return self.made

    def make_directory(self, path: str) -> None:
        self.made += 1
        self.tree[path] = DIRECTORY
        self.folders[path] = f"directory {self.made}"
        self._renamed(self.folders[path], self._identity(parent(path)))

    def remove(self, path: str) -> None:
        removed = self._identity(path)
        del self.tree[path]
        self.folders.pop(path, None)
        self.promises.pop(removed, None)
        self._renamed(removed, self._identity(parent(path)))

    def rename(self, path: str, to: str) -> None:
        moved, parents = self._identity(path), [self._identity(parent(path)), self._identity(parent(to))]
        replaced = [self._identity(to)] if to in self.tree else []
        for changed in (moved, *replaced):
            self.promises.pop(changed, None)
        if replaced and moved in self.content:
            self.synced[moved] = self.content[moved]
        if replaced:
            del self.tree[to]
        self.folders.pop(to, None)
        for old in [each for each in self.tree if each == path or each.startswith(f"{path}/")]:
            new = to + old[len(path) :]
            self.tree[new] = self.tree.pop(old)
            if old in self.folders:
                self.folders[new] = self.folders.pop(old)
        self._renamed(moved, *parents, *replaced)

    def change(self, number: int, content: bytes) -> None:
        """Give a file this content."""
        self.content[number] = content
        self.touched[number] = len(self.trees) - 1
        self.promises.pop(number, None)

    def sync(self, identity: object) -> None:
        """Sync a file by its number, or a directory by what ``folders`` has of it."""
        self.durable = max(self.durable, self.touched.get(identity, 0))
        if isinstance(identity, int):
            self.synced[identity] = self.content[identity]
            for path, number in self.tree.items():
                if number == identity:
                    self.promises[number] = (path.rpartition("/")[2], self.content[identity])

    def settle(self) -> None:
        """All is durable."""
        self.durable = len(self.trees) - 1
        self.synced = dict(self.content)

    def lose(self) -> None:
        """Lose what is not."""
        self.tree = dict(self.trees[self.durable])
        self.content = dict(self.synced)
        self.folders = {"": "root"} | {path: f"{path}, found" for path, what in self.tree.items() if what == DIRECTORY}
        self.trees, self.durable, self.touched = [dict(self.tree)], 0, {}

    def visible(self) -> dict[str, bytes | None]:
        """Every path: a file's content, or None for a directory."""
        return {path: None if what == DIRECTORY else self.content[what] for path, what in self.tree.items()}


def parent(path: str) -> str:
    """The path of the directory that has this name."""
    return path.rpartition("/")[0]
