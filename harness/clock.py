"""Virtual time: an asyncio loop whose clock jumps to the next timer, so that a run depends on nothing but its seed.

Theory of operation
    Time is an integer of nanoseconds and moves only when nothing is left to do
    at the present instant; then it is the time of the earliest timer.  Timers
    are in the order of (time, sequence number): those of one instant go in the
    order in which they were asked for, and whatever one of them makes ready is
    done before the next.  asyncio's own heap compares floats and keeps no order
    among equals.

    There is nothing outside: an executor, a socket, a child process or a thread
    has no place in virtual time and is refused.  Hence, when nothing is ready
    and no timer is set, everything would wait for ever: that is a DeadlockError
    which names who waits.

``run`` is asyncio.run's counterpart.  ``post_at`` is the cheap way to have
something done at a time: no handle, so nothing to cancel, and no context.
"""

from __future__ import annotations

import asyncio
import contextvars
import signal
from asyncio import events
from asyncio.log import logger
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from typing import Any, Final, NoReturn, TypeVar

from splitvote.harness.collection import collecting_seldom
from splitvote.harness.errors import SplitvoteError

T = TypeVar("T")

MOST_STEPS_AN_INSTANT: Final = 1_000_000
"""So many callbacks in one instant mean that somebody waits for time to pass without letting it."""

_SHOWN_TASKS: Final = 20


class DeadlockError(SplitvoteError):
    """Everybody waits and nothing will ever happen: a mistake of ours, never of the cluster."""


class RealWorldError(SplitvoteError):
    """Something was asked for that has no place in virtual time."""


class _Handle:
    """A callback that is ready, or will be at a time; what asyncio asks of ``Handle`` and ``TimerHandle``.

    One that was cancelled has no callback.
    """

    __slots__ = ("args", "callback", "context", "when_s")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
        when_s: float = 0.0,
    ) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = context
        self.when_s = when_s

    def cancel(self) -> None:
        """Do not do it, and let go of what it would have needed."""
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        """Whether it was cancelled, or done."""
        return self.callback is None

    def when(self) -> float:
        """The time asked for, in seconds of the loop."""
        return self.when_s


