"""Where runs are kept: ``store/<test>/<time>-<seed>/``, one directory a run, nothing ever overwritten.

==================  ==============================================================
config.json         all that is needed to run it again (RunConfig)
history.jsonl       every record, streamed (see history.py)
faults.jsonl        the journal of faults: on disk before the cluster is touched
cluster.jsonl       what every member said of itself, each 500 ms
archive.jsonl       the store's history by revision, as every member tells it
final.json          how the cluster was found after the final heal
results.json        verdicts (see ``Results``)
report.html         the page people read
logs/<node>.log     the nodes' own output
data/<node>/        the members' data directories, kept when the verdict is INVALID
cluster.json        what the backend runs, for `splitvote heal`
==================  ==============================================================

``latest`` beside the runs, and in the store itself, links to the newest run.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from splitvote.harness.archive import ArchiveRecord, archive_of
from splitvote.harness.errors import ConfigError, EnvironmentFailure, HistoryError
from splitvote.harness.history import History, read_history
from splitvote.harness.jsonl import read_all
from splitvote.harness.recording import ClusterSample, FaultRecord, FinalState, Recording, RunConfig
from splitvote.harness.result import Expected, Result, Verdict

T = TypeVar("T")

SCHEMA: Final = 1
_RUN_NAME = "%Y%m%dT%H%M%S"


class Results(msgspec.Struct, frozen=True, omit_defaults=True):
    """results.json: the run's verdict, every checker's result, and the harness's account of itself.

    ``failure`` is set when our own side failed (exit 3); the verdict then speaks
    only of what was recorded before.  ``expected`` is "unsafe" for a workload
    that shows what the system does not promise, unless something else is INVALID.
    """

    verdict: Verdict
    results: tuple[Result, ...]
    duration_s: float = 0.0
    failure: str | None = None
    interrupted: bool = False
    harness: dict[str, Any] = {}
    expected: Expected = "safe"
    schema: int = msgspec.field(default_factory=lambda: SCHEMA)  # a factory's value is written, a default is not


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """RunConfig as JSON."""
        return self.path / "config.json"

    @property
    def history(self) -> Path:
        """The records, a line each."""
        return self.path / "history.jsonl"

    @property
    def faults(self) -> Path:
        """The journal of faults, a FaultRecord a line."""
        return self.path / "faults.jsonl"

    @property
    def samples(self) -> Path:
        """The sampler's ClusterSample lines."""
        return self.path / "cluster.jsonl"

    @property
    def archive(self) -> Path:
        """The archivist's ArchiveRecord lines."""
        return self.path / "archive.jsonl"

    @property
    def final(self) -> Path:
        """FinalState as JSON."""
        return self.path / "final.json"

    @property
    def results(self) -> Path:
        """Results as JSON."""
        return self.path / "results.json"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def logs(self) -> Path:
        """The nodes' logs, one file a node."""
        return self.path / "logs"

    @property
    def data(self) -> Path:
        """The members' data directories, while the run lasts and where they were kept."""
        return self.path / "data"

    @property
    def test(self) -> str:
        """The test this is a run of."""
        return self.path.parent.name

    def write_json(self, path: Path, value: Any) -> None:
        """Write a file whole or not at all (EnvironmentFailure when the disk is full)."""
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(value, enc_hook=repr), indent=1) + b"\n")
            unfinished.replace(path)
        except OSError as failure:
            unfinished.unlink(missing_ok=True)
            raise EnvironmentFailure(
                f"cannot write {path}: {failure.strerror}; free some space or choose another --store"
            ) from failure


