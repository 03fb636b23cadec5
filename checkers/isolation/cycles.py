"""Shortest cycles of a given type in a component.

The search walks outward from a start (breadth first, hops behind a station at
no cost) until it comes back.  For types with an rw edge the first edge is an
rw, so that every transaction with an outgoing rw is a start; for the others
every transaction of the smaller component is.  A later start need only beat the
shortest cycle so far.  The number of edges looked at is bounded per cycle: past
the bound the shortest one found so far stands, and says that it may not be the
shortest of all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from splitvote.checkers.isolation.graph import RW, VIA, Edges, components
from splitvote.checkers.isolation.kinds import allowed_kinds, name_of, split_name
from splitvote.checkers.isolation.tangle import Tangle
from splitvote.harness.result import Budget

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Longs = npt.NDArray[np.int64]

_MOST_STEPS: Final = 400_000
"""Bound of the edges looked at per cycle, the search from the first start aside: well under a second."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """A cycle: transaction ``txns[i]`` comes before ``txns[i + 1]`` (the last before the first) by ``kinds[i]``.

    ``name`` is its type, ``component_size`` how many transactions the component
    has, ``is_shortest`` whether no shorter one of the type is in it.
    """

    name: str
    txns: tuple[int, ...]
    kinds: tuple[int, ...]
    component_size: int
    is_shortest: bool

    def edges(self) -> list[tuple[int, int, int]]:
        """From, to and kind of every edge."""
        onward = (*self.txns[1:], self.txns[0])
        return list(zip(self.txns, onward, self.kinds, strict=True))


class Finder:
    """Finds cycles in the components of a tangle."""

    def __init__(self, tangle: Tangle, budget: Budget) -> None:
        import numpy as np

        self._tangle, self._budget = tangle, budget
        home = tangle.component[tangle.edges.source]
        self._edges = tangle.edges.where(np.argsort(home, kind="stable"))
        self._bounds = np.concatenate([[0], np.cumsum(np.bincount(home, minlength=len(tangle.sizes)))])

    def find(self, cycle: str, component: int, starts: Longs | None) -> Cycle | None:
        """A shortest cycle of this type in a component; ``starts``, where given, are the only ones to look from."""
        inside = self._edges.where(slice(int(self._bounds[component]), int(self._bounds[component + 1])))
        mine = None if starts is None else starts[self._tangle.component[starts] == component]
        size = int(self._tangle.sizes[component])
        return _Search(self._tangle.txns, inside, cycle, mine, self._budget).run(size)


# What a walk so far has been, in two bits beside each node; only types that forbid or demand rw edges side by side
# look at them.
_AFTER_RW: Final = 1
_ENOUGH: Final = 2

_Onward = Callable[[int, int, bool], int]
"""The bits after an edge: from the bits before, the edge's kind and whether it is the first; -1 where it may not be."""


def _any_walk(bits: int, kind: int, is_first: bool) -> int:
    return 0


def _rw_apart(bits: int, kind: int, is_first: bool) -> int:
    """G-nonadjacent: no rw after an rw; enough once there are two."""
    if kind != RW:
        return bits & _ENOUGH
    if bits & _AFTER_RW:
        return -1
    return _AFTER_RW | (0 if is_first else _ENOUGH)


def _rw_adjacent(bits: int, kind: int, is_first: bool) -> int:
    """G2-item: enough once an rw followed an rw."""
    if kind != RW:
        return bits & _ENOUGH
    return _AFTER_RW | (_ENOUGH if bits else 0)


_RULES: Final[dict[str, tuple[_Onward, tuple[int, ...]]]] = {
    "G0": (_any_walk, (0,)),
    "G1c": (_any_walk, (0,)),
    "G-single": (_any_walk, (0,)),
    "G-nonadjacent": (_rw_apart, (_ENOUGH,)),
    "G2-item": (_rw_adjacent, (_ENOUGH, _AFTER_RW, _ENOUGH | _AFTER_RW)),
}
"""How a walk of each kind goes on, and with which bits it may come back to its start (whose first edge is an rw)."""


