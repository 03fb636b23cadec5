"""The faults of an earlier run again: what its journal (faults.jsonl) tells, at the same times, at the same nodes.

A journal holds every plan as it was decided, with its picks, so that nothing is
left to chance but who leads, which is looked up anew.  Nodes go by their order:
the first node of the run that is replayed is the first of this one, whatever
both are called.  A fault begins and ends when it did then, or as soon after as
the nemesis, which does one thing at a time, gets to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from splitvote.harness.cluster import Cluster, Versions
from splitvote.harness.errors import ConfigError, NemesisError, SplitvoteError
from splitvote.harness.generator import Generator, lift, time_limit
from splitvote.harness.generator.context import Context
from splitvote.harness.generator.core import Answer, Pending
from splitvote.harness.op import Op
from splitvote.harness.recording import FaultRecord, RunConfig
from splitvote.nemesis.families import FAMILIES, Choice, Chosen, find_fault
from splitvote.nemesis.fault import Request, refusal
from splitvote.nemesis.journal import read_faults
from splitvote.nemesis.schedule import Turn

_CONFIG: Final = "config.json"


class Replayed(msgspec.Struct, frozen=True):
    """A fault of an earlier run, for this one's nodes; ``end_s`` None where it was never ended."""

    start_s: float
    end_s: float | None
    family: str
    kind: str
    targets: tuple[str, ...]
    detail: dict[str, Any]

    @property
    def turn(self) -> Turn:
        """The same as a turn of a schedule, for whoever prints it."""
        held_s = 0.0 if self.end_s is None else self.end_s - self.start_s
        kind = ":".join((self.kind, "+".join(self.targets)))
        return Turn(self.family, self._request, 0.0, held_s, kind)

    @property
    def _request(self) -> Request:
        pick = self.detail.get("pick", 0)
        return Request(self.kind, pick, targets=self.targets, detail=self.detail)

    def operations(self) -> list[tuple[float, dict[str, Any]]]:
        """Its start and its stop, with their times."""
        start = {"f": f"start-{self.family}", "value": msgspec.to_builtins(self._request)}
        begun = [(self.start_s, start)]
        return begun if self.end_s is None else [*begun, (self.end_s, {"f": f"stop-{self.family}"})]


class Replay(msgspec.Struct, frozen=True):
    """A whole schedule: its faults, what to choose for them, and which were left out why."""

    faults: tuple[Replayed, ...]
    chosen: Chosen

    def generator(self, time_s: float) -> Generator:
        """The nemesis's operations at their times, for so many seconds."""
        steps = sorted((step for fault in self.faults for step in fault.operations()), key=lambda step: step[0])
        return time_limit(time_s, lift([At(round(at_s * 1e9), lift(op)) for at_s, op in steps]))

    def timeline(self, time_s: float) -> list[tuple[float, float, Turn]]:
        """When each fault begins and ends (s), as far as it begins in time."""
        rows = []
        for fault in self.faults:
            if fault.start_s < time_s:
                end_s = time_s if fault.end_s is None else min(fault.end_s, time_s)
                rows.append((round(fault.start_s, 2), round(end_s, 2), fault.turn))
        return rows


class At(msgspec.Struct, frozen=True, gc=False):
    """``gen``, not before a time of the run's clock."""

    at_ns: int
    gen: Generator

    @property
    def observes(self) -> bool:
        """It passes nothing on: what it wraps has not begun."""
        return False

    def op(self, ctx: Context) -> Answer:
        """What is wrapped, once it is time."""
        return (Pending(self.at_ns), self) if ctx.time_ns < self.at_ns else self.gen.op(ctx)

    def update(self, ctx: Context, event: Op) -> Generator:
        """Nothing changes."""
        return self


def read_replay(path: Path, cluster: Cluster, *, omit: bool = False) -> Replay:
    """Read a journal, or the one of a run's directory, for this cluster.

    Raises ConfigError for what is no journal, for one that names more nodes
    than there are, and for a fault that the cluster lacks, unless ``omit`` has
    it left out.
    """
    file = path / "faults.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"--schedule {path}: there is no such file; give a run's faults.jsonl")
    try:
        records = read_faults(file)
        names = _names(file, records, cluster)
        if not records:
            raise NemesisError("it has no faults")
        return _able(_faults(records, names), cluster, omit=omit)
    except (SplitvoteError, msgspec.MsgspecError) as problem:
        raise ConfigError(f"--schedule {path}: {problem}") from None


def _names(file: Path, records: Sequence[FaultRecord], cluster: Cluster) -> dict[str, str]:
    """The node for each of the earlier run's, by their order: that of config.json, where there is one."""
    config = file.parent / _CONFIG
    then: Iterable[str] = cluster.nodes
    if config.is_file():
        then = msgspec.json.decode(config.read_bytes(), type=RunConfig).nodes
    names = dict(zip(then, cluster.nodes, strict=False))
    strange = [node for record in records for node in record.targets if node not in names]
    if strange:
        there_are = ", ".join(cluster.nodes)
        raise NemesisError(f"it hits {strange[0]}, and this cluster has only {there_are}: take more nodes")
    return names


def _faults(records: Iterable[FaultRecord], names: Mapping[str, str]) -> tuple[Replayed, ...]:
    found: dict[int, Replayed] = {}
    for record in records:
        at_s = record.time_ns / 1e9
        if record.phase == "starting":
            targets = tuple(names[node] for node in record.targets)
            detail = _renamed(record.plan, names)
            found[record.id] = Replayed(at_s, None, record.family, record.fault, targets, detail)
        elif record.phase == "healing" and record.id in found and found[record.id].end_s is None:
            found[record.id] = msgspec.structs.replace(found[record.id], end_s=at_s)
    return tuple(found.values())


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A plan with this cluster's names wherever one of the earlier run's stood."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, Mapping):
        return {names.get(key, key): _renamed(each, names) for key, each in value.items()}
    return [_renamed(each, names) for each in value] if isinstance(value, (list, tuple)) else value


def _lacks_version(fault: Replayed, cluster: Cluster) -> str | None:
    """What keeps a plan that names versions from being done with those that there are."""
    versions = cluster.capability(Versions)
    if versions is None or "from" not in fault.detail or "to" not in fault.detail:
        return None
    wanted = [fault.detail["to"], *fault.detail["from"].values()]
    missing = [version for version in wanted if version not in versions.available]
    return f"it has {' and '.join(versions.available)}, not {missing[0]}" if missing else None


def _able(faults: Sequence[Replayed], cluster: Cluster, *, omit: bool) -> Replay:
    able: list[Replayed] = []
    choices: dict[str, Choice] = {}
    omitted: dict[str, str] = {}
    for fault in faults:
        entry = f"{fault.family}:{fault.kind}"
        known = find_fault(fault.family, fault.kind)
        reason = refusal(known, cluster) or _lacks_version(fault, cluster)
        if reason is None:
            able.append(fault)
            choices[entry] = Choice(FAMILIES[fault.family], (known,))
        elif omit:
            omitted[entry] = f"the {cluster.name} cluster: {reason}"
        else:
            told = f"{entry}: the {cluster.name} cluster: {reason}"
            raise NemesisError(f"{told}; --schedule-omit leaves such faults out")
    return Replay(tuple(able), Chosen(choices, omitted))
