"""Differential fuzzing of every model and engine against the brute force.

    python tests/checkers/linearizability/fuzz.py --histories 50000 --seed 1

Each engine judges the same random histories of 6 to 14 operations as an oracle
that shares no code with them.  The fuzz itself fails when its histories are too
tame: fewer than a fifth with operations that never returned, or less than a
quarter of either verdict, for any system.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

if __package__ is None:  # run as a script: find the repository's own tests
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from splitvote.checkers.linearizability import (
    FAILED,
    UNKNOWN_OUTPUT,
    CheckResult,
    Model,
    NondeterministicModel,
    Operation,
)
from splitvote.checkers.linearizability.columns import CAS, READ, WRITE, Columns, from_problem, from_register
from splitvote.checkers.linearizability.compiled import engine_available, search_compiled
from splitvote.checkers.linearizability.engines import Decision, decide, locate
from splitvote.checkers.linearizability.guided import ColumnsOutcome, decide_columns
from splitvote.checkers.linearizability.models.etcd import Compact
from splitvote.checkers.linearizability.problem import GuardedSteps, Problem, encode
from splitvote.checkers.linearizability.revisions import order_by_places
from splitvote.checkers.linearizability.search import SearchOutcome, search
from splitvote.checkers.linearizability.story import tell
from splitvote.checkers.linearizability.witness import explain, replay
from splitvote.checkers.linearizability.zones import ZonesOutcome, decide_by_zones
from splitvote.harness.result import Budget
from tests.checkers.linearizability.brute import is_linearizable
from tests.checkers.linearizability.etcd_system import ETCD
from tests.checkers.linearizability.histories import record, spoil
from tests.checkers.linearizability.systems import SMALL_SYSTEMS, System

SYSTEMS = [*SMALL_SYSTEMS, ETCD]

STEPS = 200_000
"""A bound for searches, which a small history never needs (a broken engine may)."""

Engine = Callable[[Model, Sequence[Operation]], CheckResult]
"""Decides a history; UNKNOWN where the engine does not apply."""

Search = Callable[..., SearchOutcome]
DecideByZones = Callable[[Columns], ZonesOutcome]
DecideColumns = Callable[..., ColumnsOutcome]
OrderByPlaces = Callable[[Problem, Sequence[Any]], list[int] | None]


def pure(model: Model, history: Sequence[Operation]) -> CheckResult:
    return search_with(search, model, history)


def search_with(run: Search, model: Model, history: Sequence[Operation]) -> CheckResult:
    """A search, whose linearization (of all, or of the longest prefix) must be one."""
    problem = encode(model, history)
    outcome = run(problem, Budget(max_steps=STEPS))
    assert_linearization(problem, replay(problem, outcome.choices), up_to=outcome.furthest)
    return outcome.result


def compiled(model: Model, history: Sequence[Operation]) -> CheckResult:
    """The C search, which must also take the same steps as the Python one."""
    if not engine_available():
        return CheckResult.UNKNOWN
    problem = encode(model, history)
    outcome = search_compiled(problem)
    assert outcome == search(problem), f"the C search and the Python one part ways on {history}"
    return outcome.result


def zones(model: Model, history: Sequence[Operation]) -> CheckResult:
    return zones_with(decide_by_zones, model, history)


def zones_with(decide_by: DecideByZones, model: Model, history: Sequence[Operation]) -> CheckResult:
    """Zones alone; only failed compare-and-sets may leave them undecided."""
    problem = encode(model, history)
    if not isinstance(problem.steps, GuardedSteps):
        return CheckResult.UNKNOWN
    outcome = decide_by(from_problem(problem))
    assert outcome.deadline is None or outcome.order is not None, "the order that zones found is not a linearization"
    return outcome.result or CheckResult.UNKNOWN


def zones_and_search(model: Model, history: Sequence[Operation]) -> CheckResult:
    return columns_with(decide_columns, model, history)


def columns_with(decide_by: DecideColumns, model: Model, history: Sequence[Operation]) -> CheckResult:
    """Zones, and the search where they cannot tell, with the order they found."""
    problem = encode(model, history)
    if not isinstance(problem.steps, GuardedSteps):
        return CheckResult.UNKNOWN
    outcome = decide_by(from_problem(problem), Budget(max_steps=STEPS), search)
    if outcome.result is None:
        return CheckResult.UNKNOWN
    if outcome.searched or outcome.result is CheckResult.OK:
        up_to = len(problem.events) if outcome.stuck_at is None else outcome.stuck_at
        assert_linearization(problem, outcome.linearize(), up_to=up_to)
    return outcome.result


def arrays(model: Model, history: Sequence[Operation]) -> CheckResult:
    return arrays_with(from_register, model, history)


def arrays_with(to_columns: Callable[..., Columns], model: Model, history: Sequence[Operation]) -> CheckResult:
    """A register's history as plain arrays with its own clock, calls and returns at equal times included."""
    if model.name not in ("register", "cas-register"):
        return CheckResult.UNKNOWN
    codes = {"read": READ, "write": WRITE, "cas": CAS}
    rows = []
    for operation in history:
        f, value = operation.input
        first, second = value if f == "cas" else (value, None)
        seen = 0 if operation.output is FAILED else 1 if f == "cas" else operation.output
        row = [codes[f], first, second, None if seen is UNKNOWN_OUTPUT else seen, operation.call, operation.return_]
        rows.append([-1 if item is None else item for item in row])
    columns = to_columns(*np.array(rows, np.int64).reshape(-1, 6).T)
    return decide_columns(columns, Budget(max_steps=STEPS), search).result or CheckResult.UNKNOWN


