"""What is wrong with a list-append history apart from cycles.

Each anomaly is found by comparing columns; only the few transactions that are
told about are looked at one by one.  Definitions: Adya (G1a, G1b), Cerone et al.
(INT), Bailis and Adya (lost update), Kingsbury and Alvaro (the rest).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from splitvote.checkers.isolation.case import MOST_EXAMINED, MOST_EXAMPLES, ONE, TWO, Case, Findings
from splitvote.checkers.isolation.inside import list_future_read, list_internal
from splitvote.checkers.isolation.list_order import UNREAD, ListOrder
from splitvote.checkers.isolation.transactions import FAIL, OK, Transactions
from splitvote.checkers.isolation.updates import lost_updates, reads_before_writing
from splitvote.checkers.isolation.writes import UNWRITTEN, Touches, Writes, superseded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int32]
    Longs = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]


def list_findings(txns: Transactions, owner: Ints, writes: Writes, order: ListOrder, groups: Touches) -> Findings:
    """Every anomaly of a list-append history that is no cycle."""
    findings = Findings()
    _aborted_and_unwritten(txns, owner, writes, order, findings)
    _intermediate(txns, owner, order, findings)
    _dirty_updates(txns, owner, order, findings)
    _duplicates(txns, owner, order, findings)
    _incompatible(txns, owner, order, findings)
    _own_order(txns, owner, order, findings)
    _inside(txns, owner, order, groups, findings)
    based = reads_before_writing(txns, groups)
    lost_updates(txns, owner, based, _version_names(txns, order, based), findings)
    return findings


def _tell(findings: Findings, rows: Longs, case: Callable[[int], Case]) -> None:
    """Tell the first few of these findings (one per micro-operation) and count the rest."""
    for row in rows[:MOST_EXAMPLES].tolist():
        findings.add(case(row))
    if len(rows) > MOST_EXAMPLES:
        findings.more(case(int(rows[0])).name, len(rows) - MOST_EXAMPLES)


def _elements(txns: Transactions, row: int) -> list[int]:
    codes: list[int] = txns.elements[txns.seen[row] : txns.seen[row + 1]].tolist()
    return codes


def _odd_elements(txns: Transactions, order: ListOrder) -> tuple[Longs, Longs]:
    """The elements of the odd reads: for each, its read and its place among all elements."""
    import numpy as np

    rows = np.flatnonzero(order.odd)
    size = np.diff(txns.seen)[rows]
    ends = np.cumsum(size)
    at = np.arange(int(size.sum())) + np.repeat(txns.seen[rows] - (ends - size), size)
    return np.repeat(rows, size), at


def _aborted_and_unwritten(
    txns: Transactions, owner: Ints, writes: Writes, order: ListOrder, findings: Findings
) -> None:
    """Adya: G1a, a read of what a failed transaction wrote; and reads of what nobody ever wrote."""
    import numpy as np

    failed = np.zeros(len(order.write), np.bool_)
    written = order.write != UNWRITTEN
    failed[written] = txns.type[owner[order.write[written]]] == FAIL
    odd_rows, at = _odd_elements(txns, order)
    odd_writer = writes.find(txns.key[odd_rows], txns.elements[at])
    odd_failed = (odd_writer != UNWRITTEN) & (txns.type[owner[odd_writer]] == FAIL)

    def aborted(row: int) -> Case:
        key = int(txns.key[row])
        by = ((e, int(writes.find(np.array([key]), np.array([e]))[0])) for e in _elements(txns, row))
        element, writer = next((e, w) for e, w in by if w != UNWRITTEN and txns.type[owner[w]] == FAIL)
        name, value = txns.keys[key], txns.codes.value(element)
        story = (
            f"{ONE} read {txns.what(row)} of key {name!r}; {value!r} was appended by {TWO}, which failed: "
            "what certainly did not happen was read (aborted read)"
        )
        return Case("G1a", story, (int(owner[row]), int(owner[writer])), name, {"element": value})

    def unwritten(row: int) -> Case:
        key = int(txns.key[row])
        by = ((e, int(writes.find(np.array([key]), np.array([e]))[0])) for e in _elements(txns, row))
        value = txns.codes.value(next(e for e, w in by if w == UNWRITTEN))
        name = txns.keys[key]
        story = f"{ONE} read {txns.what(row)} of key {name!r}, but no transaction ever asked to append {value!r} to it"
        return Case("unwritten-read", story, (int(owner[row]),), name, {"element": value})

    _tell(findings, _reads_past(txns, order, failed, odd_rows[odd_failed]), aborted)
    _tell(findings, _reads_past(txns, order, ~written, odd_rows[odd_writer == UNWRITTEN]), unwritten)


def _reads_past(txns: Transactions, order: ListOrder, marked: Flags, also: Longs) -> Longs:
    """The reads that saw a marked version: regular ones that reach past the first of their key, and those given."""
    import numpy as np

    entries = np.flatnonzero(marked)
    if not len(entries):
        return np.unique(also)
    key = np.searchsorted(order.first, entries, "right") - 1
    earliest = np.full(len(txns.keys), np.iinfo(np.int64).max, np.int64)
    np.minimum.at(earliest, key, entries - order.first[key])
    rows = np.flatnonzero(txns.is_read & ~order.odd)
    return np.union1d(rows[order.state[rows] > earliest[txns.key[rows]]], also)


def _intermediate(txns: Transactions, owner: Ints, order: ListOrder, findings: Findings) -> None:
    """Adya: G1b, a read of a version that its own writer went on to change."""
    import numpy as np

    rows = np.flatnonzero(order.last != UNWRITTEN)
    writer = order.last[rows]
    rows = rows[superseded(txns, owner)[writer] & (owner[writer] != owner[rows])]

    def case(row: int) -> Case:
        key = txns.keys[int(txns.key[row])]
        by = int(owner[order.last[row]])
        value = txns.codes.value(_elements(txns, row)[-1])
        story = (
            f"{ONE} read {txns.what(row)} of key {key!r}, which ends in {value!r}; {TWO} appended that and then more "
            "to the same key: a state from the middle of a transaction was read (intermediate read)"
        )
        return Case("G1b", story, (int(owner[row]), by), key, {"element": value})

    _tell(findings, rows, case)


def _dirty_updates(txns: Transactions, owner: Ints, order: ListOrder, findings: Findings) -> None:
    """A version made by a failed transaction, and the next certain one made by a transaction that committed."""
    import numpy as np

    entries = np.flatnonzero(order.write != UNWRITTEN)
    outcome = txns.type[owner[order.write[entries]]]
    sure = entries[(outcome == OK) | (outcome == FAIL)]
    outcome, key = txns.type[owner[order.write[sure]]], txns.key[order.write[sure]]
    at = np.flatnonzero((outcome[:-1] == FAIL) & (outcome[1:] == OK) & (key[:-1] == key[1:]))
    for place in at[:MOST_EXAMPLES].tolist():
        failed, then = (int(order.write[entry]) for entry in sure[place : place + 2])
        name = txns.keys[int(txns.key[failed])]
        story = (
            f"{ONE} failed, yet {TWO} appended {txns.what(then)!r} to key {name!r} on top of its "
            f"{txns.what(failed)!r}: a committed version was built on an aborted one (dirty update)"
        )
        findings.add(Case("dirty-update", story, (int(owner[failed]), int(owner[then])), name))
    findings.more("dirty-update", len(at) - MOST_EXAMPLES)


def _duplicates(txns: Transactions, owner: Ints, order: ListOrder, findings: Findings) -> None:
    """One element twice in one read, though it was appended at most once."""
    import numpy as np

    suspects = np.flatnonzero(order.repeats[txns.key] | order.odd) if order.repeats.any() or order.odd.any() else ()
    seen = [row for row in suspects[:MOST_EXAMINED] if txns.seen[row + 1] - txns.seen[row] > 1]
    for row in map(int, seen):
        elements = _elements(txns, row)
        if len(set(elements)) < len(elements):
            twice = next(e for place, e in enumerate(elements) if e in elements[:place])
            key, value = txns.keys[int(txns.key[row])], txns.codes.value(twice)
            story = f"{ONE} read {txns.what(row)} of key {key!r}, in which {value!r} occurs more than once"
            findings.add(Case("duplicate-elements", story, (int(owner[row]),), key, {"element": value}))


def _incompatible(txns: Transactions, owner: Ints, order: ListOrder, findings: Findings) -> None:
    """Two reads of a key that are no prefixes of one list."""
    import numpy as np

    def case(row: int) -> Case:
        code = int(txns.key[row])
        longest = int(order.longest[code])
        key = txns.keys[code]
        story = (
            f"{ONE} read {txns.what(row)} of key {key!r} and {TWO} read {txns.what(longest)}: neither is the beginning "
            "of the other, so no one order of appends explains both"
        )
        return Case("incompatible-order", story, (int(owner[row]), int(owner[longest])), key)

    _tell(findings, np.flatnonzero(order.odd), case)


def _own_order(txns: Transactions, owner: Ints, order: ListOrder, findings: Findings) -> None:
    """A transaction's own appends to a key in another order than it made them, or a later one without an earlier."""
    import numpy as np

    rows = np.flatnonzero(~txns.is_read & txns.possible()[owner])
    rows = rows[np.lexsort((rows, txns.key[rows], owner[rows]))]
    one, two = rows[:-1], rows[1:]
    same = (owner[one] == owner[two]) & (txns.key[one] == txns.key[two])
    turned = (order.place[two] != UNREAD) & ((order.place[one] == UNREAD) | (order.place[one] > order.place[two]))
    earlier = dict(zip(two[same & turned].tolist(), one[same & turned].tolist(), strict=True))

    def case(row: int) -> Case:
        key = int(txns.key[row])
        before, longest = earlier[row], int(order.longest[key])
        story = (
            f"{ONE} appended {txns.what(before)!r} to key {txns.keys[key]!r} before {txns.what(row)!r}, but {TWO} read "
            f"{txns.what(longest)}, where the later one stands without the earlier before it"
        )
        return Case("incompatible-order", story, (int(owner[row]), int(owner[longest])), txns.keys[key])

    _tell(findings, two[same & turned], case)


