"""What a generator is, and how a user's values become generators.

A generator is an immutable value.  Asked with a context, it answers

* ``(op, next)``: do this op, not before ``op.time_ns``, and go on with ``next``;
* ``(Pending(wake_at_ns), next)``: nothing yet; go on with ``next``, and ask
  again at ``wake_at_ns``, or when a thread has come free, or after an update,
  whichever is first.  Before that, asking again would get the same answer;
* ``None``: that was all; it is not asked again.

Whoever asks (the runner, a simulator) does this::

    while (answer := gen.op(ctx)) is not None:
        op, after = answer
        if Pending:                       gen = after; wait for a completion or the wake time
        elif op.time_ns > ctx.time_ns:    wait; if a completion comes first, ask the *old* gen again
        elif is_log(op):                  gen = after; print op.value; ctx = ctx.dispatched(...).completed(...)
                                          (nothing is recorded, no generator is told)
        else:                             dispatch; ctx = ctx.dispatched(op.process, now); gen = after.update(ctx, op)

and for every completion ``ctx = ctx.completed(...)``, ``gen = gen.update(ctx,
completion)``.  Completions come before new invocations.

``observes`` says whether ``update`` can make a difference; it is worked out
when a generator is built, so that whole trees are skipped at the cost of one
attribute.  A generator never does IO and never reads a clock.

What a user may write where a generator is expected (see ``lift``): None, a
dict or an Op (emitted once), a list or tuple (one after another), a function
(called whenever an op is wanted, until it returns None), a generator.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from splitvote.harness.errors import ConfigError
from splitvote.harness.generator.context import Context
from splitvote.harness.op import NEMESIS, UNASSIGNED, Op

T = TypeVar("T")

LOG: Final = ":log"
"""The ``f`` of an op that is a line for the log (see ``is_log``)."""

EMPTY_CALLS: Final = 1_000
"""How often in a row a function may return an empty generator before that counts as an endless loop."""


class GeneratorError(ConfigError):
    """A generator is malformed, or gave what no runner can use; the message names the generator and the op."""


class Pending(msgspec.Struct, frozen=True, gc=False):
    """Nothing to do yet; ``wake_at_ns`` is when to ask again, None: only after a completion."""

    wake_at_ns: int | None = None


PENDING: Final = Pending()
"""Pending until something completes."""

Answer: TypeAlias = "tuple[Op | Pending, Generator] | None"


class Generator(Protocol):
    """See the module's docstring."""

    @property
    def observes(self) -> bool:
        """Whether ``update`` can return anything but the generator itself."""
        ...

    def op(self, ctx: Context) -> Answer:
        """What to do now; the same ctx always gets the same answer."""
        ...

    def update(self, ctx: Context, event: Op) -> Generator:
        """The generator that knows of an op dispatched (as invoked) or completed; ctx is from after the event."""
        ...


GeneratorLike: TypeAlias = (
    "Generator | Op | Mapping[str, Any] | Sequence[Any] | Callable[[], Any] | Callable[[Context], Any] | None"
)


def is_log(op: Op) -> bool:
    """Whether this op is no operation but a line for the log: the runner prints ``value``, and records nothing."""
    return op.f == LOG


def soonest_wake(a: int | None, b: int | None) -> int | None:
    """The earlier of two wake times, None standing for never."""
    if a is None:
        return b
    return a if b is None or a < b else b


def describe(value: object) -> str:
    """A short name of a generator or of what was to become one, for messages."""
    name = getattr(value, "__qualname__", None)
    if name is not None:
        return f"{getattr(value, '__module__', '?')}.{name}"
    if isinstance(value, (dict, list, tuple, str, int, float, Op)) or value is None:
        text = repr(value)
        return text if len(text) <= 120 else text[:117] + "..."
    return type(value).__name__


# The leaves.


class Nothing(msgspec.Struct, frozen=True, gc=False):
    """The exhausted generator."""

    observes: bool = False

    def op(self, ctx: Context) -> Answer:
        """Never anything."""
        return None

    def update(self, ctx: Context, event: Op) -> Generator:
        """Never anything."""
        return self


NOTHING: Final = Nothing()


def fill_in(template: Op, ctx: Context) -> Op | Pending | None:
    """Give a template a free process, a type and a time.

    Pending if no thread is free, or not the one of the process it asks for;
    None if that process has ended.
    """
    process = template.process
    if process != UNASSIGNED:
        thread = ctx.thread_of(process)
        if process < NEMESIS or ctx.processes[thread] != process:
            return None
        if not ctx.free >> thread & 1:
            return PENDING
    else:
        thread = ctx.thread
        if thread < 0:
            if not ctx.free:
                return PENDING
            thread = ctx.pick_thread(ctx.free)
        process = ctx.processes[thread]
    now = ctx.time_ns
    return replace(
        template,
        time_ns=template.time_ns if template.time_ns > now else now,
        process=process,
        type="info" if process == NEMESIS or template.f == LOG else "invoke",
    )


