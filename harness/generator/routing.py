"""Generators that give each group of threads a generator of its own, at a cost that does not grow with the groups.

One op asks one group: a free thread is drawn, and its group's generator asked.
Only if that has nothing to do now are others tried, and a group that was
pending is left alone until its wake time comes, a thread of it comes free, or
it learns of an event: what the definition of pending allows.  So the work per
op does not depend on the number of threads, save for ANDs of bitmasks.

The groups' generators are kept in rows of 32, so that replacing one copies two
short tuples.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from typing import Final, Protocol, TypeAlias

import msgspec

from splitvote.harness.generator.context import Context, bits, mask_of
from splitvote.harness.generator.core import (
    EMPTY_CALLS,
    NOTHING,
    Answer,
    Generator,
    GeneratorError,
    Pending,
)
from splitvote.harness.generator.randomness import branch_salt
from splitvote.harness.op import Op

_ROW_BITS: Final = 5
_ROW: Final = 1 << _ROW_BITS
_IN_ROW: Final = _ROW - 1

Slots: TypeAlias = tuple[tuple[Generator | None, ...], ...]


class Layout(msgspec.Struct, frozen=True, gc=False):
    """How threads fall into groups: each group's threads, and each thread's group (counted from thread ``base``).

    ``salts`` set the groups' draws apart.
    """

    threads: int
    masks: tuple[int, ...]
    base: int
    slot_of: tuple[int, ...]
    salts: tuple[int, ...]


@lru_cache(maxsize=256)
def layout_of(threads: int, sizes: tuple[int, ...]) -> Layout:
    """Groups of these sizes, by thread number; threads past the last group are left out."""
    order = list(bits(threads))
    masks: list[int] = []
    base = order[0] if order else 0
    slot_of = [-1] * (threads.bit_length() - base)
    place = 0
    for slot, size in enumerate(sizes):
        group = order[place : place + size]
        place += size
        masks.append(mask_of(group))
        for thread in group:
            slot_of[thread - base] = slot
    salts = tuple(branch_salt(slot) for slot in range(len(sizes)))
    return Layout(mask_of(order[:place]), tuple(masks), base, tuple(slot_of), salts)


class Source(Protocol):
    """Where the groups and their generators come from."""

    def layout(self, ctx: Context) -> Layout:
        """How the context's threads fall into groups."""
        ...

    def first(self, slot: int, taken: int) -> Generator | None:
        """The first generator of a group, None if it gets none; ``taken`` is how many all groups have had so far."""
        ...

    def following(self, slot: int, taken: int) -> Generator | None:
        """The generator of a group whose last one is exhausted, None if that was all."""
        ...


