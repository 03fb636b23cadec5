"""Copies of members' data directories that take no more room than what is in them.

etcd's write-ahead logs are 64 MB from the start, nearly all of them zeros that
its file system was told to set aside: blocks of zeros become holes here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

_BLOCK_BYTES: Final = 1 << 20


async def keep_copies(directories: Mapping[str, Path], destination: Path) -> None:
    """Copy each of these that exists to ``destination`` / its name, unless it is there itself; raises OSError."""
    for name, data in directories.items():
        kept = Path(destination) / name
        if data.is_dir() and not (kept.exists() and kept.samefile(data)):
            await asyncio.to_thread(shutil.copytree, data, kept, copy_function=copy_sparsely, dirs_exist_ok=True)


def copy_sparsely(source: str, destination: str) -> str:
    """Copy a file's content, with holes for its zeros (a ``copy_function`` of shutil's)."""
    with open(source, "rb") as original, open(destination, "wb") as copy:
        _pour(original, copy)
    return destination


def unpack(archive: Path, folder: str, destination: Path) -> None:
    """Take a folder out of a tar file, and have it be ``destination``, in place of what is there.

    Raises OSError, or TarError for what is no such archive (damaged, or with
    more in it than folders and files below ``folder``).
    """
    fresh = destination.with_suffix(".fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        with tarfile.open(archive) as files:
            for each in files:
                _take_out(files, tarfile.data_filter(each, str(fresh)), fresh)
        shutil.rmtree(destination, ignore_errors=True)
        (fresh / folder).rename(destination)
    except EOFError as failure:  # what gzip makes of a file that was cut off
        raise tarfile.ReadError(str(failure)) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _take_out(files: tarfile.TarFile, each: tarfile.TarInfo, fresh: Path) -> None:
    place = fresh / each.name
    if each.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    content = files.extractfile(each) if each.isreg() else None
    if content is None:
        raise tarfile.ExtractError(f"{each.name} in it is neither a file nor a folder")
    with content, place.open("wb") as copy:
        _pour(content, copy)


def _pour(source: IO[bytes], copy: IO[bytes]) -> None:
    while block := source.read(_BLOCK_BYTES):
        if block.count(0) == len(block):
            copy.seek(len(block), os.SEEK_CUR)
        else:
            copy.write(block)
    copy.truncate()
