"""Generators for every thread, every process, or fixed ranges of threads: each_thread, each_process, reserve."""

from __future__ import annotations

import msgspec

from splitvote.harness.generator.context import Context
from splitvote.harness.generator.core import Answer, Generator, GeneratorError, GeneratorLike, lift
from splitvote.harness.generator.routing import Layout, Routed, layout_of, restarted, routed
from splitvote.harness.op import Op


class _Copies(msgspec.Struct, frozen=True, gc=False):
    """Source: one copy of a generator for each thread."""

    gen: Generator

    def layout(self, ctx: Context) -> Layout:
        return layout_of(ctx.threads, (1,) * ctx.threads.bit_count())

    def first(self, slot: int, taken: int) -> Generator | None:
        return self.gen

    def following(self, slot: int, taken: int) -> Generator | None:
        return None


class _Ranges(msgspec.Struct, frozen=True, gc=False):
    """Source: a generator for each range of threads, the last one's being the rest."""

    sizes: tuple[int, ...]
    gens: tuple[Generator, ...]

    def layout(self, ctx: Context) -> Layout:
        rest = ctx.threads.bit_count() - sum(self.sizes)
        if rest < 0 or (rest == 0 and len(self.gens) > len(self.sizes)):
            raise GeneratorError(
                f"reserve: {' + '.join(map(str, self.sizes))} threads are reserved"
                f"{' and there is a default besides' if len(self.gens) > len(self.sizes) else ''}, "
                f"but there are only {ctx.threads.bit_count()}; raise the concurrency"
            )
        return layout_of(ctx.threads, self.sizes if len(self.gens) == len(self.sizes) else (*self.sizes, rest))

    def first(self, slot: int, taken: int) -> Generator | None:
        return self.gens[slot]

    def following(self, slot: int, taken: int) -> Generator | None:
        return None


def each_thread(gen: GeneratorLike) -> Generator:
    """A copy of ``gen`` for each thread, the nemesis's too unless inside ``clients``; a crash does not restart it."""
    inner = lift(gen)
    return routed(_Copies(inner), observes=inner.observes)


def reserve(*counts_and_gens: GeneratorLike | int) -> Generator:
    """``reserve(5, a, 10, b, c)``: the first five threads do a, the next ten b, the rest c (if given, else nothing)."""
    paired = len(counts_and_gens) // 2 * 2
    pairs, default = counts_and_gens[:paired], counts_and_gens[paired:]
    sizes = pairs[::2]
    if any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in sizes):
        raise GeneratorError(f"reserve: {list(sizes)!r} are no numbers of threads; give integers from 1")
    gens = tuple(lift(gen) for gen in (*pairs[1::2], *default))  # type: ignore[arg-type]
    return routed(_Ranges(sizes, gens), observes=any(gen.observes for gen in gens))  # type: ignore[arg-type]


class EachProcess(msgspec.Struct, frozen=True, gc=False):
    """See ``each_process``; ``processes`` are those that ``copies`` is up to date with."""

    copies: Routed
    processes: tuple[int, ...]
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """From the copy of a free process; threads whose process is new start anew."""
        copies = self.copies
        if ctx.processes is not self.processes:
            copies = restarted(copies, _changed(self.processes, ctx.processes))
        answer = copies.op(ctx)
        if answer is None:
            return None
        op, after = answer
        if after is self.copies and ctx.processes is self.processes:
            return op, self
        return op, EachProcess(after, ctx.processes, after.observes)  # type: ignore[arg-type]

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on to the copy of the process it is about."""
        if not self.observes:
            return self
        after = self.copies.update(ctx, event)
        return self if after is self.copies else EachProcess(after, self.processes, after.observes)  # type: ignore[arg-type]


def _changed(before: tuple[int, ...], now: tuple[int, ...]) -> int:
    """The threads whose process differs."""
    changed = 0
    for thread, (old, new) in enumerate(zip(before, now, strict=False)):
        if old != new:
            changed |= 1 << thread
    return changed


def each_process(gen: GeneratorLike) -> Generator:
    """A copy of ``gen`` for each process; the process that follows a crashed one gets a new copy.

    Ends when the copies of all threads' present processes are exhausted.
    """
    copies = each_thread(gen)
    assert isinstance(copies, Routed)
    return EachProcess(copies, (), copies.observes)
