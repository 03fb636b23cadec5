"""What is wrong with an rw-register history apart from cycles of transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from splitvote.checkers.isolation.case import MOST_EXAMINED, MOST_EXAMPLES, ONE, TWO, Case, Findings, who
from splitvote.checkers.isolation.inside import register_internal
from splitvote.checkers.isolation.register_order import VersionEdges, Versions, contradictions
from splitvote.checkers.isolation.transactions import FAIL, NIL, Transactions
from splitvote.checkers.isolation.updates import lost_updates, reads_before_writing
from splitvote.checkers.isolation.writes import UNWRITTEN, Touches, Writes, superseded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int32]
    Longs = npt.NDArray[np.int64]


def register_findings(txns: Transactions, owner: Ints, writes: Writes, groups: Touches, versions: Versions) -> Findings:
    """Every anomaly of an rw-register history that needs no version order."""
    findings = Findings()
    _reads(txns, owner, writes, findings)
    _inside(txns, owner, groups, findings)
    based = reads_before_writing(txns, groups)
    lost_updates(txns, owner, based, versions.version[based], findings)
    return findings


def _reads(txns: Transactions, owner: Ints, writes: Writes, findings: Findings) -> None:
    """Reads of what failed (Adya: G1a), of what was overwritten within its transaction (G1b), of what nobody wrote."""
    import numpy as np

    rows = np.flatnonzero(txns.is_read & (txns.value != NIL))
    writer = writes.find(txns.key[rows], txns.value[rows])
    by = dict(zip(rows.tolist(), writer.tolist(), strict=True)) if len(rows) <= MOST_EXAMINED else None
    wrote = np.maximum(writer, 0)
    unwritten = writer == UNWRITTEN
    foreign = ~unwritten & (owner[wrote] != owner[rows]) if len(owner) else unwritten
    failed = ~unwritten & (txns.type[owner[wrote]] == FAIL) if len(owner) else unwritten
    middle = foreign & superseded(txns, owner)[wrote] if len(owner) else unwritten

    def found(row: int) -> tuple[int, str]:
        place = by[row] if by is not None else int(writer[np.searchsorted(rows, row)])
        return place, f"{ONE} read {txns.what(row)!r} of key {txns.keys[int(txns.key[row])]!r}"

    def aborted(row: int) -> Case:
        write, story = found(row)
        story += f", which {TWO} wrote, and {TWO} failed: what certainly did not happen was read (aborted read)"
        return Case("G1a", story, (int(owner[row]), int(owner[write])), txns.keys[int(txns.key[row])])

    def intermediate(row: int) -> Case:
        write, story = found(row)
        story += f", which {TWO} wrote and then overwrote: a state from the middle of a transaction (intermediate read)"
        return Case("G1b", story, (int(owner[row]), int(owner[write])), txns.keys[int(txns.key[row])])

    def phantom(row: int) -> Case:
        story = found(row)[1] + ", but no transaction ever asked to write that"
        return Case("unwritten-read", story, (int(owner[row]),), txns.keys[int(txns.key[row])])

    _tell(findings, rows[failed], aborted)
    _tell(findings, rows[middle], intermediate)
    _tell(findings, rows[unwritten], phantom)
    own = rows[~unwritten & ~foreign & (wrote > rows)]

    def future(row: int) -> Case:
        story = found(row)[1] + " and only then wrote it: it saw its own future"
        return Case("future-read", story, (int(owner[row]),), txns.keys[int(txns.key[row])])

    _tell(findings, own, future)


def _tell(findings: Findings, rows: Longs, case: Callable[[int], Case]) -> None:
    for row in rows[:MOST_EXAMPLES].tolist():
        findings.add(case(row))
    if len(rows) > MOST_EXAMPLES:
        findings.more(case(int(rows[0])).name, len(rows) - MOST_EXAMPLES)


def _inside(txns: Transactions, owner: Ints, groups: Touches, findings: Findings) -> None:
    """Cerone et al.: INT; whoever reads a key must see what it read or wrote itself just before."""
    import numpy as np

    rows = groups.rows
    bad = ~groups.starts & txns.is_read[rows]
    bad[1:] &= txns.value[rows[1:]] != txns.value[rows[:-1]]
    suspects = np.unique(owner[rows[bad]])
    for txn in suspects[:MOST_EXAMINED].tolist():
        case = register_internal(txn, txns)
        if case is not None:
            findings.add(case)
    findings.more("internal", len(suspects) - MOST_EXAMINED)


def settle_orders(
    txns: Transactions, versions: Versions, orders: list[VersionEdges], findings: Findings
) -> list[VersionEdges]:
    """Keep the sources of version order that agree with those before them; report the others as cyclic-versions."""
    kept: list[VersionEdges] = []
    for order in orders:
        clash = contradictions(versions, [*kept, order])
        if clash is None:
            kept.append(order)
        else:
            _report_clash(txns, versions, [*kept, order], clash, findings)
    return kept


def _report_clash(
    txns: Transactions, versions: Versions, orders: list[VersionEdges], clash: Ints, findings: Findings
) -> None:
    import numpy as np

    labels = np.unique(clash[clash >= 0])
    for label in labels[:MOST_EXAMPLES].tolist():
        cycle = _version_cycle(versions, orders, clash == label)
        key = txns.keys[int(versions.key[cycle[0][0]])]
        named: dict[int, int] = {}
        steps = [_told(txns, versions, step, named) for step in cycle]
        story = f"the versions of key {key!r} come in no order: " + "; ".join(steps)
        findings.add(Case("cyclic-versions", story, tuple(named), key, {"source": orders[-1].source}))
    findings.more("cyclic-versions", len(labels) - MOST_EXAMPLES)


_Step = tuple[int, int, str, int, int]


def _version_cycle(versions: Versions, orders: list[VersionEdges], inside: Any) -> list[_Step]:
    """A shortest cycle through the lowest-numbered version of a component: (before, after, source, of, then)."""
    import numpy as np

    steps: dict[int, list[_Step]] = {}
    members = np.flatnonzero(inside)
    nil = int(versions.nil[versions.key[members[0]]])
    if nil >= 0 and inside[nil]:
        steps[nil] = [(nil, version, "initial", -1, -1) for version in members.tolist() if version != nil]
    for order in orders:
        both = np.flatnonzero(inside[order.before] & inside[order.after])
        columns = (order.before[both], order.after[both], order.of[both], order.then[both])
        for before, after, of, then in zip(*(column.tolist() for column in columns), strict=True):
            steps.setdefault(before, []).append((before, after, order.source, of, then))
    start = int(members[0])
    came: dict[int, _Step] = {}
    frontier = [start]
    while start not in came:
        onward = {step[1]: step for version in reversed(frontier) for step in reversed(steps.get(version, ()))}
        frontier = [version for version in onward if version not in came]
        came |= {version: onward[version] for version in frontier}
    path = [came[start]]
    while path[0][0] != start:
        path.insert(0, came[path[0][0]])
    return path


def _told(txns: Transactions, versions: Versions, step: _Step, named: dict[int, int]) -> str:
    """One step of a cycle of versions, in words; ``named`` numbers the transactions as they come up."""
    before, after, source, of, then = step
    one, two = (repr(txns.codes.value(_code(txns, versions, version))) for version in (before, after))
    if source == "initial":
        return f"{two} came after the initial state"
    first, second = (who(named.setdefault(txn, len(named))) for txn in (of, then))
    why = {
        "wfr": f"{first} read {one} and then wrote {two}",
        "sequential": f"{first} left it at {one} before {second}, of the same process, found {two}",
        "linearizable": f"{first} left it at {one} and completed before {second}, which found {two}, began",
    }
    return f"{two} came after {one}, since {why[source]}"


def _code(txns: Transactions, versions: Versions, version: int) -> int:
    import numpy as np

    return int(txns.value[np.flatnonzero(versions.version == version)[0]])
