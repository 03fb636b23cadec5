"""The two checkers: list-append and rw-register histories against a consistency model.

A history is INVALID when it shows an anomaly that the model forbids.  Whatever
the model, the models that the anomalies rule out are told: ``not`` the weakest
of them, ``also_not`` the rest, ``strongest_left`` what could still be claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitvote.checkers.isolation.models import (
    boundary,
    cycles_of,
    forbidden_by,
    model_named,
    ruled_out,
    strongest_left,
    variants_of,
)
from splitvote.harness.errors import ConfigError, unknown
from splitvote.harness.result import Anomaly, Budget, BudgetExceeded, Result, Verdict

if TYPE_CHECKING:
    from splitvote.checkers.isolation.case import Findings
    from splitvote.checkers.isolation.explain import Explainer
    from splitvote.checkers.isolation.graph import Edges
    from splitvote.checkers.isolation.register_order import KeyOrder
    from splitvote.checkers.isolation.survey import Survey
    from splitvote.checkers.isolation.telling import Fetch
    from splitvote.checkers.isolation.transactions import Dialect, Transactions
    from splitvote.harness.op import Op
    from splitvote.harness.recording import Recording


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a dialect makes of a history: findings that are no cycles, dependencies, and their explanations.

    ``edges`` run over the transactions and ``stations`` stations.
    """

    findings: Findings
    edges: Edges
    stations: int
    explainer: Explainer


Analyse = Callable[["Transactions", Budget], Analysis | str]
"""Analyses a history, or says why it cannot be judged."""


class ListAppendChecker:
    """Judges transactions of ``["append", key, element]`` and ``["r", key, list]``.

    ``consistency_model`` is what the system promises, by any name of
    ``splitvote.checkers.isolation.models``.  Every element is to be appended to
    a key at most once, or the verdict is UNKNOWN.

    Raises ConfigError for a model that is not known.
    """

    def __init__(self, consistency_model: str = "strict-serializable") -> None:
        self.model = model_named(consistency_model)

    @property
    def name(self) -> str:
        """The name results and reports carry."""
        return "list-append"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge the transactions of a recorded run; raises BudgetExceeded when nothing was found in time."""
        return _check_records(self, recording, "append", budget)

    def check_file(self, path: Path, budget: Budget) -> Result:
        """Judge a history.jsonl of any size without holding its records."""
        return _check_file(self, path, "append", budget)

    def check_transactions(self, txns: Transactions, budget: Budget, fetch: Fetch | None = None) -> Result:
        """Judge columns in memory; ``fetch`` gives the records of a finding, if there are any."""
        return _judge(self.name, self.model, txns, _analyse_lists, fetch or _no_records, budget)


class RwRegisterChecker:
    """Judges transactions of ``["w", key, value]`` and ``["r", key, value]``.

    Every value is to be written to a key at most once, and nil never, or the
    verdict is UNKNOWN.  ``key_orders`` are assumptions from which more of the
    version orders is inferred: "wfr", "sequential", "linearizable" (see
    ``register_order``).  They are the caller's: where they do not hold for the
    system, what is found may not be the system's fault.

    Raises ConfigError for a model or an order that is not known.
    """

    def __init__(
        self, consistency_model: str = "strict-serializable", *, key_orders: Collection[KeyOrder] = ()
    ) -> None:
        known: tuple[KeyOrder, ...] = ("wfr", "sequential", "linearizable")
        for order in key_orders:
            if order not in known:
                raise ConfigError(unknown("order of keys", order, known))
        self.model = model_named(consistency_model)
        self.key_orders = tuple(order for order in known if order in key_orders)

    @property
    def name(self) -> str:
        """The name results and reports carry."""
        return "rw-register"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge the transactions of a recorded run; raises BudgetExceeded when nothing was found in time."""
        return _check_records(self, recording, "w", budget)

    def check_file(self, path: Path, budget: Budget) -> Result:
        """Judge a history.jsonl of any size without holding its records."""
        return _check_file(self, path, "w", budget)

    def check_transactions(self, txns: Transactions, budget: Budget, fetch: Fetch | None = None) -> Result:
        """Judge columns in memory; ``fetch`` gives the records of a finding, if there are any."""

        def analyse(txns: Transactions, budget: Budget) -> Analysis | str:
            return _analyse_registers(txns, self.key_orders, budget)

        return _judge(self.name, self.model, txns, analyse, fetch or _no_records, budget)