class Routed(msgspec.Struct, frozen=True, gc=False):
    """Generators by group of threads (see the module).

    ``done`` and ``asleep`` are threads whose group is exhausted, or pending;
    ``alarms`` are (wake time, group) of those that have a wake time, soonest
    first (one of a group that has been woken otherwise does no harm);
    ``seen_free`` those of their threads that were free when they fell asleep.
    """

    source: Source
    layout: Layout | None
    slots: Slots
    taken: int
    done: int
    asleep: int
    alarms: tuple[tuple[int, int], ...]
    seen_free: int
    observes: bool

    def op(self, ctx: Context) -> Answer:
        """From the group of a random free thread, or whichever group can go first."""
        layout = self.layout
        if layout is None:
            return _laid_out(self, ctx).op(ctx)
        awake = ctx.free & layout.threads
        if self.done:
            awake &= ~self.done
        if self.alarms and self.alarms[0][0] <= ctx.time_ns:
            return _woken(self, ctx).op(ctx)
        if self.asleep:
            if self.asleep & ctx.free & ~self.seen_free:
                return _woken(self, ctx).op(ctx)
            awake &= ~self.asleep
        if awake:
            thread = ctx.thread
            if thread < 0 or not awake >> thread & 1:
                thread = ctx.pick_thread(awake)
            slot = layout.slot_of[thread - layout.base]
            gen = self.slots[slot >> _ROW_BITS][slot & _IN_ROW]
            if gen is not None:
                answer = gen.op(ctx.routed(layout.masks[slot], layout.salts[slot], thread))
                if answer is not None:
                    op, after = answer
                    if type(op) is Op and op.time_ns <= ctx.time_ns:
                        return op, (self if after is gen else self.with_slot(slot, after))
        return _Search(self, layout, ctx).run(awake)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Passed on to the group it is about."""
        layout = self.layout
        if not self.observes or layout is None:
            return self
        thread = ctx.thread_of(event.process)
        if not layout.threads >> thread & 1:
            return self
        slot = layout.slot_of[thread - layout.base]
        gen = self.slots[slot >> _ROW_BITS][slot & _IN_ROW]
        if gen is None or not gen.observes:
            return self
        after = gen.update(ctx.restrict(layout.masks[slot], slot), event)
        if after is gen:
            return self
        return msgspec.structs.replace(self.with_slot(slot, after), asleep=self.asleep & ~layout.masks[slot])

    def with_slot(self, slot: int, gen: Generator) -> Routed:
        """The same with another generator for one group."""
        slots = self.slots
        if len(slots) == 1:  # the commonest case, and the hottest place of all
            places = list(slots[0])
            places[slot] = gen
            slots = (tuple(places),)
        else:
            slots = _with_slot(slots, slot, gen)
        return Routed(
            self.source,
            self.layout,
            slots,
            self.taken,
            self.done,
            self.asleep,
            self.alarms,
            self.seen_free,
            self.observes or gen.observes,
        )


def routed(source: Source, *, observes: bool) -> Routed:
    """Groups as the source has them, all new."""
    return Routed(source, None, (), 0, 0, 0, (), 0, observes)


def restarted(gen: Routed, threads: int) -> Routed:
    """Have the groups of these threads start anew."""
    layout = gen.layout
    if layout is None:
        return gen
    slots = gen.slots
    for slot in sorted({layout.slot_of[thread - layout.base] for thread in bits(threads & layout.threads)}):
        slots = _with_slot(slots, slot, None)
        threads |= layout.masks[slot]
    return msgspec.structs.replace(gen, slots=slots, done=gen.done & ~threads, asleep=gen.asleep & ~threads)


def _with_slot(slots: Slots, slot: int, gen: Generator | None) -> Slots:
    row = slot >> _ROW_BITS
    places = list(slots[row])
    places[slot & _IN_ROW] = gen
    rows = list(slots)
    rows[row] = tuple(places)
    return tuple(rows)


def _laid_out(gen: Routed, ctx: Context) -> Routed:
    """Find the groups, on the first ask."""
    layout = gen.source.layout(ctx)
    count = len(layout.masks)
    slots = tuple((None,) * min(_ROW, count - start) for start in range(0, count, _ROW))
    return msgspec.structs.replace(gen, layout=layout, slots=slots)


def _woken(gen: Routed, ctx: Context) -> Routed:
    """Wake the groups whose time has come and those one of whose threads has come free."""
    assert gen.layout is not None
    masks, slot_of, base = gen.layout.masks, gen.layout.slot_of, gen.layout.base
    rung = bisect_left(gen.alarms, (ctx.time_ns + 1, -1))
    asleep = gen.asleep
    for _, slot in gen.alarms[:rung]:
        asleep &= ~masks[slot]
    newly = asleep & ctx.free & ~gen.seen_free
    while newly:
        mask = masks[slot_of[(newly & -newly).bit_length() - 1 - base]]
        asleep &= ~mask
        newly &= ~mask
    return msgspec.structs.replace(gen, asleep=asleep, alarms=gen.alarms[rung:])


class _Search:
    """One search through the groups for something to do; mutable, and gone when ``op`` returns."""

    def __init__(self, gen: Routed, layout: Layout, ctx: Context) -> None:
        self.gen, self.layout, self.ctx = gen, layout, ctx
        self.slots, self.taken, self.done, self.asleep = gen.slots, gen.taken, gen.done, gen.asleep
        self.alarms = gen.alarms
        self.seen_free = gen.seen_free
        self.observes = gen.observes
        self.best: tuple[Op, int, Generator] | None = None

    def run(self, awake: int) -> Answer:
        """Ask groups with a free thread until one has an op for now."""
        while awake:
            slot = self.layout.slot_of[self.ctx.pick_thread(awake) - self.layout.base]
            mask = self.layout.masks[slot]
            awake &= ~mask
            answer = self._ask(slot, mask)
            if answer is None:
                self.done |= mask
                self._put(slot, NOTHING)
                continue
            op, after = answer
            if isinstance(op, Pending):
                self._put(slot, after)
                self._sleep(slot, mask, op.wake_at_ns)
            elif op.time_ns <= self.ctx.time_ns:
                self._put(slot, after)
                return op, self._result()
            else:
                self._sleep(slot, mask, op.time_ns)
                if self.best is None or op.time_ns < self.best[0].time_ns:
                    self.best = op, slot, after
        return self._later()

    def _ask(self, slot: int, mask: int) -> Answer:
        """Ask a group, giving it new generators as long as it finds them empty."""
        ctx = self.ctx.restrict(mask, slot)
        source = self.gen.source
        gen = self.slots[slot >> _ROW_BITS][slot & _IN_ROW]
        is_taken = gen is not None
        for _ in range(EMPTY_CALLS):
            if gen is None:
                gen = source.following(slot, self.taken) if is_taken else source.first(slot, self.taken)
                if gen is None:
                    return None
                is_taken = True
                self.taken += 1
            answer = gen.op(ctx)
            if answer is not None:
                return answer
            gen = None
        raise GeneratorError(f"{EMPTY_CALLS} generators in a row were empty ({source!r:.200})")

    def _put(self, slot: int, gen: Generator) -> None:
        self.slots = _with_slot(self.slots, slot, gen)
        self.observes = self.observes or gen.observes

    def _sleep(self, slot: int, mask: int, wake_ns: int | None) -> None:
        self.asleep |= mask
        self.seen_free = self.seen_free & ~mask | self.ctx.free & mask
        if wake_ns is not None:
            alarm, alarms = (wake_ns, slot), self.alarms
            place = bisect_left(alarms, alarm)
            if place == len(alarms) or alarms[place] != alarm:
                self.alarms = (*alarms[:place], alarm, *alarms[place:])

    def _later(self) -> Answer:
        """Nothing is for now: the soonest op, or how long to wait, or the end."""
        if self.done == self.layout.threads:
            return None
        wake = self.alarms[0][0] if self.alarms else None
        if self.best is not None and self.best[0].time_ns == wake:
            op, slot, after = self.best
            self._put(slot, after)
            self.asleep &= ~self.layout.masks[slot]
            return op, self._result()
        return Pending(wake), self._result()

    def _result(self) -> Routed:
        gen = self.gen
        return Routed(
            gen.source,
            gen.layout,
            self.slots,
            self.taken,
            self.done,
            self.asleep,
            self.alarms,
            self.seen_free,
            self.observes,
        )
