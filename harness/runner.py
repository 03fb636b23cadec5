"""The scheduler: takes operations from a generator, hands them to client threads and the nemesis, records all.

Theory of operation
    A *thread* is one asyncio task with one client; it serves one *process* at a
    time.  ``_pump`` is the only place that asks the generator.  It runs once an
    iteration of the loop, after every completion of that iteration has been
    recorded, so that completions always come before new invocations and an
    operation whose completion is written before another's invoke did precede it.

    Asking is free of effect: when the generator's operation lies in the future
    (or it is pending), the new generator value is thrown away, a timer is set,
    and the old value is asked again at that time or at the next completion,
    whichever is first (Jepsen's interpreter does the same).

Deadlines
    A call's own deadline is the client's business.  Behind it stands a backstop:
    one timer looks at the oldest open operation only, so an operation pays
    nothing for it.  What the backstop cuts off is ``info``.

Whatever a client raises is our own trouble: the operation is recorded as
``info``, and the run ends with ``Runner.failure`` set.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from splitvote.harness.client import Binding, Client
from splitvote.harness.errors import SplitvoteError
from splitvote.harness.generator import Context, Generator, GeneratorLike, Pending, is_log, lift
from splitvote.harness.history import FLUSH_INTERVAL_S, HistoryWriter
from splitvote.harness.op import NEMESIS, Op

_MOST_DISPATCHES_A_PUMP: Final = 256
_CLOSE_BOUND_S: Final = 5.0
_BACKSTOP_CHECKS: Final = 4
_replace = msgspec.structs.replace


class NemesisClient(Protocol):
    """What serves the nemesis thread's operations."""

    async def invoke(self, op: Op) -> Op:
        """Do it and return its completion (type info); must bound its own waits."""
        ...


class _Thread:
    """One client thread (or the nemesis): the operation it serves, and the mailbox its next one comes through."""

    __slots__ = ("client", "given_up", "mailbox", "number", "op", "process", "since_s", "task")

    def __init__(self, number: int, process: int) -> None:
        self.number = number
        self.process = process
        self.client: Client | None = None
        self.op: Op | None = None
        self.since_s = 0.0
        self.given_up: str | None = None
        self.mailbox: asyncio.Future[Op] | None = None
        self.task: asyncio.Task[None] | None = None


