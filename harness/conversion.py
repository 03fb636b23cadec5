"""`splitvote export`: a run's history, or one from elsewhere, in another format."""

from __future__ import annotations

from pathlib import Path

from splitvote.harness.errors import ConfigError, EnvironmentFailure, unknown
from splitvote.harness.formats import FORMATS, read_any, write_edn, write_jsonl, write_parquet
from splitvote.harness.store import open_run


def export(path: Path, format_: str, *, output: Path | None = None, read_as: str = "auto") -> Path:
    """Write the history at ``path`` (a run or a file) as edn, jsonl or parquet.

    Without ``output`` it goes into the working directory.  Returns the file's
    path, which replaces what was there.  Raises ConfigError
    where ``output`` is the history itself or pyarrow is missing, HistoryError
    where the history cannot be read, EnvironmentFailure where nothing can be written.
    """
    source = _history_at(path)
    target = output if output is not None else Path(f"{_name_of(source)}.{format_}")
    if target.exists() and target.samefile(source):
        raise ConfigError(f"--output {target} is the history itself; choose another file")
    known = next((known for known in FORMATS if known == read_as), None)
    if known is None:
        raise ConfigError(unknown("format", read_as, FORMATS))
    history = read_any(source, known)
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        match format_:
            case "edn":
                write_edn(history, unfinished)
            case "parquet":
                write_parquet(history, unfinished)
            case _:
                write_jsonl(history, unfinished)
        unfinished.replace(target)
    except OSError as failure:
        raise EnvironmentFailure(f"cannot write {target}: {failure.strerror}; choose another --output") from failure
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _history_at(path: Path) -> Path:
    if not path.exists():
        raise ConfigError(f"{path} does not exist; give a run's directory or a history file")
    return open_run(path).history if path.is_dir() else path


def _name_of(source: Path) -> str:
    """What the export is called: TEST-RUN of a run's history, else as the file."""
    if source.name == "history.jsonl":
        directory = source.resolve().parent
        return f"{directory.parent.name}-{directory.name}"
    return source.stem