def revisions(model: Model, history: Sequence[Operation]) -> CheckResult:
    return revisions_with(order_by_places, model, history)


def revisions_with(order_by: OrderByPlaces, model: Model, history: Sequence[Operation]) -> CheckResult:
    """The order that the answers tell, which must be a linearization if it is one at all."""
    problem = encode(model, history)
    if model.places is None:
        return CheckResult.UNKNOWN
    places = model.places(history)
    order = order_by(problem, places)
    if order is None:
        tells_all = None not in places and not any(isinstance(operation.input, Compact) for operation in history)
        assert not tells_all or search(problem).result is CheckResult.ILLEGAL, "the order told by answers was not found"
        return CheckResult.UNKNOWN
    assert_linearization(problem, order, up_to=len(problem.events))
    return CheckResult.OK


def chosen(model: Model, history: Sequence[Operation]) -> CheckResult:
    """What a user gets, the evidence included (of a third of the histories, for it takes longer)."""
    decision = decide(model, history, Budget())
    if decision.result is CheckResult.ILLEGAL and len(history) % 3 == 0:
        assert_evidence(model, history, locate(decision, Budget()))
    return decision.result


def assert_evidence(model: Model, history: Sequence[Operation], decision: Decision) -> None:
    """Check a witness: the prefix can be ordered; the core is bad alone, and with all others forgiven."""
    problem, furthest, order = decision.problem, decision.furthest, decision.linearize()
    assert furthest is not None
    assert_linearization(problem, order, up_to=furthest)
    witness = explain(problem, furthest, order, Budget(), nodes=decision.nodes, evidence=decision.evidence)
    assert search(encode(model, [history[number] for number in witness.core])).result is CheckResult.ILLEGAL
    forgiven = [
        operation if number in witness.core else operation._replace(return_=None)
        for number, operation in enumerate(history)
        if number in witness.core or operation.call <= history[witness.stuck].return_
    ]
    assert search(encode(model, forgiven)).result is CheckResult.ILLEGAL
    assert tell(problem, witness)


def assert_linearization(problem: Problem, order: Sequence[int], *, up_to: int) -> None:
    """Check an order of operations against the model and real time: all that returned before a place, each legal."""
    placed = {number: place for place, number in enumerate(order)}
    assert len(placed) == len(order), "an operation is placed twice"
    returned = []
    for event in problem.events[:up_to]:
        if event >= 0:
            for earlier in returned:
                assert placed[earlier] < placed.get(event, len(order)), "real time is not respected"
        else:
            returned.append(~event)
    state = problem.model.init()
    for number in order:
        operation = problem.operations[number]
        legal, state = problem.model.step(state, operation.input, operation.output)
        assert legal, f"{operation} is not legal in its place"


ENGINES: dict[str, Engine] = {
    "search (Python)": pure,
    "search (C)": compiled,
    "zones": zones,
    "zones + search": zones_and_search,
    "arrays": arrays,
    "revisions": revisions,
    "as chosen": chosen,
}


