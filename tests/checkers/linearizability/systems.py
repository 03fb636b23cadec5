"""Small sequential systems, written apart from the product's models, that the fuzz runs and the oracle tries.

``outcomes(state, input)`` lists what the system could answer and the state it
is then in; states are immutable.  ``draw(rng, state, fresh)`` makes an input
(``fresh()`` counts up, for values never used before).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from splitvote.checkers.linearizability import FAILED, Model, NondeterministicModel
from splitvote.checkers.linearizability import models as product


class Untold:
    """An answer that a client may or may not be told, such as the version a write made."""

    def __init__(self, value: object = None) -> None:
        self.value = value


Outcomes = list[tuple[Any, Any]]
Draw = Callable[[random.Random, Any, Callable[[], int]], Any]


@dataclass(frozen=True)
class System:
    name: str
    model: Callable[[], Model | NondeterministicModel]
    initial: Any
    outcomes: Callable[[Any, Any], Outcomes]
    draw: Draw
    tells: bool = False
    """Whether clients are sometimes told an Untold answer."""


def register_outcomes(state: Any, asked: tuple[str, Any]) -> Outcomes:
    f, value = asked
    if f == "read":
        return [(state, state)]
    if f == "write":
        return [(Untold(), value)]
    if value[0] != state:
        return [(FAILED, state)]
    return [(Untold(), value[1])]


def draw_register(values: int, cas: bool = True, hits: float = 0.6) -> Draw:
    """Inputs on a few values, ever new ones where ``values`` is 0; of the comparisons a share ``hits`` may hold."""

    def draw(rng: random.Random, state: Any, fresh: Callable[[], int]) -> Any:
        def new() -> int:
            return rng.randrange(values) if values else fresh()

        kind = rng.random()
        if kind < (0.4 if hits > 0.5 else 0.2):
            return ("read", None)
        if kind < (0.7 if hits > 0.5 else 0.55) or not cas:
            return ("write", new())
        old = state if rng.random() < hits else rng.choice([None, new() if values else 10 + rng.randrange(6)])
        return ("cas", (old, old if rng.random() < 0.05 else new()))

    return draw


def multi_outcomes(state: tuple[Any, ...], asked: tuple[str, Any]) -> Outcomes:
    cells = list(state)
    seen = []
    for f, key, value in asked[1]:
        if f == "write":
            cells["xy".index(key)] = value
        seen.append((f, key, cells["xy".index(key)]))
    return [(tuple(seen), tuple(cells))]


def draw_multi(rng: random.Random, state: Any, fresh: Callable[[], int]) -> Any:
    steps = [
        ("read", key, None) if rng.random() < 0.55 else ("write", key, rng.randrange(3))
        for key in rng.sample("xy", rng.choice([1, 2]))
    ]
    return ("txn", tuple(steps))


def versioned_outcomes(state: tuple[int, Any], asked: tuple[str, Any]) -> Outcomes:
    version, value = state
    f, given = asked
    if f == "read":
        return [((version, value), state)]
    if f == "cas" and given[0] != value:
        return [(FAILED, state)]
    return [(Untold(version + 1), (version + 1, given if f == "write" else given[1]))]


def draw_versioned(rng: random.Random, state: Any, fresh: Callable[[], int]) -> Any:
    return draw_register(3)(rng, state[1], fresh)


def mutex_outcomes(state: Any, asked: tuple[str, Any]) -> Outcomes:
    f, owner = asked
    if f == "acquire":
        return [(Untold(), owner)] if state is None else [(FAILED, state)]
    return [(Untold(), None)] if state == owner else [(FAILED, state)]


def draw_mutex(rng: random.Random, state: Any, fresh: Callable[[], int]) -> Any:
    holder = state[0] if isinstance(state, tuple) else state
    if holder is not None and rng.random() < 0.7:
        return ("release", holder)
    return (rng.choice(["acquire", "acquire", "release"]), rng.choice("ab"))


def fenced_outcomes(state: tuple[Any, int], asked: tuple[str, Any]) -> Outcomes:
    """Tokens may jump, by up to four where the oracle tries them."""
    holder, token = state
    f, owner = asked
    if f == "release":
        return [(Untold(), (None, token))] if holder == owner else [(FAILED, state)]
    if holder is not None:
        return [(FAILED, state)]
    return [(Untold(token + jump), (owner, token + jump)) for jump in range(1, 40)]


def fifo_outcomes(state: tuple[Any, ...], asked: tuple[str, Any]) -> Outcomes:
    if asked[0] == "enqueue":
        return [(Untold(), (*state, asked[1]))]
    return [(state[0], state[1:])] if state else [(None, state)]


def unordered_outcomes(state: tuple[Any, ...], asked: tuple[str, Any]) -> Outcomes:
    if asked[0] == "enqueue":
        return [(Untold(), tuple(sorted((*state, asked[1]))))]
    if not state:
        return [(None, state)]
    return [(state[i], state[:i] + state[i + 1 :]) for i in range(len(state))]


def draw_queue(rng: random.Random, state: Any, fresh: Callable[[], int]) -> Any:
    if rng.random() < 0.5:
        return ("enqueue", fresh() if rng.random() < 0.7 else rng.randrange(3))
    return ("dequeue", None)


def set_outcomes(state: tuple[Any, ...], asked: tuple[str, Any]) -> Outcomes:
    f, value = asked
    if f == "read":
        return [(state, state)]
    rest = tuple(item for item in state if item != value)
    return [(Untold(), rest if f == "remove" else tuple(sorted((*rest, value))))]


def draw_set(rng: random.Random, state: Any, fresh: Callable[[], int]) -> Any:
    kind = rng.random()
    if kind < 0.5:
        return ("read", None)
    return ("add" if kind < 0.8 else "remove", rng.randrange(4))


def counter_outcomes(state: int, asked: tuple[str, Any]) -> Outcomes:
    if asked[0] == "read":
        return [(state, state)]
    return [(Untold(state + asked[1]), state + asked[1])]


def draw_counter(rng: random.Random, state: Any, fresh: Callable[[], int]) -> Any:
    return ("read", None) if rng.random() < 0.5 else ("add", rng.choice([1, 2, -1]))


def kv_outcomes(state: str, asked: tuple[str, Any]) -> Outcomes:
    f, value = asked
    if f == "get":
        return [(state, state)]
    if f == "cas":
        return [(Untold(), value[1])] if value[0] == state else [(FAILED, state)]
    return [(Untold(), {"put": value, "append": state + str(value), "delete": ""}[f])]


def draw_kv(*kinds: str) -> Draw:
    def draw(rng: random.Random, state: Any, fresh: Callable[[], int]) -> Any:
        f = rng.choice(kinds)
        if f == "cas":
            return (f, (state if rng.random() < 0.7 else "", f"<{fresh()}>"))
        return (f, f"<{fresh()}>" if f in ("append", "put") else None)

    return draw


SMALL_SYSTEMS = [
    System("register", product.register, None, register_outcomes, draw_register(0, cas=False)),
    System("register, few values", product.register, None, register_outcomes, draw_register(2, cas=False)),
    System("cas-register", product.cas_register, None, register_outcomes, draw_register(0)),
    System("cas-register, failing", product.cas_register, None, register_outcomes, draw_register(0, hits=0.3)),
    System("cas-register, 2 values", product.cas_register, None, register_outcomes, draw_register(2)),
    System("cas-register, 4 values", product.cas_register, None, register_outcomes, draw_register(4)),
    System("multi-register", product.multi_register, (None, None), multi_outcomes, draw_multi),
    System("versioned-register", product.versioned_register, (0, None), versioned_outcomes, draw_versioned, tells=True),
    System("mutex", product.mutex, None, mutex_outcomes, draw_mutex),
    System("fenced-mutex", product.fenced_mutex, (None, 0), fenced_outcomes, draw_mutex, tells=True),
    System("fifo-queue", product.fifo_queue, (), fifo_outcomes, draw_queue),
    System("unordered-queue", product.unordered_queue, (), unordered_outcomes, draw_queue),
    System("set", product.grow_set, (), set_outcomes, draw_set),
    System("counter", product.counter, 0, counter_outcomes, draw_counter, tells=True),
    System("kv", product.kv, "", kv_outcomes, draw_kv(*["get", "append"] * 3, "put", "delete", "cas")),
    System("kv, no appends", product.kv, "", kv_outcomes, draw_kv("get", "get", "put", "cas", "cas")),
]
