"""Operations on independent keys: groups of clients, each on a key of its own, then on the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from splitvote.harness.generator import Generator, GeneratorLike, concurrent_keys, limit, repeat, reserve, until_ok
from splitvote.harness.op import Op
from splitvote.workloads.workload import WorkloadOptions

_MOST_TRIES = 5


def over_keys(options: WorkloadOptions, operations: Callable[[int], GeneratorLike]) -> Generator:
    """``ops_per_key`` operations on each of the keys 0, 1 ..., ``threads_per_key`` clients to a key at a time.

    Where ``keys`` is given, the clients are shared out over that many keys
    instead.  Threads that make no whole group share one on odd keys.
    """

    def limited(key: int) -> Generator:
        return limit(options.ops_per_key, operations(key))

    threads = options.threads_per_key if options.keys is None else -(-options.concurrency // options.keys)
    left_over = options.concurrency % threads
    grouped = options.concurrency - left_over
    if not left_over:
        return concurrent_keys(threads, lambda number: number, limited)
    remainder = concurrent_keys(left_over, lambda number: 2 * number + 1, limited)
    if not grouped:
        return remainder
    return reserve(grouped, concurrent_keys(threads, lambda number: 2 * number, limited), remainder)


def for_every_key(keys: Sequence[Any], operations: Callable[[Any], GeneratorLike]) -> Generator | None:
    """What ``operations`` gives for each of these keys, one client on each; None where there are none."""
    return concurrent_keys(1, list(keys), operations) if keys else None


def surely(op: Op) -> Generator:
    """Repeat an operation until it was ok, a few times at most: for final operations that a verdict hangs on."""
    return until_ok(limit(_MOST_TRIES, repeat(op)))
