"""Ready-made models, by name; each is a few pure functions over immutable states."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Final

from splitvote.checkers.linearizability.model import Model, NondeterministicModel
from splitvote.checkers.linearizability.models.containers import counter, fifo_queue, grow_set, unordered_queue
from splitvote.checkers.linearizability.models.etcd import etcd
from splitvote.checkers.linearizability.models.kv import kv
from splitvote.checkers.linearizability.models.locks import fenced_mutex, mutex
from splitvote.checkers.linearizability.models.registers import (
    cas_register,
    multi_register,
    register,
    versioned_register,
)
from splitvote.harness.errors import ConfigError

__all__ = [
    "MODELS",
    "cas_register",
    "counter",
    "etcd",
    "fenced_mutex",
    "fifo_queue",
    "grow_set",
    "kv",
    "model_named",
    "multi_register",
    "mutex",
    "register",
    "unordered_queue",
    "versioned_register",
]

MODELS: Final[dict[str, Callable[[], Model | NondeterministicModel]]] = {
    "register": register,
    "cas-register": cas_register,
    "multi-register": multi_register,
    "versioned-register": versioned_register,
    "mutex": mutex,
    "fenced-mutex": fenced_mutex,
    "fifo-queue": fifo_queue,
    "unordered-queue": unordered_queue,
    "set": grow_set,
    "counter": counter,
    "kv": kv,
}
"""The models of recorded operations (f and value); ``etcd`` has requests and answers of its own."""


def model_named(name: str) -> Model:
    """Return the model of that name; raises ConfigError, with the nearest name, where there is none."""
    if name not in MODELS:
        nearest = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ConfigError(f"no model {name!r}{hint} (there are: {', '.join(MODELS)})")
    model = MODELS[name]()
    return model.to_model() if isinstance(model, NondeterministicModel) else model