def _inside(txns: Transactions, owner: Ints, order: ListOrder, groups: Touches, findings: Findings) -> None:
    """Cerone et al.: INT, and reads of what the same transaction appends later."""
    suspects = _suspects(txns, owner, order, groups)
    for txn in suspects[:MOST_EXAMINED].tolist():
        for check in (list_internal, list_future_read):
            case = check(txn, txns)
            if case is not None:
                findings.add(case)


def _suspects(txns: Transactions, owner: Ints, order: ListOrder, groups: Touches) -> Longs:
    """Transactions that may break INT or see their own future: all that do, and some whose key is read oddly.

    In a regular transaction every read of a key saw as many elements, less the
    transaction's own appends so far, as every other; and each own append is
    where that puts it.
    """
    import numpy as np

    rows: Longs = groups.rows
    starts = groups.starts
    group = np.cumsum(starts) - 1
    shared = np.bincount(group, minlength=1)[group] > 1
    rows, group = rows[shared], group[shared]
    if not len(rows):
        return rows
    at = np.arange(len(rows))
    is_read = txns.is_read[rows]
    own: Longs = np.cumsum(~is_read) - ~is_read  # appends before, in all groups: only differences are used
    length = np.diff(txns.seen)[rows]
    base = length - own
    next_read = np.minimum.accumulate(np.where(is_read, at, len(at))[::-1])[::-1]
    previous_read = np.concatenate([[-1], np.maximum.accumulate(np.where(is_read, at, -1))[:-1]])
    has_next = next_read < len(at)
    has_next[has_next] = group[next_read[has_next]] == group[has_next]
    has_previous = previous_read >= 0
    has_previous[has_previous] = group[previous_read[has_previous]] == group[has_previous]
    place = order.place[rows]
    bad = (is_read & order.odd[rows]) | order.repeats[txns.key[rows]]
    jumps = is_read & has_previous
    bad[jumps] |= base[jumps] != base[previous_read[jumps]]
    known = ~is_read & has_next
    bad[known] |= (place[known] == UNREAD) | (place[known] != base[next_read[known]] + own[known])
    ahead = ~is_read & has_previous
    bad[ahead] |= (place[ahead] != UNREAD) & (place[ahead] < length[previous_read[ahead]])
    suspects: Longs = np.unique(owner[rows[bad]]).astype(np.int64)
    return suspects


def _version_names(txns: Transactions, order: ListOrder, reads: Longs) -> Longs:
    """A number for what each of these reads saw, equal for equal lists of one key."""
    import numpy as np

    names = np.diff(txns.seen)[reads]
    contents: dict[tuple[Any, ...], int] = {}
    beyond = int(names.max(initial=0)) + 1
    for place in np.flatnonzero(order.odd[reads]).tolist():
        seen = tuple(_elements(txns, int(reads[place])))
        names[place] = beyond + contents.setdefault((int(txns.key[reads[place]]), seen), len(contents))
    return names