_Due = tuple[int, int, Callable[[Any], object] | None, Any]
"""Time in ns, sequence number, callback and its argument; or no callback and a handle."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """See the module's docstring; single-threaded, and never re-entered."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._ready: deque[_Handle] = deque()
        self._due: list[_Due] = []
        self._sequence = 0
        self._steps = 0
        """Done at the present instant."""

        self._is_running = False
        self._is_closed = False
        self._is_stopping = False
        self._debug = False
        self._exception_handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
        self._signals: dict[int, Any] = {}

    # Time

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self.now_ns / 1e9

    def post_at(self, when_ns: int, callback: Callable[[Any], object], argument: Any) -> None:
        """Have it called at this time (or now, if that is past); cannot be cancelled, and must not raise."""
        self._sequence = sequence = self._sequence + 1
        heappush(self._due, (when_ns if when_ns > self.now_ns else self.now_ns, sequence, callback, argument))

    def call_soon(  # type: ignore[override] # TypeVarTuples would say the same at greater length
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """See asyncio: at this instant, after all that is ready."""
        handle = _Handle(callback, args, contextvars.copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override] # TypeVarTuples would say the same at greater length
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """See asyncio; there are no other threads, but signal handlers use it."""
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override] # TypeVarTuples would say the same at greater length
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """See asyncio."""
        return self._call_at_ns(self.now_ns + round(delay * 1e9), callback, args, context)

    def call_at(  # type: ignore[override] # TypeVarTuples would say the same at greater length
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """See asyncio."""
        when_ns = round(when * 1e9)
        if when_ns / 1e9 < when:
            when_ns += 1  # never before its time: whoever waits until ``time() >= when`` would wait again, for ever
        return self._call_at_ns(when_ns, callback, args, context)

    def _call_at_ns(
        self, when_ns: int, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> _Handle:
        self._check_open()
        when_ns = max(when_ns, self.now_ns)
        handle = _Handle(callback, args, contextvars.copy_context() if context is None else context, when_ns / 1e9)
        self._sequence += 1
        heappush(self._due, (when_ns, self._sequence, None, handle))
        return handle

    # Running

    def run_forever(self) -> None:
        """Run until ``stop``; raises DeadlockError when nothing will ever happen."""
        self._check_open()
        if self._is_running:
            raise RuntimeError("this event loop is already running")
        self._is_running = True
        events._set_running_loop(self)
        try:
            while not self._is_stopping:
                self._do_ready()
                if not self._is_stopping:
                    self._let_time_pass()
        finally:
            self._is_stopping = self._is_running = False
            events._set_running_loop(None)

    def _do_ready(self) -> None:
        """Do all that can be done now; an exception goes to the loop's handler."""
        ready = self._ready
        while ready:
            self._steps += 1
            if self._steps > MOST_STEPS_AN_INSTANT:
                raise self._no_end()  # before the next is taken out: a task whose turn is lost could not be cancelled
            handle = ready.popleft()
            callback = handle.callback
            if callback is None:
                continue
            try:
                handle.context.run(callback, *handle.args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as failure:
                self.call_exception_handler(
                    {"message": f"exception in callback {callback!r}", "exception": failure, "handle": handle}
                )

    def _let_time_pass(self) -> None:
        """Go from timer to timer, until one makes something ready."""
        due, ready = self._due, self._ready
        while due:
            when_ns, _, callback, what = heappop(due)
            if callback is None and what.callback is None:
                continue  # cancelled
            if when_ns != self.now_ns:
                self.now_ns = when_ns
                self._steps = 0
            else:
                self._steps += 1
                if self._steps > MOST_STEPS_AN_INSTANT:
                    raise self._no_end()
            if callback is None:
                ready.append(what)
            else:
                callback(what)
            if ready or self._is_stopping:
                return
        raise DeadlockError(f"nothing will ever happen after {self.time():.9f} s: {self._who_waits()}")

    def _no_end(self) -> DeadlockError:
        return DeadlockError(
            f"{self._steps} steps at {self.time():.9f} s of virtual time and no end: something polls without "
            f"letting time pass; {self._who_waits()}"
        )

    def _who_waits(self) -> str:
        waiting = sorted(_where(task) for task in asyncio.all_tasks(self))
        more = f" and {len(waiting) - _SHOWN_TASKS} more" if len(waiting) > _SHOWN_TASKS else ""
        return f"{len(waiting)} task(s) wait: {'; '.join(waiting[:_SHOWN_TASKS])}{more}"

    def run_until_complete(self, future: Any) -> Any:
        """See asyncio."""
        self._check_open()
        task = asyncio.ensure_future(future, loop=self)
        task.add_done_callback(self._stop_for)
        try:
            self.run_forever()
        finally:
            task.remove_done_callback(self._stop_for)
        return task.result()

    def _stop_for(self, _: asyncio.Future[Any]) -> None:
        self.stop()

    def stop(self) -> None:
        """End ``run_forever`` before the next timer."""
        self._is_stopping = True

    def is_running(self) -> bool:
        """See asyncio."""
        return self._is_running

    def is_closed(self) -> bool:
        """See asyncio."""
        return self._is_closed

    def close(self) -> None:
        """Forget everything that was to happen."""
        if self._is_running:
            raise RuntimeError("cannot close a running event loop")
        self._is_closed = True
        self._ready.clear()
        self._due.clear()
        for number in list(self._signals):
            self.remove_signal_handler(number)

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("this event loop is closed")

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do: asynchronous generators are not tracked."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to do: there is no executor."""

    # Tasks and futures

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        """See asyncio."""
        self._check_open()
        return asyncio.Task(coro, loop=self, name=name, context=context)

    # Errors and signals

    def get_debug(self) -> bool:
        """See asyncio."""
        return self._debug

    def set_debug(self, enabled: bool) -> None:
        """See asyncio."""
        self._debug = enabled

    def get_exception_handler(self) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None:
        """See asyncio."""
        return self._exception_handler

    def set_exception_handler(
        self, handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None
    ) -> None:
        """See asyncio."""
        self._exception_handler = handler

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """See asyncio."""
        (self._exception_handler or VirtualLoop.default_exception_handler)(self, context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log it, as asyncio does."""
        logger.error(context.get("message") or "unhandled exception in event loop", exc_info=context.get("exception"))

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Callable[..., object], *args: Any
    ) -> None:
        """Hear of a signal: the one thing from outside, for whoever interrupts a run."""
        self.remove_signal_handler(sig)
        self._signals[sig] = signal.signal(sig, lambda number, frame: self.call_soon(callback, *args))

    def remove_signal_handler(self, sig: int) -> bool:
        """See asyncio."""
        if sig not in self._signals:
            return False
        signal.signal(sig, self._signals.pop(sig))
        return True


def _where(task: asyncio.Task[Any]) -> str:
    """A task's name and the place where it waits."""
    frames = task.get_stack(limit=1)
    place = f"{frames[0].f_code.co_filename.rpartition('/')[2]}:{frames[0].f_lineno}" if frames else "not started"
    return f"{task.get_name()} ({place})"


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(self: VirtualLoop, *args: Any, **options: Any) -> NoReturn:
        raise RealWorldError(
            f"{name} reaches out of virtual time: on the simulation nothing may use threads, sockets, pipes or child "
            "processes; put it behind a cluster's capability"
        )

    refuse.__doc__ = "Refused: raises RealWorldError."
    return refuse


_REFUSED: Final = (
    *("run_in_executor", "set_default_executor", "getaddrinfo", "getnameinfo"),
    *("create_connection", "create_server", "create_unix_connection", "create_unix_server", "create_datagram_endpoint"),
    *("start_tls", "sendfile", "connect_accepted_socket", "connect_read_pipe", "connect_write_pipe"),
    *("subprocess_exec", "subprocess_shell", "add_reader", "remove_reader", "add_writer", "remove_writer"),
    *("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendto"),
    *("sock_connect", "sock_accept", "sock_sendfile"),
)
for _name in _REFUSED:
    setattr(VirtualLoop, _name, _refused(_name))


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time, beginning at 0; what it leaves running is cancelled."""
    if events._get_running_loop() is not None:
        main.close()
        raise RuntimeError("virtual time cannot begin inside a running event loop")
    loop = VirtualLoop()  # type: ignore[abstract] # what is missing is refused, below
    try:
        with collecting_seldom():
            result: T = loop.run_until_complete(main)
        return result
    finally:
        loop._steps = 0
        try:
            _cancel_all(loop)
        finally:
            loop.close()


def _cancel_all(loop: VirtualLoop) -> None:
    """Cancel what is left, in the order of names: ``all_tasks`` is a set."""
    left = sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name)
    if not left:
        return
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
