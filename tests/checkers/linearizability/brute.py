"""An independent oracle: try every order, against systems written apart from the product's models.

Nothing here is clever, and nothing is shared with the engines but the
``Operation`` tuple: a history is linearizable if some order of its operations,
each placed between its call and its return, is one that the system could have
answered.  An operation without a return may be placed anywhere after its call,
or left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from splitvote.checkers.linearizability import FAILED, UNKNOWN_OUTPUT, Operation
from splitvote.checkers.linearizability.models.etcd import Answer
from tests.checkers.linearizability.systems import System, Untold


def is_linearizable(system: System, history: Sequence[Operation]) -> bool:
    """Search all orders, remembering (operations placed, state)."""
    ends = [operation.return_ for operation in history]
    must = sum(1 << i for i, end in enumerate(ends) if end is not None)
    seen = set()

    def search(placed: int, state: object) -> bool:
        if placed & must == must:
            return True
        if (placed, state) in seen:
            return False
        seen.add((placed, state))
        limit = min(end for i, end in enumerate(ends) if end is not None and not placed >> i & 1)
        return any(
            search(placed | 1 << i, after)
            for i, operation in enumerate(history)
            if not placed >> i & 1 and operation.call <= limit
            for answer, after in system.outcomes(state, operation.input)
            if agrees(operation.output, answer)
        )

    return search(0, system.initial)


def agrees(told: object, answer: object) -> bool:
    """Whether a client told this may have got this answer; of an answer untold, None says no more than success."""
    if told is UNKNOWN_OUTPUT:
        return True
    if (told is FAILED) != (answer is FAILED):
        return False
    if isinstance(answer, Untold):
        return told is None or told == answer.value
    if isinstance(told, Answer) and isinstance(answer, Answer):
        return told.revision in (None, answer.revision) and told.result == answer.result
    return told == answer
