"""The part of a dependency graph that cycles live in.

Only transactions that share a strongly connected component with another are
kept, with the dependencies inside components.  Process and real-time order are
drawn anew among the members of each component, so that its size bounds all that
follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from splitvote.checkers.isolation.graph import REALTIME, Edges, barriers, components, process_chain, union
from splitvote.checkers.isolation.transactions import OK, Transactions
from splitvote.harness.result import Budget

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int32]
    Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tangle:
    """What cycles live in: ``nodes`` nodes, the first ``len(txns)`` of them transactions, the others stations.

    ``txns`` are the transactions' numbers in the history, ``component`` is each
    node's, numbered from 0 by size (smallest first), ``sizes`` how many
    transactions each component has.
    """

    txns: Longs
    nodes: int
    edges: Edges
    component: Ints
    sizes: Longs

    def __bool__(self) -> bool:
        return len(self.sizes) > 0


def untangle(txns: Transactions, data: Edges, stations: int, orders: tuple[int, ...], budget: Budget) -> Tangle:
    """Find the components of the whole graph that hold more than one node, and keep only those.

    ``data`` are the data dependencies over the transactions and ``stations``
    stations; ``orders`` says which of PROCESS and REALTIME are asked for.
    """
    import numpy as np

    everyone = np.arange(len(txns), dtype=np.int64)
    nodes = len(txns) + stations
    parts = [data]
    for kind in orders[-1:]:  # real time holds process order
        drawn, used = _draw(kind, txns, everyone, None, nodes)
        parts.append(drawn)
        nodes += used
    graph = union(parts)
    budget.check(len(graph))
    labels, shared = components(nodes, graph.source, graph.target)
    budget.check(nodes)
    members = np.flatnonzero(shared[: len(txns)])
    return _restrict(txns, data, stations, orders, labels, members)


def _draw(kind: int, txns: Transactions, who: Longs, group: Any, first_station: int) -> tuple[Edges, int]:
    """The process or real-time order of these transactions; edges name them by their place in ``who``."""
    import numpy as np

    at = np.arange(len(who))
    if kind == REALTIME:
        may = np.flatnonzero(txns.possible()[who])
        invoke, complete = txns.invoke[who[may]], txns.complete[who[may]]
        return barriers(None if group is None else group[may], invoke, complete, at[may], first_station)
    may = np.flatnonzero(txns.type[who] == OK)
    teams = None if group is None else group[may]
    return process_chain(teams, txns.process[who[may]], txns.invoke[who[may]], at[may], first_station)


def _restrict(
    txns: Transactions, data: Edges, stations: int, orders: tuple[int, ...], labels: Ints, members: Longs
) -> Tangle:
    """Keep the member transactions, the stations of data edges among them, and the edges within components."""
    import numpy as np

    n = len(txns)
    if not len(members):
        return Tangle(members, 0, union([]), np.zeros(0, np.int32), np.zeros(0, np.int64))
    _, component, sizes = np.unique(labels[members], return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(sizes, kind="stable"), kind="stable")
    component = rank[component].astype(np.int32)
    sizes = np.sort(sizes, kind="stable")
    of_label = np.full(int(labels.max(initial=0)) + 1, -1, np.int32)
    of_label[labels[members]] = component
    node_component = of_label[labels[: n + stations]]
    kept_stations = np.flatnonzero(node_component[n:] >= 0) + n
    place = np.full(n + stations, -1, np.int32)
    kept = np.concatenate([members, kept_stations])
    place[kept] = np.arange(len(kept), dtype=np.int32)
    ends = node_component[data.source], node_component[data.target]
    inner = data.where((ends[0] >= 0) & (ends[0] == ends[1]))
    parts = [Edges(place[inner.source], place[inner.target], inner.kind)]
    home = [node_component[kept]]
    nodes = len(kept)
    for kind in orders:
        drawn, used = _draw(kind, txns, members, component, nodes)
        stations_home = np.full(used, -1, np.int32)
        leads_in = drawn.target >= nodes
        source_home = drawn.source[leads_in & (drawn.source < nodes)]
        stations_home[drawn.target[leads_in & (drawn.source < nodes)] - nodes] = component[source_home]
        home.append(stations_home)
        parts.append(drawn)
        nodes += used
    return Tangle(members.astype(np.int64), nodes, union(parts), np.concatenate(home), sizes.astype(np.int64))
