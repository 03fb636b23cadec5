"""Your own compose project that runs already, hurt through the docker API and left as it was found.

Official images will do, without a shell and with etcd as PID 1.

Processes are hurt through the docker API, links by helper containers in the
nodes' network namespaces.  The containers stay what they are: none is made,
removed or reconfigured, and their data is not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from splitvote.harness.cluster import Links, Process
from splitvote.harness.clusters.attached.containers import CHANGE_TIMEOUT_S, ContainerProcess
from splitvote.harness.clusters.attached.engine import Container, DockerEngine, Engine, EngineError
from splitvote.harness.clusters.attached.ground import Moved
from splitvote.harness.clusters.attached.project_nodes import FoundProject, ProjectNode
from splitvote.harness.clusters.attached.sidecars import Sidecars
from splitvote.harness.clusters.network.netlinks import NamespaceLinks
from splitvote.harness.clusters.network.packetfilter import FILTERS
from splitvote.harness.clusters.remote.node_facts import SCRIPT, NodeFacts, read_facts
from splitvote.harness.errors import NemesisError

DEFAULT_HELPER: Final = "splitvote-node"
ENDING: Final = ("kill", "stop", "restart", "admin:crash_during_defragment", "admin:crash_during_compaction")
"""Faults that end processes."""

_WATCH_EVERY_S: Final = 1.0
_FILTER: Final = "nft"
"""Tables of nft are ours alone; of iptables' there is one, which may be the user's."""


class Project:
    """See ``Ground``; ``token`` names the run on its helpers, which are of the image ``helper``.

    ``facts`` are what can be done by helpers (None: nothing can, for ``no_links``).
    """

    name: Final = "compose"

    def __init__(
        self,
        engine: Engine,
        found: FoundProject,
        *,
        token: str,
        helper: str = DEFAULT_HELPER,
        facts: NodeFacts | None = None,
        no_links: str = "",
        sidecars: Sidecars | None = None,
    ) -> None:
        self._engine = engine
        self.found = found
        self.facts = facts
        self.no_links = no_links
        self._helper = helper
        self._nodes: dict[str, ProjectNode] = {node.name: node for node in found.nodes}
        containers = {node.name: node.container for node in found.nodes}
        self._process = ContainerProcess(engine, containers, self._follow)
        self._sidecars = sidecars or Sidecars(engine, containers, image=helper, token=token, packets=FILTERS[_FILTER])
        self._links: NamespaceLinks | None = None
        if facts is not None:
            places = dict.fromkeys(self._nodes, "")
            self._links = NamespaceLinks(places, FILTERS[_FILTER], facts.qdiscs, self._sidecars.run)
        self._places: dict[str, str | None] = {}
        self._moved: Moved | None = None
        self._turn = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    @property
    def words(self) -> str:
        """See ``Ground``."""
        return f"compose project {self.found.name}"

    @property
    def forbidden(self) -> Mapping[str, str]:
        """See ``Ground``."""
        from splitvote.nemesis.partitions import KINDS

        forbidden: dict[str, str] = {}
        if volatile := [node.name for node in self.found.nodes if node.is_volatile]:
            lost = (
                f"what {', '.join(volatile)} hold may be lost when they end (--rm, a tmpfs), and is not the harness's"
            )
            forbidden |= dict.fromkeys(ENDING, f"{lost}; put the data on a volume")
        if self._links is None:
            forbidden |= {f"partition:{kind}": self.no_links for kind in KINDS if kind != "client"}
            forbidden["packet"] = self.no_links
        return forbidden

    def _inspect(self, node: str) -> Container:
        return self._engine.inspect(self._nodes[node].container)

    def endpoints(self) -> Mapping[str, str]:
        """See ``Ground``."""
        return {name: node.endpoint(self._inspect(name), self.found.network) for name, node in self._nodes.items()}

    def described(self) -> dict[str, Any]:
        """See ``Ground``: every one of them ran."""
        return {
            "kind": "project",
            "name": self.found.name,
            "network": self.found.network,
            "helper": self._helper,
            "has_links": self._links is not None,
            "nodes": [[n.name, n.container, n.client_port, n.has_tls] for n in self.found.nodes],
        }

    def capabilities(self) -> Mapping[type[Any], object]:
        """See ``Ground``."""
        return {Process: self._process}

    @property
    def links(self) -> Links | None:
        """See ``Ground``."""
        return self._links

    async def open(self, moved: Moved) -> None:
        """See ``Ground``: put a helper beside every node, and count packets."""
        self._moved = moved
        containers = {name: await self._process.look(name) for name in self._nodes}
        self._places = {name: self._nodes[name].endpoint(c, self.found.network) for name, c in containers.items()}
        if self._links is not None:
            addresses = {name: self._address(container) for name, container in containers.items()}
            opened = [self._sidecars.open(name, containers[name], addresses[name]) for name in self._nodes]
            interfaces = dict(zip(self._nodes, await asyncio.gather(*opened), strict=True))
            await self._links.begin(addresses, interfaces)
        self._watching = asyncio.create_task(self._watch(), name="splitvote watch over containers")

    def _address(self, container: Container) -> str:
        address = container.addresses.get(self.found.network or "")
        if address is None:
            raise EngineError(f"{container.name} is not on the network {self.found.network} any more")
        return address

    async def _watch(self) -> None:
        """Follow containers that end or come back by themselves; one that could not be looked at is looked at again."""
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            for name in self._nodes:
                with contextlib.suppress(NemesisError):
                    await self._follow(name)

    async def _follow(self, node: str) -> None:
        """Note where a node is now: at each start it may get another address and port, and it gets a new namespace.

        While it is down its address may be given to another one.
        """
        async with self._turn:
            container = await self._process.look(node)
            if self._moved is None:
                return
            place = self._nodes[node].endpoint(container, self.found.network) if container.is_up else None
            if place != self._places[node]:
                await self._moved(node, place)
                self._places[node] = place
            if place is None or self._links is None or self._sidecars.is_of(node, container):
                return
            address = self._address(container)
            interface = await self._sidecars.open(node, container, address)
            await self._links.rejoin({node: address}, {node: interface})

    async def restore(self) -> list[str]:
        """See ``Ground``: every container runs, as it did; no rule of ours is left, and no helper."""
        await self._end_watch()
        done = []
        for name in self._nodes:
            container = await self._process.look(name)
            if container.status == "paused":
                await self._process.resume(name)
                done.append(f"unpaused {name} ({container.name})")
            elif not container.is_up:
                await self._start(name)
                done.append(f"started {name} ({container.name}), which was {container.status}")
        if self._links is not None and self.found.network is not None:
            done += await self._sidecars.clear(self.found.network)
        return done

    async def _start(self, name: str) -> None:
        async with asyncio.timeout(CHANGE_TIMEOUT_S * 2):
            await self._process.start(name)

    async def _end_watch(self) -> None:
        watching, self._watching, self._moved = self._watching, None, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def close(self) -> None:
        """See ``Ground``."""
        await self._end_watch()
        await self._sidecars.close()
        if self._links is not None:
            self._links.end()

    async def save_logs(self, folder: Path, since_s: float) -> None:
        """See ``Ground``; a container whose log driver keeps nothing has none."""
        for name, node in self._nodes.items():
            with contextlib.suppress(EngineError):
                await asyncio.to_thread(self._engine.save_log, node.container, since_s, folder / f"{name}.log")


def helper_facts(engine: Engine, image: str, found: FoundProject) -> tuple[NodeFacts | None, str]:
    """What helpers of this image can do to the project's links; None where nothing, and why."""
    if len(found.nodes) < 2:
        return None, "it has no links: it is one node"
    if found.network is None:
        return None, "its containers have no network in common whose links could be hurt (Links)"
    try:
        facts = read_facts(engine.run_once(image, SCRIPT))
    except EngineError as failure:
        how = f"links are hurt by helper containers of the image {image} (Links); `splitvote up --build` makes it, or"
        return None, f"{how} give --helper-image IMAGE with nft, ip, tc and sh ({failure})"
    if _FILTER not in facts.filters:
        return None, f"nft does not work in containers of the image {image} (Links): give another --helper-image"
    return facts, ""


def project_of(described: Mapping[str, Any], token: str, engine: Engine | None = None) -> Project:
    """The project that described itself so, to be left as it was found."""
    nodes = tuple(ProjectNode(*fields) for fields in described["nodes"])
    found = FoundProject(described["name"], nodes, described["network"])
    facts = NodeFacts() if described["has_links"] else None
    return Project(engine or DockerEngine(), found, token=token, helper=described["helper"], facts=facts)
