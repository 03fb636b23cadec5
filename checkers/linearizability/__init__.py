"""Linearizability: is there one order of all operations that explains what every client saw?

Here live the models, the engines that decide a history, the witness of a
violation and the checker of a run; the API mirrors Porcupine's.  No IO, no
clock but the budget's, and no knowledge of any system but its sequential model.
"""

from __future__ import annotations

from splitvote.checkers.linearizability.checker import LinearizabilityChecker
from splitvote.checkers.linearizability.compiled import engine_available
from splitvote.checkers.linearizability.info import Annotation, LinearizationInfo
from splitvote.checkers.linearizability.model import (
    FAILED,
    KEEP,
    UNKNOWN_OUTPUT,
    CheckResult,
    Event,
    Guarded,
    Model,
    NondeterministicModel,
    Operation,
    operations_of_events,
    partition_by,
)
from splitvote.checkers.linearizability.models import MODELS, model_named
from splitvote.checkers.linearizability.porcupine import (
    check_columns,
    check_events,
    check_events_verbose,
    check_operations,
    check_operations_verbose,
)

__all__ = [
    "FAILED",
    "KEEP",
    "MODELS",
    "UNKNOWN_OUTPUT",
    "Annotation",
    "CheckResult",
    "Event",
    "Guarded",
    "LinearizabilityChecker",
    "LinearizationInfo",
    "Model",
    "NondeterministicModel",
    "Operation",
    "check_columns",
    "check_events",
    "check_events_verbose",
    "check_operations",
    "check_operations_verbose",
    "engine_available",
    "model_named",
    "operations_of_events",
    "partition_by",
]
