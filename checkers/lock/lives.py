"""The lives of lock keys: each from the revision that created it to the one that deleted it, as the archive tells.

A lock's keys are ``<prefix><lock>/<lease in hexadecimal>``; the one with the
smallest create revision that lives holds the lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from splitvote.checkers.truth import Truth
from splitvote.harness.archive import StoreEvent


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a key: created at ``create``, deleted at ``end`` (None: it lives at the end of what is known)."""

    lock: str
    key: str
    lease: int
    create: int
    end: int | None

    def is_alive_at(self, revision: int) -> bool:
        """Whether the key is there in the state of this revision."""
        return self.create <= revision and (self.end is None or revision < self.end)

    @property
    def ended(self) -> str:
        """Its end in words."""
        return "still lives" if self.end is None else f"was deleted at {self.end}"


@dataclass(frozen=True, slots=True)
class Lives:
    """``all`` are in the order of creation; ``overwritten`` are the puts of keys that were there already."""

    all: tuple[Life, ...]
    by_key: dict[str, list[Life]]
    overwritten: tuple[StoreEvent, ...]

    def of_key_at(self, key: str, revision: int) -> Life | None:
        """The key's newest life that began at this revision or before."""
        return next((life for life in reversed(self.by_key.get(key, ())) if life.create <= revision), None)

    def by_lock(self) -> dict[str, list[Life]]:
        """Each lock's lives, in the order of creation."""
        found: dict[str, list[Life]] = {}
        for life in self.all:
            found.setdefault(life.lock, []).append(life)
        return found


def key_of(prefix: str, lock: str, lease: int) -> str:
    """The key with which the session of this lease queues for a lock."""
    return f"{prefix}{lock}/{lease:x}"


def lives_of(truth: Truth, prefix: str) -> Lives:
    """Every life of every key below the prefix, as far as the truth is known."""
    open_: dict[str, StoreEvent] = {}
    ended: list[tuple[StoreEvent, int | None]] = []
    overwritten = []
    for events in truth.groups.values():
        for event in events:
            if event.type == "delete":
                begun = open_.pop(event.key, None)
                if begun is not None:
                    ended.append((begun, event.mod_revision))
            elif event.key in open_:
                overwritten.append(event)
            else:
                open_[event.key] = event
    ended += [(begun, None) for begun in open_.values()]
    lives = sorted(_lives(ended, prefix), key=lambda life: life.create)
    by_key: dict[str, list[Life]] = {}
    for life in lives:
        by_key.setdefault(life.key, []).append(life)
    return Lives(tuple(lives), by_key, tuple(overwritten))


def _lives(ended: Sequence[tuple[StoreEvent, int | None]], prefix: str) -> Iterator[Life]:
    for begun, end in ended:
        lock = begun.key[len(prefix) :].rpartition("/")[0]
        yield Life(lock, begun.key, begun.lease, begun.mod_revision, end)
