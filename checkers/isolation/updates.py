"""Lost updates: two committed transactions that read one version of a key and then both wrote it.

Whatever the order of the two, the second overwrote without having seen the
first.  (Adya, H-lost; Bailis et al.)  The version orders are not needed, so that
this is found even where a write was never read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from splitvote.checkers.isolation.case import MOST_EXAMPLES, ONE, TWO, Case, Findings
from splitvote.checkers.isolation.transactions import Transactions
from splitvote.checkers.isolation.writes import Touches

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def reads_before_writing(txns: Transactions, groups: Touches) -> npt.NDArray[np.int64]:
    """The first read of each (transaction, key) that was followed by a write of the key in the same transaction."""
    import numpy as np

    rows = groups.rows
    group = np.cumsum(groups.starts) - 1
    count = int(group[-1]) + 1 if len(group) else 0
    is_read = txns.is_read[rows]
    first_read = np.full(count, len(rows), np.int64)
    last_write = np.full(count, -1, np.int64)
    at = np.arange(len(rows))
    np.minimum.at(first_read, group[is_read], at[is_read])
    np.maximum.at(last_write, group[~is_read], at[~is_read])
    return rows[first_read[first_read < last_write]]


def lost_updates(
    txns: Transactions, owner: npt.NDArray[np.int32], reads: Any, version: Any, findings: Findings
) -> None:
    """Find the versions that two or more transactions read first and then replaced.

    ``reads`` are those of ``reads_before_writing``; ``version`` numbers what
    each of them saw, equal for equal versions of one key.
    """
    import numpy as np

    key = txns.key[reads]
    order = np.lexsort((reads, version, key))
    reads, version, key = reads[order], version[order], key[order]
    again = np.zeros(len(reads), np.bool_)
    again[1:] = (key[1:] == key[:-1]) & (version[1:] == version[:-1])
    begins = np.flatnonzero(again & ~np.concatenate([[False], again[:-1]])) - 1
    for begin in begins[:MOST_EXAMPLES].tolist():
        end = begin + 1
        while end < len(reads) and again[end]:
            end += 1
        findings.add(_case(txns, owner, reads[begin:end].tolist()))
    findings.more("lost-update", len(begins) - MOST_EXAMPLES)


def _case(txns: Transactions, owner: npt.NDArray[np.int32], reads: list[int]) -> Case:
    key = txns.keys[int(txns.key[reads[0]])]
    told = reads[:2]
    more = f" (and {len(reads) - 2} more like them)" if len(reads) > 2 else ""
    story = (
        f"{ONE} and {TWO}{more} all read {txns.what(told[0])!r} of key {key!r} and then wrote it: whichever came "
        "second did not see the other's update (lost update)"
    )
    return Case("lost-update", story, tuple(int(owner[row]) for row in told), key, {"transactions": len(reads)})
