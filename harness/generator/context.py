"""What a generator may know when it is asked: the time, the threads, their processes, and where randomness comes from.

Threads are numbered 0 .. concurrency - 1, the nemesis has the thread
``concurrency``.  Sets of threads are ints, bit i standing for thread i, so
that narrowing a context to a few threads is an AND, however many there are.
A thread runs one process at a time; when the process crashes (an ``info``
completion) the thread goes on as process + concurrency.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec

from splitvote.harness.generator.randomness import (
    BRANCH_STEP,
    DRAW_STEP,
    GOLDEN,
    MASK64,
    branch_entropy,
    draw,
    op_entropy,
)
from splitvote.harness.op import NEMESIS

T = TypeVar("T")

_THREAD_SALT: Final = -GOLDEN & MASK64


class Context(msgspec.Struct, frozen=True, gc=False):
    """An immutable context; the runner makes the next with ``at``, ``dispatched`` and ``completed``.

    ``time_ns``: nanoseconds since the start of the run.  ``free``: the threads
    that could take an op now.  ``threads``: all threads this context covers.
    ``processes``: the process of each thread (the nemesis's last).
    ``clients``: all client threads of the run, whatever the context covers.
    ``counter``: ops dispatched so far.  ``entropy``: the hash of (seed,
    counter, path) that draws start from.  ``thread``: the free thread that has
    been drawn for this op already, -1 if none has.
    """

    time_ns: int
    free: int
    threads: int
    processes: tuple[int, ...]
    clients: int
    seed: int
    counter: int
    entropy: int
    thread: int = -1

    @staticmethod
    def start(concurrency: int, seed: int = 0, *, time_ns: int = 0) -> Context:
        """The context of a run's beginning: every thread free, thread i running process i."""
        threads = (1 << (concurrency + 1)) - 1
        processes = (*range(concurrency), NEMESIS)
        return Context(time_ns, threads, threads, processes, threads >> 1, seed, 0, op_entropy(seed, 0))

    @property
    def concurrency(self) -> int:
        """How many client threads the run has."""
        return len(self.processes) - 1

    @property
    def nemesis_thread(self) -> int:
        """The nemesis's thread."""
        return len(self.processes) - 1

    @property
    def all_free(self) -> bool:
        """Whether no thread of this context has an op open."""
        return self.free == self.threads

    def thread_of(self, process: int) -> int:
        """The thread that runs, or ran, a process."""
        return process % (len(self.processes) - 1) if process >= 0 else len(self.processes) - 1

    def free_processes(self) -> Iterator[int]:
        """The processes that could take an op now, by thread."""
        free = self.free
        while free:
            yield self.processes[(free & -free).bit_length() - 1]
            free &= free - 1

    # What the runner does to it.

    def at(self, time_ns: int) -> Context:
        """The same at another time."""
        return Context(
            time_ns, self.free, self.threads, self.processes, self.clients, self.seed, self.counter, self.entropy
        )

    def dispatched(self, process: int, time_ns: int) -> Context:
        """After an op was given to ``process``: its thread is busy, the counter one higher."""
        counter = self.counter + 1
        return Context(
            time_ns,
            self.free & ~(1 << self.thread_of(process)),
            self.threads,
            self.processes,
            self.clients,
            self.seed,
            counter,
            op_entropy(self.seed, counter),
        )

    def completed(self, process: int, time_ns: int, *, crashed: bool = False) -> Context:
        """After ``process`` completed its op: its thread is free; if it ``crashed`` the thread runs a new process."""
        thread = self.thread_of(process)
        processes = self.processes
        if crashed and process >= 0:
            processes = (*processes[:thread], process + len(processes) - 1, *processes[thread + 1 :])
        return Context(
            time_ns,
            self.free | (1 << thread),
            self.threads,
            processes,
            self.clients,
            self.seed,
            self.counter,
            self.entropy,
        )

    # What a generator does with it.

    def restrict(self, threads: int, branch: int = 0) -> Context:
        """The context of the ``branch``-th child, which sees these threads only."""
        thread = self.thread
        return Context(
            self.time_ns,
            self.free & threads,
            self.threads & threads,
            self.processes,
            self.clients,
            self.seed,
            self.counter,
            branch_entropy(self.entropy, branch),
            thread if thread >= 0 and threads >> thread & 1 else -1,
        )

    def routed(self, threads: int, salt: int, thread: int) -> Context:
        """``restrict`` to some threads of this context, of which ``thread`` has been drawn (``salt``: branch_salt)."""
        return Context(
            self.time_ns,
            self.free & threads,
            threads,
            self.processes,
            self.clients,
            self.seed,
            self.counter,
            ((self.entropy ^ salt) * BRANCH_STEP) & MASK64,
            thread,
        )

    def branch(self, branch: int) -> Context:
        """The context of the ``branch``-th child, which draws differently from its siblings."""
        return Context(
            self.time_ns,
            self.free,
            self.threads,
            self.processes,
            self.clients,
            self.seed,
            self.counter,
            branch_entropy(self.entropy, branch),
            self.thread,
        )

    def pick_thread(self, threads: int) -> int:
        """One of these threads at random; there must be one.

        The first from a random place on, so that a thread after a gap is
        likelier than its neighbours; but as the place is uniform and gaps move
        about, over a run no thread is favoured.  Costs the same whatever the
        number of threads.
        """
        count = threads.bit_count()
        last = threads.bit_length()
        if count == 1:
            return last - 1
        random = ((self.entropy ^ _THREAD_SALT) * DRAW_STEP) & MASK64
        if last == count:
            return (random * count) >> 64
        low = (threads & -threads).bit_length() - 1
        width = last - low
        if width == count:
            return low + ((random * count) >> 64)
        # The lowest has no gap before it; give it a mean one, past the end.
        place = (random * (width + width // count)) >> 64
        if place >= width:
            return low
        above = threads >> (low + place)
        return low + place + (above & -above).bit_length() - 1

    def below(self, bound: int, lane: int = 0) -> int:
        """A number in [0, bound).  Draws for one op that must be independent take different lanes (0, 1, ...)."""
        return ((((self.entropy ^ (lane * GOLDEN & MASK64)) * DRAW_STEP) & MASK64) * bound) >> 64

    def unit(self, lane: int = 0) -> float:
        """A number in [0, 1)."""
        return (draw(self.entropy, lane) >> 11) * 2.0**-53

    def choice(self, items: Sequence[T], lane: int = 0) -> T:
        """One of the items; there must be one."""
        return items[(draw(self.entropy, lane) * len(items)) >> 64]

    def shuffled(self, items: Sequence[T], lane: int = 0) -> list[T]:
        """The items in a random order."""
        left = list(items)
        entropy: int = draw(self.entropy, lane)
        for i in range(len(left) - 1, 0, -1):
            j = (draw(entropy, i) * (i + 1)) >> 64
            left[i], left[j] = left[j], left[i]
        return left

    def sample(self, items: Sequence[T], count: int, lane: int = 0) -> list[T]:
        """``count`` different items, in a random order."""
        return self.shuffled(items, lane)[:count]


def bits(mask: int) -> Iterator[int]:
    """The threads of a set, lowest first."""
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1


def mask_of(threads: Any) -> int:
    """The set of these threads."""
    mask = 0
    for thread in threads:
        mask |= 1 << thread
    return mask
