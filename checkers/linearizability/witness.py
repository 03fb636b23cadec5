"""Why a history is not linearizable: the longest prefix that is, what fits nowhere after it, and a small core.

The *core* is a few operations that cannot be ordered even if every other
operation is forgiven: the others keep nothing but the right to have taken
effect at any time after their call, or never, and the others that only read are
dropped.  Forgiving never makes a good history bad, so a bad core proves the
whole history bad; and since the core is still bad with the others' help, it is
bad alone.  (Leaving operations *out* would prove nothing: a read of 3 is bad
without the write of 3.)  It is made small by delta debugging under a bound
(Zeller & Hildebrandt, "Simplifying and isolating failure-inducing input", 2002).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from splitvote.checkers.linearizability.model import CheckResult, Operation
from splitvote.checkers.linearizability.problem import ANY, IS, IS_NOT, GuardedSteps, Problem
from splitvote.checkers.linearizability.search import Table, Trail, search
from splitvote.harness.result import Budget

TRIALS: Final = 400
"""Searches spent on making one core small."""

FREE_TRIALS: Final = 20
"""Those of them that are made even if the budget's time is up."""

TRIAL_NODES: Final = 4_000
"""Configurations explored in one of them; a trial that needs more counts as not bad."""

STATES_NODES: Final = 20_000
"""Searches up to this size are repeated to collect every state the prefix may have left."""


@dataclass(frozen=True, slots=True)
class Witness:
    """The evidence against one history; numbers are places in ``Problem.operations``.

    ``prefix`` is a linearization of the longest linearizable prefix (the events
    before the return of ``stuck``) and ``states`` what it leaves: the state of
    that linearization first, then those of others.  ``candidates`` are the
    operations open at that point that had not taken effect.  ``core`` is the
    small bad set, in order of call.
    """

    stuck: int
    prefix: list[int]
    states: list[Any]
    candidates: list[int]
    core: list[int]


def replay(problem: Problem, choices: Sequence[int]) -> list[int]:
    """Return the linearization that a search's choices stand for, the eager reads put back in."""
    steps, classes, optional = problem.steps, problem.classes, problem.optional
    table = Table(steps.step)
    state = steps.initial
    order: list[int] = []
    pending: dict[int, None] = {}
    left = iter(choices)

    def take_reads(candidates: Iterable[int]) -> None:
        for operation in candidates:
            cls = classes[operation]
            if steps.read_only[cls] and not optional[operation] and table[state][cls] == state:
                del pending[operation]
                order.append(operation)

    for event in problem.events:
        if event >= 0:
            pending[event] = None
            take_reads([event])
            continue
        while ~event in pending:
            operation = next(left, None)
            if operation is None:
                return order
            del pending[operation]
            order.append(operation)
            after = table[state][classes[operation]]
            if after != state:
                state = after
                take_reads(list(pending))
    return order


def state_after(problem: Problem, order: Sequence[int]) -> int:
    """Return the state that an order of operations leaves."""
    table, state = Table(problem.steps.step), problem.steps.initial
    for operation in order:
        state = table[state][problem.classes[operation]]
    return state


def states_along(problem: Problem, order: Sequence[int], last: int) -> list[int]:
    """Return the states that the last operations of an order leave, one after each."""
    kept = order[max(0, len(order) - last) :]
    table, state = Table(problem.steps.step), state_after(problem, order[: len(order) - len(kept)])
    states = []
    for operation in kept:
        state = table[state][problem.classes[operation]]
        states.append(state)
    return states


def explain(
    problem: Problem,
    furthest: int,
    order: Sequence[int],
    budget: Budget,
    *,
    nodes: int = 0,
    evidence: Sequence[int] = (),
) -> Witness:
    """Explain why no linearization passes the return at ``furthest``, ``order`` being one of what is before it.

    ``nodes`` is what the search took to find out (it is repeated if that is
    cheap), ``evidence`` what another engine named as a bad set.
    """
    stuck = ~problem.events[furthest]
    first = state_after(problem, order)
    states = [first, *(state for state in _states_at(problem, furthest, nodes) if state != first)]
    placed = set(order)
    open_operations = [event for event in problem.events[:furthest] if event >= 0 and event not in placed]
    return Witness(
        stuck=stuck,
        prefix=list(order),
        states=[problem.steps.state(state) for state in states],
        candidates=[operation for operation in open_operations if operation != stuck],
        core=_Shrinker(problem, furthest, budget).core(evidence),
    )


def _states_at(problem: Problem, furthest: int, nodes: int) -> list[int]:
    """Every state in which a linearization of the longest prefix may leave the system, if that is cheap to know."""
    if not 0 < nodes <= STATES_NODES:
        return []
    found: dict[int, None] = {}
    prefix = problem.until(furthest)

    def note(place: int, state: int, _: Trail) -> None:
        if place == len(prefix.events) - 1:
            found[state] = None

    search(prefix, Budget(max_steps=STATES_NODES), on_configuration=note)
    return list(found)


