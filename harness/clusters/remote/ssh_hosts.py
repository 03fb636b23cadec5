"""Real etcd members on hosts of an inventory, reached over ssh; nothing on them is changed but what is ours.

A node is brought whatever it lacks into a folder of ours (``occupation``), and
is left as it was found.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from splitvote.harness.clusters.remote.cluster import RemoteCluster
from splitvote.harness.clusters.remote.hosts import Node
from splitvote.harness.clusters.remote.inventory import Host, Inventory
from splitvote.harness.clusters.remote.node_facts import SCRIPT, NodeFacts, common_facts, read_facts
from splitvote.harness.clusters.remote.occupation import ROOT
from splitvote.harness.control import CommandFailed, ControlError, Remote, on_all
from splitvote.harness.control.ssh import SshTransport
from splitvote.harness.errors import ConfigError, EnvironmentFailure
from splitvote.harness.etcd.daemon import Etcd, ServerOptions

T = TypeVar("T")

FACTS_TIMEOUT_S: Final = 20.0
_FIND_INTERFACE: Final = "ip -o -4 addr show to \"$1\" | sed -n '1s/^[0-9]*: *\\([^ @]*\\).*/\\1/p'"
_LEAVE: Final = 'ls -d "$1"/run-* >/dev/null 2>&1 && exit; rm -rf "$1/bin"; rmdir "$1" 2>/dev/null; true'


class SshHosts:
    """The nodes of an inventory; raises ConfigError for a key that is none, and where paramiko is missing."""

    name: Final = "ssh"

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.throttle = None
        self._remotes: dict[str, Remote] = {}
        self._is_reached = False
        _ = self._transports()  # what it needs is missed now, or not at all

    def _transports(self) -> dict[str, SshTransport]:
        strangers: Final = "refuse" if self.inventory.verify_host_keys else "accept"
        made = {}
        for name, host in self.inventory.nodes.items():
            try:
                made[name] = SshTransport(host.ssh(strangers))
            except ConfigError as problem:
                raise ConfigError(f"--nodes-file {self.inventory.file}: nodes.{name}: {problem}") from None
        return made

    def remotes(self) -> Mapping[str, Remote]:
        """The nodes as something that runs commands, connected at the first; until ``close``."""
        if not self._remotes:
            self._remotes = {name: Remote(name, transport) for name, transport in self._transports().items()}
        return self._remotes

    @functools.cached_property
    def _facts(self) -> Mapping[str, NodeFacts]:
        async def ask() -> dict[str, NodeFacts]:
            try:
                return await on_all(self.remotes(), self._facts_of)
            finally:
                await self.close()

        return _in_a_loop_of_its_own(ask())

    async def _facts_of(self, name: str, remote: Remote) -> NodeFacts:
        host = self.inventory.nodes[name]
        try:
            asked = await remote.sh(SCRIPT, host.etcd or "etcd", account="root", timeout_s=FACTS_TIMEOUT_S)
        except ControlError as failure:
            raise _unreachable(name, host, failure, self.inventory.file) from None
        return read_facts(asked.text)

    def facts(self) -> NodeFacts:
        """See ``Hosts.facts``: what all of them have."""
        return common_facts(list(self._facts.values()))

    def binary(self, node: str) -> Etcd:
        """See ``Hosts.binary``."""
        host = self.inventory.nodes[node]
        return self._facts[node].binary(f"{node} ({host.host}){'' if host.etcd is None else f' at {host.etcd}'}")

    def described(self) -> dict[str, Any]:
        """See ``Hosts.described``; keys are named by their files."""
        described: dict[str, Any] = msgspec.to_builtins(self.inventory)
        return {"kind": self.name, "inventory": described}

    async def open(self, note: Callable[[], None]) -> Mapping[str, Node]:
        """See ``Hosts.open``; the hosts are up, or cannot be reached."""
        if ours := [name for name, host in self.inventory.nodes.items() if _is_this_machine(host.address)]:
            raise ConfigError(
                f"{ours[0]} ({self.inventory.nodes[ours[0]].address}) is this machine: links between it and other "
                "nodes could not be cut without losing them from sight; run splitvote elsewhere"
            )
        note()
        try:
            return await self.reach()
        except BaseException:
            await self.close()
            raise

    async def reach(self) -> Mapping[str, Node]:
        """See ``Hosts.reach``; a host that is out of reach is a failure, since it may have something of ours."""
        nodes = await on_all(self.remotes(), self._node)
        self._is_reached = True
        return nodes

    async def _node(self, name: str, remote: Remote) -> Node:
        host = self.inventory.nodes[name]
        try:
            found = await remote.sh(_FIND_INTERFACE, host.address)
        except ControlError as failure:
            raise _unreachable(name, host, failure, self.inventory.file) from None
        interface = host.interface or found.text.strip()
        if not interface:
            raise ConfigError(
                f"--nodes-file {self.inventory.file}: {name} has no interface with the address {host.address}: peer is "
                "to be an address of its own"
            )
        return Node(
            remote=remote,
            address=host.address,
            endpoint=host.client,
            interface=interface,
            peer=host.peer,
            listens_to_clients=host.client,
        )

    async def close(self) -> None:
        """See ``Hosts.close``: what was brought to the nodes is removed, if no other run has it."""
        try:
            if self._is_reached and not self.inventory.keep_binaries:
                await on_all(
                    self._remotes, lambda name, remote: remote.sh(_LEAVE, ROOT, account="root", timeout_s=30.0)
                )
        finally:
            await self.let_go()

    async def let_go(self) -> None:
        """See ``Hosts.let_go``."""
        remotes, self._remotes = self._remotes, {}
        self._is_reached = False
        await on_all(remotes, lambda name, remote: remote.close())


def _in_a_loop_of_its_own(work: Coroutine[Any, Any, T]) -> T:
    """Do it now, whether or not this thread's own loop runs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _unreachable(name: str, host: Host, failure: ControlError, file: str) -> EnvironmentFailure:
    """What to say of a node that cannot be given commands, and what to try."""
    if isinstance(failure, CommandFailed):
        what = "see that its user is root, or may do everything by `sudo -n`"
        return EnvironmentFailure(f"{name} ({host.where}) was reached, but {failure}; {what}")
    key = "" if host.key is None else f" -i {host.key}"
    why = str(failure).removeprefix(f"{name}: ")
    what = f"try `ssh -p {host.port}{key} {host.user}@{host.host}`, and see {file}"
    return EnvironmentFailure(f"{name} ({host.where}) cannot be reached: {why}; {what}")


def _is_this_machine(address: str) -> bool:
    """Whether an address is one of our own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def hosts_of(described: Mapping[str, Any]) -> SshHosts:
    """The hosts that described themselves so."""
    return SshHosts(msgspec.convert(described["inventory"], Inventory))


def ssh_cluster(
    *,
    directory: Path,
    inventory: Inventory,
    etcd: Mapping[str, Etcd] | None = None,
    etcd_others: Sequence[Etcd] = (),
    etcd_args: Sequence[str] = (),
    options: ServerOptions | None = None,
    probe: RemoteCluster | None = None,
    demands: Collection[type[Any]] = (),
) -> RemoteCluster:
    """A cluster on an inventory's hosts; ``probe`` was made of the same options before, and knows the hosts already.

    Raises ConfigError or EnvironmentFailure for what cannot be.
    """
    return RemoteCluster(
        directory=directory,
        hosts=SshHosts(inventory) if probe is None else probe.hosts,
        nodes=tuple(inventory.nodes),
        etcd=etcd or {},
        etcd_others=etcd_others,
        etcd_args=etcd_args,
        options=options,
        demands=demands,
    )
