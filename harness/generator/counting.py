"""Generators that count: ops, repetitions, processes, ops in flight."""

from __future__ import annotations

from typing import overload

import msgspec

from splitvote.harness.generator.context import Context
from splitvote.harness.generator.core import (
    NOTHING,
    PENDING,
    Answer,
    Generator,
    GeneratorError,
    GeneratorLike,
    Pending,
    describe,
    is_log,
    lift,
)
from splitvote.harness.op import Op


def _whole(n: object, what: str) -> int:
    if not isinstance(n, int) or isinstance(n, bool) or n < 0:
        raise GeneratorError(f"{what}: {n!r} is no count; give an integer from 0")
    return n


class Limit(msgspec.Struct, frozen=True, gc=False):
    """See ``limit``."""

    remaining: int
    gen: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, while some are left."""
        answer = self.gen.op(ctx)
        if answer is None:
            return None
        op, after = answer
        if isinstance(op, Pending):
            return op, (self if after is self.gen else Limit(self.remaining, after, after.observes))
        if self.remaining == 1 or after is NOTHING:
            return op, NOTHING
        return op, Limit(self.remaining - 1, after, after.observes)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on."""
        if not self.observes:
            return self
        gen = self.gen.update(ctx, event)
        return self if gen is self.gen else Limit(self.remaining, gen, gen.observes)


def limit(n: int, gen: GeneratorLike) -> Generator:
    """At most ``n`` ops of ``gen``."""
    inner = lift(gen)
    return Limit(n, inner, inner.observes) if _whole(n, "limit") else NOTHING


def once(gen: GeneratorLike) -> Generator:
    """One op of ``gen``."""
    return limit(1, gen)


class Repeat(msgspec.Struct, frozen=True, gc=False):
    """See ``repeat``; ``remaining`` -1 is forever, ``current`` differs from ``gen`` only while pending."""

    remaining: int
    gen: Generator
    current: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """The first op of what is wrapped."""
        answer = self.current.op(ctx)
        if answer is None:
            return None
        op, after = answer
        if isinstance(op, Pending):
            return op, self._with(self.remaining, after)
        if self.remaining < 0:
            return op, self._with(-1, self.gen)
        return op, (self._with(self.remaining - 1, self.gen) if self.remaining > 1 else NOTHING)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on to what is pending only: what is repeated stays as it was."""
        return self._with(self.remaining, self.current.update(ctx, event)) if self.observes else self

    def _with(self, remaining: int, current: Generator) -> Generator:
        if remaining == self.remaining and current is self.current:
            return self
        return Repeat(remaining, self.gen, current, current.observes)


class Cycle(msgspec.Struct, frozen=True, gc=False):
    """See ``cycle``; ``remaining`` rounds, this one among them, -1 is forever."""

    remaining: int
    gen: Generator
    current: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """From this round, or from a new one."""
        remaining = self.remaining
        answer = self.current.op(ctx)
        if answer is None:
            remaining -= 1
            if remaining == 0:
                return None
            answer = self.gen.op(ctx)
            if answer is None:
                return None
        op, after = answer
        return op, self._with(max(remaining, -1), after)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on to this round."""
        return self._with(self.remaining, self.current.update(ctx, event)) if self.observes else self

    def _with(self, remaining: int, current: Generator) -> Generator:
        if remaining == self.remaining and current is self.current:
            return self
        return Cycle(remaining, self.gen, current, current.observes)


def _times(args: tuple[GeneratorLike | int, ...], what: str) -> tuple[int, Generator]:
    if len(args) == 1:
        return -1, lift(args[0])  # type: ignore[arg-type]
    if len(args) == 2:
        return _whole(args[0], what), lift(args[1])  # type: ignore[arg-type]
    raise GeneratorError(f"{what} takes a generator, or a count and a generator")


@overload
def repeat(gen: GeneratorLike, /) -> Generator: ...
@overload
def repeat(n: int, gen: GeneratorLike, /) -> Generator: ...
def repeat(*args: GeneratorLike | int) -> Generator:
    """``repeat(gen)`` or ``repeat(n, gen)``: the first op of ``gen`` again and again, forever or ``n`` times.

    ``gen`` itself never moves on: a list gives its first op each time (see
    ``cycle``), a function is asked anew.
    """
    remaining, gen = _times(args, "repeat")
    return Repeat(remaining, gen, gen, gen.observes) if remaining else NOTHING


@overload
def cycle(gen: GeneratorLike, /) -> Generator: ...
@overload
def cycle(n: int, gen: GeneratorLike, /) -> Generator: ...
def cycle(*args: GeneratorLike | int) -> Generator:
    """``cycle(gen)`` or ``cycle(n, gen)``: all of ``gen``, and again from its start, forever or ``n`` rounds.

    Ends with the first round that has no op at all.
    """
    remaining, gen = _times(args, "cycle")
    return Cycle(remaining, gen, gen, gen.observes) if remaining else NOTHING