class Once(msgspec.Struct, frozen=True, gc=False):
    """A dict or an Op as a generator: emitted once, by any free process (or the one it names)."""

    template: Op
    observes: bool = False

    def op(self, ctx: Context) -> Answer:
        """The template, filled in."""
        op = fill_in(self.template, ctx)
        if op is None:
            return None
        return (op, NOTHING) if type(op) is Op else (op, self)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Nothing to learn."""
        return self


class Function(msgspec.Struct, frozen=True, gc=False):
    """A function as a generator: called whenever an op is wanted, until it returns None.

    What it returns is itself lifted and used up before the next call.
    """

    call: Callable[..., Any]
    takes_context: bool
    observes: bool = False

    def op(self, ctx: Context) -> Answer:
        """Call, unless no thread is free."""
        if not ctx.free:
            return PENDING, self
        place = ctx
        for attempt in range(EMPTY_CALLS):
            made = self._made(place)
            if made is None:
                return None
            if type(made) is Op:
                op = fill_in(made, ctx)
                if op is not None:
                    return op, self
            else:
                answer = made.op(place)
                if answer is not None:
                    return answer[0], in_order(answer[1], self)
            place = ctx.branch(attempt)
        raise GeneratorError(
            f"the function {describe(self.call)} returned {EMPTY_CALLS} empty generators in a row; "
            "to end a generator return None"
        )

    def update(self, ctx: Context, event: Op) -> Generator:
        """Nothing to learn."""
        return self

    def _made(self, ctx: Context) -> Any:
        try:
            made = self.call(ctx) if self.takes_context else self.call()
        except Exception as error:
            error.add_note(f"raised by the generator function {describe(self.call)}")
            raise
        if type(made) is dict:
            return template_of(made)
        return made if made is None or type(made) is Op else lift(made)


class InOrder(msgspec.Struct, frozen=True, gc=False):
    """Generators one after another; ``current`` is what is left of ``items[position]``."""

    items: tuple[Generator, ...]
    position: int
    current: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """From the first that has anything left."""
        position, last = self.position, len(self.items) - 1
        answer = self.current.op(ctx)
        while answer is None:
            if position == last:
                return None
            position += 1
            answer = self.items[position].op(ctx)
        if position == last:
            return answer
        op, after = answer
        if after is self.current and position == self.position:
            return op, self
        return op, InOrder(self.items, position, after, after.observes)

    def update(self, ctx: Context, event: Op) -> Generator:
        """The one whose turn it is learns of it."""
        if not self.observes:
            return self
        current = self.current.update(ctx, event)
        if current is self.current:
            return self
        return InOrder(self.items, self.position, current, current.observes)


def in_order(*items: Generator) -> Generator:
    """Lifted generators one after another."""
    if not items:
        return NOTHING
    if len(items) == 1:
        return items[0]
    return InOrder(items, 0, items[0], items[0].observes)


def replaced(items: tuple[T, ...], position: int, item: T) -> tuple[T, ...]:
    """The tuple with another item at a position."""
    places = list(items)
    places[position] = item
    return tuple(places)


def nanoseconds(seconds: float, what: str) -> int:
    """Seconds as ns; raises GeneratorError, naming ``what``, for negative ones."""
    if not 0 <= seconds < 1e9:
        raise GeneratorError(f"{what}: {seconds!r} is no duration in seconds; give a number from 0")
    return round(seconds * 1e9)


# Lifting.


def template_of(fields: Mapping[str, Any]) -> Op:
    """An Op from a dict of its fields: f, value, key, and rarely process, time_ns, extra.

    Raises GeneratorError if a field is unknown or f is missing.
    """
    try:
        op = Op(**fields)
    except TypeError as error:
        known = ", ".join(("f", "value", "key", "process", "time_ns", "extra"))
        raise GeneratorError(f"not an op: {describe(fields)}: {error}; an op has {known}") from None
    if not op.f:
        raise GeneratorError(f"not an op: {describe(fields)} has no f (what to do)")
    return op


def lift(value: GeneratorLike) -> Generator:
    """Make a generator of a user's value (see the module's docstring).

    Raises GeneratorError for anything else, iterators among them: they change
    when asked, so they are no values.
    """
    if value is None:
        return NOTHING
    if isinstance(value, dict):
        return Once(template_of(value))
    if isinstance(value, Op):
        return Once(value)
    if isinstance(value, (list, tuple)):
        return in_order(*map(lift, value))
    if hasattr(value, "op") and hasattr(value, "update"):
        return value  # type: ignore[return-value]
    if callable(value):
        return Function(value, takes_context(value))
    raise GeneratorError(
        f"not a generator: {describe(value)} ({type(value).__name__}); give a dict, an Op, a list or tuple of "
        "generators, a function of the context, None, or a generator"
    )


def takes_context(function: Callable[..., Any]) -> bool:
    """Whether a function wants the context: it has one required positional parameter.

    Raises GeneratorError if it has more.
    """
    code = getattr(function, "__code__", None)
    if code is not None and not function.__defaults__ and not hasattr(function, "__self__"):
        required = code.co_argcount
    else:
        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError:
            return False
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        required = sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)
    if required > 1:
        raise GeneratorError(
            f"the generator function {describe(function)} takes {required} arguments; it takes the context or nothing"
        )
    return bool(required == 1)
