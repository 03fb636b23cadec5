"""Finding a store's runs and keeping what was read of them, so that a second look costs a few system calls a run.

What was read is kept in ``.index.json`` in the store, by the times and sizes of
the two files it came from: a store of thousands of runs has gigabytes of
results.json, and a night adds only a few.  The file is a convenience: where it
is missing, damaged or cannot be written, everything is read again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from splitvote.harness.errors import ConfigError
from splitvote.harness.store import RunDirectory, runs
from splitvote.reports.index.entries import RunEntry, read_entry

CACHE: Final = ".index.json"
_CACHE_FORMAT: Final = 1
"""To be raised when RunEntry or the reading of it changes: what an older splitvote kept is then read anew."""

_SHOWN_FILES: Final = ("report.html", "results.json", "logs")
_Stamp = tuple[int, int, int, int]


class _Kept(msgspec.Struct, frozen=True):
    """An entry, with the times (ns) and sizes (bytes) of config.json and results.json when it was read."""

    stamp: _Stamp
    entry: RunEntry


class _Cache(msgspec.Struct, frozen=True):
    format: int
    runs: dict[str, _Kept]


class Listed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run in the index: its entry, and which of the files that the index links to are there."""

    entry: RunEntry
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreIndex:
    """A store's runs, the newest first, and what had to be left out."""

    runs: tuple[Listed, ...]
    problems: tuple[str, ...] = ()


class Scanner:
    """Reads a store's index again and again, each run's files only when they changed."""

    def __init__(self, store: Path) -> None:
        """Raises ConfigError when there is no such store."""
        if not store.is_dir():
            raise ConfigError(f"{store} is no store: give the folder that `splitvote run --store` writes to")
        self.store = store
        self._kept = _read_cache(store / CACHE)

    def scan(self) -> StoreIndex:
        """The store as it is now."""
        kept: dict[str, _Kept] = {}
        listed, problems = [], []
        for run in runs(self.store):
            name = f"{run.test}/{run.path.name}"
            if not _is_text(name):
                problems.append(f"{name.encode(errors='surrogateescape')!r} is left out: its name is no text")
                continue
            stamp, files = _look(run)
            known = self._kept.get(name)
            if known is None or known.stamp != stamp:
                known = _Kept(stamp, read_entry(run.path, run.test, run.path.name))
            kept[name] = known
            listed.append(Listed(known.entry, files))
        if kept != self._kept:
            self._kept = kept
            _write_cache(self.store / CACHE, kept)
        listed.sort(key=_newest_first)
        return StoreIndex(tuple(listed), tuple(problems))


def _newest_first(listed: Listed) -> tuple[float, str, str]:
    entry = listed.entry
    return -(entry.started_ms or 0), entry.test, entry.run


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _look(run: RunDirectory) -> tuple[_Stamp, tuple[str, ...]]:
    stamp: list[int] = []
    for path in (run.config, run.results):
        try:
            found = path.stat()
        except OSError:
            stamp += (0, 0)
        else:
            stamp += (found.st_mtime_ns, found.st_size)
    return (stamp[0], stamp[1], stamp[2], stamp[3]), _present(run.path)


def _present(directory: Path) -> tuple[str, ...]:
    try:
        names = frozenset(os.listdir(directory))
    except OSError:
        return ()
    return tuple(name for name in _SHOWN_FILES if name in names)


def _read_cache(path: Path) -> dict[str, _Kept]:
    try:
        cache = msgspec.json.decode(path.read_bytes(), type=_Cache)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return cache.runs if cache.format == _CACHE_FORMAT else {}


def _write_cache(path: Path, kept: dict[str, _Kept]) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(msgspec.json.encode(_Cache(_CACHE_FORMAT, kept)))
        unfinished.replace(path)
    except OSError:  # a store that may only be read is read anew each time
        with suppress(OSError):
            unfinished.unlink()
