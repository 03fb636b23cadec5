"""Findings and cycles told as anomalies: words, records, drawings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from splitvote.checkers.isolation.case import Case, filled
from splitvote.checkers.isolation.cycles import Cycle
from splitvote.checkers.isolation.drawing import Arrow, Node, dot, svg
from splitvote.checkers.isolation.explain import Explainer, Reason, explain_order
from splitvote.checkers.isolation.graph import KIND_NAMES, PROCESS
from splitvote.checkers.isolation.transactions import INFO, NEVER, OK, Transactions
from splitvote.harness.op import Op
from splitvote.harness.result import Anomaly

Fetch = Callable[[Iterable[int]], Mapping[int, Op]]
"""Gives the records at some places of the history."""

MEANINGS: Final = {
    "G0": "writes of several keys are interleaved (dirty write)",
    "G1c": "information flows in a circle",
    "G-single": "a transaction saw a part of another's effects and missed the rest (read skew)",
    "G-nonadjacent": "transactions missed each other's writes around a circle, never twice in a row",
    "G2-item": "transactions each missed what the next one wrote (write skew)",
}
"""What a cycle of each kind means, in a few words."""


def tell_case(case: Case, txns: Transactions, fetch: Fetch) -> Anomaly:
    """A finding as an anomaly: its story with the transactions' labels filled in, and their records."""
    labels = _labels(txns, case.txns)
    named = {f"T{place + 1}": _described(txns, txn) for place, txn in enumerate(case.txns)}
    details = dict(case.details) | {"transactions": named} | _counted(case)
    return Anomaly(
        name=case.name,
        story=filled(case.story, labels),
        ops=_records(txns, case.txns, fetch),
        key=case.key,
        details=_plain(details),
    )


def _counted(case: Case) -> dict[str, Any]:
    return {"count": case.details["transactions"]} if "transactions" in case.details else {}


def tell_cycle(cycle: Cycle, txns: Transactions, explainer: Explainer, fetch: Fetch) -> Anomaly:
    """A cycle as an anomaly: every edge explained, drawn as SVG and DOT."""
    place = {txn: number for number, txn in enumerate(cycle.txns)}
    labels = [f"T{number + 1}" for number in range(len(cycle.txns))]
    steps: list[dict[str, Any]] = []
    arrows: list[Arrow] = []
    for one, two, kind in cycle.edges():
        reason = explain_order(txns, one, two, kind) if kind >= PROCESS else explainer.explain(one, two, kind)
        ends = labels[place[one]], labels[place[two]]
        steps.append(_step(KIND_NAMES[kind], ends, reason))
        about = "" if reason.key is None else str(reason.key)
        arrows.append(Arrow(place[one], place[two], KIND_NAMES[kind], about))
    records = fetch([int(txns.invoke[txn]) for txn in cycle.txns] + [int(txns.last[txn]) for txn in cycle.txns])
    nodes = [_node(txns, txn, labels[place[txn]], records) for txn in cycle.txns]
    story = _story(cycle, labels, steps)
    details = {
        "cycle": steps,
        "transactions": {label: _described(txns, txn) for label, txn in zip(labels, cycle.txns, strict=True)},
        "component_size": cycle.component_size,
        "is_shortest": cycle.is_shortest,
        "svg": svg(nodes, arrows, f"{cycle.name}: {' < '.join([*labels, labels[0]])}"),
        "dot": dot(nodes, arrows, cycle.name),
    }
    return Anomaly(name=cycle.name, story=story, ops=_records(txns, cycle.txns, fetch), details=_plain(details))


def tell_unshown(name: str, component_size: int) -> Anomaly:
    """A type of cycle that a component certainly holds, but that the bounded search did not come across."""
    story = (
        f"{component_size} transactions depend on each other in circles, some of which are of this type; "
        "none of those was found within the bound of the search, so that none is shown"
    )
    return Anomaly(name=name, story=story, details={"component_size": component_size})


def _step(kind: str, ends: tuple[str, str], reason: Reason) -> dict[str, Any]:
    step: dict[str, Any] = {"from": ends[0], "to": ends[1], "type": kind, "explanation": filled(reason.text, ends)}
    if reason.key is not None:
        step |= {"key": reason.key, "before": reason.before, "after": reason.after}
    return step


def _story(cycle: Cycle, labels: list[str], steps: list[dict[str, Any]]) -> str:
    kind = cycle.name.removesuffix("-process").removesuffix("-realtime")
    beside = {"-process": ", in the order of a process", "-realtime": ", in real time"}
    suffix = next((words for variant, words in beside.items() if cycle.name.endswith(variant)), "")
    chain = " < ".join([*labels, labels[0]])
    why = "; ".join(step["explanation"] for step in steps)
    return f"{chain}, which no order can satisfy: {MEANINGS[kind]}{suffix}. {why}"


def _labels(txns: Transactions, members: tuple[int, ...]) -> list[str]:
    return [
        f"T{place + 1} (process {int(txns.process[txn])}, record {int(txns.invoke[txn])})"
        for place, txn in enumerate(members)
    ]


def _described(txns: Transactions, txn: int) -> dict[str, Any]:
    outcome = {OK: "ok", INFO: "info"}.get(int(txns.type[txn]), "fail")
    last = int(txns.last[txn])
    return {
        "process": int(txns.process[txn]),
        "outcome": outcome,
        "invoked_at": int(txns.invoke[txn]),
        "completed_at": None if last == NEVER else last,
    }


def _node(txns: Transactions, txn: int, label: str, records: Mapping[int, Op]) -> Node:
    last = int(txns.last[txn])
    record = records.get(last if int(txns.type[txn]) == OK else int(txns.invoke[txn]))
    micro_ops = txns.micro_ops(txn) if record is None else record.value
    outcome = "" if int(txns.type[txn]) == OK else " (outcome unknown)"
    who = f"process {int(txns.process[txn])}, record {int(txns.invoke[txn])}{outcome}"
    return Node(label, who, "; ".join(f"{f} {key} {value}" for f, key, value in micro_ops))


def _records(txns: Transactions, members: Iterable[int], fetch: Fetch) -> tuple[Op, ...]:
    """Invocation and completion of each, in history order."""
    places = {int(column[txn]) for txn in members for column in (txns.invoke, txns.last)} - {NEVER}
    found = fetch(sorted(places))
    return tuple(found[place] for place in sorted(places) if place in found)


def _plain(details: dict[str, Any]) -> dict[str, Any]:
    """The same as plain JSON values."""
    plain: dict[str, Any] = msgspec.to_builtins(details)
    return plain
