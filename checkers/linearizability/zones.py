"""Near-linear decision for registers whose values are written once (NumPy).

Theory (Gibbons & Korach, "Testing shared memories", 1997, section 4, for reads
and writes; compare-and-set, its failure and crashed operations are ours).  If
every value is written at most once, it is known which write each read saw.  A
value's *cluster* is its write and its reads.  They are neighbours in every
linearization, and so the cluster has a *zone*: from the first of its returns
(``first_return``) to the last of its calls (``last_call``).

- A zone whose first return is before its last call is *forward*: the register
  holds the value all that time.  No two forward zones may overlap.
- Any other is *backward*: all its operations overlap, and it must not lie
  strictly within a forward zone.

A successful compare-and-set writes its new value immediately after the cluster
of its old one, so clusters joined by them form a *chain*, whose order is given:
no cluster's last call may come after the first return of a later one.  A chain
has a zone like a cluster.  Values are *needed* if they were read, were written
by an operation that returned, or precede a needed one in a chain; others belong
to crashed operations and are left out as if they had never happened.

Each ILLEGAL follows from one of these necessary conditions; each OK is
certified by an order of all operations that is checked against real time.

A failed compare-and-set says that the state was *not* some value.  With an
order found, all of them are placed into it as early as they go.  If they do not
go into this order, another might take them: the answer is UNDECIDED and the
search is asked, with the order as its guide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from splitvote.checkers.linearizability.columns import NEVER, Columns
from splitvote.checkers.linearizability.model import CheckResult

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

BEFORE_ALL: Final = -1
"""The time of the register's first value."""

EVIDENCE: Final = 200
"""Operations at most in ``ZonesOutcome.evidence``."""


@dataclass(frozen=True, slots=True)
class ZonesOutcome:
    """What zones say: ``result`` is None where they cannot tell, with ``why``.

    ``order`` is a linearization of all operations but the crashed ones that were
    left out, and where the result is None, but failed compare-and-sets too.
    ``evidence`` are rows that show an ILLEGAL.  ``deadline`` is there where
    failures did not fit: per row, when a crashed operation that is needed must
    have taken effect (NEVER for others).
    """

    result: CheckResult | None
    why: str = ""
    order: Ints | None = None
    evidence: tuple[int, ...] = ()
    deadline: Ints | None = None


class _Illegal(Exception):
    """A necessary condition is broken; carries the rows that show it and what it was."""

    def __init__(self, rows: Iterator[int] | list[int], why: str) -> None:
        super().__init__(why)
        self.rows = tuple(dict.fromkeys(int(row) for row in rows))[:EVIDENCE]


def decide_by_zones(columns: Columns) -> ZonesOutcome:
    """Decide a history, or say why zones do not apply."""
    zones = _Zones(columns)
    if (why := zones.why_not()) is not None:
        return ZonesOutcome(None, why)
    try:
        zones.find_needed()
        zones.measure()
        zones.compare_clusters()
        zones.chain()
        zones.compare_chains()
        order = zones.witness()
        gaps = None if order is None else zones.place_failures(order)
    except _Illegal as illegal:
        return ZonesOutcome(CheckResult.ILLEGAL, str(illegal), evidence=illegal.rows)
    if order is not None and gaps is not None:
        return ZonesOutcome(CheckResult.OK, order=zones.with_failures(order, gaps))
    why = "failed compare-and-sets do not fit the order found"
    return ZonesOutcome(None, why, order=order, deadline=zones.deadlines())