def create_run(store: Path, test: str, seed: int, *, now: datetime | None = None) -> RunDirectory:
    """Make a new run's directory and point ``latest`` at it.

    Raises ConfigError when the store cannot be written to.
    """
    name = f"{(now or datetime.now(UTC)).strftime(_RUN_NAME)}-{seed}"
    for attempt in range(100):
        path = store / test / (name if attempt == 0 else f"{name}.{attempt}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as failure:
            raise ConfigError(
                f"cannot create a run in --store {store}: {failure.strerror}; choose a writable folder"
            ) from None
        run = RunDirectory(path)
        run.logs.mkdir()
        _point_latest(path.parent / "latest", Path(path.name))
        _point_latest(store / "latest", Path(test) / path.name)
        return run
    raise ConfigError(
        f"{store / test / name} and 99 numbered beside it exist already; wait a second or prune the store"
    )


def _point_latest(link: Path, target: Path) -> None:
    fresh = link.with_name(f".{link.name}.fresh")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def open_run(path: Path) -> RunDirectory:
    """Find the run a user means: its directory, ``latest``, or any file inside.

    Raises ConfigError when there is none.
    """
    directory = path if path.is_dir() else path.parent
    if (directory / "config.json").is_file() or (directory / "history.jsonl").is_file():
        return RunDirectory(directory.resolve())
    raise ConfigError(
        f"{path} is no run: it should hold config.json and history.jsonl; runs are in STORE/TEST/TIME-SEED"
    )


def load_recording(path: Path) -> Recording:
    """Read back a run's directory; parts that are missing (a killed run) stay empty.

    Raises HistoryError where a file is damaged beyond a torn last line.
    """
    run = open_run(path)
    history = read_history(run.history) if run.history.exists() else History()
    return Recording(
        history=history,
        config=_read_json(run.config, RunConfig),
        faults=tuple(read_all(run.faults, FaultRecord)[0]) if run.faults.exists() else (),
        samples=tuple(read_all(run.samples, ClusterSample)[0]) if run.samples.exists() else (),
        final=_read_json(run.final, FinalState),
        archive=archive_of(read_all(run.archive, ArchiveRecord)[0]) if run.archive.exists() else None,
        logs={log.stem: log for log in sorted(run.logs.glob("*.log"))},
    )


def load_results(path: Path) -> Results | None:
    """Read back results.json; None when the run was never judged."""
    return _read_json(open_run(path).results, Results)


def load_config(path: Path) -> RunConfig | None:
    """Read back config.json; None for a history without one."""
    return _read_json(open_run(path).config, RunConfig)


def _read_json(path: Path, kind: type[T]) -> T | None:
    if not path.exists():
        return None
    try:
        found = msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as problem:
        raise HistoryError(f"{path}: {problem}; restore the file, or remove it to go on without") from None
    if (schema := getattr(found, "schema", SCHEMA)) > SCHEMA:
        raise HistoryError(f"{path} is of schema {schema}, newer than {SCHEMA}; read it with a newer splitvote")
    return found


def runs(store: Path, test: str | None = None) -> Iterator[RunDirectory]:
    """Every run of the store (of one test), oldest first within its test."""
    for folder in sorted(store.iterdir()) if store.is_dir() else ():
        if folder.is_symlink() or not folder.is_dir() or (test is not None and folder.name != test):
            continue
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink() and (path / "config.json").exists():
                yield RunDirectory(path)


def prunable(store: Path, *, keep: int, keep_failed: bool) -> list[RunDirectory]:
    """Runs that retention gives up: all but the last ``keep`` of each test, failed runs (INVALID or UNKNOWN) aside.

    A run without results.json may still be going on, or died: it counts as failed.
    """
    by_test: dict[str, list[RunDirectory]] = {}
    for run in runs(store):
        by_test.setdefault(run.test, []).append(run)
    given_up = []
    for of_test in by_test.values():
        for run in of_test[: max(0, len(of_test) - keep)]:
            results = _read_json(run.results, Results)
            if not keep_failed or (results is not None and results.verdict is Verdict.VALID):
                given_up.append(run)
    return given_up


def remove_run(run: RunDirectory) -> int:
    """Remove a run's directory; returns the bytes freed."""
    size = sum(file.lstat().st_size for file in run.path.rglob("*") if file.is_file() and not file.is_symlink())
    shutil.rmtree(run.path)
    return size
