"""The version orders of rw-registers, as far as they can be inferred, and the dependencies that follow.

A register tells only its current value, so that its history is known in part:

``initial``       nothing comes before the initial state (nil)
``wfr``           a transaction that read x = 1 and then wrote x = 2 put 2 after 1
``sequential``    each process sees every key move forward only
``linearizable``  each key moves forward in real time

Only the first holds for every register.  The others are assumptions about the
system that the caller makes (per key, as Elle's options do).  A source that
contradicts those before it is reported as ``cyclic-versions`` and left out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from splitvote.checkers.isolation.graph import RW, WR, WW, Edges, components, edges, fans, union
from splitvote.checkers.isolation.transactions import INFO, NIL, Transactions
from splitvote.checkers.isolation.writes import Touches, superseded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int32]
    Longs = npt.NDArray[np.int64]

KeyOrder = Literal["wfr", "sequential", "linearizable"]
KEY_ORDERS: Final[tuple[KeyOrder, ...]] = ("wfr", "sequential", "linearizable")

NOBODY: Final = -1


@dataclass(frozen=True, slots=True)
class VersionEdges:
    """Orders of versions: ``before`` and ``after``, and the transactions (``of``, ``then``) that show each."""

    source: str
    before: Longs
    after: Longs
    of: Longs
    then: Longs


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of all registers, numbered, and who touched them from outside.

    ``version`` numbers what each micro-operation read or wrote; ``key`` is each
    version's key, ``nil`` each key's initial version (or NOBODY).  ``writer`` is
    the micro-operation whose final write of its transaction made a version (or
    NOBODY), for transactions that may have happened.  ``reads`` and ``writes``
    are the micro-operations that read a key before anything else their
    transaction did to it, and that wrote it last.
    """

    version: Longs
    key: Ints
    nil: Longs
    writer: Ints
    reads: Longs
    writes: Longs


def number_versions(txns: Transactions, owner: Ints, groups: Touches) -> Versions:
    """Number every (key, value), and find the reads and writes of each transaction that others can tell."""
    import numpy as np

    name = (txns.key.astype(np.int64) << 32) + txns.value
    names, version = np.unique(name, return_inverse=True)
    key = ((names + (1 << 31)) >> 32).astype(np.int32)  # codes may be below 0: round, don't cut
    nil = np.full(len(txns.keys), NOBODY, np.int64)
    initial = np.flatnonzero(names == (key.astype(np.int64) << 32) + NIL)
    nil[key[initial]] = initial
    writes = np.flatnonzero(~txns.is_read & ~superseded(txns, owner) & txns.possible()[owner])
    writer = np.full(len(names), NOBODY, np.int32)
    writer[version[writes]] = writes
    first = groups.first()
    return Versions(version, key, nil, writer, first[txns.is_read[first]], writes)


@dataclass(frozen=True, slots=True)
class _Visits:
    """Per (transaction, key): the first version it came to and the one it left, in the order of transactions."""

    txn: Longs
    key: Longs
    enters: Longs
    leaves: Longs


def _visits(txns: Transactions, owner: Ints, groups: Touches, versions: Versions) -> _Visits:
    import numpy as np

    rows, first = groups.rows, groups.first()
    group = np.cumsum(groups.starts) - 1
    leaves = versions.version[first].copy()
    written = ~txns.is_read[rows]
    leaves[group[written]] = versions.version[rows[written]]  # in order: the last write of the group stays
    # Who wrote first never showed anybody what it wrote before its last write.
    enters = np.where(txns.is_read[first], versions.version[first], leaves)
    return _Visits(owner[first].astype(np.int64), txns.key[first].astype(np.int64), enters, leaves)


def version_orders(
    txns: Transactions, owner: Ints, groups: Touches, versions: Versions, assumed: Collection[KeyOrder]
) -> list[VersionEdges]:
    """The version orders of each assumed source, in Elle's order of sources."""
    if not assumed:
        return []
    visits = _visits(txns, owner, groups, versions)
    make = {"wfr": _wfr, "sequential": _sequential, "linearizable": _linearizable}
    return [make[name](txns, owner, visits, versions) for name in KEY_ORDERS if name in assumed]


def _proper(source: str, before: Any, after: Any, of: Any, then: Any) -> VersionEdges:
    keep = before != after
    return VersionEdges(source, before[keep], after[keep], of[keep], then[keep])


