"""What a run left behind, as pure values: the input of every checker and of the report.

Written by the runner, the sampler and the nemesis into the store
(``splitvote.harness.store``), read back from it; the records know nothing of
how a cluster is reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from splitvote.harness.archive import Archive
from splitvote.harness.history import History

FaultPhase = Literal["starting", "active", "unproven", "healing", "healed", "heal_unproven"]


class FaultRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of faults.jsonl: one fault reaching one phase.

    ``starting`` is on disk before the cluster is touched, so that ``heal`` can
    undo it whatever happens next.  ``plan`` is all that undoing and replaying
    need (node names, directed pairs, delays); ``proof`` is what was *observed*
    (on the system's side where it can be), in words, with its numbers in
    ``observed``.  ``affects_quorum`` says that the plan itself takes the quorum
    away, so that no progress is expected while it is active.
    """

    id: int
    family: str
    fault: str
    phase: FaultPhase
    time_ns: int
    targets: tuple[str, ...] = ()
    plan: dict[str, Any] = {}
    proof: str | None = None
    observed: dict[str, Any] = {}
    affects_quorum: bool = False
    error: str | None = None


class MemberSample(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one member said of itself at one moment; ``error`` when it did not answer."""

    leader: str | None = None
    term: int | None = None
    revision: int | None = None
    raft_index: int | None = None
    applied_index: int | None = None
    db_bytes: int | None = None
    is_learner: bool = False
    answer_ms: float | None = None
    error: str | None = None


class ClusterSample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of cluster.jsonl: every member at one moment, and how late our own event loop was.

    The offsets are how far members' wall clocks, and monotonic ones where those
    were set, were ahead of ours when they were last measured.
    """

    time_ns: int
    members: dict[str, MemberSample]
    wall_ns: int | None = None
    loop_lag_ms: float = 0.0
    clock_offsets_ms: dict[str, float] = {}
    monotonic_offsets_ms: dict[str, float] = {}


class MemberReading(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member's final state: its own (serializable) view of the store.

    ``keys`` maps every key the run may have touched to (value, mod_revision,
    version, create_revision); ``hash`` is HashKV at ``hash_revision``.
    """

    revision: int | None = None
    applied_index: int | None = None
    compact_revision: int | None = None
    hash_revision: int | None = None
    hash: int | None = None
    is_learner: bool = False
    keys: dict[str, tuple[Any, int, int, int]] = {}
    error: str | None = None


class FinalState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the cluster was found after the final heal (final.json).

    ``recovered`` is whether every member answered a linearizable read within
    ``recovery_bound_s``; ``settled`` whether two consecutive samples of all
    members' revision and applied index were equal.
    """

    recovered: bool
    recovery_s: float | None = None
    recovery_bound_s: float | None = None
    settled: bool = False
    members: dict[str, MemberReading] = {}
    not_recovered: dict[str, str] = {}
    stalls_ms: tuple[float, ...] = ()

    @property
    def newest_revision(self) -> int | None:
        """The newest revision that any member was found at; None when none answered."""
        return max((member.revision for member in self.members.values() if member.revision is not None), default=None)


class RunConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """config.json: all that is needed to run a test again; secrets by reference only."""

    workload: str
    seed: int
    cluster: str
    nodes: tuple[str, ...]
    splitvote_version: str
    started_at: str
    faults: tuple[str, ...] = ()
    time_s: float = 0.0
    rate: float = 0.0
    concurrency: int = 0
    system_versions: dict[str, str] = {}
    known_defects: tuple[str, ...] = ()
    planned_faults: tuple[str, ...] | None = None
    """Of all faults, the families that the schedule begins in the time there is; None: each was asked for by name."""
    options: dict[str, Any] = {}
    command: tuple[str, ...] = ()
    schema: int = msgspec.field(default_factory=lambda: 1)  # a factory's value is written, a default is not


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole run; ``config`` and the rest are missing for histories from elsewhere."""

    history: History
    config: RunConfig | None = None
    faults: tuple[FaultRecord, ...] = ()
    samples: tuple[ClusterSample, ...] = ()
    final: FinalState | None = None
    archive: Archive | None = None
    logs: Mapping[str, Path] = field(default_factory=dict)
