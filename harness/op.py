"""The vocabulary of a test: one record a line of the history (Jepsen's terms).

An operation is two records of one process: an ``invoke`` and its completion.

=========  ==================================================================
``ok``     it happened, and ``value`` is what the client saw
``fail``   it certainly did not happen (a failed read had no effect)
``info``   it may or may not have happened, now or at any later time; its
           process ends, and the thread goes on as process + concurrency
``event``  something that an open operation saw while it was open (a watch's
           events, a keepalive's answer): ``of`` is the index of its invoke;
           pairing ignores events
=========  ==================================================================

The nemesis is a process of its own; all its records are ``info``, the start of
an action and its end alternating.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

OpType = Literal["invoke", "ok", "fail", "info", "event"]

NEMESIS: Final = -1
"""The nemesis's process."""

UNASSIGNED: Final = -2
"""An ``index``, ``time_ns`` or ``process`` that the runner has yet to fill in."""


_INVOKE: Final[OpType] = "invoke"
"""By a factory, so that a line of the history always says its type: plain defaults are left out."""


class Op(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One record of a history.

    ``index`` is the record's place in the history, ``time_ns`` the nanoseconds
    since the start of the run by the event loop's clock.  ``key`` is the
    independent key, if the workload has any.  ``value`` is any JSON value.
    ``revision`` is the store revision of the answer's header and marks the
    operation's own place only where the binding says so.  ``intended_ns`` is
    when the generator wanted the invocation (coordinated omission), ``of`` the
    index of the invoke an event belongs to, ``stream`` the id of the stream
    that carried it.  ``workload`` is whose operation it is, where a run has
    several.  Anything else a workload wants to keep goes to ``extra``.
    """

    index: int = UNASSIGNED
    time_ns: int = UNASSIGNED
    process: int = UNASSIGNED
    type: OpType = msgspec.field(default_factory=lambda: _INVOKE)
    f: str = ""
    key: Any = None
    value: Any = None
    error: str | None = None
    node: str | None = None
    revision: int | None = None
    intended_ns: int | None = None
    of: int | None = None
    stream: int | None = None
    extra: dict[str, Any] | None = None
    workload: str | None = None

    @property
    def is_completion(self) -> bool:
        """Whether this record ends a client's operation."""
        return self.type in ("ok", "fail", "info") and self.process != NEMESIS

    def completed(self, type: OpType, **changes: Any) -> Op:
        """Complete this invocation: same process, f and key; index and time are the runner's to fill in.

        ``value`` is kept unless given; ``intended_ns`` stays with the invoke.
        """
        return msgspec.structs.replace(
            self, type=type, index=UNASSIGNED, time_ns=UNASSIGNED, **({"intended_ns": None} | changes)
        )


class Operation(msgspec.Struct, frozen=True, gc=False):
    """An invocation and its completion (None: still open when the history ends, which is as good as ``info``)."""

    invoke: Op
    completion: Op | None

    @property
    def type(self) -> OpType:
        """The outcome: ok, fail or info."""
        return "info" if self.completion is None else self.completion.type

    @property
    def f(self) -> str:
        """What was done."""
        return self.invoke.f

    @property
    def key(self) -> Any:
        """The independent key."""
        return self.invoke.key

    @property
    def process(self) -> int:
        """Who did it."""
        return self.invoke.process

    @property
    def output(self) -> Any:
        """The completion's value; None while open."""
        return None if self.completion is None else self.completion.value
