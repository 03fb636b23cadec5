"""Why one transaction comes before another, in words.

Only the edges of the few cycles that are told about are explained, so that
every explanation looks the facts up again instead of carrying them along.  The
words name the earlier transaction ONE and the later one TWO.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from splitvote.checkers.isolation.case import ONE, TWO
from splitvote.checkers.isolation.graph import PROCESS, REALTIME, RW, WR, WW
from splitvote.checkers.isolation.list_order import UNREAD, ListOrder
from splitvote.checkers.isolation.register_order import VersionEdges, Versions
from splitvote.checkers.isolation.transactions import NIL, Transactions
from splitvote.checkers.isolation.writes import UNWRITTEN

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why ONE comes before TWO: the words, and for data the key and the values that show it."""

    text: str
    key: Any = None
    before: Any = None
    after: Any = None


class Explainer(Protocol):
    """Explains data dependencies."""

    def explain(self, one: int, two: int, kind: int) -> Reason:
        """Say why ``one`` comes before ``two`` by a dependency of this kind (WW, WR or RW)."""
        ...


def explain_order(txns: Transactions, one: int, two: int, kind: int) -> Reason:
    """Say why one transaction came before another in its process or in real time."""
    places = f"it completed at record {int(txns.complete[one])}, {TWO} was invoked at record {int(txns.invoke[two])}"
    if kind == PROCESS:
        return Reason(f"process {int(txns.process[one])} completed {ONE} before it began {TWO}: {places}")
    assert kind == REALTIME, f"an edge of kind {kind} is no order"
    return Reason(f"{ONE} was over before {TWO} began: {places}")


def _rows(txns: Transactions, txn: int, is_read: bool) -> Iterator[int]:
    for row in range(int(txns.first[txn]), int(txns.first[txn + 1])):
        if bool(txns.is_read[row]) == is_read:
            yield row


@dataclass(frozen=True, slots=True)
class ListExplainer:
    """Explains the dependencies of a list-append history."""

    txns: Transactions
    owner: Ints
    order: ListOrder

    def explain(self, one: int, two: int, kind: int) -> Reason:
        """Find the key and the elements behind a ww, wr or rw."""
        search = {WW: self._overwrote, WR: self._observed, RW: self._missed}[kind]
        reason = search(one, two)
        assert reason is not None, f"no {kind} dependency of transaction {two} on {one}"
        return reason

    def _real(self, key: int) -> list[int]:
        """The appends of a key's versions in order, those of failed transactions left out."""
        writes = self.order.write[self.order.of(key)].tolist()
        possible = self.txns.possible()
        return [write for write in writes if write != UNWRITTEN and possible[self.owner[write]]]

    def _name(self, row: int) -> Any:
        return self.txns.keys[int(self.txns.key[row])]

    def _overwrote(self, one: int, two: int) -> Reason | None:
        for row in _rows(self.txns, two, is_read=False):
            chain = self._real(int(self.txns.key[row]))
            unread = int(self.order.place[row]) == UNREAD
            at = len(chain) if unread else chain.index(row)
            if at and int(self.owner[chain[at - 1]]) == one:
                before, after = self.txns.what(chain[at - 1]), self.txns.what(row)
                how = (
                    f"{TWO} appended {after!r} to key {self._name(row)!r}, which no read ever showed, so it came after "
                    f"all that were seen, the last of which was {ONE}'s {before!r}"
                    if unread
                    else f"{TWO} appended {after!r} to key {self._name(row)!r} right after {ONE}'s {before!r}"
                )
                return Reason(how, self._name(row), before, after)
        return None

    def _observed(self, one: int, two: int) -> Reason | None:
        for row in _rows(self.txns, two, is_read=True):
            last = int(self.order.last[row])
            if last != UNWRITTEN and int(self.owner[last]) == one:
                element = self.txns.what(last)
                text = f"{TWO} read {self.txns.what(row)} of key {self._name(row)!r}, which ends in {ONE}'s {element!r}"
                return Reason(text, self._name(row), element, self.txns.what(row))
        return None

    def _missed(self, one: int, two: int) -> Reason | None:
        for row in _rows(self.txns, one, is_read=True):
            state, key = int(self.order.state[row]), int(self.txns.key[row])
            if state == UNREAD:
                continue
            later = [write for write in self._real(key) if self.order.place[write] >= state]
            if not later:
                mine = _rows(self.txns, two, is_read=False)
                later = [write for write in mine if self.txns.key[write] == key and self.order.place[write] == UNREAD]
            if later and int(self.owner[later[0]]) == two:
                seen = self.txns.what(row) or []
                element = self.txns.what(later[0])
                text = (
                    f"{ONE} read {seen} of key {self._name(row)!r} and so came before {TWO}, which appended {element!r}"
                )
                return Reason(text, self._name(row), seen, element)
        return None


