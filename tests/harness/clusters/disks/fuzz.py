"""Differential fuzzing of what a loss of power takes, against the model that keeps every state there was.

    python tests/harness/clusters/disks/fuzz.py --histories 20000 --seed 1

Fails where the two disagree: a file that was synced and is lost would have a
cluster blamed for what we did to it.  Fails, too, where the histories are too
tame: fewer than half in which something was lost, or in which names were.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

if __package__ is None:  # run as a script: find the repository's own tests
    sys.path.append(str(Path(__file__).resolve().parents[4]))

from splitvote.harness.clusters.disks.files import Files
from splitvote.harness.clusters.disks.wire import ROOT, Change
from tests.harness.clusters.disks.model import DIRECTORY, Model, parent

NAMES = ("a", "b", "c")
FEWEST, MOST = 6, 24
BYTES = 13_000
"""More than three pages."""

_FAST = "/dev/shm"
_SIZE = Change(None, None, None, 0, None, None, None)


class Pair:
    """The files and their model, changed alike; ``now_s`` is their clock."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.root, aside = folder / "root", folder / "aside"
        self.root.mkdir()
        aside.mkdir()
        self.now_s = 0.0
        self.files = Files(str(self.root), str(aside), now_s=lambda: self.now_s)
        self.model = Model()
        self.rng = rng
        self.open: dict[int, int] = {}
        """Handles by the model's number of the file, which may be removed by now."""

        self.lost = {"losses": 0, "names": 0, "bytes": 0}

    def node(self, path: str) -> int:
        number = ROOT
        for name in filter(None, path.split("/")):
            number, _ = self.files.look_up(number, name.encode())
        return number

    def _directories(self) -> list[str]:
        return ["", *(path for path, what in self.model.tree.items() if what == DIRECTORY)]

    def _files(self) -> list[str]:
        return [path for path, what in self.model.tree.items() if what != DIRECTORY]

    def _new_path(self) -> str:
        directory, name = self.rng.choice(self._directories()), self.rng.choice(NAMES)
        return f"{directory}/{name}" if directory else name

    def step(self) -> None:
        """One operation, any of those that are possible."""
        choices = {"create": 5, "mkdir": 2, "remove": 2, "rename": 4, "sync directory": 1, "lose": 2, "wait": 0.3}
        if self._files():
            choices |= {"open": 2}
        if self.open:
            choices |= {"write": 9, "resize": 3, "sync": 6, "close": 1}
        chosen = self.rng.choices(list(choices), weights=list(choices.values()))[0]
        self.now_s += 0.01
        getattr(self, f"_{chosen.replace(' ', '_')}")()

    def _create(self) -> None:
        path = self._new_path()
        if path in self.model.tree:
            return
        directory, name = self.node(parent(path)), path.rpartition("/")[2].encode()
        _, _, handle = self.files.create(directory, name, os.O_WRONLY | os.O_APPEND, 0o600)
        self.open[self.model.create(path)] = handle

    def _mkdir(self) -> None:
        path = self._new_path()
        if path in self.model.tree:
            return
        self.files.make_directory(self.node(parent(path)), path.rpartition("/")[2].encode(), 0o700)
        self.model.make_directory(path)

    def _remove(self) -> None:
        if not self.model.tree:
            return
        path = self.rng.choice(list(self.model.tree))
        is_full = any(other.startswith(f"{path}/") for other in self.model.tree)
        try:
            self.files.remove(self.node(parent(path)), path.rpartition("/")[2].encode())
        except OSError:
            assert is_full, f"{path} was not removed"
        else:
            assert not is_full, f"{path} was removed, which is not empty"
            self.model.remove(path)

    def _rename(self) -> None:
        if not self.model.tree:
            return
        path, to = self.rng.choice(list(self.model.tree)), self._new_path()
        tree = self.model.tree
        kinds = [tree[path] == DIRECTORY, tree.get(to, tree[path]) == DIRECTORY]
        if to == path or to.startswith(f"{path}/") or kinds[0] != kinds[1]:
            return  # which the kernel refuses before it asks
        is_full = any(other.startswith(f"{to}/") for other in tree)
        places = [(self.node(parent(each)), each.rpartition("/")[2].encode()) for each in (path, to)]
        try:
            self.files.rename(*places[0], *places[1])
        except OSError:
            assert is_full, f"{path} was not renamed to {to}"
        else:
            assert not is_full, f"{to} was replaced, which is not empty"
            self.model.rename(path, to)

    def _open(self) -> None:
        path = self.rng.choice(self._files())
        number = self.model.tree[path]
        if number not in self.open:
            self.open[number] = self.files.open(self.node(path), os.O_RDWR)

    def _close(self) -> None:
        number = self.rng.choice(list(self.open))
        self.files.release(self.open.pop(number))

    def _write(self) -> None:
        number = self.rng.choice(list(self.open))
        offset, size = self.rng.randrange(BYTES), self.rng.choice((1, 100, 4096, 5000, 9000))
        added = bytes([self.rng.choice(b"xyz\0")]) * size
        self.files.write(self.open[number], offset, added)
        before = self.model.content[number].ljust(offset, b"\0")
        self.model.change(number, before[:offset] + added + before[offset + size :])

    def _resize(self) -> None:
        linked = [path for path in self._files() if self.model.tree[path] in self.open]
        if not linked:
            return
        path, size = self.rng.choice(linked), self.rng.choice((0, 1, 4096, 5000, BYTES))
        self.files.change(self.node(path), _SIZE._replace(size_bytes=size))
        number = self.model.tree[path]
        self.model.change(number, self.model.content[number][:size].ljust(size, b"\0"))

    def _sync(self) -> None:
        number = self.rng.choice(list(self.open))
        self.files.sync(self.open[number])
        self.model.sync(number)

    def _sync_directory(self) -> None:
        path = self.rng.choice(self._directories())
        handle = self.files.open_directory(self.node(path))
        self.files.sync(handle)
        self.files.release(handle)
        self.model.sync(self.model.folders[path])

    def _wait(self) -> None:
        self.now_s += 60.0
        self.files.write_back()
        self.model.settle()

    def _lose(self) -> None:
        """The process ends, and with it what it had open; then the power goes."""
        for handle in self.open.values():
            self.files.release(handle)
        self.open.clear()
        promises, before = set(self.model.promises.values()), self.model.visible()
        self.files.lose()
        self.model.lose()
        found = self.check()
        broken = promises - {(path.rpartition("/")[2], content or b"") for path, content in found.items()}
        assert not broken, f"synced and lost: {sorted(name for name, _ in broken)}"
        self.lost["losses"] += 1
        self.lost["names"] += before.keys() != found.keys()
        self.lost["bytes"] += any(content != before[path] for path, content in found.items() if path in before)

    def check(self) -> dict[str, bytes | None]:
        """Compare the two; what there is."""
        found = visible(self.root)
        wanted = self.model.visible()
        wrong = [path for path in sorted(found.keys() | wanted.keys()) if found.get(path, "-") != wanted.get(path, "-")]
        assert not wrong, f"differs from what it should be: {', '.join(wrong)}"
        return found