def _one_after_the_other(source: str, visits: _Visits, one: Any, two: Any) -> VersionEdges:
    """What the earlier visit left came before what the later one found *and* what it left.

    The second is needed for the order to reach past the later visit: that it
    wrote after what it read is no part of these sources.
    """
    import numpy as np

    replaced = np.flatnonzero(visits.enters[two] != visits.leaves[two])
    after = np.concatenate([visits.enters[two], visits.leaves[two[replaced]]])
    one, two = np.concatenate([one, one[replaced]]), np.concatenate([two, two[replaced]])
    return _proper(source, visits.leaves[one], after, visits.txn[one], visits.txn[two])


def _wfr(txns: Transactions, owner: Ints, visits: _Visits, versions: Versions) -> VersionEdges:
    return _proper("wfr", visits.enters, visits.leaves, visits.txn, visits.txn)


def _sequential(txns: Transactions, owner: Ints, visits: _Visits, versions: Versions) -> VersionEdges:
    import numpy as np

    process = txns.process[visits.txn]
    order = np.lexsort((txns.invoke[visits.txn], visits.key, process))
    one, two = order[:-1], order[1:]
    same = (process[one] == process[two]) & (visits.key[one] == visits.key[two])
    return _one_after_the_other("sequential", visits, one[same], two[same])


def _linearizable(txns: Transactions, owner: Ints, visits: _Visits, versions: Versions) -> VersionEdges:
    """Who came right before whom at each key in real time: completed before it, with nobody wholly in between."""
    import numpy as np

    answered = len(visits.txn)
    visits = _with_crashed(txns, owner, visits, versions)
    span = int(max(txns.invoke.max(initial=0), txns.last.max(initial=0))) + 2
    start = visits.key * span + txns.invoke[visits.txn]
    end = visits.key[:answered] * span + txns.complete[visits.txn[:answered]]
    done = np.argsort(end)  # by key and completion
    end = end[done]
    # Whoever completed before the latest invocation among those done so far is further back than next.
    latest = np.maximum.accumulate(start[done])
    high = np.searchsorted(end, start)
    low = np.searchsorted(end, np.maximum(latest[np.maximum(high - 1, 0)], visits.key * span)) if answered else high
    count = np.maximum(high - low, 0)
    two = np.repeat(np.arange(len(start)), count)
    offset = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    return _one_after_the_other("linearizable", visits, done[np.repeat(low, count) + offset], two)


def _with_crashed(txns: Transactions, owner: Ints, visits: _Visits, versions: Versions) -> _Visits:
    """The visits, and behind them the writes of crashed transactions: they come after others, never before."""
    import numpy as np

    writes = versions.writes[txns.type[owner[versions.writes]] == INFO]
    version = versions.version[writes]
    columns = ((visits.txn, owner[writes]), (visits.key, txns.key[writes]))
    txn, key = (np.concatenate(pair) for pair in columns)
    return _Visits(txn, key, np.concatenate([visits.enters, version]), np.concatenate([visits.leaves, version]))


def contradictions(versions: Versions, orders: list[VersionEdges]) -> Ints | None:
    """The component of each version where the orders and the initial states contradict each other, else None."""
    import numpy as np

    others = np.flatnonzero(
        (versions.nil[versions.key] >= 0) & (versions.nil[versions.key] != np.arange(len(versions.key)))
    )
    before = np.concatenate([versions.nil[versions.key[others]], *(order.before for order in orders)])
    after = np.concatenate([others, *(order.after for order in orders)])
    labels, shared = components(len(versions.key), before, after)
    return np.where(shared, labels, NOBODY) if shared.any() else None


def register_edges(
    txns: Transactions, owner: Ints, versions: Versions, orders: list[VersionEdges], first_station: int
) -> tuple[Edges, int]:
    """ww, wr and rw dependencies by the version orders; and the number of stations used."""
    import numpy as np

    maker = np.where(versions.writer >= 0, owner[versions.writer], NOBODY)
    read = versions.version[versions.reads]
    observes = edges(maker[read], owner[versions.reads], WR)
    fresh = versions.reads[txns.value[versions.reads] == NIL]
    spread, stations = fans(
        owner[fresh], txns.key[fresh], owner[versions.writes], txns.key[versions.writes], len(txns), first_station
    )
    parts = [observes, spread]
    readers = versions.reads[np.argsort(read, kind="stable")]
    begin = np.searchsorted(versions.version[readers], np.arange(len(versions.key) + 1))
    for order in orders:
        known = versions.nil[versions.key[order.before]] != order.before
        before, after = order.before[known], order.after[known]
        parts.append(edges(maker[before], maker[after], WW))
        count = begin[before + 1] - begin[before]
        offset = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        reader = owner[readers[np.repeat(begin[before], count) + offset]]
        parts.append(edges(reader, np.repeat(maker[after], count), RW))
    return union(parts), stations
