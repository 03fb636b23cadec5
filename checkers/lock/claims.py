"""What clients did with locks: claims (acquires) and releases, each with the session it used.

The lease of a session is told by an event of the operation, emitted before
anything is sent, so that it is known for an operation of unknown outcome, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from splitvote.checkers.lock.lives import key_of
from splitvote.harness.history import History
from splitvote.harness.op import Operation

NOT_IN_TIME: Final = "not-in-time"
"""The error class of an acquire that waited for as long as it was willing to, and has deleted its key."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An acquire that was sent: with ``key``, of the session ``lease``."""

    operation: Operation
    key: str
    lease: int

    @property
    def lock(self) -> str:
        """The lock's name."""
        return str(self.operation.key)

    @property
    def is_ok(self) -> bool:
        """Whether the client was told that it holds the lock."""
        return self.operation.type == "ok"

    @property
    def revision(self) -> int | None:
        """The revision of the answer."""
        return None if self.operation.completion is None else self.operation.completion.revision

    @property
    def told(self) -> str:
        """Who claims what, in words."""
        return f"process {self.operation.process}'s acquire of {self.lock} (record {self.operation.invoke.index})"


@dataclass(frozen=True, slots=True)
class Release:
    """A release that was sent: of ``key`` or, where the session was closed (None), of all that its lease held."""

    operation: Operation
    key: str | None
    lease: int


def read(history: History, prefix: str) -> tuple[list[Claim], list[Release]]:
    """All acquires and releases that got as far as having a session, in the order of invocation."""
    claims, releases = [], []
    for operation, lease in _with_session(history):
        if operation.f == "acquire":
            claims.append(Claim(operation, key_of(prefix, str(operation.key), lease), lease))
        elif operation.f == "release" and operation.invoke.value in ("unlock", "close"):
            is_whole = operation.invoke.value == "close"
            releases.append(Release(operation, None if is_whole else key_of(prefix, str(operation.key), lease), lease))
    return claims, releases


def _with_session(history: History) -> Iterator[tuple[Operation, int]]:
    for operation in history.operations:
        for event in history.events.get(operation.invoke.index, ()):
            lease = _lease_of(event.value)
            if lease is not None:
                yield operation, lease
                break


def _lease_of(told: Any) -> int | None:
    lease = told.get("lease") if isinstance(told, dict) else None
    return lease if isinstance(lease, int) else None
