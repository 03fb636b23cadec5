"""Randomness by counting: every draw is a hash of (seed, op counter, path, lane), so that nothing has to be remembered.

The hash is SplitMix64's (Steele, Lea, Flood: Fast splittable pseudorandom
number generators, OOPSLA 2014) over the op counter, followed by one xor and
multiplication for each branching on the way down the tree, and one for each
draw.  It is plain integer arithmetic: the same in every process and under
every hash seed.
"""

from __future__ import annotations

from typing import Final

MASK64: Final = (1 << 64) - 1
GOLDEN: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB
_SEED_STEP: Final = 0xD1B54A32D192ED03
BRANCH_STEP: Final = 0xAEF17502108EF2D9
DRAW_STEP: Final = 0xD6E8FEB86659FD93


def op_entropy(seed: int, counter: int) -> int:
    """64 well mixed bits for the op number ``counter`` of the run ``seed``."""
    x = (seed * _SEED_STEP + counter * GOLDEN + GOLDEN) & MASK64
    x = ((x ^ (x >> 30)) * _MIX_1) & MASK64
    x = ((x ^ (x >> 27)) * _MIX_2) & MASK64
    return x ^ (x >> 31)


def branch_salt(branch: int) -> int:
    """What sets the ``branch``-th child apart: many bits, for a difference in few survives a multiplication."""
    return (branch + 1) * GOLDEN & MASK64


def branch_entropy(entropy: int, branch: int) -> int:
    """The bits of the ``branch``-th child of a place in the tree."""
    return ((entropy ^ branch_salt(branch)) * BRANCH_STEP) & MASK64


def draw(entropy: int, lane: int) -> int:
    """64 bits, the upper ones the better; draws of one place in one op differ by ``lane``.

    One multiplication is enough, for ``entropy`` is well mixed already.
    """
    return ((entropy ^ (lane * GOLDEN & MASK64)) * DRAW_STEP) & MASK64