@dataclass(frozen=True, slots=True)
class RegisterExplainer:
    """Explains the dependencies of an rw-register history."""

    txns: Transactions
    owner: Ints
    versions: Versions
    orders: Sequence[VersionEdges]

    def explain(self, one: int, two: int, kind: int) -> Reason:
        """Find the key and the values behind a ww, wr or rw."""
        reason = self._observed(one, two) if kind == WR else self._replaced(one, two, from_read=kind == RW)
        assert reason is not None, f"no {kind} dependency of transaction {two} on {one}"
        return reason

    def _final(self, txn: int) -> list[int]:
        """The writes of a transaction that others can see."""
        version, writer = self.versions.version, self.versions.writer
        return [row for row in _rows(self.txns, txn, is_read=False) if int(writer[version[row]]) == row]

    def _outer_reads(self, txn: int) -> list[int]:
        """The reads of a transaction that come before anything else it did to the key."""
        touched: set[int] = set()
        reads = []
        for row in range(int(self.txns.first[txn]), int(self.txns.first[txn + 1])):
            key = int(self.txns.key[row])
            if self.txns.is_read[row] and key not in touched:
                reads.append(row)
            touched.add(key)
        return reads

    def _observed(self, one: int, two: int) -> Reason | None:
        version = self.versions.version
        made = {int(version[row]) for row in self._final(one)}
        for row in self._outer_reads(two):
            if int(version[row]) in made:
                key, value = self.txns.keys[int(self.txns.key[row])], self.txns.what(row)
                return Reason(f"{TWO} read {value!r} of key {key!r}, which {ONE} wrote", key, value, value)
        return None

    def _replaced(self, one: int, two: int, from_read: bool) -> Reason | None:
        """The key of which ``one`` read or wrote a version that comes before one that ``two`` wrote."""
        mine = self._outer_reads(one) if from_read else self._final(one)
        for row in mine:
            for write in self._final(two):
                if self.txns.key[row] != self.txns.key[write]:
                    continue
                key, before, after = self.txns.keys[int(self.txns.key[row])], self.txns.what(row), self.txns.what(write)
                if from_read and self.txns.value[row] == NIL:
                    text = (
                        f"{ONE} read the initial state of key {key!r} and so came before {TWO}, which wrote {after!r}"
                    )
                    return Reason(text, key, before, after)
                source = self._source(int(self.versions.version[row]), int(self.versions.version[write]))
                if source is not None:
                    verb = "read" if from_read else "wrote"
                    text = (
                        f"{ONE} {verb} {before!r} of key {key!r}, and {TWO} wrote {after!r}, which came later: {source}"
                    )
                    return Reason(text, key, before, after)
        return None

    def _source(self, before: int, after: int) -> str | None:
        """Why one version came before another, if it is known to."""
        import numpy as np

        for order in self.orders:
            at = np.flatnonzero((order.before == before) & (order.after == after))
            if len(at):
                of, then = (int(self.txns.invoke[int(side[at[0]])]) for side in (order.of, order.then))
                return {
                    "wfr": f"the transaction invoked at record {of} read the one and then wrote the other",
                    "sequential": f"one process had the one at record {of} and the other at record {then}",
                    "linearizable": f"the transaction of record {of}, which had the one, was over before that of "
                    f"record {then}, which had the other, began",
                }[order.source]
        return None