def cases(system: System, count: int, seed: int) -> Iterator[tuple[list[Operation], bool]]:
    """Yield histories with the oracle's verdict, spoiling more or less so that both verdicts stay common."""
    rng = random.Random(f"{seed} {system.name}")
    linearizable = 0
    for made in range(count):
        history = record(
            system,
            rng,
            count=rng.randrange(6, 15),
            clients=rng.randrange(2, 6),
            crash=rng.choice([0, 0, 0.1, 0.3]),
        )
        if rng.random() < 0.1:
            history = squeeze(history)
        verdict = is_linearizable(system, history)
        wanted = 2 * linearizable <= made
        for _ in range(rng.randrange(24) if verdict and not wanted else rng.randrange(2)):
            history = spoil(history, rng)
            verdict = is_linearizable(system, history)
            if verdict == wanted:
                break
        linearizable += verdict
        yield history, verdict


@cache
def known_cases(system: System, count: int, seed: int) -> list[tuple[list[Operation], bool]]:
    """The same, kept: the oracle takes longer than the engines."""
    return list(cases(system, count, seed))


def squeeze(history: Sequence[Operation]) -> list[Operation]:
    """Halve the clock's resolution, so that calls and returns fall together."""
    return [
        operation._replace(
            call=operation.call // 2, return_=None if operation.return_ is None else operation.return_ // 2
        )
        for operation in history
    ]


def model_of(system: System) -> Model:
    model = system.model()
    return model.to_model() if isinstance(model, NondeterministicModel) else model


def find_disagreement(
    system: System, engine: Engine, count: int, seed: int
) -> tuple[list[Operation], bool, CheckResult] | None:
    """Return the first history that an engine judges otherwise than the oracle."""
    model = model_of(system)
    for history, verdict in known_cases(system, count, seed):
        result = engine(model, history)
        if result is not CheckResult.UNKNOWN and (result is CheckResult.OK) != verdict:
            return history, verdict, result
    return None


def fuzz(system: System, count: int, seed: int, deadline: float = float("inf")) -> Counter[str]:
    """Judge ``count`` histories of one system with every engine; raises AssertionError at the first disagreement."""
    model = model_of(system)
    tally: Counter[str] = Counter()
    for history, verdict in cases(system, count, seed):
        if time.monotonic() > deadline:
            break
        tally["histories"] += 1
        tally["linearizable"] += verdict
        tally["crashed"] += any(operation.return_ is None for operation in history)
        for name, engine in ENGINES.items():
            result = engine(model, history)
            tally[name] += result is not CheckResult.UNKNOWN
            assert result is CheckResult.UNKNOWN or (result is CheckResult.OK) == verdict, (
                f"{system.name}, seed {seed}: {name} says {result}, the oracle "
                f"{'Ok' if verdict else 'Illegal'}, of {history}"
            )
    return tally


def assert_varied(system: System, tally: Counter[str]) -> None:
    """Raise AssertionError where the histories were too tame to find anything."""
    count = tally["histories"]
    share = tally["linearizable"] / count
    assert 0.25 <= share <= 0.75, f"{system.name}: {share:.0%} of the histories are linearizable"
    assert tally["crashed"] / count >= 0.2, f"{system.name}: {tally['crashed'] / count:.0%} have crashed operations"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fuzz the linearizability engines against a brute force.")
    parser.add_argument("--histories", type=int, default=50_000, help="histories in all (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same histories")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop early, without failing")
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + options.seconds
    each = -(-options.histories // len(SYSTEMS))
    total = 0
    for system in SYSTEMS:
        tally = fuzz(system, each, options.seed, deadline)
        if tally["histories"] < min(each, 200):
            print(f"out of time before {system.name}")
            break
        assert_varied(system, tally)
        total += tally["histories"]
        decided = ", ".join(f"{name} {tally[name]}" for name in ENGINES)
        print(
            f"{system.name:24} {tally['histories']:6} histories, {tally['linearizable'] / tally['histories']:4.0%} "
            f"linearizable, {tally['crashed'] / tally['histories']:4.0%} with crashes; decided: {decided}",
            flush=True,
        )
    print(f"{total} histories, seed {options.seed}: no engine disagrees with the brute force")
    return 0


if __name__ == "__main__":
    sys.exit(main())
