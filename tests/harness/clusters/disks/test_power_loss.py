"""What a loss of power takes, and what it must not: by example, against the model, and that the fuzz finds bugs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.clusters.disks.files import Files
from splitvote.harness.clusters.disks.names import Names
from splitvote.harness.clusters.disks.troubles import FAULTS, Trouble
from splitvote.harness.clusters.disks.unsynced import Before, Unsynced
from splitvote.harness.clusters.disks.wire import ROOT, Opcode
from splitvote.harness.machine import DISK_FAULTS
from tests.harness.clusters.disks.fuzz import fuzz, is_tame, visible


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    for name in ("root", "aside"):
        (tmp_path / name).mkdir()
    found = Files(str(tmp_path / "root"), str(tmp_path / "aside"), now_s=lambda: 0.0)
    yield found
    found.close()
    assert not any((tmp_path / "aside").iterdir()), "what was put aside is left over"


def make(files: Files, name: bytes, content: bytes = b"", *, directory: int = ROOT, synced: bool = False) -> int:
    """A file with this content; its handle."""
    _, _, handle = files.create(directory, name, os.O_RDWR, 0o600)
    files.write(handle, 0, content)
    if synced:
        files.sync(handle)
    return handle


def test_a_file_that_was_made_and_synced_is_there_without_its_directory_being_synced(
    files: Files, tmp_path: Path
) -> None:
    """As etcd relies on for its snapshots; the directory on the way to it is there, too."""
    directory, _ = files.make_directory(ROOT, b"snap", 0o700)
    make(files, b"1.snap", b"content", directory=directory, synced=True)
    make(files, b"never", b"lost")
    files.lose()
    assert visible(tmp_path / "root") == {"snap": None, "snap/1.snap": b"content"}


def test_what_was_written_since_the_last_sync_is_lost_and_nothing_else(files: Files, tmp_path: Path) -> None:
    """In the middle of a file, past its end, and by cutting it."""
    handle = make(files, b"log", b"a" * 10_000, synced=True)
    files.write(handle, 4000, b"b" * 200)
    files.write(handle, 12_000, b"c")
    lost = files.lose()
    assert visible(tmp_path / "root") == {"log": b"a" * 10_000}
    assert lost.bytes_by_file == {"log": 201}


def test_a_renamed_file_has_its_old_name_until_the_directory_is_synced(files: Files, tmp_path: Path) -> None:
    """And what it replaced is there again."""
    old, new = make(files, b"db", b"old", synced=True), make(files, b"db.tmp", b"new", synced=True)
    files.rename(ROOT, b"db.tmp", ROOT, b"db")
    assert visible(tmp_path / "root") == {"db": b"new"}
    assert files.lose().names == 1
    assert visible(tmp_path / "root") == {"db": b"old", "db.tmp": b"new"}
    files.rename(ROOT, b"db.tmp", ROOT, b"db")
    directory = files.open_directory(ROOT)
    files.sync(directory)
    for handle in (directory, old, new):
        files.release(handle)
    files.lose()
    assert visible(tmp_path / "root") == {"db": b"new"}


def test_a_removed_file_comes_back_unless_something_later_was_synced(files: Files, tmp_path: Path) -> None:
    """A journal keeps its order: what is kept has all that was done before it."""
    make(files, b"a", b"a", synced=True)
    files.remove(ROOT, b"a")
    files.lose()
    assert visible(tmp_path / "root") == {"a": b"a"}
    files.remove(ROOT, b"a")
    make(files, b"b", b"b", synced=True)
    files.lose()
    assert visible(tmp_path / "root") == {"b": b"b"}


def test_a_directory_that_is_not_empty_is_not_removed(files: Files, tmp_path: Path) -> None:
    directory, _ = files.make_directory(ROOT, b"wal", 0o700)
    make(files, b"0.wal", directory=directory)
    with pytest.raises(OSError, match="not empty"):
        files.remove(ROOT, b"wal")
    assert visible(tmp_path / "root") == {"wal": None, "wal/0.wal": b""}


def test_what_nobody_syncs_is_on_the_disk_after_some_seconds(tmp_path: Path) -> None:
    """As a kernel writes back what is dirty: not a second's worth of it before."""
    for name in ("root", "aside"):
        (tmp_path / name).mkdir()
    now_s = [0.0]
    files = Files(str(tmp_path / "root"), str(tmp_path / "aside"), now_s=lambda: now_s[0])
    make(files, b"early", b"early")
    now_s[0] = 4.0
    make(files, b"late", b"late")
    now_s[0] = 6.0
    files.write_back()
    files.lose()
    files.close()
    assert visible(tmp_path / "root") == {"early": b"early"}


def test_power_losses_agree_with_the_model() -> None:
    """A slice of the fuzz; ``make fuzz`` does more of it."""
    problems, counts = fuzz(1500, seed=7)
    assert not problems
    assert not is_tame(counts), counts


def _nothing(*_: Any, **__: Any) -> int:
    return 0


def _all(names: Names, *_: Any) -> None:
    names._settle(len(names))


@pytest.mark.parametrize(
    ("owner", "method", "replacement"),
    [
        (Before, "keep", _nothing),
        (Before, "keep_from", _nothing),
        (Names, "synced", _nothing),
        (Names, "synced", _all),
        (Unsynced, "synced", _nothing),
    ],
    ids=["overwritten", "cut", "names never synced", "names all synced", "content never synced"],
)
def test_the_fuzz_finds_planted_bugs(
    owner: type[Any], method: str, replacement: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, method, replacement)
    problems, _ = fuzz(150, seed=11)
    assert problems


def test_each_trouble_refuses_what_it_is_about() -> None:
    """And a disk without any refuses nothing; every fault of the contract is one."""
    assert set(FAULTS) == set(DISK_FAULTS)
    changes = (Opcode.WRITE, Opcode.CREATE, Opcode.RENAME, Opcode.UNLINK, Opcode.SETATTR)
    for opcode in Opcode:
        assert Trouble().refusal(opcode) is None
        assert Trouble().wait_s(opcode) == 0.0
    assert Trouble("full").refusal(Opcode.WRITE) == 28
    assert Trouble("full").refusal(Opcode.UNLINK) is None, "room can be made"
    assert {Trouble("read_only").refusal(opcode) for opcode in changes} == {30}
    assert Trouble("read_only").refusal(Opcode.OPEN, os.O_RDONLY) is None
    assert Trouble("read_only").refusal(Opcode.OPEN, os.O_RDWR) == 30
    assert {Trouble("eio").refusal(opcode) for opcode in (*changes, Opcode.READ, Opcode.FSYNC)} == {5}
    assert {Trouble("freeze").wait_s(opcode) for opcode in (*changes, Opcode.FSYNC)} == {float("inf")}
    assert Trouble("freeze").wait_s(Opcode.READ) == 0.0
    assert Trouble("slow_fsync", 250.0).wait_s(Opcode.FSYNC) == 0.25
    assert Trouble("slow_fsync", 250.0).wait_s(Opcode.WRITE) == 0.0
