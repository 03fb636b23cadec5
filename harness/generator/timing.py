"""Generators that decide when: time limits, rates, pauses.

Durations are in seconds, as users write them; inside, everything is
nanoseconds of the run's clock.  A generator's own clock starts when it is
first asked.  While it is too early these answer ``Pending`` with the time, and
do not ask what they wrap, so that being asked often costs nothing.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from splitvote.harness.generator.context import Context
from splitvote.harness.generator.core import (
    NOTHING,
    PENDING,
    Answer,
    Generator,
    GeneratorError,
    GeneratorLike,
    Pending,
    lift,
    nanoseconds,
    replaced,
    soonest_wake,
)
from splitvote.harness.op import Op


class TimeLimit(msgspec.Struct, frozen=True, gc=False):
    """See ``time_limit``."""

    limit_ns: int
    deadline_ns: int | None
    gen: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, until the deadline."""
        deadline = self.deadline_ns
        if deadline is None:
            deadline = ctx.time_ns + self.limit_ns
        if ctx.time_ns >= deadline:
            return None
        answer = self.gen.op(ctx)
        if answer is None:
            return None
        op, after = answer
        if isinstance(op, Pending):
            op = Pending(soonest_wake(op.wake_at_ns, deadline))
        elif op.time_ns >= deadline:
            op, after = Pending(deadline), self.gen
        elif after is NOTHING:
            return op, NOTHING
        if after is self.gen and deadline == self.deadline_ns:
            return op, self
        return op, TimeLimit(self.limit_ns, deadline, after, after.observes)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on."""
        if not self.observes:
            return self
        gen = self.gen.update(ctx, event)
        return self if gen is self.gen else TimeLimit(self.limit_ns, self.deadline_ns, gen, gen.observes)


def time_limit(seconds: float, gen: GeneratorLike) -> Generator:
    """``gen``, for so many seconds from when it is first asked: no op has a time past that."""
    inner = lift(gen)
    return TimeLimit(nanoseconds(seconds, "time_limit"), None, inner, inner.observes)


class Stagger(msgspec.Struct, frozen=True, gc=False):
    """See ``stagger``."""

    mean_ns: int
    next_ns: int
    gen: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, unless it is too early."""
        if ctx.time_ns < self.next_ns:
            return None if self.gen is NOTHING else (Pending(self.next_ns), self)
        answer = self.gen.op(ctx)
        if answer is None:
            return None
        op, after = answer
        if isinstance(op, Pending):
            return op, self._with(self.next_ns, after)
        return op, self._with(op.time_ns + ctx.below(2 * self.mean_ns + 1, _STAGGER_LANE), after)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on."""
        return self._with(self.next_ns, self.gen.update(ctx, event)) if self.observes else self

    def _with(self, next_ns: int, gen: Generator) -> Generator:
        if next_ns == self.next_ns and gen is self.gen:
            return self
        return Stagger(self.mean_ns, next_ns, gen, gen.observes)


_STAGGER_LANE = -2


def stagger(mean_s: float, gen: GeneratorLike) -> Generator:
    """Ops of ``gen`` at random distances, uniform in [0, 2 * mean_s]: over all threads together, not for each.

    A gap that was missed is not made up for; see ``rate`` for that.
    """
    inner = lift(gen)
    return Stagger(nanoseconds(mean_s, "stagger"), 0, inner, inner.observes)


class Delay(msgspec.Struct, frozen=True, gc=False):
    """See ``delay``."""

    gap_ns: int
    next_ns: int
    gen: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, unless it is too early."""
        if ctx.time_ns < self.next_ns:
            return None if self.gen is NOTHING else (Pending(self.next_ns), self)
        answer = self.gen.op(ctx)
        if answer is None:
            return None
        op, after = answer
        next_ns = self.next_ns if isinstance(op, Pending) else op.time_ns + self.gap_ns
        return op, self._with(next_ns, after)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on."""
        return self._with(self.next_ns, self.gen.update(ctx, event)) if self.observes else self

    def _with(self, next_ns: int, gen: Generator) -> Generator:
        if next_ns == self.next_ns and gen is self.gen:
            return self
        return Delay(self.gap_ns, next_ns, gen, gen.observes)


def delay(seconds: float, gen: GeneratorLike) -> Generator:
    """Ops of ``gen`` at least so many seconds apart, the first at once."""
    inner = lift(gen)
    return Delay(nanoseconds(seconds, "delay"), 0, inner, inner.observes)


class Rate(msgspec.Struct, frozen=True, gc=False):
    """See ``rate``; ``count`` ops were given, the last for ``last_ns``."""

    interval_ns: float
    start_ns: int | None
    count: int
    last_ns: int
    gen: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, unless it is too early."""
        now = ctx.time_ns
        start = self.start_ns
        if start is None:
            start = intended = now
        else:
            intended = start + int(self.count * self.interval_ns)
            soonest = self.last_ns + int(self.interval_ns / 2)
            due = intended if intended > soonest or not self.count else soonest
            if due > now:
                return None if self.gen is NOTHING else (Pending(due), self)
        answer = self.gen.op(ctx)
        if answer is None:
            return None
        op, after = answer
        if isinstance(op, Pending):
            return op, Rate(self.interval_ns, start, self.count, self.last_ns, after, after.observes)
        return (
            replace(op, intended_ns=intended),
            Rate(self.interval_ns, start, self.count + 1, op.time_ns, after, after.observes),
        )

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on."""
        if not self.observes:
            return self
        gen = self.gen.update(ctx, event)
        if gen is self.gen:
            return self
        return Rate(self.interval_ns, self.start_ns, self.count, self.last_ns, gen, gen.observes)


def rate(ops_per_s: float, gen: GeneratorLike) -> Generator:
    """Ops of ``gen`` at evenly spaced intended times, so many a second over all threads together.

    Each op's ``intended_ns`` is on that grid, however late it really starts
    (so that latency can be told from the intended start: coordinated
    omission).  When the run falls behind it catches up at most at twice the
    rate: two ops are at least half an interval apart.
    """
    if not ops_per_s > 0:
        raise GeneratorError(f"rate: {ops_per_s!r} is no rate; give ops per second, more than 0")
    inner = lift(gen)
    return Rate(1e9 / ops_per_s, None, 0, 0, inner, inner.observes)


class Sleep(msgspec.Struct, frozen=True, gc=False):
    """See ``sleep``."""

    length_ns: int
    until_ns: int | None = None
    observes: bool = False

    def op(self, ctx: Context) -> Answer:
        """Pending until the time is over."""
        until = self.until_ns
        if until is None:
            if not ctx.free:
                return PENDING, self
            until = ctx.time_ns + self.length_ns
        if ctx.time_ns >= until:
            return None
        return Pending(until), (self if until == self.until_ns else Sleep(self.length_ns, until))

    def update(self, ctx: Context, event: Op) -> Generator:
        """Nothing to learn."""
        return self


def sleep(seconds: float) -> Generator:
    """No ops for so many seconds from when it is first asked with a thread free, then exhausted.

    In a sequence of the nemesis's, whose one thread is free again when an
    action has ended, the time runs from that end.
    """
    return Sleep(nanoseconds(seconds, "sleep"))


class CycleTimes(msgspec.Struct, frozen=True, gc=False):
    """See ``cycle_times``; ``ends_ns`` are the ends of the turns within a period."""

    ends_ns: tuple[int, ...]
    start_ns: int | None
    gens: tuple[Generator, ...]
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """From the generator whose turn it is; an op that would come after its turn is not given."""
        start = ctx.time_ns if self.start_ns is None else self.start_ns
        period, phase = divmod(ctx.time_ns - start, self.ends_ns[-1])
        turn = next(i for i, end in enumerate(self.ends_ns) if phase < end)
        end_ns = start + period * self.ends_ns[-1] + self.ends_ns[turn]
        gen = self.gens[turn]
        answer = gen.op(ctx.branch(turn))
        if answer is None:
            return None
        op, after = answer
        if isinstance(op, Pending):
            op = Pending(soonest_wake(op.wake_at_ns, end_ns))
        elif op.time_ns >= end_ns:
            op, after = Pending(end_ns), gen
        if after is gen and self.start_ns is not None:
            return op, self
        return op, self._with(start, replaced(self.gens, turn, after))

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on to all."""
        if not self.observes:
            return self
        return self._with(self.start_ns, tuple(gen.update(ctx, event) for gen in self.gens))

    def _with(self, start_ns: int | None, gens: tuple[Generator, ...]) -> Generator:
        return CycleTimes(self.ends_ns, start_ns, gens, any(gen.observes for gen in gens))


def cycle_times(*seconds_and_gens: GeneratorLike | float) -> Generator:
    """``cycle_times(5, a, 10, b)``: five seconds of a, ten of b, again five of a where it was left, and so on.

    Ends with the first of them that is exhausted when it is asked.
    """
    seconds, gens = seconds_and_gens[::2], seconds_and_gens[1::2]
    if not gens or len(seconds) != len(gens):
        raise GeneratorError("cycle_times wants pairs: seconds, generator, seconds, generator ...")
    ends, end = [], 0
    for length in seconds:
        end += nanoseconds(length, "cycle_times")  # type: ignore[arg-type]
        ends.append(end)
    if end == 0:
        raise GeneratorError("cycle_times: all turns together last 0 s")
    lifted = tuple(lift(gen) for gen in gens)  # type: ignore[arg-type]
    return CycleTimes(tuple(ends), None, lifted, any(gen.observes for gen in lifted))