class ProcessLimit(msgspec.Struct, frozen=True, gc=False):
    """See ``process_limit``; ``used`` are the latest processes that got ops, by thread, ``left`` more may get some.

    When none are left, ``living`` are the threads whose process has had ops
    and has not crashed, going by ``processes``; looked up again only when
    those have changed.
    """

    left: int
    used: dict[int, int]
    living: int
    processes: tuple[int, ...]
    gen: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, seeing only the processes that may still act."""
        if not self.left and self.processes is not ctx.processes:
            return self._looked_up(ctx).op(ctx)
        seen = ctx if self.left else ctx.restrict(self.living)
        if not seen.threads:
            return None
        answer = self.gen.op(seen)
        if answer is None:
            return None
        op, after = answer
        if isinstance(op, Pending):
            if not self.left and op.wake_at_ns is None and seen.all_free:
                return None  # it waits for a thread that it will never see again
        elif self.left and not is_log(op):
            thread = ctx.thread_of(op.process)
            if self.used.get(thread) != op.process:
                return op, ProcessLimit(self.left - 1, self.used | {thread: op.process}, 0, (), after, after.observes)
        return op, self._with(after)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on."""
        return self._with(self.gen.update(ctx, event)) if self.observes else self

    def _with(self, gen: Generator) -> Generator:
        if gen is self.gen:
            return self
        return ProcessLimit(self.left, self.used, self.living, self.processes, gen, gen.observes)

    def _looked_up(self, ctx: Context) -> ProcessLimit:
        living = 0
        for thread, process in self.used.items():
            if ctx.processes[thread] == process:
                living |= 1 << thread
        return ProcessLimit(0, self.used, living, ctx.processes, self.gen, self.observes)


def process_limit(n: int, gen: GeneratorLike) -> Generator:
    """Ops of ``gen`` for at most ``n`` different processes; ends when all of those have crashed.

    Crashed processes are replaced by new ones, so this bounds the crashes (and
    with them how hard a history is to check).
    """
    inner = lift(gen)
    return ProcessLimit(n, {}, 0, (), inner, inner.observes) if _whole(n, "process_limit") else NOTHING


class ConcurrencyLimit(msgspec.Struct, frozen=True, gc=False):
    """See ``concurrency_limit``; ``open`` are the threads with an op of ours."""

    limit: int
    gen: Generator
    open: int = 0
    observes: bool = True

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, unless enough are open."""
        still_open = self.open & ~ctx.free  # a completion may have passed us by, where we were not in turn
        if still_open.bit_count() >= self.limit:
            return PENDING, self
        answer = self.gen.op(ctx)
        if answer is None:
            return None
        op, after = answer
        if isinstance(op, Pending) or is_log(op):
            return op, (self if after is self.gen else ConcurrencyLimit(self.limit, after, still_open))
        return op, ConcurrencyLimit(self.limit, after, still_open | 1 << ctx.thread_of(op.process))

    def update(self, ctx: Context, event: Op) -> Generator:
        """A completion makes room."""
        gen = self.gen.update(ctx, event) if self.gen.observes else self.gen
        thread = 1 << ctx.thread_of(event.process)
        left = self.open & ~thread if ctx.free & thread else self.open
        if gen is self.gen and left == self.open:
            return self
        return ConcurrencyLimit(self.limit, gen, left)


def concurrency_limit(n: int, gen: GeneratorLike) -> Generator:
    """Ops of ``gen``, at most ``n`` of them open at any time."""
    if not _whole(n, "concurrency_limit"):
        raise GeneratorError(f"concurrency_limit: with 0 ops open {describe(gen)} would wait forever; give 1 or more")
    return ConcurrencyLimit(n, lift(gen))


class UntilOk(msgspec.Struct, frozen=True, gc=False):
    """See ``until_ok``; ``open`` are the threads with an op of ours."""

    gen: Generator
    open: int = 0
    done: bool = False
    observes: bool = True

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, until one of its ops was ok."""
        if self.done:
            return None
        answer = self.gen.op(ctx)
        if answer is None:
            return None
        op, after = answer
        if isinstance(op, Pending) or is_log(op):
            return op, (self if after is self.gen else UntilOk(after, self.open))
        return op, UntilOk(after, self.open & ~ctx.free | 1 << ctx.thread_of(op.process))

    def update(self, ctx: Context, event: Op) -> Generator:
        """Watch our ops for one that is ok."""
        gen = self.gen.update(ctx, event) if self.gen.observes else self.gen
        thread = 1 << ctx.thread_of(event.process)
        if not (self.open & thread and ctx.free & thread):
            return self if gen is self.gen else UntilOk(gen, self.open)
        if event.type == "ok":
            return UntilOk(gen, 0, True)
        return UntilOk(gen, self.open & ~thread)


def until_ok(gen: GeneratorLike) -> Generator:
    """Ops of ``gen`` until one of them is ok (those still open then complete as they may)."""
    return UntilOk(lift(gen))
