"""The version orders of list-append, and the dependencies that follow from them.

A list that is only ever appended to carries its own history: who read [1, 2, 3]
knows that 1 was appended first, then 2, then 3.  So the longest read of a key
is the order of its versions, as far as anybody saw it; appends that nobody read
come after all of it, in an unknown order.  (Kingsbury, Alvaro: "Elle", 4.2.)

A read that is no prefix of the longest is *odd*; it tells by its last element
alone which version it saw.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from splitvote.checkers.isolation.graph import RW, WR, WW, Edges, edges, fans, union
from splitvote.checkers.isolation.transactions import Transactions
from splitvote.checkers.isolation.writes import UNWRITTEN, Writes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int32]
    Longs = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

UNREAD: Final = -1
"""In place of a position in the order: no read shows where it is."""

_ELEMENTS_AT_ONCE: Final = 1 << 19


@dataclass(frozen=True, slots=True)
class ListOrder:
    """The version order of each key, and what every micro-operation has to do with it.

    The versions of key k are entries ``first[k]`` to ``first[k + 1]`` of
    ``write`` (the append that made it, or UNWRITTEN) and ``element``.

    Per micro-operation: ``place`` of an append in its key's order (or UNREAD);
    ``state`` of a read, the number of versions up to the one it saw (UNREAD
    where its last element is in no order); ``last`` the append of a read's last
    element; ``odd`` for reads that contradict the order.  ``longest`` is the
    read that gave a key's order, or UNREAD; ``repeats`` are the keys whose
    longest read held an element twice.
    """

    first: Longs
    write: Ints
    element: Ints
    place: Ints
    state: Ints
    last: Ints
    odd: Flags
    longest: Ints
    repeats: Flags

    def of(self, key: int) -> slice:
        """Where the versions of a key are."""
        return slice(int(self.first[key]), int(self.first[key + 1]))


def order_lists(txns: Transactions, writes: Writes) -> ListOrder:
    """Infer the version order of every key from the longest read of it."""
    import numpy as np

    micro_ops, keys = len(txns.key), len(txns.keys)
    length = np.diff(txns.seen)
    longest = _longest_reads(txns, length)
    odd = _odd_reads(txns, length, longest)
    read_keys = np.flatnonzero(longest != UNREAD)
    size = np.zeros(keys, np.int64)
    size[read_keys] = length[longest[read_keys]]
    key = np.repeat(read_keys, size[read_keys])
    ends = np.cumsum(size[read_keys])
    begin = txns.seen[longest[read_keys]] - (ends - size[read_keys])
    element = txns.elements[np.arange(len(key)) + np.repeat(begin, size[read_keys])]
    write = writes.find(key, element)
    again = _repetitions(key, element, write, micro_ops)
    repeats = np.zeros(keys, np.bool_)
    if again.any():
        repeats[key[again]] = True
        key, element, write = key[~again], element[~again], write[~again]
        size = np.bincount(key, minlength=keys)
    first = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    place = np.full(micro_ops, UNREAD, np.int32)
    written = write != UNWRITTEN
    place[write[written]] = (np.arange(len(key)) - first[key])[written]
    state, last = _states(txns, writes, length, place, odd, repeats)
    return ListOrder(first, write, element, place, state, last, odd, longest, repeats)


def _longest_reads(txns: Transactions, length: Longs) -> Ints:
    """The longest non-empty read of each key (the last of equals), or UNREAD."""
    import numpy as np

    rows = np.flatnonzero(length)
    most = np.zeros(len(txns.keys), np.int64)
    np.maximum.at(most, txns.key[rows], length[rows])
    rows = rows[length[rows] == most[txns.key[rows]]]
    longest = np.full(len(txns.keys), UNREAD, np.int32)
    longest[txns.key[rows]] = rows
    return longest


def _odd_reads(txns: Transactions, length: Longs, longest: Ints) -> Flags:
    """Which reads are no prefix of their key's longest; compared in slices that fit the processor's cache."""
    import numpy as np

    odd = np.zeros(len(length), np.bool_)
    rows = np.flatnonzero(length)
    if not len(rows):
        return odd
    small = np.int32 if len(txns.elements) < 1 << 31 else np.int64
    shift = (txns.seen[longest[txns.key[rows]]] - txns.seen[rows]).astype(small)
    ends = np.cumsum(length[rows])
    cuts = np.searchsorted(ends, np.arange(_ELEMENTS_AT_ONCE, ends[-1], _ELEMENTS_AT_ONCE), "right")
    bounds = np.unique(np.concatenate([[0], cuts, [len(rows)]])).tolist()
    ruler = np.arange(int(np.max(np.diff(np.concatenate([[0], ends])[bounds]))), dtype=small)
    for low, high in itertools.pairwise(bounds):
        begin, end = int(txns.seen[rows[low]]), int(txns.seen[rows[high - 1] + 1])
        shifts: Any = np.repeat(shift[low:high], length[rows[low:high]])
        like = ruler[: end - begin] + (shifts + small(begin))
        differ = txns.elements[begin:end] != txns.elements[like]
        if differ.any():
            odd[np.searchsorted(txns.seen, begin + np.flatnonzero(differ), "right") - 1] = True
    return odd


def _repetitions(key: Any, element: Any, write: Ints, micro_ops: int) -> Flags:
    """Which entries of the raw order repeat an earlier one of their key."""
    import numpy as np

    again = np.zeros(len(key), np.bool_)
    entries = np.flatnonzero(write != UNWRITTEN)
    earliest = np.full(micro_ops, -1, np.int64)
    earliest[write[entries][::-1]] = entries[::-1]
    again[entries] = earliest[write[entries]] != entries
    strange = np.flatnonzero(write == UNWRITTEN)
    if len(strange):
        name = (key[strange].astype(np.int64) << 32) + element[strange]
        _, first_of_name = np.unique(name, return_index=True)
        again[strange] = True
        again[strange[first_of_name]] = False
    return again


def _states(
    txns: Transactions, writes: Writes, length: Longs, place: Ints, odd: Flags, repeats: Flags
) -> tuple[Ints, Ints]:
    import numpy as np

    state = np.full(len(length), UNREAD, np.int32)
    last = np.full(len(length), UNWRITTEN, np.int32)
    state[txns.is_read & (length == 0)] = 0
    rows = np.flatnonzero(length)
    key = txns.key[rows]
    writer = writes.find(key, txns.elements[txns.seen[rows + 1] - 1])
    written = writer != UNWRITTEN
    last[rows] = writer
    state[rows[written]] = np.where(place[writer[written]] == UNREAD, UNREAD, place[writer[written]] + 1)
    plain = ~written & ~odd[rows] & ~repeats[key]
    state[rows[plain]] = length[rows[plain]]
    return state, last


def list_edges(txns: Transactions, owner: Ints, order: ListOrder, first_station: int) -> tuple[Edges, int]:
    """ww, wr and rw dependencies; versions made by failed transactions are skipped over (they are no versions).

    Returns the edges and the number of stations used from ``first_station`` on.
    """
    import numpy as np

    possible = txns.possible()
    real = np.zeros(len(order.write), np.bool_)  # entries that a transaction made which may have happened
    written = order.write != UNWRITTEN
    real[written] = possible[owner[order.write[written]]]
    entries = np.flatnonzero(real)
    maker = owner[order.write[entries]]
    key = txns.key[order.write[entries]]
    same = key[1:] == key[:-1]
    overwrites = edges(maker[:-1][same], maker[1:][same], WW)

    latest = np.full(len(txns.keys), UNWRITTEN, np.int32)  # who made the latest version that was seen
    latest[key] = maker
    unread = np.flatnonzero(~txns.is_read & (order.place == UNREAD) & possible[owner])
    later = edges(latest[txns.key[unread]], owner[unread], WW)

    reads = np.flatnonzero(txns.is_read)
    seen = reads[order.last[reads] != UNWRITTEN]
    seen = seen[possible[owner[order.last[seen]]]]
    observes = edges(owner[order.last[seen]], owner[seen], WR)

    dated = reads[order.state[reads] != UNREAD]
    real_before = np.concatenate([[0], np.cumsum(real)])
    next_real = real_before[order.first[txns.key[dated]] + order.state[dated]]
    end = order.first[txns.key[dated] + 1]
    overtaken = next_real < len(entries)
    overtaken[overtaken] = entries[next_real[overtaken]] < end[overtaken]
    misses = edges(owner[dated[overtaken]], maker[next_real[overtaken]], RW)
    fresh = dated[~overtaken]
    spread, stations = fans(owner[fresh], txns.key[fresh], owner[unread], txns.key[unread], len(txns), first_station)
    return union([overwrites, later, observes, misses, spread]), stations
