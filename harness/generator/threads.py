"""Generators for some of the threads: clients, the nemesis, or those a predicate names.

Clients beside a nemesis, the shape of nearly every test, are two groups of
threads, so that they are routed (``routing``) and not asked both for each op.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from splitvote.harness.generator.context import Context, bits, mask_of
from splitvote.harness.generator.core import (
    NOTHING,
    PENDING,
    Answer,
    Generator,
    GeneratorError,
    GeneratorLike,
    describe,
    lift,
)
from splitvote.harness.generator.randomness import branch_salt
from splitvote.harness.generator.routing import Layout, routed
from splitvote.harness.op import Op


class OnThreads(msgspec.Struct, frozen=True, gc=False):
    """See ``on_threads``; ``threads`` is the set, once it is known."""

    select: Callable[[Context], int]
    threads: int | None
    gen: Generator
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, seeing these threads only."""
        threads = self.threads
        if threads is None:
            threads = self.select(ctx)
            if not threads:
                raise GeneratorError(
                    f"no thread is selected for {describe(self.gen)}: of the threads "
                    f"{list(bits(ctx.threads))[:20]} of its context none qualifies"
                )
            if threads == ctx.threads:
                return self.gen.op(ctx)  # takes our place: there is nothing to narrow
        if not ctx.free & threads:
            return PENDING, self
        answer = self.gen.op(ctx.restrict(threads))
        if answer is None:
            return None
        op, after = answer
        if after is self.gen and self.threads is not None:
            return op, self
        if after is NOTHING:
            return op, NOTHING
        return op, OnThreads(self.select, threads, after, after.observes)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on if it is about one of these threads."""
        if not self.observes:
            return self
        threads = self.threads
        if threads is None or not threads >> ctx.thread_of(event.process) & 1:
            return self
        gen = self.gen.update(ctx.restrict(threads), event)
        return self if gen is self.gen else OnThreads(self.select, threads, gen, gen.observes)


def on_threads(threads: Callable[[int], bool] | Collection[int], gen: GeneratorLike) -> Generator:
    """``gen`` for these threads only: a collection of thread numbers, or a predicate of them."""
    if callable(threads):
        predicate = threads

        def select(ctx: Context) -> int:
            return mask_of(thread for thread in bits(ctx.threads) if predicate(thread))
    else:
        chosen = mask_of(threads)

        def select(ctx: Context) -> int:
            return ctx.threads & chosen

    inner = lift(gen)
    return OnThreads(select, None, inner, inner.observes)


def _clients(ctx: Context) -> int:
    return ctx.threads & ctx.clients


def _nemesis(ctx: Context) -> int:
    return ctx.threads & (ctx.clients + 1)


def clients(gen: GeneratorLike, nemesis_gen: GeneratorLike = None) -> Generator:
    """``gen`` for the clients, and, if given, ``nemesis_gen`` for the nemesis beside it."""
    return _beside(lift(gen), lift(nemesis_gen))


def nemesis(gen: GeneratorLike, client_gen: GeneratorLike = None) -> Generator:
    """``gen`` for the nemesis, and, if given, ``client_gen`` for the clients beside it."""
    return _beside(lift(client_gen), lift(gen))


def beside(gens: tuple[Generator, ...]) -> Generator | None:
    """One generator for ``clients`` and ``nemesis`` generators that have not been asked yet; None for any others."""
    parts: dict[Callable[[Context], int], Generator] = {}
    for gen in gens:
        if not isinstance(gen, OnThreads) or gen.threads is not None or gen.select in parts:
            return None
        parts[gen.select] = gen.gen
    if parts.keys() != {_clients, _nemesis}:
        return None
    return _beside(parts[_clients], parts[_nemesis])


def _beside(client_gen: Generator, nemesis_gen: Generator) -> Generator:
    if nemesis_gen is NOTHING:
        return OnThreads(_clients, None, client_gen, client_gen.observes)
    if client_gen is NOTHING:
        return OnThreads(_nemesis, None, nemesis_gen, nemesis_gen.observes)
    return routed(_Roles(client_gen, nemesis_gen), observes=client_gen.observes or nemesis_gen.observes)


class _Roles(msgspec.Struct, frozen=True, gc=False):
    """Source: the clients' generator and the nemesis's."""

    client_gen: Generator
    nemesis_gen: Generator

    def layout(self, ctx: Context) -> Layout:
        masks = (_clients(ctx), _nemesis(ctx))
        if not all(masks):
            raise GeneratorError(
                "clients and nemesis side by side, where the context has only one of them; "
                "is this inside another clients() or nemesis()?"
            )
        base = (ctx.threads & -ctx.threads).bit_length() - 1
        slot_of = (0,) * (ctx.threads.bit_length() - 1 - base) + (1,)
        return Layout(ctx.threads, masks, base, slot_of, (branch_salt(0), branch_salt(1)))

    def first(self, slot: int, taken: int) -> Generator | None:
        return self.nemesis_gen if slot else self.client_gen

    def following(self, slot: int, taken: int) -> Generator | None:
        return None
