"""A whole run as one zip: for a bug report, or to take along."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, Final

from splitvote.harness.errors import EnvironmentFailure
from splitvote.harness.store import open_run

_LEVEL: Final = 6
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)


def write_zip(run_path: Path, output: Path | None = None) -> Path:
    """Write a run's zip, into the working directory as TEST-RUN.zip unless told otherwise; returns its path.

    Raises ConfigError when there is no such run, EnvironmentFailure when the
    zip cannot be written.
    """
    run = open_run(run_path)
    path = Path(f"{run.test}-{run.path.name}.zip") if output is None else output
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            zip_run(run.path, file)
        unfinished.replace(path)
    except OSError as failure:
        unfinished.unlink(missing_ok=True)
        raise EnvironmentFailure(f"cannot write {path}: {failure.strerror}; free some space or give --output") from None
    return path


def zip_run(directory: Path, sink: BinaryIO | BufferedIOBase) -> None:
    """Write every regular file of a run into ``sink``, which need not seek, under TEST/RUN/.

    Links are left out: they may point anywhere.
    """
    directory = directory.resolve()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for path in regular_files(directory):
            name = path.relative_to(directory.parent.parent).as_posix()
            entry = zipfile.ZipInfo(name.encode(errors="replace").decode(), _written_at(path))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while chunk := source.read(1 << 20):
                    target.write(chunk)


def regular_files(directory: Path) -> Iterator[Path]:
    """The regular files below a directory in order, without those beginning with a dot; no link is followed."""
    for path in sorted(directory.iterdir()):
        if path.is_symlink() or path.name.startswith("."):
            continue
        if path.is_dir():
            yield from regular_files(path)
        elif path.is_file():
            yield path


def _written_at(path: Path) -> tuple[int, int, int, int, int, int]:
    """A file's time in UTC, as a zip can hold it."""
    moment = time.gmtime(path.stat().st_mtime)[:6]
    return max(moment, _EARLIEST)
