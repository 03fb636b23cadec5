"""Which rw edges close a cycle of other edges: reachability by bit sets.

``a -rw-> x`` closes such a cycle when x reaches a without an rw.  Every start a
is one bit; a node's set holds the starts it reaches, which is the union of its
successors' sets and itself.  Sets are Python integers, whose union runs a
machine word at a time.  They are computed for a slice of the starts at once, so
that memory stays bounded, and only as deep as its edges reach: a history is
long and most edges are short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from splitvote.checkers.isolation.graph import VIA, Edges, components, union
from splitvote.harness.result import Budget

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Longs = npt.NDArray[np.int64]

_SLICE_BITS: Final = 1 << 13
_NEARNESS: Final = 64
"""Edges that span at most this fraction of the whole depth are decided among themselves."""
_MOST_BITS: Final = 1 << 31
"""Bound of all sets of a slice together: a quarter of a gigabyte."""
_MOST_UNIONS: Final = 30_000_000
"""Bound of the unions of one call: some ten seconds; past it the answer is a lower bound."""


def reaching_starts(nodes: int, plain: Edges, rw: Edges, budget: Budget) -> tuple[Longs, bool]:
    """Find the starts of rw edges whose end leads back to them by plain edges; and whether all were decided.

    Hops behind a station of rw edges (VIA) are followed: stations are entered
    by rw only.
    """
    import numpy as np

    first_hop = rw.kind < VIA
    hops = rw.where(first_hop)
    graph = union([plain, rw.where(~first_hop)])
    if not len(hops) or not len(graph):
        return np.zeros(0, np.int64), True
    condensed = _Condensed(nodes, graph)
    deep = condensed.depth[condensed.labels]
    # Along a path the depth grows, so an end that lies deeper than its start cannot lead back.
    hopeful = hops.where(deep[hops.target] <= deep[hops.source])
    near, far = _by_span(hopeful, deep)
    found: list[int] = []
    spent = 0
    width = max(64, min(_SLICE_BITS, _MOST_BITS // nodes))
    slices = [starts[low : low + width] for starts in (near, far) for low in range(0, len(starts), width)]
    for some in slices:
        if spent > _MOST_UNIONS:
            return np.array(found, np.int64), False
        closed, unions = condensed.closing(some, hopeful.where(np.isin(hopeful.source, some)))
        budget.check(unions)
        found += closed
        spent += unions * (1 + len(some) // 1024)
    return np.array(found, np.int64), True


def _by_span(hops: Edges, deep: Any) -> tuple[Longs, Longs]:
    """The starts by depth: those whose edges all end near them, and those with one that reaches far back."""
    import numpy as np

    starts, place = np.unique(hops.source, return_inverse=True)
    end = deep[starts]
    np.minimum.at(end, place, deep[hops.target])
    order = np.argsort(deep[starts], kind="stable")
    starts, span = starts[order], (deep[starts] - end)[order]
    is_near = span <= int(deep.max()) // _NEARNESS
    return starts[is_near], starts[~is_near]


class _Condensed:
    """A graph's components as one node each (``labels``), the deepest first; ``depth`` is the longest way to one."""

    def __init__(self, nodes: int, graph: Edges) -> None:
        import numpy as np

        self.labels, _ = components(nodes, graph.source, graph.target)
        count = int(self.labels.max()) + 1
        source, target = self.labels[graph.source].astype(np.int64), self.labels[graph.target].astype(np.int64)
        outer = source != target
        pairs = np.unique(source[outer] * count + target[outer])
        source, target = pairs // count, pairs % count
        self._begin: list[int] = np.searchsorted(source, np.arange(count + 1)).tolist()
        self._onward: list[int] = target.tolist()
        self.depth = self._depths(count, np.bincount(target, minlength=count).tolist())
        self._deepest_first = np.argsort(-self.depth, kind="stable")
        self._depths_sorted = -self.depth[self._deepest_first]

    def _depths(self, count: int, waits: list[int]) -> Longs:
        """Kahn's algorithm: who waits for nobody is next."""
        import numpy as np

        depth = [0] * count
        ready = [label for label in range(count) if not waits[label]]
        for label in ready:  # grows while it is walked
            below = depth[label] + 1
            for other in self._onward[self._begin[label] : self._begin[label + 1]]:
                if depth[other] < below:
                    depth[other] = below
                waits[other] -= 1
                if not waits[other]:
                    ready.append(other)
        return np.array(depth, np.int64)

    def closing(self, starts: Any, hops: Edges) -> tuple[list[int], int]:
        """Which of these starts are reached by the end of one of their rw edges; and how many unions it took."""
        import numpy as np

        bit = {start: place for place, start in enumerate(starts.tolist())}
        sets: dict[int, int] = {}
        for start, label in zip(bit, self.labels[starts].tolist(), strict=True):
            sets[label] = sets.get(label, 0) | 1 << bit[start]
        lowest = int(self.depth[self.labels[starts]].max())
        highest = int(self.depth[self.labels[hops.target]].min())
        window = np.searchsorted(self._depths_sorted, [-lowest, -highest], side="left")
        window[1] = np.searchsorted(self._depths_sorted, -highest, side="right")
        unions = 0
        for label in self._deepest_first[window[0] : window[1]].tolist():
            reached = sets.get(label, 0)
            after = self._onward[self._begin[label] : self._begin[label + 1]]
            for other in after:
                if other in sets:
                    reached |= sets[other]
            unions += len(after)
            if reached:
                sets[label] = reached
        ends = self.labels[hops.target].tolist()
        closed = {s: None for s, end in zip(hops.source.tolist(), ends, strict=True) if sets.get(end, 0) >> bit[s] & 1}
        return list(closed), unions
