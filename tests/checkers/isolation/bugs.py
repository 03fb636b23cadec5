"""Bugs to be seeded into copies of the checkers: each replaces one piece of their source.

Every one is of a kind that was made, or easily could be: a condition dropped, a
comparison turned round, a dependency forgotten.
"""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    name: str
    module: str
    old: str
    new: str


BUGS = [
    Bug(
        "who read the latest version and appended is led back to itself",
        "graph",
        'low, high = np.searchsorted(writes, reads, "left") - 1, np.searchsorted(writes, reads, "right")',
        'low, high = np.searchsorted(writes, reads, "right") - 1, np.searchsorted(writes, reads, "right")',
    ),
    Bug(
        "versions do not come one after the other",
        "list_order",
        "return union([overwrites, later, observes, misses, spread]), stations",
        "return union([later, observes, misses, spread]), stations",
    ),
    Bug(
        "who read a version does not come after who made it",
        "list_order",
        "return union([overwrites, later, observes, misses, spread]), stations",
        "return union([overwrites, later, misses, spread]), stations",
    ),
    Bug(
        "a reader of the latest version misses nothing",
        "list_order",
        "return union([overwrites, later, observes, misses, spread]), stations",
        "return union([overwrites, later, observes, misses]), stations",
    ),
    Bug(
        "a crashed transaction certainly did not happen",
        "list_append",
        "failed[written] = txns.type[owner[order.write[written]]] == FAIL",
        "failed[written] = txns.type[owner[order.write[written]]] != OK",
    ),
    Bug(
        "a crash is an answer: what is invoked later comes after it",
        "graph",
        "    answered = complete >= 0\n    node =",
        "    answered = complete >= -1\n    complete = np.where(complete >= 0, complete, invoke + 1)\n    node =",
    ),
    Bug(
        "real time leaves out who crashed",
        "tangle",
        "        may = np.flatnonzero(txns.possible()[who])\n",
        "        may = np.flatnonzero(txns.type[who] == OK)\n",
    ),
    Bug(
        "the version a read saw is off by one",
        "list_order",
        "UNREAD, place[writer[written]] + 1)",
        "UNREAD, place[writer[written]])",
    ),
    Bug(
        "a write of any key makes the one before it intermediate",
        "writes",
        "(owner[order[1:]] == owner[order[:-1]]) & (txns.key[order[1:]] == txns.key[order[:-1]])",
        "owner[order[1:]] == owner[order[:-1]]",
    ),
    Bug(
        "a transaction may see less than it appended itself",
        "inside",
        "ends_right = not own or seen[-len(own) :] == own",
        "ends_right = True",
    ),
    Bug(
        "rw edges side by side break snapshot isolation",
        "survey",
        "rw.source + nodes * onward",
        "rw.source + nodes",
    ),
    Bug(
        "an rw edge to where any rw edge starts closes a cycle",
        "reach",
        "if sets.get(end, 0) >> bit[s] & 1}",
        "if sets.get(end, 0)}",
    ),
    Bug(
        "writes follow reads the other way round",
        "register_order",
        'return _proper("wfr", visits.enters, visits.leaves, visits.txn, visits.txn)',
        'return _proper("wfr", visits.leaves, visits.enters, visits.txn, visits.txn)',
    ),
    Bug(
        "keys move forward between overlapping transactions too",
        "register_order",
        "high = np.searchsorted(end, start)",
        "high = np.searchsorted(end, start + 2)",
    ),
    Bug(
        "the initial state is any version that was read",
        "register_order",
        "fresh = versions.reads[txns.value[versions.reads] == NIL]",
        "fresh = versions.reads[txns.value[versions.reads] != NIL]",
    ),
    Bug(
        "processes go on in the order of completion of others",
        "register_order",
        "same = (process[one] == process[two]) & (visits.key[one] == visits.key[two])",
        "same = visits.key[one] == visits.key[two]",
    ),
    Bug(
        "reads before the first write are lost updates, whatever they read",
        "updates",
        "(key[1:] == key[:-1]) & (version[1:] == version[:-1])",
        "key[1:] == key[:-1]",
    ),
    Bug(
        "what crashed was aborted",
        "rw_register",
        "failed = ~unwritten & (txns.type[owner[wrote]] == FAIL)",
        "failed = ~unwritten & (txns.type[owner[wrote]] >= FAIL)",
    ),
]
