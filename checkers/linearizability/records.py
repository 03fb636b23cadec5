"""From a run's records to a model's operations.

A record's place in the history is its time, for the records' order is the
real-time order.  The rules are the same for every model:

=====  ===================================================================
ok     the input is (f, value of the invocation), the output what was seen
fail   it did not happen, and is left out; but a *compared and found
       different* (``extra`` has ``observed``, or the error starts with
       "cas") is an observation, with output FAILED
info   it may take effect at any time later, or never
=====  ===================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from splitvote.checkers.linearizability.model import FAILED, UNKNOWN_OUTPUT, Operation
from splitvote.harness.op import Op
from splitvote.harness.op import Operation as Recorded


def operations_of(
    recorded: Sequence[Recorded], *, drop_failed_cas: bool = False
) -> tuple[list[Operation], list[Recorded]]:
    """Translate one key's operations; the second list holds the records each came from.

    ``drop_failed_cas`` leaves out the observations of failed comparisons, as
    Knossos does.
    """
    operations, sources = [], []
    for item in recorded:
        operation = _operation_of(item)
        if operation is None or (drop_failed_cas and operation.output is FAILED):
            continue
        operations.append(operation)
        sources.append(item)
    return operations, sources


def _operation_of(recorded: Recorded) -> Operation | None:
    invoke, completion = recorded.invoke, recorded.completion
    asked = (invoke.f, frozen(invoke.value))
    if completion is None or completion.type == "info":
        return Operation(invoke.process, asked, invoke.index, UNKNOWN_OUTPUT, None)
    if completion.type == "ok":
        return Operation(invoke.process, asked, invoke.index, frozen(completion.value), completion.index)
    if is_observed_failure(completion):
        return Operation(invoke.process, asked, invoke.index, FAILED, completion.index)
    return None


def is_observed_failure(completion: Op) -> bool:
    """Whether a failure tells something of the state: the comparison was made and did not hold."""
    if completion.extra is not None and "observed" in completion.extra:
        return bool(completion.extra["observed"])
    return completion.error is not None and completion.error.startswith("cas")


def frozen(value: Any) -> Any:
    """Return a JSON value as a hashable one: lists become tuples, objects sorted tuples of pairs."""
    if isinstance(value, list):
        return tuple(map(frozen, value))
    if isinstance(value, dict):
        return tuple(sorted((key, frozen(item)) for key, item in value.items()))
    return value
