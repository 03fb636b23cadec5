"""Drive a generator with no cluster, in virtual time, and return the history it makes.

For tests of generators and for authors of workloads, who want to see what a
generator does.  These are the reference for how a runner asks: completions
before invocations, a pending generator asked again at its wake time or after a
completion, an op in the future dropped if a completion comes before it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeAlias

from msgspec.structs import replace

from splitvote.harness.generator.context import Context
from splitvote.harness.generator.core import Generator, GeneratorError, GeneratorLike, Pending, is_log, lift
from splitvote.harness.generator.transform import validate
from splitvote.harness.op import NEMESIS, Op, OpType

LATENCY_NS: Final = 10
"""How long an op takes in ``perfect`` and ``imperfect``."""

MAX_OPS: Final = 1_000_000
"""How many ops a simulation makes before it calls the generator endless."""

MAX_WAITS: Final = 100_000
"""How often in a row a generator may put off its next op (an op that is always in the future never comes)."""

Respond: TypeAlias = Callable[[Op, Context], tuple[OpType, int]]
"""The outcome of an op and how long it takes (ns); must be pure, ``ctx`` is from its dispatch."""


class _Simulation:
    """One run: its clock is the context's, its open ops wait in a heap by completion time."""

    def __init__(self, gen: Generator, ctx: Context, respond: Respond) -> None:
        self.gen, self.ctx, self.respond = gen, ctx, respond
        self.history: list[Op] = []
        self.invoked = 0
        self._waits = 0
        self._open: list[tuple[int, int, Op]] = []

    def run(self, max_ops: int) -> list[Op]:
        while self.invoked < max_ops:
            if self._open and self._open[0][0] <= self.ctx.time_ns:
                self._complete()
                continue
            answer = self.gen.op(self.ctx)
            if answer is None:
                break
            op, after = answer
            if isinstance(op, Pending):
                self.gen = after
                self._wait(op.wake_at_ns)
            elif op.time_ns > self.ctx.time_ns:
                self._wait(op.time_ns)
            else:
                self._dispatch(op, after)
        while self._open:
            self._complete()
        return self.history

    def _wait(self, until_ns: int | None) -> None:
        """Let time pass until then, or until the next completion if that is first."""
        if until_ns is not None and until_ns <= self.ctx.time_ns:
            raise GeneratorError(f"a generator wants to be asked again at {until_ns} ns, which is not after now")
        if self._open and (until_ns is None or self._open[0][0] <= until_ns):
            until_ns = self._open[0][0]
        if until_ns is None:
            raise GeneratorError(
                f"the generator waits forever: it is pending at {self.ctx.time_ns} ns with no wake time, "
                f"and no op is open whose completion could change that; what is left of it: {self.gen!r:.500}"
            )
        self._waits += 1
        if self._waits > MAX_WAITS:
            raise GeneratorError(f"the generator has put off its next op {MAX_WAITS} times: {self.gen!r:.500}")
        self.ctx = self.ctx.at(until_ns)

    def _dispatch(self, op: Op, after: Generator) -> None:
        now = self.ctx.time_ns
        self.invoked += 1
        self._waits = 0
        self.ctx = self.ctx.dispatched(op.process, now)
        if is_log(op):
            self.ctx = self.ctx.completed(op.process, now)
            self.gen = after
            return
        op = self._record(replace(op, time_ns=now))
        outcome, latency_ns = self.respond(op, self.ctx)
        if op.process == NEMESIS:
            outcome = "info"
        heapq.heappush(self._open, (now + latency_ns, op.index, op.completed(outcome)))
        self.gen = after.update(self.ctx, op)

    def _complete(self) -> None:
        time_ns, _, completion = heapq.heappop(self._open)
        completion = self._record(replace(completion, time_ns=max(time_ns, self.ctx.time_ns)))
        crashed = completion.type == "info" and completion.process != NEMESIS
        self.ctx = self.ctx.completed(completion.process, completion.time_ns, crashed=crashed)
        self.gen = self.gen.update(self.ctx, completion)

    def _record(self, op: Op) -> Op:
        op = replace(op, index=len(self.history))
        self.history.append(op)
        return op


def simulate(
    gen: GeneratorLike, respond: Respond, *, concurrency: int = 10, seed: int = 0, max_ops: int | None = None
) -> list[Op]:
    """The history of a run in which ``respond`` says how each op ends.

    Stops after ``max_ops`` ops, if given; without it a generator that goes on
    past MAX_OPS is an error.  Raises GeneratorError for malformed ops, and for
    a generator that waits for what will never happen.
    """
    simulation = _Simulation(validate(lift(gen), "under simulation"), Context.start(concurrency, seed), respond)
    history = simulation.run(MAX_OPS if max_ops is None else max_ops)
    if max_ops is None and simulation.invoked >= MAX_OPS:
        raise GeneratorError(f"the generator did not end within {MAX_OPS} ops; wrap it in limit(), or give max_ops")
    return history


def quick(gen: GeneratorLike, *, concurrency: int = 10, seed: int = 0, max_ops: int | None = None) -> list[Op]:
    """A run in which every op is ok at once."""
    return simulate(gen, lambda op, ctx: ("ok", 0), concurrency=concurrency, seed=seed, max_ops=max_ops)


def perfect(
    gen: GeneratorLike,
    *,
    latency_ns: int = LATENCY_NS,
    concurrency: int = 10,
    seed: int = 0,
    max_ops: int | None = None,
) -> list[Op]:
    """A run in which every op is ok after ``latency_ns``."""
    return simulate(gen, lambda op, ctx: ("ok", latency_ns), concurrency=concurrency, seed=seed, max_ops=max_ops)


def imperfect(
    gen: GeneratorLike,
    *,
    outcomes: Literal["rotate", "random"] = "rotate",
    latency_ns: int = LATENCY_NS,
    concurrency: int = 10,
    seed: int = 0,
    max_ops: int | None = None,
) -> list[Op]:
    """A run in which ops end ok, info, fail in rotation, or at random and after up to twice ``latency_ns``.

    A process whose op ends in info is followed by process + concurrency.
    """
    types: tuple[OpType, ...] = ("ok", "info", "fail")

    def rotate(op: Op, ctx: Context) -> tuple[OpType, int]:
        return types[ctx.counter % 3], latency_ns

    def at_random(op: Op, ctx: Context) -> tuple[OpType, int]:
        return ctx.choice(types, _OUTCOME_LANE), 1 + ctx.below(2 * latency_ns, _LATENCY_LANE)

    respond = rotate if outcomes == "rotate" else at_random
    return simulate(gen, respond, concurrency=concurrency, seed=seed, max_ops=max_ops)


_OUTCOME_LANE: Final = -6
_LATENCY_LANE: Final = -7


def invocations(history: Iterable[Op]) -> list[Op]:
    """What a history asked for: the clients' invokes, and the starts of the nemesis's actions."""
    found: list[Op] = []
    acting = False
    for op in history:
        if op.process == NEMESIS:
            acting = not acting
            if acting:
                found.append(op)
        elif op.type == "invoke":
            found.append(op)
    return found
