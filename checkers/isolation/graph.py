"""The dependency graph as arrays of edges, and the auxiliary nodes that keep it linear in size.

Nodes below ``n`` are transactions.  Nodes from ``n`` on stand for no
transaction: they are stations on the way of an edge that would else have to be
drawn to very many.  Such an edge is drawn from its transaction to a station
with the edge's own kind, and from there on with the kind's ``VIA``; read from
transaction to transaction, it is one edge of the first hop's kind.

* *Barriers* carry real time: a barrier is a run of completions without an
  invocation between them; every completion leads to its barrier, a barrier to
  the next, and to every transaction invoked before the next one.  A path leads
  from T to U exactly when T completed before U was invoked.
* *Fans* carry the anti-dependencies of everybody who read the latest known
  version of a key to everybody who wrote it later in an unknown order.  Who did
  both must not lead to itself, so that there are two chains over the writers,
  one leading down and one up: a reader that is the i-th writer enters the one
  below i and the other above i.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int32]
    Longs = npt.NDArray[np.int64]

WW: Final = 0
WR: Final = 1
RW: Final = 2
PROCESS: Final = 3
REALTIME: Final = 4
VIA: Final = 8
"""Added to the kind of an edge's first hop: the hops behind a station."""

KIND_NAMES: Final = {WW: "ww", WR: "wr", RW: "rw", PROCESS: "process", REALTIME: "realtime"}


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges as three columns of equal length: from, to, kind."""

    source: Ints
    target: Ints
    kind: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.kind)

    def where(self, mask: Any) -> Edges:
        """The edges at these places."""
        return Edges(self.source[mask], self.target[mask], self.kind[mask])


def edges(source: Any, target: Any, kind: int) -> Edges:
    """Edges of one kind; those from a node to itself and those with an end below 0 (unknown) are dropped."""
    import numpy as np

    source, target = np.asarray(source, np.int32), np.asarray(target, np.int32)
    keep = (source != target) & (source >= 0) & (target >= 0)
    if not keep.all():
        source, target = source[keep], target[keep]
    return Edges(source, target, np.full(len(source), kind, np.int8))


def union(parts: Iterable[Edges]) -> Edges:
    """All the edges of all the parts."""
    import numpy as np

    parts = list(parts)
    if not parts:
        return edges([], [], WW)
    return Edges(
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.kind for part in parts]),
    )


def components(nodes: int, source: Any, target: Any) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Label the strongly connected components, and tell which nodes share theirs with another."""
    import numpy as np
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    if not len(source):
        return np.arange(nodes, dtype=np.int32), np.zeros(nodes, np.bool_)
    # Making the matrix merges parallel edges, which connected_components could not cope with (it would not end).
    graph: Any = csr_matrix((np.ones(len(source)), (source, target)), shape=(nodes, nodes))
    _, labels = connected_components(graph, directed=True, connection="strong")
    return labels, np.bincount(labels)[labels] > 1


def barriers(group: Any, invoke: Any, complete: Any, nodes: Any, first_station: int) -> tuple[Edges, int]:
    """Real-time edges among ``nodes`` within each group, over stations from ``first_station`` on.

    ``complete`` is below 0 for a transaction that never answered: it comes
    after others, never before.  Returns the edges and the number of stations.
    """
    import numpy as np

    answered = complete >= 0
    node = np.concatenate([nodes, nodes[answered]])
    place = np.concatenate([invoke, complete[answered]])
    is_completion = np.zeros(len(node), np.bool_)
    is_completion[len(nodes) :] = True
    order = _by_group_and_place(None if group is None else np.concatenate([group, group[answered]]), place)
    node, is_completion = node[order], is_completion[order]
    opens = is_completion.copy()  # an event that opens a barrier: a completion after none of its group
    opens[1:] &= ~is_completion[:-1]
    starts = None
    if group is not None:
        team = np.concatenate([group, group[answered]])[order]
        starts = np.concatenate([[True], team[1:] != team[:-1]])
        opens |= is_completion & starts
    barrier = np.cumsum(opens) - 1
    stations = int(opens.sum())
    into = edges(node[is_completion], first_station + barrier[is_completion], REALTIME)
    before = barrier[~is_completion]
    after = node[~is_completion]
    links = np.arange(1, stations)
    if starts is not None:
        begin = np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))
        first_of_team = (barrier - opens)[begin]
        known = before > first_of_team[~is_completion]
        before, after = before[known], after[known]
        links = links[team[opens][1:] == team[opens][:-1]] if stations else links
    known = before >= 0
    out = edges(first_station + before[known], after[known], REALTIME | VIA)
    chain = edges(first_station + links - 1, first_station + links, REALTIME | VIA)
    return union([into, out, chain]), stations


