"""The simulation's chance: streams of numbers that are a function of (seed, name, count) and of nothing else.

The numbers are those of ``splitvote.harness.generator.randomness`` (SplitMix64
by counter), drawn a block at a time, since every message on a link costs one.
Only integer and IEEE basic operations are used, which give the same bits
everywhere; logarithms do not.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt

from splitvote.harness.generator.randomness import GOLDEN, MASK64, op_entropy

_BLOCK: Final = 512
_COUNTERS: Final = np.arange(_BLOCK, dtype=np.uint64) * np.uint64(GOLDEN)
_UNIT: Final = 2.0**-53


class Chance:
    """One stream; streams of different names are independent."""

    __slots__ = ("_at", "_block", "_blocks", "_seed")

    def __init__(self, seed: int, name: str) -> None:
        self._seed = op_entropy(seed & MASK64, zlib.crc32(name.encode()))
        self._blocks = 0
        self._block: list[float] = []
        self._at = _BLOCK

    def part(self) -> float:
        """A number from 0 up to, but not including, 1."""
        if self._at == _BLOCK:
            self._refill()
        self._at += 1
        return self._block[self._at - 1]

    def below(self, bound: int) -> int:
        """A whole number from 0 up to, but not including, the bound."""
        return int(self.part() * bound)

    def latencies_ns(self, fastest_ns: int, *, spread: float, slowest: float) -> Iterator[int]:
        """Times from ``fastest_ns`` up, without end, of this stream's own chance.

        Most are within ``spread`` times more, a few up to ``slowest`` times more: the
        extra part is fastest x (spread u + slowest v^6), u and v uniform, so that one in
        fifty has about 0.9 of ``slowest``, and half have less than 0.02 of it.
        """
        return chain.from_iterable(self._latency_blocks(fastest_ns, spread, slowest))

    def _latency_blocks(self, fastest_ns: int, spread: float, slowest: float) -> Iterator[list[int]]:
        while True:
            usual, rare = self.block(), self.block()
            square = rare * rare
            factor = 1.0 + spread * usual + slowest * (square * square * square)
            yield (fastest_ns * factor).astype(np.int64)[::-1].tolist()

    def _refill(self) -> None:
        self._block = self.block().tolist()
        self._at = 0

    def block(self) -> npt.NDArray[np.float64]:
        """The next numbers, many at once."""
        start = np.uint64((self._seed + self._blocks * _BLOCK * GOLDEN) & MASK64)
        x = _COUNTERS + start
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
        self._blocks += 1
        return (x >> np.uint64(11)).astype(np.float64) * _UNIT