def _no_records(places: Iterable[int]) -> Mapping[int, Op]:
    return {}


def _check_records(
    checker: ListAppendChecker | RwRegisterChecker, recording: Recording, dialect: Dialect, budget: Budget
) -> Result:
    from splitvote.checkers.isolation.transactions import numbered, own_numbers, transactions_of

    history = recording.history
    txns = transactions_of(history, dialect)
    budget.check(len(history))
    numbers = own_numbers(history)
    if numbers is None:
        return checker.check_transactions(txns, budget, lambda places: {at: history[at] for at in places if at >= 0})
    place_of = {number: place for place, number in enumerate(numbers.tolist())}
    return checker.check_transactions(
        numbered(txns, numbers), budget, lambda told: {at: history[place_of[at]] for at in told if at >= 0}
    )


def _check_file(checker: ListAppendChecker | RwRegisterChecker, path: Path, dialect: Dialect, budget: Budget) -> Result:
    from splitvote.checkers.isolation.transactions import read_records, read_transactions

    txns = read_transactions(path, dialect)
    budget.check(len(txns))
    return checker.check_transactions(txns, budget, lambda places: read_records(path, places))


def _analyse_lists(txns: Transactions, budget: Budget) -> Analysis | str:
    from splitvote.checkers.isolation.explain import ListExplainer
    from splitvote.checkers.isolation.list_append import list_findings
    from splitvote.checkers.isolation.list_order import list_edges, order_lists
    from splitvote.checkers.isolation.writes import index_writes, touches

    owner = txns.owner()
    writes, twice = index_writes(txns)
    if twice:
        return _not_unique("appended", twice)
    order = order_lists(txns, writes)
    budget.check(len(owner))
    findings = list_findings(txns, owner, writes, order, touches(txns, owner))
    budget.check(len(owner))
    edges, stations = list_edges(txns, owner, order, len(txns))
    return Analysis(findings, edges, stations, ListExplainer(txns, owner, order))


def _analyse_registers(txns: Transactions, key_orders: Collection[KeyOrder], budget: Budget) -> Analysis | str:
    from splitvote.checkers.isolation.explain import RegisterExplainer
    from splitvote.checkers.isolation.register_order import number_versions, register_edges, version_orders
    from splitvote.checkers.isolation.rw_register import register_findings, settle_orders
    from splitvote.checkers.isolation.transactions import NIL
    from splitvote.checkers.isolation.writes import index_writes, touches

    owner = txns.owner()
    writes, twice = index_writes(txns)
    if twice:
        return _not_unique("written", twice)
    if (txns.value[~txns.is_read] == NIL).any():
        return "a transaction wrote nil, which cannot be told from the initial state; write values that are not null"
    groups = touches(txns, owner)
    versions = number_versions(txns, owner, groups)
    budget.check(len(owner))
    findings = register_findings(txns, owner, writes, groups, versions)
    budget.check(len(owner))
    orders = settle_orders(txns, versions, version_orders(txns, owner, groups, versions, key_orders), findings)
    edges, stations = register_edges(txns, owner, versions, orders, len(txns))
    return Analysis(findings, edges, stations, RegisterExplainer(txns, owner, versions, orders))


def _not_unique(verb: str, twice: list[tuple[Any, Any]]) -> str:
    key, value = twice[0]
    return (
        f"{value!r} was {verb} to key {key!r} more than once, so that who read it cannot be told; "
        "the workload must choose a new value for every write of a key"
    )