def _by_group_and_place(group: Any, place: Any) -> Any:
    """The order of events: by group, then by place (places are distinct)."""
    import numpy as np

    if group is not None:
        return np.lexsort((place, group))
    at = np.full(int(place.max(initial=-1)) + 1, -1, np.int64)
    at[place] = np.arange(len(place))
    return at[at >= 0]


def process_chain(group: Any, process: Any, invoke: Any, nodes: Any, first_station: int) -> tuple[Edges, int]:
    """Process-order edges among ``nodes`` (those that answered) within each group, over stations of their own.

    Station i stands for "after the i-th transaction of its process": T leads to
    its station, a station to the next transaction and to the next station, so
    that any two transactions of a process are one edge apart.
    """
    import numpy as np

    order = np.lexsort((invoke, process) if group is None else (invoke, process, group))
    node, team = nodes[order], process[order]
    same = team[1:] == team[:-1]
    if group is not None:
        same &= group[order][1:] == group[order][:-1]
    at = np.flatnonzero(same)
    into = edges(node[at], first_station + at, PROCESS)
    out = edges(first_station + at, node[at + 1], PROCESS | VIA)
    on = at[np.isin(at + 1, at, assume_unique=True)]
    chain = edges(first_station + on, first_station + on + 1, PROCESS | VIA)
    return union([into, out, chain]), len(nodes)


def fans(
    reader: Any, reader_key: Any, writer: Any, writer_key: Any, transactions: int, first_station: int
) -> tuple[Edges, int]:
    """Rw edges from every reader of a key to every *other* writer of it, over stations from ``first_station`` on."""
    import numpy as np

    busy = np.intersect1d(reader_key, writer_key)
    reads = np.unique(_pairs(reader, reader_key, transactions)[np.isin(reader_key, busy)])
    writes = np.unique(_pairs(writer, writer_key, transactions)[np.isin(writer_key, busy)])
    if not len(reads) or not len(writes):
        return edges([], [], RW), 0
    key, at = writes // transactions, np.arange(len(writes))
    down, up = first_station + at, first_station + len(writes) + at
    same = at[1:][key[1:] == key[:-1]]
    to_writers = [edges(station, writes % transactions, RW | VIA) for station in (down, up)]
    chains = [edges(down[same], down[same - 1], RW | VIA), edges(up[same - 1], up[same], RW | VIA)]
    # Each reader enters the chain that leads down below its own place among the writers, and the one up above it.
    low, high = np.searchsorted(writes, reads, "left") - 1, np.searchsorted(writes, reads, "right")
    key_of_read = reads // transactions
    enters = []
    for place, station in ((low, down), (high, up)):
        inside = (place >= 0) & (place < len(writes))
        inside[inside] &= key[place[inside]] == key_of_read[inside]
        enters.append(edges((reads % transactions)[inside], station[place[inside]], RW))
    return union([*enters, *to_writers, *chains]), 2 * len(writes)


def _pairs(transaction: Any, key: Any, transactions: int) -> Longs:
    import numpy as np

    return np.asarray(key, np.int64) * transactions + np.asarray(transaction, np.int64)
