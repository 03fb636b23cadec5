"""A violation in words that a user understands."""

from __future__ import annotations

from typing import Any

from splitvote.checkers.linearizability.problem import IS, GuardedSteps, Problem
from splitvote.checkers.linearizability.witness import Witness, describe

SHOWN = 8
"""Operations of the core that the story names; the anomaly carries them all."""


def tell(problem: Problem, witness: Witness, key: Any = None) -> str:
    """Say what happened: what cannot be, after what, and why."""
    where = "" if key is None else f"key {key!r}: "
    culprit = _unwritten(problem, witness) or _cannot_be_ordered(problem, witness)
    return where + culprit


def _unwritten(problem: Problem, witness: Witness) -> str | None:
    """A lone operation that saw a value which nobody had asked to write by the time it returned."""
    steps, classes = problem.steps, problem.classes
    if len(witness.core) != 1 or not isinstance(steps, GuardedSteps) or steps.tests[classes[witness.core[0]]] != IS:
        return None
    number = witness.core[0]
    wanted = steps.operands[classes[number]]
    later = [
        other for other in range(len(problem.operations)) if steps.assigns[classes[other]] == wanted and other != number
    ]
    ending = (
        f"but {_who(problem, later[0])} asked for that value only later"
        if later
        else "but nothing that can have taken effect ever wrote that value"
    )
    return f"{_who(problem, number)} {describe(problem, number)}, {ending}."


def _cannot_be_ordered(problem: Problem, witness: Witness) -> str:
    core = witness.core
    lines = "; ".join(
        f"({at}) {_who(problem, number)} {describe(problem, number)}{_after(problem, core, at - 1)}"
        for at, number in enumerate(core[:SHOWN], 1)
    )
    more = f"; and {len(core) - SHOWN} more" if len(core) > SHOWN else ""
    states = list(dict.fromkeys(map(problem.model.describe_state, witness.states)))
    left = states[0] if len(states) == 1 else "one of " + ", ".join(states[:SHOWN])
    return (
        f"no order of these operations explains what the clients saw, whenever the others took effect: {lines}{more}. "
        f"The {len(witness.prefix)} operations before can be ordered and leave the state {left}; "
        f"then {_who(problem, witness.stuck)} {describe(problem, witness.stuck)}, which fits nowhere."
    )


def _after(problem: Problem, core: list[int], at: int) -> str:
    """Name the last core operations that had returned before this one was called: the order that binds."""
    before = _earlier(problem, core, at)
    last = [place for place in before if not any(place in _earlier(problem, core, other) for other in before)]
    if not last:
        return "" if at == 0 else ", meanwhile"
    names = [f"({place + 1})" for place in last]
    return ", after " + (names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]) + " had ended"


def _earlier(problem: Problem, core: list[int], at: int) -> list[int]:
    call = problem.operations[core[at]].call
    returns = [problem.operations[number].return_ for number in core[:at]]
    return [place for place, ended in enumerate(returns) if ended is not None and ended < call]


def _who(problem: Problem, number: int) -> str:
    return f"process {problem.operations[number].client_id}"
