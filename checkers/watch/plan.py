"""The language of the watch workload, which its generator, its bindings and its checker share.

A request is a list: ``["put", key, value]`` (with a fourth element, the width
to which the value is padded), ``["delete", key]`` or ``["delete", key, end]``,
``["txn", request, ...]`` and ``["compact", revision]``.  The value of a ``watch``
or ``converge`` is a ``WatchPlan``.  What the watches saw are events of that
operation, a record an answer, with the answer's revision in ``Op.revision``:

=========================================  ===========================================
``["created", watch, start]``              the watch began; ``start`` is what was asked
                                           for, 0 for "from now"
``["events", watch, continues, events]``   what one answer told; a fifth element has
                                           the previous states, None where none came
``["progress", watch]``                    every event up to ``Op.revision`` was told;
                                           a watch of None is all of the stream
``["cancelling", watch]``                  this side asked for its end
``["canceled", watch, compacted, why]``    the server ended it; ``compacted`` is 0 or
                                           the compact revision that was its reason
``["ended", why]``                         the stream is over
=========================================  ===========================================

``watch`` counts within the plan (``WatchPlan.watched``).  An event, like a previous state, is ``[mod
revision, key, value, create revision, version, lease]``; a delete's value is
None.  Keys are those below the workload's prefix, which they leave out.
"""

from __future__ import annotations

from typing import Any, Final, Literal
from zlib import crc32

import msgspec

PREFIX: Final = "watch/"
LONGEST_VALUE: Final = 40
_HEAD: Final = 12

Told = list[Any]
"""An event or a state, as above."""

Start = Literal["now", "past", "compacted", "compaction", "future"]
"""Where a watch begins: now; ``by`` revisions before the newest seen, or before the newest known compaction;
exactly at that compaction; ``by`` revisions after the newest seen."""


class Watched(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One watch: of ``key``, or of the keys from ``key`` up to ``end``, or (None) of all; ``without`` is its filter."""

    key: str | None = None
    end: str | None = None
    start: Start = "now"
    by: int = 0
    without: Literal["nothing", "puts", "deletes"] = "nothing"
    prev_kv: bool = False
    fragment: bool = False
    progress_notify: bool = False

    def covers(self, key: str) -> bool:
        """Whether this key is watched."""
        if self.key is None:
            return True
        return key == self.key if self.end is None else self.key <= key < self.end

    def wants(self, event: Told) -> bool:
        """Whether this event passes the filter."""
        return self.without == "nothing" or (event[2] is None) is (self.without == "puts")


class WatchPlan(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One stream with its watches, each ``copies`` times, for ``for_s``.

    ``member`` counts the members from the client's own on.  At each time of
    ``cuts_s`` this side breaks the stream; however it breaks, it is opened anew,
    ``resume`` telling where, and each watch goes on after what it saw last.
    ``pauses_s`` are (when, how long) this side stops to read, ``cancels`` (when,
    which watch) it ends one.  Once every watch is there, progress is asked for
    every ``progress_every_s`` (0: never).
    """

    watches: tuple[Watched, ...]
    for_s: float
    copies: int = 1
    member: int = 0
    resume: Literal["same", "next"] = "same"
    cuts_s: tuple[float, ...] = ()
    pauses_s: tuple[tuple[float, float], ...] = ()
    cancels: tuple[tuple[float, int], ...] = ()
    progress_every_s: float = 0.0
    require_leader: bool = False

    @property
    def count(self) -> int:
        """How many watches there are on the stream."""
        return len(self.watches) * self.copies

    def watched(self, number: int) -> Watched:
        """What a watch is to watch; the copies come one after another."""
        return self.watches[number % len(self.watches)]


def plan_of(value: Any) -> WatchPlan:
    """The plan that an operation's value stands for; raises msgspec.ValidationError for a value that is none."""
    return msgspec.convert(value, WatchPlan)


def value_of(plan: WatchPlan) -> Any:
    """The plan as an operation's value."""
    return msgspec.to_builtins(plan)


def stored_value(request: list[Any]) -> str:
    """What a put stores: its value, padded if it asks for width."""
    value: str = request[2]
    return value if len(request) < 4 else f"{value}.".ljust(request[3], "x")


def digest(value: str) -> str:
    """A value as records hold it: a long one as its head, its length and its checksum."""
    if len(value) <= LONGEST_VALUE:
        return value
    return f"{value[:_HEAD]}~{len(value)}~{crc32(value.encode()):08x}"


def parts_of(request: list[Any]) -> list[list[Any]]:
    """The puts and deletes of a request."""
    if request[0] == "txn":
        return request[1:]
    return [request] if request[0] in ("put", "delete") else []
