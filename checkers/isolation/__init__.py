"""Isolation: which transactional consistency models does a history still allow?

Here live the checkers of list-append and rw-register histories, the dependency
graph and its cycles, and the lattice of models; the method is Elle's (Kingsbury,
Alvaro: "Elle: Inferring Isolation Anomalies from Experimental Observations",
VLDB 2020).  No IO but reading a history that is named, no clock but the
budget's, and no knowledge of any system.
"""

from __future__ import annotations

from splitvote.checkers.isolation.checker import ListAppendChecker, RwRegisterChecker
from splitvote.checkers.isolation.models import ANOMALIES, MODELS, boundary, forbidden_by, model_named

__all__ = [
    "ANOMALIES",
    "MODELS",
    "ListAppendChecker",
    "RwRegisterChecker",
    "boundary",
    "forbidden_by",
    "model_named",
]