def _judge(name: str, model: str, txns: Transactions, analyse: Analyse, fetch: Fetch, budget: Budget) -> Result:
    """Analyse, look for cycles, and tell what was found."""
    from splitvote.checkers.isolation.telling import tell_case, tell_cycle, tell_unshown

    variants = variants_of(model)
    analysis = analyse(txns, budget)
    stats = _stats(txns)
    if isinstance(analysis, str):
        return Result(name, Verdict.UNKNOWN, reason=analysis, stats=stats)
    stats["dependencies"] = len(analysis.edges)
    found, cut_short = _cycles(txns, analysis, variants, stats, budget)
    forbidden = forbidden_by(model)
    anomalies = [tell_case(case, txns, fetch) for case in analysis.findings.cases if case.name in forbidden]
    anomalies += [
        tell_cycle(cycle, txns, analysis.explainer, fetch) for cycle in found.cycles if cycle.name in forbidden
    ]
    shown = {cycle.name for cycle in found.cycles}
    anomalies += [tell_unshown(kind, found.smallest[kind]) for kind in found.components if kind in forbidden - shown]
    counts = analysis.findings.counts | found.components
    return _result(name, model, variants, anomalies, counts, cut_short or _nothing_to_order(txns, analysis), stats)


def _cycles(
    txns: Transactions, analysis: Analysis, variants: tuple[str, ...], stats: dict[str, Any], budget: Budget
) -> tuple[Survey, str | None]:
    """What cycles there are; and why the search for them ended early, if it did.

    Raises BudgetExceeded only where nothing that would stand without it was found.
    """
    from splitvote.checkers.isolation.graph import PROCESS, REALTIME
    from splitvote.checkers.isolation.survey import Survey, survey
    from splitvote.checkers.isolation.tangle import untangle

    orders = tuple(kind for kind, variant in ((PROCESS, "-process"), (REALTIME, "-realtime")) if variant in variants)
    try:
        tangle = untangle(txns, analysis.edges, analysis.stations, orders, budget)
        stats["components"] = len(tangle.sizes)
        if not tangle:
            return Survey(), None
        stats["largest_component"] = int(tangle.sizes[-1])
        found = survey(tangle, variants, budget)
    except BudgetExceeded as exceeded:
        if not analysis.findings.counts:
            raise
        return Survey(), str(exceeded)
    return found, None if found.is_complete else "a component was too large to decide every type of cycle"


def _nothing_to_order(txns: Transactions, analysis: Analysis) -> str | None:
    """Elle's empty transaction graph: no two transactions have anything to do with each other."""
    from splitvote.checkers.isolation.transactions import OK

    answered = txns.complete[txns.type == OK]
    in_sequence = len(answered) and answered.min() < txns.invoke[txns.possible()].max()
    if len(analysis.edges) or in_sequence:
        return None
    return "no two transactions depend on each other or follow one another, so that there is nothing to judge"


def _stats(txns: Transactions) -> dict[str, Any]:
    from splitvote.checkers.isolation.transactions import FAIL, INFO, OK

    outcomes = {"ok": OK, "failed": FAIL, "unknown": INFO}
    sizes = {"transactions": len(txns), "micro_ops": len(txns.key), "keys": len(txns.keys)}
    return sizes | {word: int((txns.type == code).sum()) for word, code in outcomes.items()}


def _result(
    name: str,
    model: str,
    variants: tuple[str, ...],
    anomalies: list[Anomaly],
    counts: dict[str, int],
    doubt: str | None,
    stats: dict[str, Any],
) -> Result:
    """The verdict; ``doubt`` says why silence would prove nothing."""
    weakest, others = boundary(counts)
    anomalies.sort(key=lambda anomaly: -len(ruled_out([anomaly.name])))
    evidence = {
        "model": model,
        "not": weakest,
        "also_not": others,
        "strongest_left": [] if doubt else strongest_left(counts, cycles_of(variants)),
        "anomaly_types": sorted({anomaly.name for anomaly in anomalies}),
        "counts": dict(sorted(counts.items())),
    }
    if anomalies:
        names = ", ".join(dict.fromkeys(anomaly.name for anomaly in anomalies))
        reason = f"not {model}: {names}; ruled out: {', '.join(weakest)}" + (f" ({doubt})" if doubt else "")
        return Result(name, Verdict.INVALID, reason, tuple(anomalies), evidence, stats)
    if doubt is not None:
        return Result(name, Verdict.UNKNOWN, doubt, (), evidence, stats)
    return Result(name, Verdict.VALID, None, (), evidence, stats)
