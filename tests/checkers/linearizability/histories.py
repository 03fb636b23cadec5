"""Random concurrent histories of a small system, some of them then spoilt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from splitvote.checkers.linearizability import FAILED, UNKNOWN_OUTPUT, Operation
from splitvote.checkers.linearizability.models.etcd import Answer
from tests.checkers.linearizability.etcd_system import misanswer
from tests.checkers.linearizability.systems import System, Untold

CRASHED = 5
"""Operations that may crash in one history: each may come anywhere after its call, and the oracle tries it all."""


class _Run:
    """One simulated run: clients invoke, the system takes effect at some moment, clients return."""

    def __init__(self, system: System, rng: random.Random) -> None:
        self.system = system
        self.rng = rng
        self.state = system.initial
        self.operations: list[list[Any]] = []
        self.time = 0
        self.fresh = 0

    def tick(self) -> int:
        self.time += 1
        return self.time

    def next_fresh(self) -> int:
        self.fresh += 1
        return self.fresh + 9

    def invoke(self, client: int) -> int:
        asked = self.system.draw(self.rng, self.state, self.next_fresh)
        self.operations.append([client, asked, self.tick(), UNKNOWN_OUTPUT, None])
        return len(self.operations) - 1

    def take_effect(self, number: int) -> None:
        operation = self.operations[number]
        outcomes = self.system.outcomes(self.state, operation[1])
        answer, self.state = outcomes[0] if self.rng.random() < 0.6 else self.rng.choice(outcomes[:3])
        if isinstance(answer, Untold):
            answer = answer.value if self.system.tells and self.rng.random() < 0.7 else None
        if isinstance(answer, Answer) and self.rng.random() < 0.1:
            answer = Answer(None, answer.result)
        operation[3] = answer


def record(system: System, rng: random.Random, *, count: int, clients: int, crash: float) -> list[Operation]:
    """Run ``count`` operations of a few clients; a share ``crash`` of them never returns."""
    run = _Run(system, rng)
    busy: dict[int, tuple[int, bool]] = {}
    ghosts: list[int] = []
    crashed = 0
    while len(run.operations) < count or busy:
        if ghosts and rng.random() < 0.15:
            number = ghosts.pop(rng.randrange(len(ghosts)))
            run.take_effect(number)
            run.operations[number][3] = UNKNOWN_OUTPUT
        client = rng.randrange(clients)
        if client not in busy:
            if len(run.operations) >= count:
                continue
            number = run.invoke(client)
            if crashed < CRASHED and rng.random() < crash:
                crashed += 1
                if rng.random() < 0.6:
                    ghosts.append(number)
            else:
                busy[client] = (number, False)
        elif not busy[client][1]:
            run.take_effect(busy[client][0])
            busy[client] = (busy[client][0], True)
        else:
            run.operations[busy.pop(client)[0]][4] = run.tick()
    return [Operation(*operation) for operation in run.operations]


def spoil(history: Sequence[Operation], rng: random.Random) -> list[Operation]:
    """Change an answer, or the time of a call or return, so that the history may have become impossible."""
    spoilt = list(history)
    returned = [place for place, operation in enumerate(spoilt) if operation.return_ is not None]
    if not returned:
        return spoilt
    place = rng.choice(returned)
    operation = spoilt[place]
    kind = rng.random()
    if not isinstance(operation.input, tuple):
        kind = max(kind, 0.6) if rng.random() < 0.3 else -1.0
    if kind < 0:
        spoilt[place] = operation._replace(output=misanswer(operation.output, rng))
    elif isinstance(operation.input, tuple) and operation.input[0] == "txn" and kind < 0.7:
        spoilt[place] = operation._replace(output=_misread(operation.output, rng))
    elif kind < 0.6:
        others = [
            spoilt[other].output
            for other in returned
            if spoilt[other].input[0] == operation.input[0] and other != place
        ]
        others += [o.input[1] for o in spoilt if o.input[0] in ("write", "enqueue", "put")] if _reads(operation) else []
        others += [FAILED, None] if operation.input[0] in ("cas", "acquire", "release") else []
        if others:
            spoilt[place] = operation._replace(output=rng.choice(others))
    elif kind < 0.85:  # as if it had been short: at its end or at its start
        at = rng.choice([operation.call, operation.return_])
        spoilt[place] = operation._replace(call=at, return_=at)
    else:  # swap two answers
        other = rng.choice(returned)
        if _kind(spoilt[other]) == _kind(operation) != "txn":
            spoilt[place], spoilt[other] = (
                operation._replace(output=spoilt[other].output),
                spoilt[other]._replace(output=operation.output),
            )
    return spoilt


def _kind(operation: Operation) -> Any:
    return operation.input[0] if isinstance(operation.input, tuple) else operation.input


def _misread(answer: tuple[tuple[str, str, Any], ...], rng: random.Random) -> tuple[tuple[str, str, Any], ...]:
    """Change what one of a transaction's reads saw."""
    reads = [place for place, (f, _, _) in enumerate(answer) if f == "read"]
    if not reads:
        return answer
    place = rng.choice(reads)
    return (*answer[:place], (*answer[place][:2], rng.choice([None, 0, 1, 2])), *answer[place + 1 :])


def _reads(operation: Operation) -> bool:
    return operation.input[0] in ("read", "get", "dequeue") and not isinstance(operation.output, tuple)
