"""Which types of cycle a tangle holds: decided for every component, shown for a few.

Whether a component holds a cycle of some type is decided by searches that are
near-linear in its size, never by trying cycles:

========================  ====================================================
G0, G1c                   a component of the graph of those edges alone
G-single                  an rw edge whose end reaches its start without rw
                          (closure by bit sets, in slices)
G-nonadjacent             a component of the graph whose nodes also know
                          whether the last edge was an rw, where an rw may only
                          follow another kind: a shortest closed walk of that
                          kind is a cycle, or holds one that is graver
G2-item                   a component of all data edges
========================  ====================================================

each with nothing, process order or real time added.  The gravest are looked for
first, and a type that one found implies is not looked for in the same component
(Elle does likewise).  For G-nonadjacent and G2-item the answer is only a hint in
a component with a graver cycle that does not imply them; there they count when
the search shows one.  What the graver cycle rules out does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from splitvote.checkers.isolation.case import MOST_EXAMPLES
from splitvote.checkers.isolation.cycles import Cycle, Finder
from splitvote.checkers.isolation.graph import RW, VIA, Edges, components, union
from splitvote.checkers.isolation.kinds import allowed_kinds, split_name
from splitvote.checkers.isolation.models import CYCLES, VARIANTS, implied_by
from splitvote.checkers.isolation.reach import reaching_starts
from splitvote.checkers.isolation.tangle import Tangle
from splitvote.harness.result import Budget

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int32]
    Longs = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

_MOST_HINTS: Final = 32
"""How many components are searched for a type of which there is only a hint."""


@dataclass(slots=True)
class Survey:
    """What was found: ``cycles``, how many components hold each type (and the smallest's size), if all was decided."""

    cycles: list[Cycle] = field(default_factory=list)
    components: dict[str, int] = field(default_factory=dict)
    smallest: dict[str, int] = field(default_factory=dict)
    is_complete: bool = True


def survey(tangle: Tangle, variants: tuple[str, ...], budget: Budget) -> Survey:
    """Decide for every component which types of cycle it holds, and find a shortest one in the smallest of them."""
    return _Surveyor(tangle, variants, budget).run()


class _Surveyor:
    def __init__(self, tangle: Tangle, variants: tuple[str, ...], budget: Budget) -> None:
        import numpy as np

        self._tangle, self._variants, self._budget = tangle, variants, budget
        self._finder = Finder(tangle, budget)
        self._found = Survey()
        self._nothing = np.zeros(len(tangle.sizes), np.bool_)
        self._holds: dict[str, Flags] = {}
        self._implied: dict[str, Flags] = {cycle: self._nothing.copy() for cycle in CYCLES}

    def run(self) -> Survey:
        """Go through the types, the gravest first."""
        for cycle in self._asked():
            self._budget.check(len(self._tangle.edges))
            open_ = ~self._implied[cycle]
            if open_.any():
                self._look_for(cycle, open_)
        return self._found

    def _asked(self) -> Iterator[str]:
        return (cycle for cycle in CYCLES if split_name(cycle)[1] in self._variants)

    def _look_for(self, cycle: str, open_: Flags) -> None:
        import numpy as np

        holds, starts = self._decide(cycle, open_)
        hinted = holds & self._graver(cycle)
        holds &= ~hinted
        for component in np.flatnonzero(holds)[:MOST_EXAMPLES].tolist():
            self._show(cycle, component, starts)
        for component in np.flatnonzero(hinted)[:_MOST_HINTS].tolist():
            holds[component] = self._show(cycle, component, starts)
        if holds.any():
            self._found.components[cycle] = int(holds.sum())
            self._found.smallest[cycle] = int(self._tangle.sizes[np.argmax(holds)])
            self._holds[cycle] = holds
            for name in implied_by(cycle).intersection(CYCLES):
                self._implied[name] |= holds

    def _show(self, cycle: str, component: int, starts: Longs | None) -> bool:
        """Search for a cycle of this type; whether one was found."""
        shown = self._finder.find(cycle, component, starts)
        if shown is not None:
            self._found.cycles.append(shown)
        return shown is not None

    def _graver(self, cycle: str) -> Flags:
        """The components in which graver cycles could be taken for this type."""
        kind, variant = split_name(cycle)
        graver = self._nothing.copy()
        if kind in ("G-nonadjacent", "G2-item"):
            for weaker in VARIANTS[: VARIANTS.index(variant) + 1]:
                for other in ("G0", "G1c"):
                    graver |= self._holds.get(other + weaker, self._nothing)
        return graver

    def _decide(self, cycle: str, open_: Flags) -> tuple[Flags, Longs | None]:
        """The open components that hold this type (or one that is graver); for G-single the starts of rw edges too."""
        kind, _ = split_name(cycle)
        plain = self._edges(allowed_kinds(cycle), open_)
        if kind in ("G0", "G1c"):
            return self._homes(*components(self._tangle.nodes, plain.source, plain.target)), None
        rw = self._edges((RW,), open_)
        if kind == "G2-item":
            both = union([plain, rw])
            return self._homes(*components(self._tangle.nodes, both.source, both.target)), None
        if kind == "G-nonadjacent":
            return self._homes(*_nonadjacent(self._tangle.nodes, plain, rw)), None
        starts, complete = reaching_starts(self._tangle.nodes, plain, rw, self._budget)
        self._found.is_complete &= complete
        holds = self._nothing.copy()
        holds[self._tangle.component[starts]] = True
        return holds, starts

    def _edges(self, kinds: tuple[int, ...], open_: Flags) -> Edges:
        """The edges of these kinds, their hops behind stations included, in the open components."""
        import numpy as np

        edges = self._tangle.edges
        return edges.where(np.isin(edges.kind % VIA, kinds) & open_[self._tangle.component[edges.source]])

    def _homes(self, labels: Ints, shared: Flags) -> Flags:
        import numpy as np

        holds = self._nothing.copy()
        holds[self._tangle.component[np.flatnonzero(shared) % self._tangle.nodes]] = True
        return holds


def _nonadjacent(nodes: int, plain: Edges, rw: Edges) -> tuple[Any, Any]:
    """Components where a node is doubled: reached by another kind of edge, and (plus ``nodes``) by an rw."""
    import numpy as np

    onward = rw.kind >= VIA  # behind a station: entered by rw already
    source = np.concatenate([plain.source, plain.source + nodes, rw.source + nodes * onward])
    target = np.concatenate([plain.target, plain.target, rw.target + nodes])
    return components(2 * nodes, source, target)
