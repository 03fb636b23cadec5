"""``splitvote up``, ``down``, ``ps``, ``logs`` and ``ssh``: our compose project by hand."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from splitvote.harness.cluster import ProcessState
from splitvote.harness.clusters.remote.compose import ComposeHosts, keys_folder, services_of, ssh_address
from splitvote.harness.clusters.remote.composition import (
    CLIENT_PORT,
    EXTRAS,
    SERVICES,
    SSH_PORT,
    Composition,
    Container,
    default_directory,
)
from splitvote.harness.clusters.remote.daemon import STATE, read_found
from splitvote.harness.clusters.remote.hosts import Node
from splitvote.harness.clusters.remote.node_keys import ALIAS
from splitvote.harness.clusters.remote.occupation import ROOT
from splitvote.harness.control import ControlError, on_all
from splitvote.harness.errors import ConfigError, EnvironmentFailure, unknown

Say = Callable[[str], None]

_RUNS: Final = f"ls -1dt {ROOT}/run-* 2>/dev/null; true"
_NEWEST_LOG: Final = f"ls -1t {ROOT}/run-*/etcd.log 2>/dev/null | head -n 1"


def up(nodes: Sequence[str], extras: Sequence[str], *, is_built_anew: bool, say: Say) -> None:
    """Make keys and image where they are missing, bring nodes up, and wait until they can be reached."""
    if strange := [extra for extra in extras if extra not in EXTRAS]:
        raise ConfigError(unknown("addition", strange[0], EXTRAS))
    composition = Composition(default_directory(), extras)
    if is_built_anew or not composition.has_image():
        say(f"building {composition.image} ...")
        composition.build()
    hosts = ComposeHosts(composition, services_of(nodes))
    asyncio.run(_bring_up(hosts))
    ps(say)


async def _bring_up(hosts: ComposeHosts) -> None:
    await hosts.open(lambda: None)
    await hosts.let_go()


def down(say: Say) -> None:
    """Remove the nodes with all they hold."""
    composition = Composition(default_directory())
    gone = list(composition.containers())
    composition.down()
    say(f"removed {', '.join(gone)}" if gone else "no nodes were up")


def ps(say: Say) -> None:
    """A line a node: its state, its addresses, and the etcd that runs in it."""
    composition = Composition(default_directory())
    containers = composition.containers()
    etcds = asyncio.run(_etcds(ComposeHosts(composition, SERVICES)))
    say(f"{'node':<6}{'state':<10}{'address':<16}{'ssh':<18}{'clients':<18}etcd")
    for name in SERVICES:
        found = containers.get(name)
        if found is None:
            say(f"{name:<6}none")
            continue
        ports = (found.published.get(port, "-") for port in (SSH_PORT, CLIENT_PORT))
        say(
            f"{name:<6}{found.state:<10}{found.address or '-':<16}"
            + "".join(f"{port:<18}" for port in ports)
            + etcds.get(name, "-")
        )


async def _etcds(hosts: ComposeHosts) -> dict[str, str]:
    """What runs of ours on each node that is up."""
    try:
        return await on_all(await hosts.reach(), _etcd)
    finally:
        await hosts.let_go()


async def _etcd(name: str, node: Node) -> str:
    folders = (await node.remote.sh(_RUNS, account="root")).text.split()
    for folder in folders:
        found = read_found((await node.remote.sh(STATE, folder, account="root")).text)
        if found.state is not ProcessState.STOPPED:
            return f"{found.state} (pid {found.pid}, {folder})"
    return "-"


def logs(node: str, say: Say) -> None:
    """What the etcd that was started last on a node has said; where there was none, what the container has."""
    composition = Composition(default_directory())
    _container(composition, node)
    text = asyncio.run(_log(ComposeHosts(composition, services_of([node])), node))
    say(composition.logs(node).rstrip() if text is None else text.rstrip())


async def _log(hosts: ComposeHosts, name: str) -> str | None:
    try:
        remote = (await hosts.reach())[name].remote
        log = (await remote.sh(_NEWEST_LOG, account="root")).text.strip()
        return (await remote.run(["cat", log], account="root", timeout_s=60.0)).text if log else None
    except ControlError as failure:
        raise EnvironmentFailure(str(failure)) from None
    finally:
        await hosts.let_go()


def ssh(node: str, command: Sequence[str]) -> NoReturn:
    """Become an ssh client that is logged in to a node, or runs a command there."""
    composition = Composition(default_directory())
    keys = keys_folder(composition.directory)
    address = ssh_address(_container(composition, node), keys)
    options = {
        "HostKeyAlias": ALIAS,
        "UserKnownHostsFile": str(keys / "known_hosts"),
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
    }
    words = ["ssh", "-F", os.devnull, "-i", str(address.key), "-p", str(address.port)]
    words += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    sys.stdout.flush()
    try:
        os.execvp("ssh", [*words, f"{address.user}@{address.host}", *command])
    except OSError as failure:
        raise EnvironmentFailure(f"no ssh client on PATH ({failure.strerror}): install openssh-client") from None


def _container(composition: Composition, node: str) -> Container:
    """A node's container, which must run; raises ConfigError or EnvironmentFailure."""
    (service,) = services_of([node])
    container = composition.containers().get(service)
    if container is None or not container.is_running:
        raise EnvironmentFailure(f"{node} is not up: `splitvote up` brings it up")
    return container
