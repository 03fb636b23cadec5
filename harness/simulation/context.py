"""Go's contexts, as far as etcd's server needs them: a deadline or a cancellation that many waits race against.

A wait is one future; whoever is first settles it: the answer, the context's
end, or the stop of what is waited for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from splitvote.harness.simulation.interface import Clock, Timer

_SLACK_S: Final = 1e-6
"""Seconds are floats: a deadline that has come to within this has passed."""


class ContextError(Exception):
    """The caller's context ended: ``DeadlineExceededError`` or ``CanceledError``."""


class DeadlineExceededError(ContextError):
    """The deadline passed."""


class CanceledError(ContextError):
    """The caller gave up."""


class StoppedError(Exception):
    """ErrStopped: what was waited for has been stopped."""


class Context:
    """Ends once, for a reason; then every wait under it ends, and every later one at once."""

    __slots__ = ("_waiting", "failure")

    def __init__(self) -> None:
        self.failure: ContextError | None = None
        self._waiting: dict[asyncio.Future[Any], None] = {}

    def watch(self, future: asyncio.Future[Any]) -> None:
        """End this wait with the context."""
        if self.failure is not None:
            fail(future, self.failure)
        else:
            self._waiting[future] = None

    def forget(self, future: asyncio.Future[Any]) -> None:
        """The wait is over."""
        self._waiting.pop(future, None)

    def end(self, failure: ContextError) -> None:
        """End it: ``DeadlineExceededError()``, or ``CanceledError()`` by whoever made it."""
        if self.failure is None:
            self.failure = failure
            waiting, self._waiting = self._waiting, {}
            for future in waiting:
                fail(future, failure)


def fail(future: asyncio.Future[Any], failure: Exception) -> None:
    """End a wait with an error, unless it is over."""
    if not future.done():
        future.set_exception(failure)
        future.exception()  # seen, whether or not anybody still waits


class Deadlines:
    """Makes contexts that all end after the same time, by one timer for all."""

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._clock = clock
        self._open: deque[tuple[float, Context]] = deque()
        self._timer: Timer | None = None

    def context(self) -> Context:
        """A context that ends ``timeout_s`` from now."""
        context = Context()
        self._open.append((self._clock.now_s() + self.timeout_s, context))
        if self._timer is None:
            self._timer = self._clock.call_later(self.timeout_s, self._end_what_is_due)
        return context

    def _end_what_is_due(self) -> None:
        now_s = self._clock.now_s() + _SLACK_S
        while self._open and self._open[0][0] <= now_s:
            self._open.popleft()[1].end(DeadlineExceededError())
        if self._open:
            self._timer = self._clock.call_later(self._open[0][0] - now_s + _SLACK_S, self._end_what_is_due)
        else:
            self._timer = None