class _Zones:
    """The arrays of one decision; those by value have ``values`` items."""

    def __init__(self, columns: Columns) -> None:
        import numpy as np

        self.np = np
        self.columns = columns
        returned = columns.return_ < NEVER
        assigns = columns.assign >= 0
        changes = assigns & ~((columns.test == 1) & (columns.assign == columns.operand))
        self.reads = np.flatnonzero((columns.test == 1) & ~changes & returned)
        self.failures = np.flatnonzero((columns.test == 2) & ~assigns & returned)
        self.writes = np.flatnonzero(changes)
        self.read_values = columns.operand[self.reads]
        self.write_values = columns.assign[self.writes]

    def why_not(self) -> str | None:
        """Say why zones do not apply, None if they do: every value must have one writer."""
        np, columns = self.np, self.columns
        if ((columns.test == 2) & (columns.assign >= 0)).any():
            return "an operation assigns on inequality"
        if len(self.write_values) and np.bincount(self.write_values, minlength=columns.values).max() > 1:
            return "a value is written twice"
        self.writer = np.full(columns.values, -1, np.int64)
        self.writer[self.write_values] = self.writes
        if self.writer[columns.initial] >= 0:
            return "the first value is written again"
        return None

    def find_needed(self) -> None:
        """Mark the values that must have been held, and by which compare-and-set each was reached."""
        np, columns = self.np, self.columns
        held = self.writer >= 0
        held[columns.initial] = True
        if not (seen := held[self.read_values]).all():
            raise _Illegal([self.reads[~seen][0]], "a value was read that nobody wrote")
        self.needed = np.zeros(columns.values, bool)
        self.needed[columns.initial] = True
        self.needed[self.read_values] = True
        self.needed[self.write_values[columns.return_[self.writes] < NEVER]] = True
        conditional = self.writes[columns.test[self.writes] == 1]
        self.previous = np.full(columns.values, -1, np.int64)
        self.previous[columns.assign[conditional]] = columns.operand[conditional]
        while True:
            linked = np.flatnonzero(self.needed & (self.previous >= 0))
            before = self.previous[linked]
            if not (seen := held[before]).all():
                rows = [self.writer[linked[~seen][0]]]
                raise _Illegal(rows, "a compare-and-set saw a value that nobody wrote")
            if self.needed[before].all():
                break
            self.needed[before] = True
        self.linked = linked
        if len(linked) and (followers := np.bincount(before)).max() > 1:
            forked = linked[before == followers.argmax()][:2]
            raise _Illegal(list(self.writer[forked]), "two compare-and-sets took the same value")

    def measure(self) -> None:
        """Find each needed value's zone."""
        np, columns = self.np, self.columns
        self.held = np.flatnonzero(self.needed)
        written = self.held[self.held != columns.initial]
        writer = self.writer[written]
        self.first_return = np.full(columns.values, NEVER, np.int64)
        self.last_call = np.full(columns.values, BEFORE_ALL, np.int64)
        self.first_return[written] = columns.return_[writer]
        self.first_return[columns.initial] = BEFORE_ALL
        self.last_call[written] = columns.call[writer]
        read_returns = columns.return_[self.reads]
        too_early = np.flatnonzero(read_returns < self.last_call[self.read_values])
        if len(too_early):
            early = too_early[0]
            rows = [self.reads[early], self.writer[self.read_values[early]]]
            raise _Illegal(rows, "a value was read before its write was called")
        np.minimum.at(self.first_return, self.read_values, read_returns)
        np.maximum.at(self.last_call, self.read_values, columns.call[self.reads])

    def compare_clusters(self) -> None:
        """Look at single clusters first, which is cheap and finds most stale reads: forward zones must not overlap."""
        np = self.np
        starts, ends = self.first_return[self.held], self.last_call[self.held]
        forward = np.flatnonzero(starts < ends)
        forward = forward[np.argsort(starts[forward])]
        clash = np.flatnonzero(starts[forward][1:] < ends[forward][:-1])
        if len(clash):
            pair = self.held[forward[clash[0] : clash[0] + 2]]
            raise _Illegal(self._ends_of(pair.tolist()), "two values were held at the same time")

    def chain(self) -> None:
        """Join clusters by compare-and-sets: each value's chain (``root``) and its place there (``rank``)."""
        np = self.np
        root, rank = np.arange(self.columns.values), np.zeros(self.columns.values, np.int64)
        if len(self.linked):
            root[self.linked] = self.previous[self.linked]
            rank[self.linked] = 1
            for _ in range(int(self.columns.values).bit_length() + 1):
                if (root[root] == root).all():
                    break
                rank += rank[root]
                root = root[root]
            # In a cycle nothing converges, except that one of length 2^k ends with every member its own root.
            cyclic = np.flatnonzero(self.previous[root[self.linked]] >= 0)
            if len(cyclic):
                raise _Illegal(self._cycle_from(int(self.linked[cyclic[0]])), "compare-and-sets form a circle")
        self.root, self.rank = root, rank

    def compare_chains(self) -> None:
        """Check the order within chains, and chains against each other; keeps the chains' zones."""
        np = self.np
        held = self.held
        if len(self.linked):
            held = held[np.lexsort((self.rank[held], self.root[held]))]
        roots = self.root[held]
        is_first = np.ones(len(held), bool)
        is_first[1:] = roots[1:] != roots[:-1]
        heads = np.flatnonzero(is_first)
        self._check_within_chains(held, is_first)
        self.chain_root = roots[heads]
        self.chain_start = np.minimum.reduceat(self.first_return[held], heads)
        self.chain_end = np.maximum.reduceat(self.last_call[held], heads)
        forward = np.flatnonzero(self.chain_start < self.chain_end)
        self.forward = forward[np.argsort(self.chain_start[forward])]
        starts, ends = self.chain_start[self.forward], self.chain_end[self.forward]
        clash = np.flatnonzero(starts[1:] < ends[:-1])
        if len(clash):
            pair = self.forward[clash[0] : clash[0] + 2]
            raise _Illegal(self._ends_of_chains(pair), "two chains of values were held at the same time")
        self.backward = np.flatnonzero(self.chain_start >= self.chain_end)
        self.after = np.searchsorted(starts, self.chain_end[self.backward], side="left") - 1
        within = np.flatnonzero(
            (self.after >= 0) & (ends[self.after] > self.chain_start[self.backward]) if len(ends) else []
        )
        if len(within):
            pair = [self.forward[self.after[within[0]]], self.backward[within[0]]]
            raise _Illegal(self._ends_of_chains(np.array(pair)), "a value was written and gone while another was held")

    def _check_within_chains(self, held: Ints, is_first: Bools) -> None:
        """No cluster's last call may come after the first return of a later one of its chain."""
        np = self.np
        if is_first.all():
            return
        chain = np.cumsum(is_first) - 1
        # The running maximum of the last calls, chain by chain: ranks lifted above all ranks of earlier chains.
        by_call = np.argsort(self.last_call[held], kind="stable")
        rank = np.empty(len(held), np.int64)
        rank[by_call] = np.arange(len(held))
        lifted = np.maximum.accumulate(rank + chain * len(held)) - chain * len(held)
        latest = self.last_call[held][by_call][lifted]
        late = np.flatnonzero(~is_first[1:] & (self.first_return[held][1:] < latest[:-1]))
        if len(late):
            at = int(late[0]) + 1
            by = int(by_call[lifted[at - 1]])
            rows = self._ends_of(held[by : at + 1].tolist())
            raise _Illegal(rows, "a value was seen after compare-and-sets had replaced it")

    def witness(self) -> Ints | None:
        """Order all operations but failures: forward zones by time, backward ones in the gaps; None if the check fails.

        Keeps, for ``place_failures``, the value held after each operation of the order.
        """
        np, columns = self.np, self.columns
        position = np.empty(len(self.chain_root), np.float64)
        position[self.forward] = np.arange(len(self.forward))
        position[self.backward] = self.after + 0.5
        tie = np.zeros(len(self.chain_root), np.int64)
        tie[self.backward] = self.chain_end[self.backward]
        chain_rank = np.empty(len(self.chain_root), np.int64)
        chain_rank[np.lexsort((tie, position))] = np.arange(len(self.chain_root))
        of_root = np.empty(columns.values, np.int64)
        of_root[self.chain_root] = chain_rank
        self.place = np.full(columns.values, -1, np.int64)
        by_place = np.lexsort((self.rank[self.held], of_root[self.root[self.held]]))
        self.place[self.held[by_place]] = np.arange(len(self.held))
        written = self.held[self.held != columns.initial]
        reads = self.reads[np.argsort(columns.call[self.reads], kind="stable")]
        rows = np.concatenate([self.writer[written], reads])
        values = np.concatenate([written, columns.operand[reads]])
        by_value = np.argsort(self.place[values], kind="stable")
        self.ordered_values = values[by_value]
        order: Ints = rows[by_value]
        self.latest_call = np.maximum.accumulate(columns.call[order])
        if (self.latest_call > columns.return_[order]).any():
            return None  # the theory says that this cannot be; if it is wrong, the search decides
        return order

    def place_failures(self, order: Ints) -> Ints | None:
        """Return a gap of the order for each failed compare-and-set; None if they do not all fit.

        Gap g is before the g-th operation.  A failure goes into the gaps that
        real time allows (``gap`` at first to ``highest``), not into those of the value
        it denies, and not before a failure that had returned when it was called.
        Gaps are raised to the least that satisfy all; there is no better choice.
        """
        np, columns = self.np, self.columns
        if not len(self.failures):
            return self.failures
        calls, returns = columns.call[self.failures], columns.return_[self.failures]
        denied = columns.operand[self.failures]
        first, last = self._spans(len(order))
        self._check_denied(calls, returns, denied)
        earliest_return = np.minimum.accumulate(columns.return_[order][::-1])[::-1]
        gap: Ints
        gap = np.searchsorted(earliest_return, calls, side="left")
        highest = np.searchsorted(self.latest_call, returns, side="right")
        by_return = np.argsort(returns, kind="stable")
        returned_before = np.searchsorted(returns[by_return], calls, side="left")
        while True:
            inside = (first[denied] < gap) & (gap <= last[denied] + 1)
            raised = np.where(inside, last[denied] + 2, gap)
            if (raised > highest).any():
                return None
            reached = np.concatenate([[0], np.maximum.accumulate(raised[by_return])])
            raised = np.maximum(raised, reached[returned_before])
            if (raised == gap).all():
                return gap
            gap = raised

    def with_failures(self, order: Ints, gaps: Ints) -> Ints:
        """Put the failures into their gaps."""
        np = self.np
        rows = np.concatenate([self.failures, order])
        places = np.concatenate([gaps, np.arange(len(order))])
        ties = np.concatenate([self.columns.call[self.failures], np.full(len(order), NEVER)])
        ordered: Ints = rows[np.lexsort((ties, places))]
        return ordered

    def _spans(self, length: int) -> tuple[Ints, Ints]:
        """Return each value's first and last operation in the order; of one never held, a span that no gap is in."""
        np, columns = self.np, self.columns
        first = np.full(columns.values, length + 1, np.int64)
        last = np.full(columns.values, -2, np.int64)
        first[self.ordered_values[::-1]] = np.arange(length)[::-1]
        last[self.ordered_values] = np.arange(length)
        first[columns.initial] = -1  # held from before the first operation
        last[columns.initial] = max(last[columns.initial], -1)
        return first, last

    def _check_denied(self, calls: Ints, returns: Ints, denied: Ints) -> None:
        """A failure wholly within the time its value was certainly held is impossible in any order."""
        np = self.np
        inside = np.flatnonzero(
            self.needed[denied] & (self.first_return[denied] < calls) & (returns < self.last_call[denied])
        )
        if len(inside):
            rows = [self.failures[inside[0]], *self._ends_of([int(denied[inside[0]])])]
            raise _Illegal(rows, "a compare-and-set failed while its value was held")

    def deadlines(self) -> Ints:
        """Return when each needed crashed write must have happened: by the first return of its value or a later one."""
        np, columns = self.np, self.columns
        due = self.first_return.copy()
        chained = self.linked[np.argsort(-self.rank[self.linked], kind="stable")]
        for value in chained.tolist():  # from the ends of the chains to their roots
            before = self.previous[value]
            due[before] = min(due[before], due[value])
        deadline: Ints = np.full(len(columns.call), NEVER, np.int64)
        written = self.held[self.held != columns.initial]
        writer = self.writer[written]
        crashed = columns.return_[writer] == NEVER
        deadline[writer[crashed]] = due[written[crashed]]
        return deadline

    def _ends_of(self, values: list[int]) -> Iterator[int]:
        """Yield, for each value, its writer and the operations that make its zone."""
        np, columns = self.np, self.columns
        for value in values[:EVIDENCE]:
            rows = self.reads[self.read_values == value]
            if self.writer[value] >= 0:
                rows = np.append(rows, self.writer[value])
                yield int(self.writer[value])
            if len(rows):
                yield int(rows[np.argmin(columns.return_[rows])])
                yield int(rows[np.argmax(columns.call[rows])])

    def _ends_of_chains(self, chains: Any) -> Iterator[int]:
        """Yield the ends of all clusters between those that make each chain's zone."""
        for chain in chains.tolist():
            members = self.held[self.root[self.held] == self.chain_root[chain]]
            members = members[self.np.argsort(self.rank[members])]
            start = int(self.np.argmin(self.first_return[members]))
            end = int(self.np.argmax(self.last_call[members]))
            yield from self._ends_of(members[min(start, end) : max(start, end) + 1].tolist())

    def _cycle_from(self, value: int) -> list[int]:
        """Return the compare-and-sets of a circle that ``value`` leads back into."""
        trail: dict[int, None] = {}
        while value not in trail:
            trail[value] = None
            value = int(self.previous[value])
        members = list(trail)
        return [int(self.writer[member]) for member in members[members.index(value) :]]
