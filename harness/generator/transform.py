"""Generators that change, drop, watch or check what another one does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

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
    is_log,
    lift,
)
from splitvote.harness.generator.core import describe as _describe
from splitvote.harness.op import NEMESIS, Op

REJECTIONS: Final = 10_000
"""How many ops in a row ``filter_ops`` drops before that counts as an endless loop."""

_log = logging.getLogger("splitvote.generator")


class MapOps(msgspec.Struct, frozen=True, gc=False):
    """See ``map_ops``."""

    function: Callable[[Op], Op]
    gen: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, changed."""
        answer = self.gen.op(ctx)
        if answer is None:
            return None
        op, after = answer
        if not isinstance(op, Pending):
            op = self.function(op)
        return op, (self if after is self.gen else MapOps(self.function, after, after.observes))

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on."""
        if not self.observes:
            return self
        gen = self.gen.update(ctx, event)
        return self if gen is self.gen else MapOps(self.function, gen, gen.observes)


def map_ops(function: Callable[[Op], Op], gen: GeneratorLike) -> Generator:
    """``gen`` with each op changed by a function (Jepsen's ``map``)."""
    inner = lift(gen)
    return MapOps(function, inner, inner.observes)


def f_map(names: Mapping[str, str], gen: GeneratorLike) -> Generator:
    """``gen`` with each op's ``f`` replaced by what the mapping says, where it says anything."""
    table = dict(names)

    def rename(op: Op) -> Op:
        name = table.get(op.f)
        return op if name is None else replace(op, f=name)

    return map_ops(rename, gen)


class FilterOps(msgspec.Struct, frozen=True, gc=False):
    """See ``filter_ops``."""

    keep: Callable[[Op], bool]
    gen: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """The next op that is kept; each try draws differently, or a random generator would give one op forever."""
        gen, place = self.gen, ctx
        for attempt in range(REJECTIONS):
            answer = gen.op(place)
            if answer is None:
                return None
            op, after = answer
            if isinstance(op, Pending) or self.keep(op):
                return op, (self if after is self.gen else FilterOps(self.keep, after, after.observes))
            gen, place = after, ctx.branch(attempt)
        raise GeneratorError(
            f"filter_ops: {_describe(self.keep)} dropped {REJECTIONS} ops in a row, the last {op}; "
            "it seems to keep none of what this generator makes"
        )

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on."""
        if not self.observes:
            return self
        gen = self.gen.update(ctx, event)
        return self if gen is self.gen else FilterOps(self.keep, gen, gen.observes)


def filter_ops(keep: Callable[[Op], bool], gen: GeneratorLike) -> Generator:
    """Those ops of ``gen`` for which the predicate is true (Jepsen's ``filter``)."""
    inner = lift(gen)
    return FilterOps(keep, inner, inner.observes)


class OnUpdate(msgspec.Struct, frozen=True, gc=False):
    """See ``on_update``; ``open`` are the threads with an op of ours."""

    function: Callable[[OnUpdate, Context, Op], GeneratorLike]
    gen: Generator
    open: int = 0
    observes: bool = True

    def op(self, ctx: Context) -> Answer:
        """What is wrapped; then pending while ops of ours are open, for their completions may bring something new."""
        answer = self.gen.op(ctx)
        still_open = self.open & ~ctx.free
        if answer is None:
            return (PENDING, OnUpdate(self.function, NOTHING, still_open)) if still_open else None
        op, after = answer
        if not (isinstance(op, Pending) or is_log(op)):
            return op, OnUpdate(self.function, after, still_open | 1 << ctx.thread_of(op.process))
        return op, (self if after is self.gen else OnUpdate(self.function, after, still_open))

    def update(self, ctx: Context, event: Op) -> Generator:
        """Whatever the function says."""
        still_open = self.open & ~ctx.free
        this = self if still_open == self.open else OnUpdate(self.function, self.gen, still_open)
        return lift(self.function(this, ctx, event))

    def updated(self, ctx: Context, event: Op) -> OnUpdate:
        """What an update without the function would be: ``gen`` learns of the event."""
        gen = self.gen.update(ctx, event)
        return self if gen is self.gen else OnUpdate(self.function, gen, self.open)


def on_update(function: Callable[[OnUpdate, Context, Op], GeneratorLike], gen: GeneratorLike) -> Generator:
    """``gen``, until ``function(this, ctx, event)``, called for every event, returns another generator than ``this``.

    ``this.gen`` is what is left of ``gen``; return ``this`` to go on, or
    ``this.updated(ctx, event)`` to have ``gen`` learn of the event too.  Ends
    when ``gen`` is exhausted and its last op has completed (Jepsen's ends
    before that, and misses the last events).
    """
    return OnUpdate(function, lift(gen))


class Trace(msgspec.Struct, frozen=True, gc=False):
    """See ``trace``."""

    name: str
    gen: Generator
    observes: bool = True

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, told to the log."""
        answer = self.gen.op(ctx)
        if answer is None:
            _log.info("%s: op at %d ns -> exhausted", self.name, ctx.time_ns)
            return None
        op, after = answer
        _log.info("%s: op at %d ns -> %s", self.name, ctx.time_ns, op)
        return op, (self if after is self.gen else Trace(self.name, after))

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on, told to the log."""
        _log.info("%s: update at %d ns with %s", self.name, ctx.time_ns, event)
        gen = self.gen.update(ctx, event)
        return self if gen is self.gen else Trace(self.name, gen)


def trace(name: str, gen: GeneratorLike) -> Generator:
    """``gen``, with every question and answer in the log ``splitvote.generator`` (level info)."""
    return Trace(name, lift(gen))


class Validate(msgspec.Struct, frozen=True, gc=False):
    """See ``validate``."""

    name: str
    gen: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, checked."""
        answer: Any = self.gen.op(ctx)
        if answer is None:
            return None
        if type(answer) is not tuple or len(answer) != 2:
            raise self._error(answer, "an answer is None or a pair (op or Pending, next generator)")
        op, after = answer
        if not (hasattr(after, "op") and hasattr(after, "update") and hasattr(after, "observes")):
            raise self._error(after, "the second of the pair is no generator (op, update, observes)")
        if not isinstance(op, Pending):
            problem = problem_with(op, ctx)
            if problem:
                raise self._error(op, problem)
        elif op.wake_at_ns is not None and op.wake_at_ns <= ctx.time_ns:
            raise self._error(op, f"it wants to be asked again at a time that is not after now ({ctx.time_ns} ns)")
        return op, (self if after is self.gen else Validate(self.name, after, after.observes))

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on."""
        if not self.observes:
            return self
        gen = self.gen.update(ctx, event)
        return self if gen is self.gen else Validate(self.name, gen, gen.observes)

    def _error(self, value: object, problem: str) -> GeneratorError:
        return GeneratorError(f"generator {self.name} gave {value!r}: {problem}")


def problem_with(op: Any, ctx: Context) -> str | None:
    """What keeps an op from being dispatched, in words; None if nothing does."""
    if not isinstance(op, Op):
        return f"a {type(op).__name__} is no Op"
    if not isinstance(op.process, int) or not op.process >= -1:
        return f"process {op.process!r} is no process"
    thread = ctx.thread_of(op.process)
    if ctx.processes[thread] != op.process:
        return f"process {op.process} is gone; its thread {thread} runs process {ctx.processes[thread]}"
    if not ctx.threads >> thread & 1:
        return f"process {op.process} is not in this generator's context"
    if not ctx.free >> thread & 1:
        return f"process {op.process} is not free"
    if not isinstance(op.f, str) or not op.f:
        return "f, what to do, must be a name"
    if not isinstance(op.time_ns, int) or op.time_ns < ctx.time_ns:
        return f"time_ns lies before now ({ctx.time_ns} ns)"
    wanted = "info" if op.process == NEMESIS or is_log(op) else "invoke"
    return None if op.type == wanted else f"type is {op.type!r} where {wanted!r} belongs"


def validate(gen: GeneratorLike, name: str | None = None) -> Generator:
    """``gen``, raising GeneratorError, naming the generator and the op, when what it gives cannot be dispatched."""
    inner = lift(gen)
    return Validate(name or _describe(gen), inner, inner.observes) if inner is not NOTHING else NOTHING
