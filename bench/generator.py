"""What a generator costs per op: one ``op`` and two ``update`` calls, on the stack the runner's bar names.

Run: python bench/generator.py.  The generator is time_limit over clients and a
nemesis; the clients' is a rate (far beyond reach) or a stagger over a reserve,
whose larger part is a mix of three kinds under concurrent keys.  Prints
microseconds per op at three concurrencies, with every op completing at once
("idle") and with all but a few threads busy ("busy"), the contexts' part of
it, and the ratio to a calibration loop run right after, which can be compared
across machines.  CPU time, not elapsed time: others may be using the machine.
"""

from __future__ import annotations

import statistics
import time
from collections import deque

from splitvote.harness.generator import (
    Context,
    Generator,
    clients,
    concurrent_keys,
    lift,
    limit,
    mix,
    rate,
    repeat,
    reserve,
    sleep,
    stagger,
    time_limit,
)
from splitvote.harness.generator.core import GeneratorLike
from splitvote.harness.op import NEMESIS, Op

OPS = 20_000
ROUNDS = 5
BAR_US = {10: 10.0, 100: 10.0, 1_024: 15.0}


def read(ctx: Context) -> dict[str, object]:
    return {"f": "read"}


def write(ctx: Context) -> dict[str, object]:
    return {"f": "write", "value": ctx.below(5)}


def cas(ctx: Context) -> dict[str, object]:
    return {"f": "cas", "value": [ctx.below(5), ctx.below(5, 1)]}


def stack(concurrency: int, pace: str = "rate") -> Generator:
    """The stack of the runner's bar."""
    per_key = 2 if concurrency < 20 else 10
    readers = concurrency % per_key + per_key
    keyed = concurrent_keys(per_key, lambda i: i, lambda key: limit(200, mix([read, write, cas])))
    work: GeneratorLike = reserve(readers, repeat({"f": "read-all"}), keyed)
    paced = rate(10_000_000, work) if pace == "rate" else stagger(1e-9, work)
    faults = repeat([sleep(0.01), {"f": "start"}])
    return time_limit(10_000, clients(paced, faults))


def drive(gen: Generator, concurrency: int, open_ops: int, ops: int) -> float:
    """Ask for ``ops`` ops with about ``open_ops`` of them open at any time; seconds spent."""
    ctx = Context.start(concurrency, 1)
    waiting: deque[Op] = deque()
    now = invoked = 0
    begin = time.process_time()
    while invoked < ops:
        answer = gen.op(ctx)
        assert answer is not None
        op, gen = answer
        now += 10_000
        if isinstance(op, Op) and op.time_ns <= ctx.time_ns:
            invoked += 1
            ctx = ctx.dispatched(op.process, now)
            gen = gen.update(ctx, op)
            waiting.append(op)
            done = len(waiting) > open_ops or op.process == NEMESIS
        else:
            ctx = ctx.at(now)
            done = bool(waiting)
        if done:
            completion = waiting.popleft()
            ctx = ctx.completed(completion.process, now)
            gen = gen.update(ctx, completion)
    return time.process_time() - begin


def contexts_only(concurrency: int, ops: int) -> float:
    """The runner's own part: the contexts of a dispatch and a completion; seconds."""
    ctx = Context.start(concurrency, 1)
    begin = time.process_time()
    for now in range(ops):
        ctx = ctx.dispatched(0, now).completed(0, now)
    return time.process_time() - begin


def calibration(ops: int) -> float:
    """Plain Python that does nothing of ours: a method call and a small dict per turn, ten turns an op; seconds."""
    table: dict[int, int] = {}
    begin = time.process_time()
    for i in range(ops):
        for j in range(10):
            table[j] = table.get(j, 0) + i
    return time.process_time() - begin


def main() -> None:
    print(f"{'threads':>8} {'pace':>8} {'load':>6} {'us/op':>7} {'ctx':>6} {'bar':>6} {'x calibration':>14}")
    for concurrency, bar in BAR_US.items():
        for pace in ("rate", "stagger"):
            for load, open_ops in (("idle", 0), ("busy", concurrency * 9 // 10)):
                rounds = []
                for _ in range(ROUNDS):
                    spent = drive(lift(stack(concurrency, pace)), concurrency, open_ops, OPS)
                    rounds.append((spent, contexts_only(concurrency, OPS), spent / calibration(OPS)))
                us, own, ratio = (statistics.median(column) for column in zip(*rounds, strict=True))
                print(
                    f"{concurrency:>8} {pace:>8} {load:>6} {us / OPS * 1e6:>7.2f} {own / OPS * 1e6:>6.2f} "
                    f"{bar:>6.1f} {ratio:>14.1f}"
                )


if __name__ == "__main__":
    main()
