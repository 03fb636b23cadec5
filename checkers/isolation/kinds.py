"""Types of cycle by the edges they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from splitvote.checkers.isolation.graph import PROCESS, REALTIME, RW, WR, WW
from splitvote.checkers.isolation.models import VARIANTS

_VARIANT_KINDS: Final[dict[str, tuple[int, ...]]] = {"": (), "-process": (PROCESS,), "-realtime": (REALTIME,)}


def split_name(cycle: str) -> tuple[str, str]:
    """The kind and the variant of a type of cycle ("G1c-realtime": "G1c" and "-realtime")."""
    variant = next(variant for variant in reversed(VARIANTS) if cycle.endswith(variant))
    return cycle.removesuffix(variant), variant


def allowed_kinds(cycle: str) -> tuple[int, ...]:
    """The kinds of edges, rw aside, that a type of cycle may use."""
    kind, variant = split_name(cycle)
    return ((WW,) if kind == "G0" else (WW, WR)) + _VARIANT_KINDS[variant]


def name_of(kinds: Sequence[int]) -> str:
    """The type of a cycle of edges of these kinds (in this order)."""
    rw = sum(kind == RW for kind in kinds)
    if rw == 0:
        name = "G1c" if WR in kinds else "G0"
    elif rw == 1:
        name = "G-single"
    else:
        adjacent = any(one == RW == two for one, two in zip(kinds, (*kinds[1:], kinds[0]), strict=True))
        name = "G2-item" if adjacent else "G-nonadjacent"
    return name + ("-realtime" if REALTIME in kinds else "-process" if PROCESS in kinds else "")
