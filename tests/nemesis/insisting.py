"""A fault started and ended on a real cluster until both are proven, a few times at most."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from splitvote.harness.errors import NemesisError
from splitvote.harness.op import NEMESIS, Op
from splitvote.harness.recording import FaultRecord
from splitvote.nemesis import Nemesis, read_faults

ATTEMPTS = 3
"""A proof has its time, which a slow machine may exceed now and then; one that never is to be had is a defect."""

HEAL_BOUND_S = 120.0
PHASES = ["starting", "active", "healing", "healed"]


async def start_and_stop(nemesis: Nemesis, journal: Path, family: str, request: dict[str, Any]) -> list[FaultRecord]:
    """The records of a fault that was proven, whose end was, and after which the cluster recovered."""
    for _ in range(ATTEMPTS):
        earlier = len(read_faults(journal))
        with suppress(NemesisError):  # it is in the records, unless nothing had begun
            await nemesis.invoke(Op(process=NEMESIS, type="info", f=f"start-{family}", value=request))
            await nemesis.invoke(Op(process=NEMESIS, type="info", f=f"stop-{family}"))
        records = read_faults(journal)[earlier:]
        if [record.phase for record in records] == PHASES and records[-1].observed.get("recovery_ms", 0) > 0:
            return records
        await nemesis.heal(HEAL_BOUND_S)
    told = [(record.fault, record.targets, record.phase, record.proof, record.error) for record in records]
    raise AssertionError(f"{family} {request} was not proven in {ATTEMPTS} attempts; in the last: {told}")