def visible(root: Path) -> dict[str, bytes | None]:
    """Every path below a folder: a file's content, or None for a directory."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


def run(seed: int, folder: Path) -> tuple[str | None, dict[str, int]]:
    """One history: what went wrong, if anything did, and how often something was lost in it."""
    rng = random.Random(seed)
    pair = Pair(folder, rng)
    try:
        for _ in range(rng.randint(FEWEST, MOST)):
            pair.step()
        pair.check()
        pair._lose()
    except AssertionError as problem:
        return f"seed {seed}: {problem}", pair.lost
    finally:
        pair.files.close()
    return None, pair.lost


def fuzz(histories: int, seed: int) -> tuple[list[str], dict[str, int]]:
    """So many histories: what went wrong, and in how many of them something was lost."""
    problems = []
    counts = {"histories": histories, "names": 0, "bytes": 0}
    with tempfile.TemporaryDirectory(dir=_FAST if os.path.isdir(_FAST) else None) as place:
        for number in range(histories):
            folder = Path(place) / "one"
            folder.mkdir()
            problem, lost = run(seed * 1_000_003 + number, folder)
            shutil.rmtree(folder)
            counts["names"] += lost["names"] > 0
            counts["bytes"] += lost["bytes"] > 0
            if problem is not None:
                problems.append(problem)
    return problems, counts


def is_tame(counts: dict[str, int]) -> bool:
    """Whether too few histories lost names, or what files held."""
    return min(counts["names"], counts["bytes"]) < counts["histories"] / 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    problems, counts = fuzz(options.histories, options.seed)
    print(*problems[:20], sep="\n")
    print(
        f"{counts['histories']} histories, {counts['names']} lost names, {counts['bytes']} content: {len(problems)} bad"
    )
    if is_tame(counts):
        print("too tame: too little was lost")
        return 1
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
