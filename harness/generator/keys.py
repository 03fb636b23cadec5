"""Independent keys: one small generator for each of many keys (Jepsen's ``independent``).

Checking is exponential in the worst case, so a long test is many short ones,
each on a key of its own.  Ops carry their key in ``Op.key``; a checker judges
each key's ops apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from splitvote.harness.generator.context import Context
from splitvote.harness.generator.core import (
    EMPTY_CALLS,
    Answer,
    Generator,
    GeneratorError,
    GeneratorLike,
    Pending,
    describe,
    lift,
)
from splitvote.harness.generator.routing import Layout, layout_of, routed
from splitvote.harness.generator.threads import clients
from splitvote.harness.op import Op

Keys: TypeAlias = Sequence[Any] | Callable[[int], Any]
"""The keys: a sequence, or a pure function of the key's number (0, 1, ...) that may return None for 'no more'."""


class Keyed(msgspec.Struct, frozen=True, gc=False):
    """One key's generator; its ops get the key."""

    key: Any
    gen: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, with the key."""
        answer = self.gen.op(ctx)
        if answer is None:
            return None
        op, after = answer
        if not isinstance(op, Pending):
            op = replace(op, key=self.key)
        return op, (self if after is self.gen else Keyed(self.key, after, after.observes))

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on if it is about our key."""
        if not self.observes or event.key != self.key:
            return self
        gen = self.gen.update(ctx, event)
        return self if gen is self.gen else Keyed(self.key, gen, gen.observes)


class KeySource(msgspec.Struct, frozen=True, gc=False):
    """The keys and what to do with each; as a routing source, in groups of ``group_size`` threads."""

    keys: Keys
    generator_of: Callable[[Any], GeneratorLike]
    group_size: int = 0

    def layout(self, ctx: Context) -> Layout:
        """As many groups as there are threads for; none may be left over."""
        threads = ctx.threads.bit_count()
        groups, over = divmod(threads, self.group_size)
        if over:
            raise GeneratorError(
                f"concurrent_keys({self.group_size}, ...) has {threads} threads, of which only "
                f"{groups * self.group_size} make whole groups; have its share of the concurrency be a multiple "
                f"of {self.group_size}"
            )
        return layout_of(ctx.threads, (self.group_size,) * groups)

    def first(self, slot: int, taken: int) -> Generator | None:
        """The next key's generator, whichever group asks."""
        return self.keyed(taken)

    def following(self, slot: int, taken: int) -> Generator | None:
        """The next key's generator, whichever group asks."""
        return self.keyed(taken)

    def keyed(self, number: int) -> Generator | None:
        """The generator of the key with this number; None if there is none."""
        keys = self.keys
        if callable(keys):
            key = keys(number)
            if key is None:
                return None
        elif number < len(keys):
            key = keys[number]
        else:
            return None
        gen = lift(self.generator_of(key))
        return Keyed(key, gen, gen.observes)


def _checked_keys(keys: Keys, what: str) -> Keys:
    if callable(keys):
        return keys
    if isinstance(keys, range):
        return keys
    if isinstance(keys, (list, tuple)):
        return tuple(keys)
    raise GeneratorError(
        f"{what}: the keys are {describe(keys)} ({type(keys).__name__}); an iterator can be gone through only once, "
        "so give a list, a tuple, a range, or a function from 0, 1, ... to keys"
    )


def concurrent_keys(n: int, keys: Keys, generator_of: Callable[[Any], GeneratorLike]) -> Generator:
    """Several keys at a time, ``n`` client threads on each: group after group takes the next key when its own is done.

    ``generator_of(key)`` must be pure.  Clients only.  The threads must make
    whole groups of ``n``, else GeneratorError (a ConfigError) on the first ask.
    """
    if not isinstance(n, int) or n < 1:
        raise GeneratorError(f"concurrent_keys: {n!r} is no number of threads; give an integer from 1")
    source = KeySource(_checked_keys(keys, "concurrent_keys"), generator_of, n)
    return clients(routed(source, observes=False))


class SequentialKeys(msgspec.Struct, frozen=True, gc=False):
    """See ``sequential_keys``; ``current`` is key number ``taken`` - 1's."""

    source: KeySource
    taken: int
    current: Generator | None
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """From the present key, or the next that has anything to do."""
        current, taken = self.current, self.taken
        for _ in range(EMPTY_CALLS):
            if current is None:
                current = self.source.keyed(taken)
                if current is None:
                    return None
                taken += 1
            answer = current.op(ctx)
            if answer is not None:
                op, after = answer
                if after is self.current:
                    return op, self
                return op, SequentialKeys(self.source, taken, after, after.observes)
            current = None
        raise GeneratorError(f"sequential_keys: the generators of {EMPTY_CALLS} keys in a row were empty")

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on to the present key."""
        if not self.observes or self.current is None:
            return self
        current = self.current.update(ctx, event)
        return self if current is self.current else SequentialKeys(self.source, self.taken, current, current.observes)


def sequential_keys(keys: Keys, generator_of: Callable[[Any], GeneratorLike]) -> Generator:
    """One key after another, all threads on it; the next begins as soon as nothing is left to invoke on the last."""
    return SequentialKeys(KeySource(_checked_keys(keys, "sequential_keys"), generator_of), 0, None, False)
