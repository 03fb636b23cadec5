"""Limits by control groups and prlimit: on made-up group files, on a child of ours, and what a killed harness left."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from splitvote.harness.clusters.cpugroups import CpuGroups, find_cpu_groups, remove_group
from splitvote.harness.clusters.leftovers import DESCRIPTION, ClusterDescription, heal_leftovers
from splitvote.harness.clusters.limits import LocalResources
from splitvote.harness.clusters.processes import ProcessRecord
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import Limits


@contextmanager
def running() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for its stdin to end."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with running() as process:
        yield process


@pytest.fixture
def another() -> Iterator[subprocess.Popen[bytes]]:
    with running() as process:
        yield process


def layout(root: Path, version: int, *, controllers: str = "cpu") -> tuple[Path, Path]:
    """The files of a machine's control groups, and of a process's own group, as far as they are looked at."""
    own = root / "own"
    if version == 1:
        parent = root / "cpu" / "mine"
        parent.mkdir(parents=True)
        (parent / "cpu.cfs_quota_us").write_text("-1")
        own.write_text("5:memory:/elsewhere\n2:cpu:/mine\n0::/\n")
    else:
        parent = root / "mine"
        parent.mkdir()
        (root / "cgroup.controllers").write_text("cpu io")
        (parent / "cgroup.subtree_control").write_text(controllers)
        own.write_text("0::/mine\n")
    return parent, own


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_is_told_the_quota_and_the_process(version: int, tmp_path: Path) -> None:
    parent, own = layout(tmp_path, version)
    groups = find_cpu_groups(tmp_path, own)
    assert isinstance(groups, CpuGroups)
    assert (groups.parent, groups.version) == (parent, version)
    group = groups.limit("a-n1", 4711, 0.05)
    assert group.parent == parent
    assert (group / "cgroup.procs").read_text() == "4711"
    assert groups.limit_of("a-n1") == 0.05
    (group / "cpu.stat").write_text(
        "nr_throttled 3\n" + ("throttled_time 1500000000\n", "throttled_usec 1500000\n")[version - 1]
    )
    assert groups.throttled_s("a-n1") == 1.5
    assert groups.limit_of("a-n2") is None


def test_less_than_the_kernel_takes_becomes_the_least_it_takes(tmp_path: Path) -> None:
    groups = find_cpu_groups(tmp_path, layout(tmp_path, 1)[1])
    assert isinstance(groups, CpuGroups)
    groups.limit("a-n1", 1, 0.0001)
    assert groups.limit_of("a-n1") == 0.01


def test_a_group_whose_parent_hands_on_no_controller_is_refused_saying_what_to_do(tmp_path: Path) -> None:
    reason = find_cpu_groups(tmp_path, layout(tmp_path, 2, controllers="io")[1])
    assert isinstance(reason, str)
    assert "subtree_control" in reason


def test_without_control_groups_only_descriptors_can_be_limited(tmp_path: Path) -> None:
    resources = LocalResources(["n1"], lambda node: None, name="a", groups=find_cpu_groups(tmp_path, tmp_path / "none"))
    assert resources.supports == {"fds"}
    assert "no control groups" in resources.refusal("cpus")
    with pytest.raises(NemesisError, match="cannot be limited"):
        asyncio.run(resources.limit("n1", Limits(cpus=0.1)))


def test_descriptors_are_limited_and_given_back_and_a_new_process_is_limited_too(
    child: subprocess.Popen[bytes], another: subprocess.Popen[bytes]
) -> None:
    pids = {"n1": child.pid}
    before = resource.prlimit(child.pid, resource.RLIMIT_NOFILE)
    resources = LocalResources(["n1"], pids.get, name="a", groups="none")

    async def run() -> None:
        await resources.limit("n1", Limits(fds=7))
        assert (await resources.usage("n1")).most_fds == 7
        pids["n1"] = another.pid
        resources.apply()
        assert (await resources.usage("n1")).most_fds == 7
        pids["n1"] = child.pid
        await resources.limit("n1", Limits())

    asyncio.run(run())
    assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == before


def test_a_process_that_does_not_run_uses_nothing_that_could_be_told() -> None:
    with pytest.raises(NemesisError, match="does not run"):
        asyncio.run(LocalResources(["n1"], lambda node: None, name="a", groups="none").usage("n1"))


def test_processors_are_limited_by_the_kernel_where_it_lets_us(child: subprocess.Popen[bytes]) -> None:
    groups = find_cpu_groups()
    if isinstance(groups, str):
        pytest.skip(groups)
    resources = LocalResources(["n1"], lambda node: child.pid, name=f"test-{os.getpid()}", groups=groups)

    async def run() -> None:
        await resources.limit("n1", Limits(cpus=0.02))
        assert (await resources.usage("n1")).most_cpus == 0.02
        await resources.limit("n1", Limits())
        assert (await resources.usage("n1")).most_cpus is None
        assert not resources.made

    asyncio.run(run())


def test_groups_that_a_killed_harness_left_are_removed_and_no_others(tmp_path: Path) -> None:
    left, foreign = tmp_path / "splitvote-a-n1", tmp_path / "system"
    left.mkdir()
    foreign.mkdir()
    gone = ProcessRecord(2**22 + 1, "", "")
    DESCRIPTION.write(tmp_path, ClusterDescription(harness=gone, members={}, groups=(str(left),)))
    assert [line for line in asyncio.run(heal_leftovers(tmp_path)) if "control group" in line]
    assert not left.exists()
    assert asyncio.run(heal_leftovers(tmp_path)) == []
    with pytest.raises(OSError, match="no group of ours"):
        remove_group(foreign)
