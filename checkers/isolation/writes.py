"""Who wrote what: writes found by (key, value), and what is wrong with how they were chosen or read.

Both dialects rest on it that a value is written to a key at most once; where
the workload broke that, nothing can be concluded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from splitvote.checkers.isolation.transactions import Transactions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int32]
    Longs = npt.NDArray[np.int64]

UNWRITTEN: Final = -1
"""In place of a micro-operation: nobody wrote that value."""

_SPARSE_FACTOR: Final = 16
_SPARSE_FLOOR: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Writes:
    """The writes of a history by (key, value).

    ``table`` maps an address to the micro-operation that wrote it.  Addresses
    are ``base[key] + value`` where the values of each key lie close together,
    else the rank of (key, value) in ``sorted_names``.
    """

    low: Longs
    high: Longs
    base: Longs
    table: Ints
    sorted_names: Longs | None

    def find(self, key: Any, value: Any) -> Ints:
        """The micro-operation that wrote each value to each key, or UNWRITTEN."""
        import numpy as np

        if not len(self.table):
            return np.full(len(key), UNWRITTEN, np.int32)
        known = (value >= self.low[key]) & (value <= self.high[key])
        if self.sorted_names is None:
            address = np.where(known, self.base[key] + value, 0)
        else:
            name = _name(key, value)
            address = np.minimum(np.searchsorted(self.sorted_names, name), len(self.sorted_names) - 1)
            known &= self.sorted_names[address] == name
        return np.where(known, self.table[address], UNWRITTEN).astype(np.int32)


def _name(key: Any, value: Any) -> Longs:
    import numpy as np

    return (np.asarray(key, np.int64) << 32) + np.asarray(value, np.int64)


def index_writes(txns: Transactions) -> tuple[Writes, list[tuple[Any, Any]]]:
    """Index every write asked for, whatever became of it; and the (key, value) pairs written more than once."""
    import numpy as np

    rows = np.flatnonzero(~txns.is_read)
    key, value = txns.key[rows], txns.value[rows].astype(np.int64)
    keys = len(txns.keys)
    low, high = np.full(keys, 1 << 40, np.int64), np.full(keys, -(1 << 40), np.int64)
    np.minimum.at(low, key, value)
    np.maximum.at(high, key, value)
    width = np.maximum(high - low + 1, 0)
    if width.sum() <= _SPARSE_FACTOR * len(rows) + _SPARSE_FLOOR:
        base = np.concatenate([[0], np.cumsum(width)[:-1]]) - low if keys else low
        address, size, names = base[key] + value, int(width.sum()), None
    else:
        base = low
        names = np.unique(_name(key, value))
        address, size = np.searchsorted(names, _name(key, value)), len(names)
    table = np.full(size, UNWRITTEN, np.int32)
    table[address] = rows
    again = np.flatnonzero(table[address] != rows)
    twice = [(txns.keys[int(key[i])], txns.codes.value(int(value[i]))) for i in again[:8]]
    return Writes(low, high, base, table, names), twice


def superseded(txns: Transactions, owner: Ints) -> npt.NDArray[np.bool_]:
    """Which writes were followed by another to the same key in the same transaction (Adya: intermediate versions)."""
    import numpy as np

    rows = np.flatnonzero(~txns.is_read)
    order = rows[np.lexsort((rows, txns.key[rows], owner[rows]))]
    followed = np.zeros(len(txns.key), np.bool_)
    same = (owner[order[1:]] == owner[order[:-1]]) & (txns.key[order[1:]] == txns.key[order[:-1]])
    followed[order[:-1][same]] = True
    return followed


@dataclass(frozen=True, slots=True)
class Touches:
    """Micro-operations grouped by (transaction, key): ``rows`` in order, ``starts`` tells where a group begins."""

    rows: Longs
    starts: npt.NDArray[np.bool_]

    def first(self) -> Longs:
        """The first micro-operation of each group."""
        return self.rows[self.starts]


def touches(txns: Transactions, owner: Ints) -> Touches:
    """Group the micro-operations of transactions that answered by (transaction, key), in their order."""
    import numpy as np

    from splitvote.checkers.isolation.transactions import OK

    rows = np.flatnonzero(txns.type[owner] == OK)
    name = owner[rows].astype(np.int64) * max(1, len(txns.keys)) + txns.key[rows]
    order = np.argsort(name, kind="stable")
    rows, name = rows[order], name[order]
    starts = np.ones(len(rows), np.bool_)
    starts[1:] = name[1:] != name[:-1]
    return Touches(rows, starts)
