"""Differential fuzzing of every model and engine against the brute force.

    python -m tests.checkers.linearizability.fuzz --histories 50000 --seed 1

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

from splitvote.checkers.linearizability import CheckResult, Model, NondeterministicModel, Operation
from splitvote.checkers.linearizability.columns import from_problem
from splitvote.checkers.linearizability.compiled import engine_available, search_compiled
from splitvote.checkers.linearizability.engines import decide
from splitvote.checkers.linearizability.guided import decide_columns
from splitvote.checkers.linearizability.problem import GuardedSteps, Problem, encode
from splitvote.checkers.linearizability.revisions import order_by_places
from splitvote.checkers.linearizability.search import search
from splitvote.checkers.linearizability.witness import replay
from splitvote.checkers.linearizability.zones import decide_by_zones
from splitvote.harness.result import Budget
from tests.checkers.linearizability.brute import is_linearizable
from tests.checkers.linearizability.etcd_system import ETCD
from tests.checkers.linearizability.histories import record, spoil
from tests.checkers.linearizability.systems import SMALL_SYSTEMS, System

SYSTEMS = [*SMALL_SYSTEMS, ETCD]

Engine = Callable[[Model, Sequence[Operation]], CheckResult]
"""Decides a history; UNKNOWN where the engine does not apply."""


def pure(model: Model, history: Sequence[Operation]) -> CheckResult:
    problem = encode(model, history)
    outcome = search(problem)
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
    problem = encode(model, history)
    if not isinstance(problem.steps, GuardedSteps):
        return CheckResult.UNKNOWN
    return decide_by_zones(from_problem(problem)).result or CheckResult.UNKNOWN


def zones_and_search(model: Model, history: Sequence[Operation]) -> CheckResult:
    problem = encode(model, history)
    if not isinstance(problem.steps, GuardedSteps):
        return CheckResult.UNKNOWN
    outcome = decide_columns(from_problem(problem), Budget(), search)
    if outcome.result is None:
        return CheckResult.UNKNOWN
    if outcome.searched:
        up_to = len(problem.events) if outcome.stuck_at is None else outcome.stuck_at
        assert_linearization(problem, outcome.linearize(), up_to=up_to)
    return outcome.result


def revisions(model: Model, history: Sequence[Operation]) -> CheckResult:
    problem = encode(model, history)
    if model.places is None:
        return CheckResult.UNKNOWN
    order = order_by_places(problem, model.places(history))
    if order is None:
        return CheckResult.UNKNOWN
    assert_linearization(problem, order, up_to=len(problem.events))
    return CheckResult.OK


def chosen(model: Model, history: Sequence[Operation]) -> CheckResult:
    """What a user gets."""
    return decide(model, history, Budget()).result


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
    for history, verdict in cases(system, count, seed):
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
