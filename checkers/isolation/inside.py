"""What a transaction did, held against itself alone (Cerone, Bernardi, Gotsman: INT).

The reference that the column-wise filters lead to: one transaction at a time,
in plain Python.
"""

from __future__ import annotations

from typing import Any

from splitvote.checkers.isolation.case import ONE, Case
from splitvote.checkers.isolation.transactions import NIL, Transactions


def list_internal(txn: int, txns: Transactions) -> Case | None:
    """The first read of a list that contradicts the transaction's own earlier reads and appends of it."""
    known: dict[int, list[int]] = {}  # what the key holds, since it was read
    tail: dict[int, list[int]] = {}  # what was appended to a key that was not read yet
    for row in range(int(txns.first[txn]), int(txns.first[txn + 1])):
        key = int(txns.key[row])
        if not txns.is_read[row]:
            (known[key] if key in known else tail.setdefault(key, [])).append(int(txns.value[row]))
            continue
        seen = txns.elements[txns.seen[row] : txns.seen[row + 1]].tolist()
        expected = known.get(key)
        own = tail.pop(key, [])
        ends_right = not own or seen[-len(own) :] == own
        if (expected is not None and seen != expected) or not ends_right:
            wanted = [txns.codes.value(code) for code in (own if expected is None else expected)]
            return _case(txn, txns, row, f"{wanted}" if expected is not None else f"a list that ends in {wanted}")
        known[key] = seen
    return None


def list_future_read(txn: int, txns: Transactions) -> Case | None:
    """The first read that saw what the transaction appended only later."""
    seen: dict[int, dict[int, int]] = {}
    for row in range(int(txns.first[txn]), int(txns.first[txn + 1])):
        elements = seen.setdefault(int(txns.key[row]), {})
        if txns.is_read[row]:
            for element in txns.elements[txns.seen[row] : txns.seen[row + 1]].tolist():
                elements.setdefault(element, row)
        elif int(txns.value[row]) in elements:
            read = elements[int(txns.value[row])]
            key = txns.keys[int(txns.key[row])]
            story = (
                f"{ONE} read {txns.what(read)} of key {key!r}, and only then appended {txns.what(row)!r} to it: "
                "it saw its own future"
            )
            return Case("future-read", story, (txn,), key, {"element": txns.what(row)})
    return None


def register_internal(txn: int, txns: Transactions) -> Case | None:
    """The first read of a register that contradicts the transaction's own last read or write of it."""
    known: dict[int, int] = {}
    for row in range(int(txns.first[txn]), int(txns.first[txn + 1])):
        key, value = int(txns.key[row]), int(txns.value[row])
        if txns.is_read[row] and known.get(key, value) != value:
            expected: Any = txns.codes.value(known[key])
            return _case(txn, txns, row, "nothing (the initial state)" if known[key] == NIL else repr(expected))
        known[key] = value
    return None


def _case(txn: int, txns: Transactions, row: int, expected: str) -> Case:
    key = txns.keys[int(txns.key[row])]
    story = (
        f"{ONE} read {txns.what(row)!r} of key {key!r}; by its own earlier reads and writes of that key it had to see "
        f"{expected} (internal)"
    )
    return Case("internal", story, (txn,), key, {"expected": expected, "read": txns.what(row)})
