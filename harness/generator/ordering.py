"""Generators that wait for one another: synchronize, phases, then; and lines for the log."""

from __future__ import annotations

import msgspec

from splitvote.harness.generator.context import Context
from splitvote.harness.generator.core import LOG, PENDING, Answer, Generator, GeneratorLike, Once, in_order, lift
from splitvote.harness.op import Op


class Synchronize(msgspec.Struct, frozen=True, gc=False):
    """See ``synchronize``."""

    gen: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """Once all threads are free, what is wrapped takes our place."""
        return self.gen.op(ctx) if ctx.all_free else (PENDING, self)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on."""
        if not self.observes:
            return self
        gen = self.gen.update(ctx, event)
        return self if gen is self.gen else Synchronize(gen, gen.observes)


def synchronize(gen: GeneratorLike) -> Generator:
    """``gen``, but its first op only when every thread of the context (``clients``: every client) is free."""
    inner = lift(gen)
    return Synchronize(inner, inner.observes)


def phases(*gens: GeneratorLike) -> Generator:
    """One after another, each only when every op of those before has completed."""
    return in_order(*map(synchronize, gens))


def then(first: GeneratorLike, second: GeneratorLike) -> Generator:
    """``first``, and when all its ops have completed, ``second`` (Jepsen's has the two the other way round)."""
    return in_order(lift(first), synchronize(second))


def log(message: str) -> Generator:
    """Have the runner print a line, once; it is not recorded in the history and keeps no thread busy."""
    return Once(Op(type="info", f=LOG, value=message))
