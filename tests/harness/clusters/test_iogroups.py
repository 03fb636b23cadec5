"""Limits on writing by control groups: on made-up group files, and on a child of ours where the kernel lets us."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from splitvote.harness.clusters.iogroups import IoGroups, find_io_groups, open_up
from splitvote.harness.clusters.limits import LocalResources

WRITER: Final = (
    "import os, sys, time\n"
    "file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)\n"
    "sys.stdin.read(1)\n"
    "end_s = time.monotonic() + 1.0\n"
    "while time.monotonic() < end_s:\n"
    "    os.write(file, os.urandom(4096)); os.fdatasync(file)\n"
    "print(os.lseek(file, 0, os.SEEK_CUR))\n"
)


def layout(root: Path, version: int, *, controllers: str = "cpu io") -> tuple[Path, Path]:
    """The files of a machine's control groups, and of a process's own group, as far as they are looked at."""
    own = root / "own"
    parent = root / "blkio" / "mine" if version == 1 else root / "mine"
    parent.mkdir(parents=True)
    if version == 1:
        (parent / "blkio.throttle.write_bps_device").write_text("")
        own.write_text("5:memory:/elsewhere\n2:blkio:/mine\n0::/\n")
    else:
        (root / "cgroup.controllers").write_text("cpu io")
        (parent / "cgroup.subtree_control").write_text(controllers)
        own.write_text("0::/mine\n")
    return parent, own


def disk(root: Path, data: Path, *, is_partition: bool) -> Path:
    """/sys/dev/block with the disk that ``data`` is on, 8:0 where that is a partition of one."""
    number = os.stat(data).st_dev
    block = root / "devices" / "sda"
    part = block / "sda1"
    part.mkdir(parents=True)
    (block / "dev").write_text("8:0\n")
    if is_partition:
        (part / "partition").write_text("1")
    by_number = root / "block"
    by_number.mkdir()
    (by_number / f"{os.major(number)}:{os.minor(number)}").symlink_to(part)
    return by_number


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_is_told_the_rate_of_the_whole_disk_and_the_process(version: int, tmp_path: Path) -> None:
    parent, own = layout(tmp_path, version)
    devices = disk(tmp_path, tmp_path, is_partition=True)
    groups = find_io_groups(tmp_path / "not" / "there", root=tmp_path, own=own, devices=devices)
    assert groups == IoGroups(parent, 1 if version == 1 else 2, "8:0")
    assert groups.limit_of("a-n1") is None
    groups.limit("a-n1", 4711, 50_000.4)
    group = groups.group("a-n1")
    assert (group / "cgroup.procs").read_text() == "4711"
    if version == 1:
        assert (group / "blkio.throttle.write_bps_device").read_text() == "8:0 50000"
    else:
        assert (group / "io.max").read_text() == "8:0 wbps=50000"
        (group / "io.max").write_text("8:0 rbps=max wbps=50000 riops=max wiops=max\n8:16 rbps=1 wbps=max\n")
    assert groups.limit_of("a-n1") == 50_000
    open_up(group)
    wanted = "8:0 0" if version == 1 else "8:0 wbps=max"
    assert next(iter(group.glob("*o.*"))).read_text() == wanted


def test_what_keeps_writing_from_being_limited_is_named(tmp_path: Path) -> None:
    _, own = layout(tmp_path, 2, controllers="cpu")
    devices = disk(tmp_path, tmp_path, is_partition=False)
    assert "+io" in str(find_io_groups(tmp_path, root=tmp_path, own=own, devices=devices))
    assert "no control group" in str(find_io_groups(tmp_path, root=tmp_path, own=tmp_path / "none", devices=devices))
    on_none = find_io_groups(tmp_path, root=tmp_path, own=own, devices=tmp_path / "none")
    assert "on no disk" in str(on_none)
    resources = LocalResources(["n1"], lambda node: None, name="a", groups="none", io_groups=on_none)
    assert resources.supports == {"fds"}
    assert resources.refusal("io_bytes_s") == on_none


def test_a_process_that_syncs_what_it_writes_is_held_to_its_rate_by_the_kernel(tmp_path: Path) -> None:
    """One that is not writes four times as much at least; in the end the group is gone, and what waited let through."""
    groups = find_io_groups(tmp_path)
    if isinstance(groups, str):
        pytest.skip(groups)

    def written(bytes_s: float | None) -> tuple[int, float]:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WRITER, str(tmp_path / "file")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        name = f"test-{os.getpid()}"
        try:
            if bytes_s is not None:
                groups.limit(name, child.pid, bytes_s)
                assert groups.limit_of(name) == round(bytes_s)
            started_s = time.monotonic()
            output, _ = child.communicate(b".", timeout=60)
            return int(output), time.monotonic() - started_s
        finally:
            child.kill()
            child.wait()
            groups.lift(name, None)
            assert not groups.group(name).exists()

    limited, passed_s = written(40_000.0)
    assert 0 < limited <= 40_000.0 * passed_s + 65_536
    free, free_s = written(None)
    if free / free_s < 40_000.0 * 10:
        pytest.skip("this disk is as slow as the limit")
    assert limited / passed_s < free / free_s / 4
