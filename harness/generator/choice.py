"""Generators that choose between several: mix, any_of, flip_flop."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import msgspec

from splitvote.harness.generator.context import Context
from splitvote.harness.generator.core import (
    NOTHING,
    Answer,
    Function,
    Generator,
    GeneratorError,
    GeneratorLike,
    Pending,
    lift,
    replaced,
    soonest_wake,
)
from splitvote.harness.generator.threads import beside
from splitvote.harness.op import Op

_ANY_LANE: Final = -5
_MIX_LANE: Final = -1_000
_UNKNOWN_DEPTH: Final = 16
"""How deeply mixes may be nested in what a function returns and still draw apart from the mixes around it."""


class Mix(msgspec.Struct, frozen=True, gc=False):
    """See ``mix``; ``chosen`` (-1: nobody yet) gives the next op, ``sums`` are the running sums of the weights.

    ``lane`` keeps mixes within mixes from drawing alike.
    """

    gens: tuple[Generator, ...]
    sums: tuple[int, ...] | None
    chosen: int
    lane: int
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """From the chosen one; whoever is next is drawn when an op is given, so that waiting changes no odds."""
        gens, sums, lane = self.gens, self.sums, self.lane
        chosen = self.chosen if self.chosen >= 0 else _drawn(ctx, len(gens), sums, lane)
        while True:
            gen = gens[chosen]
            answer = gen.op(ctx)
            if answer is not None:
                break
            gens = gens[:chosen] + gens[chosen + 1 :]
            if not gens:
                return None
            sums = sums and _without(sums, chosen)
            chosen = _drawn(ctx, len(gens), sums, lane)
        op, after = answer
        if after is not gen:
            gens = replaced(gens, chosen, after)
        following = chosen if isinstance(op, Pending) else _drawn(ctx, len(gens), sums, lane - 1)
        return op, Mix(gens, sums, following, lane, self.observes or after.observes)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on to all."""
        if not self.observes:
            return self
        gens = tuple(gen.update(ctx, event) for gen in self.gens)
        return Mix(gens, self.sums, self.chosen, self.lane, any(gen.observes for gen in gens))


def _drawn(ctx: Context, count: int, sums: tuple[int, ...] | None, lane: int) -> int:
    """One of ``count`` places, by weight."""
    return ctx.below(count, lane) if sums is None else bisect_right(sums, ctx.below(sums[-1], lane))


def _without(sums: tuple[int, ...], place: int) -> tuple[int, ...]:
    """The running sums with one weight taken out."""
    weight = sums[place] - (sums[place - 1] if place else 0)
    return sums[:place] + tuple(total - weight for total in sums[place + 1 :])


def _mixes_within(gen: Generator) -> int:
    """How deeply mixes are nested in a generator."""
    if isinstance(gen, Function):
        return _UNKNOWN_DEPTH
    inner = [getattr(gen, name) for name in ("gen", "current") if hasattr(gen, name)]
    for name in ("gens", "items"):
        inner.extend(getattr(gen, name, ()))
    return isinstance(gen, Mix) + max(map(_mixes_within, inner), default=0)


def mix(gens: Sequence[GeneratorLike], weights: Sequence[int] | None = None) -> Generator:
    """Each op from one of ``gens`` at random, by weight (positive integers; equal if not given).

    A generator that is exhausted drops out.  One that is pending is waited
    for: what it would have given is not replaced by another's.
    """
    lifted = tuple(lift(gen) for gen in gens)
    if weights is not None and (len(weights) != len(lifted) or any(int(w) != w or w < 1 for w in weights)):
        raise GeneratorError(f"mix: weights {list(weights)!r} for {len(lifted)} generators; give one integer >= 1 each")
    if not lifted:
        return NOTHING
    lane = _MIX_LANE - 2 * max(map(_mixes_within, lifted))
    sums = None if weights is None else tuple(accumulate(weights))
    return Mix(lifted, sums, -1, lane, any(gen.observes for gen in lifted))


class AnyOf(msgspec.Struct, frozen=True, gc=False):
    """See ``any_of``."""

    gens: tuple[Generator, ...]
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """Ask one after another, from a random one on, until one has something to do at once."""
        gens = list(self.gens)
        count = len(gens)
        start = ctx.below(count, _ANY_LANE) if count > 1 else 0
        wake: int | None = None
        best: tuple[Op, int, Generator] | None = None
        for step in range(count):
            place = (start + step) % count
            gen = gens[place]
            answer = gen.op(ctx.branch(place) if place else ctx)
            if answer is None:
                gens[place] = NOTHING
                continue
            op, after = answer
            if isinstance(op, Pending):
                wake = soonest_wake(wake, op.wake_at_ns)
                gens[place] = after
            elif op.time_ns <= ctx.time_ns:
                gens[place] = after
                return op, self._with(gens)
            elif best is None or op.time_ns < best[0].time_ns:
                best = op, place, after
        if best is not None and (wake is None or best[0].time_ns <= wake):
            gens[best[1]] = best[2]
            return best[0], self._with(gens)
        left = self._with(gens)
        if left is NOTHING:
            return None
        return Pending(best[0].time_ns if wake is None and best else wake), left

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on to all."""
        return self._with([gen.update(ctx, event) for gen in self.gens]) if self.observes else self

    def _with(self, gens: list[Generator]) -> Generator:
        for ours, other in zip(self.gens, gens, strict=True):
            if ours is not other:
                break
        else:
            return self
        if NOTHING in gens:
            gens = [gen for gen in gens if gen is not NOTHING]
            if len(gens) < 2:
                return gens[0] if gens else NOTHING
        observes = False
        for gen in gens:
            if gen.observes:
                observes = True
        return AnyOf(tuple(gens), observes)


def any_of(*gens: GeneratorLike) -> Generator:
    """Whichever of ``gens`` can go first (Jepsen's ``any``); among those that can go at once a random one."""
    lifted = tuple(gen for gen in map(lift, gens) if gen is not NOTHING)
    if len(lifted) < 2:
        return lifted[0] if lifted else NOTHING
    return beside(lifted) or AnyOf(lifted, any(gen.observes for gen in lifted))


class FlipFlop(msgspec.Struct, frozen=True, gc=False):
    """See ``flip_flop``."""

    gens: tuple[Generator, ...]
    turn: int
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """From the one whose turn it is."""
        answer = self.gens[self.turn].op(ctx)
        if answer is None:
            return None
        op, after = answer
        turn = self.turn if isinstance(op, Pending) else (self.turn + 1) % len(self.gens)
        return op, FlipFlop(replaced(self.gens, self.turn, after), turn, self.observes or after.observes)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on to all."""
        if not self.observes:
            return self
        gens = tuple(gen.update(ctx, event) for gen in self.gens)
        return FlipFlop(gens, self.turn, any(gen.observes for gen in gens))


def flip_flop(*gens: GeneratorLike) -> Generator:
    """An op from each in turn: a, b, a, b ...; ends with the first that is exhausted when its turn comes."""
    lifted = tuple(lift(gen) for gen in gens)
    return FlipFlop(lifted, 0, any(gen.observes for gen in lifted)) if lifted else NOTHING