class _Search:
    """The search for one cycle of one type among the edges of one component."""

    def __init__(self, txns: Longs, inside: Edges, name: str, starts: Longs | None, budget: Budget) -> None:
        import numpy as np

        self._name, self._budget = name, budget
        kind, _ = split_name(name)
        with_rw = kind in ("G-single", "G-nonadjacent", "G2-item")
        plain = allowed_kinds(name)
        self._onward, self._arrives = _RULES[kind]
        self._rest = (*plain, RW) if kind in ("G-nonadjacent", "G2-item") else plain
        self._first = (RW,) if with_rw else plain
        inside = inside.where(np.isin(inside.kind % VIA, (*self._rest, *self._first)))
        nodes, ends = np.unique(np.concatenate([inside.source, inside.target]), return_inverse=True)
        source, target = ends[: len(inside)], ends[len(inside) :]
        order = np.lexsort((target, inside.kind, source))  # the gravest kinds first
        self._members = txns[nodes[: np.searchsorted(nodes, len(txns))]]
        begin: Any = np.searchsorted(source[order], np.arange(len(nodes) + 1))
        onward: Any = target[order]
        kinds: Any = inside.kind[order]
        # Views of the arrays: quick to index, and nothing to build for a component of a million edges.
        self._begin, self._target, self._kind = memoryview(begin), memoryview(onward), memoryview(kinds)
        self._starts: list[int]
        if starts is not None:
            self._starts = np.searchsorted(nodes, starts).tolist()
        elif with_rw:
            self._starts = np.unique(source[inside.kind == RW]).tolist()
        else:
            _, shared = components(len(nodes), source, target)
            self._starts = np.flatnonzero(shared[: len(self._members)]).tolist()

    def run(self, component_size: int) -> Cycle | None:
        """The shortest cycle of the type found, if any."""
        best: list[tuple[int, int]] | None = None
        steps, is_shortest = 0, True
        for start in self._starts:
            path, spent = self._from(start, len(self._members) if best is None else len(best) - 1)
            steps += spent
            self._budget.check(spent)
            if path is not None and self._is_of_type(path):
                best = path
                if len(best) == 2:
                    break
            if steps > _MOST_STEPS:
                is_shortest = False
                break
        if best is None:
            return None
        txns = tuple(int(self._members[node]) for node, _ in best)
        return Cycle(self._name, txns, tuple(kind for _, kind in best), component_size, is_shortest)

    def _is_of_type(self, path: list[tuple[int, int]]) -> bool:
        """Whether the walk is a cycle (no transaction twice) of the type looked for."""
        return len({node for node, _ in path}) == len(path) and name_of([kind for _, kind in path]) == self._name

    def _from(self, start: int, most: int) -> tuple[list[tuple[int, int]] | None, int]:
        """A shortest walk from a transaction back to it, of at most ``most`` edges; and the edges looked at.

        A state is four times a node plus its bits.  Each round first follows
        the hops behind stations, which cost nothing, then takes one edge onward
        from every transaction reached.
        """
        begin, target, kinds, members = self._begin, self._target, self._kind, len(self._members)
        came: dict[int, tuple[int, int]] = {}
        level, length, steps = [4 * start], 0, 0
        while level:
            here = []
            for state in level:  # grows while it is walked
                node, bits = state >> 2, state & 3
                if node < members:
                    here.append(state)
                    continue
                for edge in range(begin[node], begin[node + 1]):
                    steps += 1
                    reached = 4 * target[edge] + bits
                    if reached >> 2 == start:
                        if bits in self._arrives:
                            return self._walk(came, state, kinds[edge], start), steps
                    elif reached not in came:
                        came[reached] = (state, kinds[edge])
                        level.append(reached)
            if length == most:
                break
            level = []
            allowed = self._rest if length else self._first
            for state in here:
                node = state >> 2
                for edge in range(begin[node], begin[node + 1]):
                    steps += 1
                    kind = kinds[edge]
                    bits = self._onward(state & 3, kind, not length) if kind in allowed else -1
                    if bits < 0:
                        continue
                    reached = 4 * target[edge] + bits
                    if reached >> 2 == start:
                        if bits in self._arrives:
                            return self._walk(came, state, kind, start), steps
                    elif reached not in came:
                        came[reached] = (state, kind)
                        level.append(reached)
            length += 1
        return None, steps

    def _walk(self, came: dict[int, tuple[int, int]], state: int, kind: int, start: int) -> list[tuple[int, int]]:
        """The transactions of a walk with the kind of the edge out of each, stations left out."""
        hops = [(state >> 2, kind)]
        while state != 4 * start:
            state, kind = came[state]
            hops.append((state >> 2, kind))
        hops.reverse()
        return [(node, kind) for node, kind in hops if node < len(self._members)]