class _Shrinker:
    """Delta debugging on the events up to ``furthest``, whose return no linearization passes."""

    def __init__(self, problem: Problem, furthest: int, budget: Budget) -> None:
        self.problem = problem
        self.stuck = ~problem.events[furthest]
        self.budget = budget
        self.trials = 0
        events = problem.events[: furthest + 1]
        self.calls = {event: place for place, event in enumerate(events) if event >= 0}
        self.returns = {~event: place for place, event in enumerate(events) if event < 0}
        self.returned = list(self.returns)
        read_only = problem.steps.read_only
        self.writes = [operation for operation in self.calls if not read_only[problem.classes[operation]]]
        steps = problem.steps
        is_simple = isinstance(steps, GuardedSteps) and not steps.is_exotic
        self.helpers = _Helpers(problem, self.writes) if is_simple else None

    def core(self, evidence: Sequence[int]) -> list[int]:
        """Return a small bad set, in order of call; ``evidence`` is tried first."""
        returned = set(self.returned)
        named = [operation for operation in evidence if operation in returned]
        core = next((start for start in (named, *self._starts()) if self._is_bad(start)), self.returned)
        parts = 2
        while len(core) > 1 and self._affordable():
            size = -(-len(core) // parts)
            for at in range(0, len(core), size):
                rest = core[:at] + core[at + size :]
                if self._is_bad(rest):
                    core, parts = rest, max(parts - 1, 2)
                    break
            else:
                if size == 1:
                    break
                parts = min(len(core), 2 * parts)
        return sorted(core, key=self.calls.__getitem__)

    def _starts(self) -> Iterator[list[int]]:
        """Guess cores before trying everything: the stuck one's relatives and the last few to return."""
        relatives = self._relatives()
        reach = 4
        while reach < len(self.returned):
            recent = self.returned[-reach:]
            yield [*(operation for operation in relatives if operation not in recent), *recent]
            reach *= 4

    def _relatives(self) -> list[int]:
        """Operations that assign what the stuck one asks for."""
        steps, classes = self.problem.steps, self.problem.classes
        if not isinstance(steps, GuardedSteps) or steps.tests[classes[self.stuck]] != IS:
            return []
        wanted = steps.operands[classes[self.stuck]]
        return [operation for operation in self.returned if steps.assigns[classes[operation]] == wanted][-8:]

    def _affordable(self) -> bool:
        """Whether another trial may be made: the first few always, for evidence is worth a moment more."""
        remaining_s = self.budget.remaining_s
        return self.trials < FREE_TRIALS or (self.trials < TRIALS and (remaining_s is None or remaining_s > 0))

    def _is_bad(self, core: Sequence[int]) -> bool:
        """Whether these cannot be ordered though all others are forgiven (undecided counts as no)."""
        if not core or not self._affordable():
            return False
        self.trials += 1
        outcome = search(self._forgiving(set(core)), Budget(max_steps=TRIAL_NODES))
        return outcome.result is CheckResult.ILLEGAL

    def _forgiving(self, core: set[int]) -> Problem:
        """Make every operation outside the core optional, as far as it can be of use; the reads among them go."""
        others = self.writes if self.helpers is None else self.helpers.of(core)
        events = [(self.calls[operation], operation) for operation in {*core, *others}]
        events += [(self.returns[operation], ~operation) for operation in core]
        optional = [True] * len(self.problem.optional)
        for operation in core:
            optional[operation] = False
        return replace(self.problem, events=[event for _, event in sorted(events)], optional=optional)


class _Helpers:
    """Which forgiven guarded assignments can be of use to a core, out of perhaps a million.

    They can lead to a state that one of the core asks for, or that such a helper
    asks for, or away from a state that one of the core must not find.  Of one
    class, and of those that only lead away, as many as there are core operations
    will do, the first called: between two of the core none is needed twice.
    """

    def __init__(self, problem: Problem, writes: Sequence[int]) -> None:
        steps = problem.steps
        assert isinstance(steps, GuardedSteps)
        self.steps = steps
        self.classes = problem.classes
        self.by_class: dict[int, list[int]] = {}
        self.assigning: dict[int, list[int]] = {}
        self.asking: dict[int, list[int]] = {}
        for operation in writes:
            cls = problem.classes[operation]
            if cls not in self.by_class:
                self.by_class[cls] = []
                self.assigning.setdefault(steps.assigns[cls], []).append(cls)
                if steps.tests[cls] == IS:
                    self.asking.setdefault(steps.operands[cls], []).append(cls)
            self.by_class[cls].append(operation)
        self.unconditional = [write for write in writes if steps.tests[problem.classes[write]] == ANY]

    def of(self, core: set[int]) -> list[int]:
        """Return the operations outside the core that can be of use to it."""
        tests, operands = self.steps.tests, self.steps.operands
        kinds = {self.classes[operation] for operation in core}
        asked = [operands[cls] for cls in sorted(kinds) if tests[cls] == IS]
        denied = [operands[cls] for cls in sorted(kinds) if tests[cls] == IS_NOT]
        useful = dict.fromkeys(cls for state in denied for cls in self.asking.get(state, ()))
        for state in denied:
            useful.update(dict.fromkeys(self.assigning.get(state, ())))
        known = set(asked)
        while asked:
            for cls in self.assigning.get(asked.pop(), ()):
                useful[cls] = None
                if tests[cls] == IS and operands[cls] not in known:
                    known.add(operands[cls])
                    asked.append(operands[cls])
        bound = len(core) + 1
        found = [operation for cls in useful for operation in self.by_class[cls][: 2 * bound] if operation not in core]
        if denied:
            away = (write for write in self.unconditional if self.steps.assigns[self.classes[write]] not in denied)
            found += islice((write for write in away if write not in core), bound)
        return found


def describe(problem: Problem, number: int) -> str:
    """Say in words what an operation did."""
    operation: Operation = problem.operations[number]
    return problem.model.describe_operation(operation.input, operation.output)