class Runner:
    """Runs generators against a binding's clients; several ``run`` calls continue one history.

    ``concurrency`` client threads are spread over ``nodes`` by process number.
    ``backstop_s`` bounds a client operation beyond its own deadline.
    ``on_record`` sees every record as it is written (live progress), ``on_log``
    the generator's own log lines.
    """

    def __init__(
        self,
        *,
        binding: Binding,
        nodes: Sequence[str],
        history: HistoryWriter,
        concurrency: int,
        seed: int,
        nemesis: NemesisClient | None = None,
        backstop_s: float = 10.0,
        origin_s: float | None = None,
        on_record: Callable[[Op], None] | None = None,
        on_log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._binding = binding
        self._nodes = nodes
        self._history = history
        self._nemesis = nemesis
        self._backstop_s = backstop_s
        self._on_record = on_record
        self._on_log = on_log
        self.origin_s = self._loop.time() if origin_s is None else origin_s
        self._context = Context.start(concurrency, seed)
        self._threads = [_Thread(number, process) for number, process in enumerate(self._context.processes)]
        if nemesis is None:
            self._threads.pop()
            self._context = self._context.restrict(self._context.clients)
        self._open: dict[int, _Thread] = {}
        self._generator: Generator = lift(None)
        self._exhausted = True
        self._done: asyncio.Future[None] | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._wake_ns = 0
        self._pump_due = False
        self._records = 0
        self.counts: Counter[tuple[str, str]] = Counter()
        """Records by (f, type), of clients only."""
        self.failure: BaseException | None = None

    def now_ns(self) -> int:
        """Nanoseconds since the start of the run, by the loop's clock."""
        return round((self._loop.time() - self.origin_s) * 1e9)

    async def run(self, generator: GeneratorLike) -> None:
        """Run a generator until it is exhausted and nothing is open, it is stopped, or our own side fails.

        Does not raise for what ``failure`` holds; the caller still has faults
        to heal and a history to judge.
        """
        if self.failure is not None:
            return
        self._generator = lift(generator)
        self._context = self._context.at(self.now_ns())
        self._exhausted = False
        self._done = self._loop.create_future()
        for thread in self._threads:
            if thread.task is None:
                thread.task = self._loop.create_task(self._serve(thread), name=f"splitvote thread {thread.number}")
        flusher = self._loop.create_task(self._flush_regularly(), name="splitvote flusher")
        self._backstop = self._loop.call_later(self._backstop_s / _BACKSTOP_CHECKS, self._check_backstop)
        try:
            self._schedule_pump()
            await self._done
        finally:
            self._exhausted = True
            self._cancel_wake()
            self._backstop.cancel()
            flusher.cancel()
            await asyncio.gather(flusher, return_exceptions=True)
            self._flush()

    def stop(self, why: str = "the run was interrupted") -> None:
        """Invoke nothing more; what is open ends as info at once."""
        self._exhausted = True
        for thread in list(self._open.values()):
            self._give_up(thread, f"stopped: {why}")
        self._schedule_pump()

    async def close(self) -> None:
        """End every thread and close its client."""
        tasks = [thread.task for thread in self._threads if thread.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for thread in self._threads:
            thread.task = None
            await self._close_client(thread)
        self._flush()

    # The pump

    def _schedule_pump(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        if self._done is None or self._done.done():
            return
        try:
            self._dispatch_what_is_due()
        except Exception as crash:
            self._fail(crash)
        if self._exhausted and not self._open and not self._done.done():
            self._done.set_result(None)

    def _dispatch_what_is_due(self) -> None:
        for _ in range(_MOST_DISPATCHES_A_PUMP):
            if self._exhausted:
                return
            now_ns = self.now_ns()
            answer = self._generator.op(self._context.at(now_ns))
            if answer is None:
                self._exhausted = True
                return
            op, following = answer
            if isinstance(op, Pending):
                self._generator = following
                self._await_change(op)
                return
            if op.time_ns > now_ns:
                self._wake_at(op.time_ns)
                return
            if is_log(op):
                self._generator = following
                self._context = self._context.dispatched(op.process, now_ns).completed(op.process, now_ns)
                self._on_log(str(op.value))
            else:
                self._dispatch(op, following)
        self._schedule_pump()  # let completions and timers in between

    def _await_change(self, pending: Pending) -> None:
        if pending.wake_at_ns is not None:
            self._wake_at(pending.wake_at_ns)
        elif self._open:
            self._cancel_wake()
        else:
            raise SplitvoteError(
                "the generator waits for a completion but nothing is open, so it would wait for ever; "
                "check its thread restrictions against --concurrency"
            )

    def _dispatch(self, op: Op, following: Generator) -> None:
        number = self._thread_of(op.process)
        thread = self._threads[number]
        op = self._record(op, "info" if op.process == NEMESIS else "invoke")
        self._context = context = self._context.dispatched(op.process, op.time_ns)
        thread.op = op
        thread.since_s = self._loop.time()
        self._open[number] = thread
        self._generator = following.update(context, op) if following.observes else following
        assert thread.mailbox is not None
        thread.mailbox.set_result(op)

    def _thread_of(self, process: int) -> int:
        number = self._context.thread_of(process)
        if number in self._open or number >= len(self._threads) or self._threads[number].process != process:
            raise SplitvoteError(
                f"the generator gave an operation to process {process}, which is not free; "
                "wrap the generator in validate() to find which part did"
            )
        return number

    def _wake_at(self, time_ns: int) -> None:
        if self._wake is not None:
            if self._wake_ns == time_ns:
                return
            self._wake.cancel()
        self._wake_ns = time_ns
        self._wake = self._loop.call_at(self.origin_s + time_ns / 1e9, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self._schedule_pump()

    def _cancel_wake(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    # Threads

    async def _serve(self, thread: _Thread) -> None:
        while True:
            if thread.mailbox is None:
                thread.mailbox = self._loop.create_future()
            try:
                op = await thread.mailbox
                thread.mailbox = self._loop.create_future()
                completion = await self._invoke(thread, op)
            except asyncio.CancelledError:
                if thread.given_up is None or thread.op is None or thread.task is None:
                    raise
                thread.task.uncancel()
                op = thread.op  # cut off, perhaps before it began
                thread.mailbox = self._loop.create_future()
                completion = op.completed("info", error=thread.given_up)
            except Exception as crash:
                completion = op.completed("info", error=f"crash: {type(crash).__name__}: {crash}")
                self._fail(crash)
            thread.given_up = None
            self._complete(thread, op, completion)
            if completion.type == "info":
                await self._close_client(thread)

    async def _invoke(self, thread: _Thread, op: Op) -> Op:
        if thread.process == NEMESIS:
            assert self._nemesis is not None
            return await self._nemesis.invoke(op)
        if thread.client is None:
            node = self._nodes[thread.process % len(self._nodes)]
            thread.client = await self._binding.open(thread.process, node)

        def emit(event: Op) -> None:
            self._record(_replace(event, of=op.index if event.of is None else event.of), "event")

        return await thread.client.invoke(op, emit)

    def _complete(self, thread: _Thread, invoke: Op, completion: Op) -> None:
        if completion.type not in ("ok", "fail", "info") or completion.process != invoke.process:
            self._fail(SplitvoteError(f"a client answered {invoke.f!r} with a malformed completion: {completion}"))
            completion = invoke.completed("info", error="crash: malformed completion")
        completion = self._record(completion, completion.type)
        crashed = completion.type == "info"
        del self._open[thread.number]
        thread.op = None
        self._context = self._context.completed(invoke.process, completion.time_ns, crashed=crashed)
        thread.process = self._context.processes[thread.number]
        if self._generator.observes:
            self._generator = self._generator.update(self._context, completion)
        self._schedule_pump()

    async def _close_client(self, thread: _Thread) -> None:
        client, thread.client = thread.client, None
        if client is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_BOUND_S):
                await client.close()
        except TimeoutError:
            self._fail(SplitvoteError(f"closing the client of process {thread.process} took over {_CLOSE_BOUND_S} s"))
        except Exception as crash:
            self._fail(crash)

    def _give_up(self, thread: _Thread, why: str) -> None:
        if thread.given_up is None and thread.task is not None:
            thread.given_up = why
            thread.task.cancel()

    def _check_backstop(self) -> None:
        """Cut off clients' operations that are open for longer than the backstop; the oldest is always the first."""
        oldest_allowed_s = self._loop.time() - self._backstop_s
        for thread in list(self._open.values()):
            if thread.since_s > oldest_allowed_s:
                break
            if thread.process != NEMESIS:
                self._give_up(thread, f"backstop: no answer within {self._backstop_s:g} s")
        self._backstop = self._loop.call_later(self._backstop_s / _BACKSTOP_CHECKS, self._check_backstop)

    # Records

    def _record(self, op: Op, kind: str) -> Op:
        op = Op(
            self._records,
            round((self._loop.time() - self.origin_s) * 1e9),
            op.process,
            kind,  # type: ignore[arg-type]
            op.f,
            op.key,
            op.value,
            op.error,
            op.node,
            op.revision,
            op.intended_ns,
            op.of,
            op.stream,
            op.extra,
            op.workload,
        )
        self._records += 1
        try:
            self._history.append(op)
        except SplitvoteError as failure:  # the disk is full: what is open still has to end
            self._fail(failure)
        if op.process != NEMESIS:
            self.counts[op.f, kind] += 1
        if self._on_record is not None:
            self._on_record(op)
        return op

    async def _flush_regularly(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S / 2)
            self._flush()

    def _flush(self) -> None:
        try:
            self._history.flush()
        except SplitvoteError as failure:
            self._fail(failure)

    def _fail(self, failure: BaseException) -> None:
        """Our own side failed: end the run, keep what was recorded."""
        if self.failure is None:
            self.failure = failure
            self._exhausted = True
            for thread in list(self._open.values()):
                if thread.task is not asyncio.current_task():
                    self._give_up(thread, "stopped: the harness failed")
            self._schedule_pump()
