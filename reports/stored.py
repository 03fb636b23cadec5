"""Reading a stored run for people: as much of it as can be read, and in words what cannot.

A report must be made of a run that was killed, of a history from elsewhere,
and of files with garbage in them, so nothing here raises for what a file
holds: every part is read as far as it goes and ``problems`` says the rest.
Judges want the opposite and use ``splitvote.harness.store.load_recording``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from splitvote.harness.archive import ArchiveRecord
from splitvote.harness.errors import ConfigError
from splitvote.harness.op import NEMESIS, Op, Operation
from splitvote.harness.recording import ClusterSample, FaultRecord, FinalState, RunConfig
from splitvote.harness.store import Results, RunDirectory

T = TypeVar("T")

_WITHOUT: Final = {
    "config.json": "what was run (workload, versions, seed, options) is unknown",
    "history.jsonl": "there are no operations to show",
    "faults.jsonl": "faults are taken from the nemesis's own records, without proofs",
    "cluster.jsonl": "leaders, terms and revisions of the members are not shown",
    "final.json": "how the cluster was after the final heal is not known",
    "results.json": "the run was never judged; judge it with splitvote check",
}


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One run as found on disk; ``problems`` says what is missing or damaged, and what follows from it."""

    directory: Path
    records: tuple[Op, ...] = ()
    config: RunConfig | None = None
    faults: tuple[FaultRecord, ...] = ()
    samples: tuple[ClusterSample, ...] = ()
    final: FinalState | None = None
    results: Results | None = None
    logs: Mapping[str, Path] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The test and the run, as the store calls them: ``TEST/TIME-SEED``."""
        path = self.directory.resolve()
        return f"{path.parent.name}/{path.name}"

    @property
    def archive(self) -> Sequence[ArchiveRecord]:
        """The store's history as the members told it, up to the first line that is none; read anew at every call."""
        return _Reader().lines(path, ArchiveRecord) if (path := RunDirectory(self.directory).archive).exists() else ()

    @property
    def end_ns(self) -> int:
        """The last moment anything was recorded, at least 1 ms after the start."""
        ends = [part[-1].time_ns for part in (self.records, self.faults, self.samples) if part]
        return max([*ends, 1_000_000])

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes' names, as configured, else as the records name them."""
        if self.config is not None and self.config.nodes:
            return self.config.nodes
        named = {op.node for op in self.records if op.node is not None}
        sampled = {node for sample in self.samples for node in sample.members}
        return tuple(sorted(named | sampled))


def read_run(directory: Path) -> StoredRun:
    """Read a run's directory as far as it can be read.

    Raises ConfigError when there is no such directory, nothing else.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory} is no run's directory; give STORE/TEST/TIME-SEED or STORE/latest")
    paths = RunDirectory(directory)
    reader = _Reader()
    records = reader.lines(paths.history, Op)
    config = reader.whole(paths.config, RunConfig)
    has_faults = paths.faults.exists() or config is None or bool(config.faults)
    faults = reader.lines(paths.faults, FaultRecord) if has_faults else ()
    samples = reader.lines(paths.samples, ClusterSample)
    final = reader.whole(paths.final, FinalState)
    results = reader.whole(paths.results, Results)
    logs = {path.stem: path for path in sorted(paths.logs.glob("*.log"))}
    if not logs:
        reader.problems.append("There is no logs/*.log: what the nodes wrote is not shown.")
    return StoredRun(directory, records, config, faults, samples, final, results, logs, tuple(reader.problems))


class _Reader:
    """Reads files whole or by lines, and notes in words whatever it could not read."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def whole(self, path: Path, kind: type[T]) -> T | None:
        """The file's one JSON value, or None."""
        if not path.exists():
            self._missing(path)
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as problem:
            self.problems.append(f"{path.name} cannot be read ({problem}): {_WITHOUT[path.name]}.")
            return None

    def lines(self, path: Path, kind: type[T]) -> tuple[T, ...]:
        """The records up to the end or to the first line that is none."""
        if not path.exists():
            self._missing(path)
            return ()
        try:
            return tuple(msgspec.json.Decoder(kind).decode_lines(path.read_bytes()))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return self._lines_one_by_one(path, kind)

    def _lines_one_by_one(self, path: Path, kind: type[T]) -> tuple[T, ...]:
        """As many records as there are before whatever cannot be read, which is noted."""
        records: list[T] = []
        decode = msgspec.json.Decoder(kind).decode
        line = b""
        try:
            with path.open("rb") as file:
                for line in file:
                    records.append(decode(line))
        except OSError as problem:
            self.problems.append(f"{path.name} cannot be read to its end ({problem.strerror}).")
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            self._damaged(path, len(records) + 1, line, problem)
        return tuple(records)

    def _missing(self, path: Path) -> None:
        self.problems.append(f"There is no {path.name}: {_WITHOUT[path.name]}.")

    def _damaged(self, path: Path, number: int, line: bytes, problem: Exception) -> None:
        if line.endswith(b"\n"):
            what = f"line {number} is not a record ({problem}); the {number - 1} lines before it are shown"
        else:
            what = f"the last line is torn ({len(line)} bytes), as after a kill; the {number - 1} before it are shown"
        self.problems.append(f"{path.name}: {what}.")


def pair_leniently(records: Iterable[Op]) -> list[Operation]:
    """Pair clients' invocations with completions in the order of invocation, whatever the history looks like.

    An invocation while another of its process is open leaves the first open; a
    completion of nothing stands for itself (invoke and completion are one).
    """
    invokes: list[Op] = []
    completions: list[Op | None] = []
    open_at: dict[int, int] = {}
    for op in records:
        if op.process == NEMESIS or op.type == "event":
            continue
        if op.type == "invoke":
            open_at[op.process] = len(invokes)
            invokes.append(op)
            completions.append(None)
        elif (place := open_at.pop(op.process, None)) is not None:
            completions[place] = op
        else:
            invokes.append(op)
            completions.append(op)
    return [Operation(invoke, completion) for invoke, completion in zip(invokes, completions, strict=True)]
