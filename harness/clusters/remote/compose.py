"""Real etcd members in the containers of our docker-compose.yml, controlled over ssh or by docker exec.

The nodes run sshd under tini; the harness starts etcd in them.  What is down is
brought up, and in the end the project is as it was found.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from splitvote.harness.clusters.remote.cluster import RemoteCluster
from splitvote.harness.clusters.remote.composition import (
    CLIENT_PORT,
    SERVICES,
    SSH_PORT,
    Composition,
    Container,
    default_directory,
)
from splitvote.harness.clusters.remote.hosts import Node
from splitvote.harness.clusters.remote.node_facts import NodeFacts
from splitvote.harness.clusters.remote.node_keys import node_keys
from splitvote.harness.clusters.remote.throttles import ContainerThrottle
from splitvote.harness.control import ControlError, Remote, on_all
from splitvote.harness.control.docker import DockerTransport
from splitvote.harness.control.ssh import SshAddress, SshTransport
from splitvote.harness.errors import ConfigError, EnvironmentFailure
from splitvote.harness.etcd.daemon import Etcd, ServerOptions

CONTROLS: Final = ("ssh", "docker")
REACH_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.05
_INTERFACE: Final = "eth0"


class ComposeHosts:
    """The nodes of our compose project; ``found`` is how an earlier harness found its services."""

    name: Final = "compose"

    def __init__(
        self,
        composition: Composition,
        services: Sequence[str],
        *,
        control: str = "ssh",
        found: Mapping[str, str] | None = None,
    ) -> None:
        self.composition = composition
        self._services = tuple(services)
        self._control = control
        self._found = None if found is None else dict(found)
        self.throttle = ContainerThrottle(composition)
        self._remotes: dict[str, Remote] = {}
        _ = transports(control)  # what it needs is missed now, or not at all

    @functools.cached_property
    def _facts(self) -> NodeFacts:
        if not self.composition.has_image():
            self.composition.build()
        return self.composition.facts()

    def facts(self) -> NodeFacts:
        """See ``Hosts.facts``; builds the image if there is none."""
        return self._facts

    def binary(self, node: str) -> Etcd:
        """See ``Hosts.binary``: the image's, for all alike."""
        return self.facts().binary("the compose nodes")

    def described(self) -> dict[str, Any]:
        """See ``Hosts.described``."""
        return {
            "kind": self.name,
            "directory": str(self.composition.directory),
            "extras": list(self.composition.extras),
            "services": list(self._services),
            "control": self._control,
            "found": self._found,
        }

    async def open(self, note: Callable[[], None]) -> Mapping[str, Node]:
        """See ``Hosts.open``."""
        node_keys(keys_folder(self.composition.directory))
        before = await asyncio.to_thread(self.composition.containers)
        self._found = {service: container.state for service, container in before.items()}
        note()
        try:
            down = [name for name in self._services if name not in before or not before[name].is_running]
            if down:
                await asyncio.to_thread(self.composition.up, self._services)
            nodes = self._nodes(await asyncio.to_thread(self.composition.containers))
            if missing := [name for name in self._services if name not in nodes]:
                raise EnvironmentFailure(f"{missing[0]} does not run: `docker logs` of its container says why")
            await on_all({name: node.remote for name, node in nodes.items()}, _await_reached)
        except BaseException:
            await self.close()
            raise
        return nodes

    async def reach(self) -> Mapping[str, Node]:
        """See ``Hosts.reach``; what is in a node that was found running is there still, though it does not run now."""
        containers = await asyncio.to_thread(self.composition.containers)
        for name in self._services:
            container = containers.get(name)
            if container and not container.is_running and (self._found or {}).get(name) == "running":
                raise EnvironmentFailure(
                    f"{name} is {container.state}, and what is in it cannot be seen: have it run again "
                    "(`splitvote up`), or give it up with all the others (`splitvote down`)"
                )
        nodes = self._nodes(containers)
        await on_all({name: node.remote for name, node in nodes.items()}, _await_reached)
        return nodes

    def _nodes(self, containers: Mapping[str, Container]) -> dict[str, Node]:
        """The nodes that run."""
        make = transports(self._control)
        nodes = {}
        for name in self._services:
            container = containers.get(name)
            if container is not None and container.is_running:
                transport = make(container, keys_folder(self.composition.directory))
                remote = self._remotes[name] = Remote(name, transport)
                endpoint = container.published[CLIENT_PORT]
                nodes[name] = Node(remote=remote, address=container.address, endpoint=endpoint, interface=_INTERFACE)
        return nodes

    async def let_go(self) -> None:
        """See ``Hosts.let_go``."""
        remotes, self._remotes = self._remotes, {}
        for remote in remotes.values():
            await remote.close()

    async def close(self) -> None:
        """See ``Hosts.close``: what was not there is removed, what did not run is stopped."""
        await self.let_go()
        found, self._found = self._found, None
        if found is None:
            return
        if not found:
            await asyncio.to_thread(self.composition.down)
        elif stopped := [name for name in self._services if found.get(name) != "running"]:
            await asyncio.to_thread(self.composition.stop, stopped)


