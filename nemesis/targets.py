"""Whom a fault hits: pure choices of nodes, from a name for the choice and a number that stands for chance.

The number (``pick``) travels in the operation's value, so that a schedule is a
function of the run's seed alone, and an operation can be repeated from its
record.  Who leads is known only when the fault starts; it is given as ``leader``.
The names are Jepsen's (jepsen.nemesis.combined), the sizes too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from splitvote.harness.errors import NemesisError, unknown
from splitvote.harness.generator.randomness import draw, op_entropy

T = TypeVar("T")

SIZES: Final[Mapping[str, Callable[[int], int]]] = {
    "one": lambda nodes: 1,
    "minority": lambda nodes: (nodes - 1) // 2,
    "majority": lambda nodes: nodes // 2 + 1,
    "minority_third": lambda nodes: (nodes - 1) // 3,
    "primaries": lambda nodes: 1,
    "all": lambda nodes: nodes,
}
"""How many of so many nodes each selection takes; ``minority_third`` is fewer than a third."""

SELECTIONS: Final = tuple(SIZES)


def shuffled(items: Sequence[T], pick: int) -> list[T]:
    """The items in the order that ``pick`` stands for (Fisher and Yates's shuffle)."""
    entropy = op_entropy(pick, 0)
    left = list(items)
    for last in range(len(left) - 1, 0, -1):
        other = (draw(entropy, last) * (last + 1)) >> 64
        left[last], left[other] = left[other], left[last]
    return left


def fraction(pick: int, lane: int) -> float:
    """A number in [0, 1) that ``pick`` stands for; lanes are independent of each other and of ``shuffled``."""
    return (draw(op_entropy(pick, 1), lane) >> 11) * 2.0**-53


def between(pick: int, lane: int, bounds: tuple[float, float]) -> float:
    """A number between the bounds that ``pick`` stands for, any as likely as another."""
    low, high = bounds
    return low + fraction(pick, lane) * (high - low)


def is_possible(select: str, nodes: Sequence[str]) -> bool:
    """Whether a selection takes anybody at all of so many nodes; raises NemesisError for an unknown one."""
    return _size(select, len(nodes)) > 0


def choose(
    select: str, nodes: Sequence[str], pick: int, *, leader: str | None = None, among: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The nodes that a selection takes, in the nodes' order.

    The size is that of the whole cluster; they are taken from ``among`` (None:
    all nodes), so that there may be fewer.  ``primaries`` is the leader, or one
    node where nobody is known to lead.
    """
    candidates = list(nodes if among is None else among)
    if select == "primaries" and leader in candidates:
        return (leader,)
    taken = set(shuffled(candidates, pick)[: _size(select, len(nodes))])
    return tuple(node for node in nodes if node in taken)


def _size(select: str, nodes: int) -> int:
    if select not in SIZES:
        raise NemesisError(unknown("selection of nodes", select, SELECTIONS))
    return SIZES[select](nodes)