def keys_folder(directory: Path) -> Path:
    """Where the keys of a compose directory's nodes are."""
    return directory / "docker" / "keys"


def ssh_address(container: Container, keys: Path) -> SshAddress:
    """How to log in to a container."""
    host, _, port = container.published[SSH_PORT].rpartition(":")
    known = node_keys(keys)
    return SshAddress(host=host, port=int(port), user="root", key=known.private, host_key=known.host_key)


def transports(control: str) -> Callable[[Container, Path], SshTransport | DockerTransport]:
    """What makes a way to a container; raises ConfigError for a name that is none of CONTROLS."""
    match control:
        case "ssh":
            return lambda container, keys: SshTransport(ssh_address(container, keys))
        case "docker":
            return lambda container, keys: DockerTransport(container.id)
        case _:
            raise ConfigError(f"--control {control}: nodes are controlled over {' or '.join(CONTROLS)}")


async def _await_reached(name: str, remote: Remote) -> None:
    """Wait until a node that was just started can be given commands."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + REACH_TIMEOUT_S
    while True:
        try:
            await remote.run(["true"])
        except ControlError as failure:
            if loop.time() > deadline_s:
                raise EnvironmentFailure(f"not reached within {REACH_TIMEOUT_S:g} s: {failure}") from None
            await asyncio.sleep(_POLL_S)
        else:
            return


def hosts_of(described: Mapping[str, Any]) -> ComposeHosts:
    """The hosts that described themselves so, to be left as they were found then."""
    return ComposeHosts(
        Composition(Path(described["directory"]), described["extras"]),
        described["services"],
        control=described["control"],
        found=described["found"],
    )


def compose_cluster(
    *,
    directory: Path,
    nodes: int = 5,
    control: str = "ssh",
    etcd: Mapping[str, Etcd] | None = None,
    etcd_others: Sequence[Etcd] = (),
    etcd_args: Sequence[str] = (),
    options: ServerOptions | None = None,
    composition: Composition | None = None,
    probe: RemoteCluster | None = None,
    demands: Collection[type[Any]] = (),
) -> RemoteCluster:
    """A cluster in our compose project; ``probe`` was made of the same options before, and knows the nodes already.

    Raises ConfigError or EnvironmentFailure for what cannot be.
    """
    if nodes > len(SERVICES):
        raise ConfigError(f"--nodes {nodes}: docker-compose.yml has {len(SERVICES)}")
    names = SERVICES[:nodes]
    hosts = ComposeHosts(composition or Composition(default_directory()), names, control=control)
    return RemoteCluster(
        directory=directory,
        hosts=hosts if probe is None else probe.hosts,
        nodes=names,
        etcd=etcd or {},
        etcd_others=etcd_others,
        etcd_args=etcd_args,
        options=options,
        demands=demands,
    )


def services_of(given: Collection[str]) -> tuple[str, ...]:
    """Service names as the user gave them, all for none; raises ConfigError for one that there is not."""
    if strange := [name for name in given if name not in SERVICES]:
        raise ConfigError(f"there is no node {strange[0]!r}; nodes are {', '.join(SERVICES)}")
    return tuple(given) or SERVICES
