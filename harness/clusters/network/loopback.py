"""A network of ports on 127.0.0.1, the links between members going through the link proxy: no privileges at all.

Peers know each other by link-local addresses without a zone: Go would bypass
the proxy for 127.0.0.1, and nobody can dial these by accident.  Clients talk to
the members directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from splitvote.harness.cluster import Links
from splitvote.harness.clusters.network.links import ProxyLinks
from splitvote.harness.clusters.network.place import Place
from splitvote.harness.clusters.ports import LOOPBACK, HeldPort
from splitvote.harness.clusters.processes import Children, ProcessRecord


class _Ports:
    """A client port and a peer port."""

    def __init__(self) -> None:
        self.client = HeldPort()
        self.peer = HeldPort()
        self.is_held = True

    def make_room(self) -> None:
        for port in (self.client, self.peer):
            port.make_room()

    def release(self) -> None:
        """Give the ports back; their numbers are still told, until others are held."""
        self.is_held = False
        for port in (self.client, self.peer):
            port.release()


class LoopbackNetwork:
    """Ports that are found, and kept from others until it is closed; a single node has no links."""

    name: Final = "local"

    def __init__(self, nodes: Sequence[str], children: Children) -> None:
        self._numbers = {node: number for number, node in enumerate(nodes, 1)}
        self._ports: dict[str, _Ports] = {}
        self._proxies: dict[str, int] = {}
        self._links = ProxyLinks(nodes, children) if len(nodes) > 1 else None

    @property
    def links(self) -> Links | None:
        """See ``Network.links``."""
        return self._links

    def _address(self, node: str) -> str:
        return f"fe80::{self._numbers[node]:x}"

    def peer_url(self, node: str) -> str:
        """See ``Network.peer_url``."""
        return f"http://[{self._address(node)}]:2380"

    def endpoint(self, node: str) -> str:
        """See ``Network.endpoint``."""
        return f"{LOOPBACK}:{self._known(node).client.number}"

    def _known(self, node: str) -> _Ports:
        if node not in self._ports:
            self._ports[node] = _Ports()
        return self._ports[node]

    def ports(self, node: str) -> Mapping[str, int]:
        """See ``Network.ports``."""
        known = self._ports.get(node)
        held = {} if known is None else {"client": known.client.number, "peer": known.peer.number}
        return held | ({"proxy": self._proxies[node]} if node in self._proxies else {})

    @property
    def processes(self) -> Mapping[str, ProcessRecord]:
        """See ``Network.processes``."""
        record = None if self._links is None else self._links.record
        return {} if record is None else {"link proxy": record}

    @property
    def trouble(self) -> str | None:
        """See ``Network.trouble``."""
        return None if self._links is None else self._links.trouble

    async def open(self, logs: Path) -> None:
        """See ``Network.open``: hold the ports, and start the proxy."""
        for node in self._numbers:
            if not self._known(node).is_held:
                self._ports[node] = _Ports()
        if self._links is not None:
            places = {node: (self._address(node), self._ports[node].peer.number) for node in self._numbers}
            self._proxies = await self._links.open(places, logs / "linkproxy.log")

    def namespaces(self, node: str) -> tuple[int, ...]:
        """See ``Network.namespaces``: none."""
        return ()

    def place(self, node: str) -> Place:
        """See ``Network.place``."""
        ports, proxy = self._ports[node], self._proxies.get(node)
        ports.make_room()
        return Place(
            listen_peer_url=f"http://{LOOPBACK}:{ports.peer.number}",
            client_url=f"http://{LOOPBACK}:{ports.client.number}",
            proxy_url=None if proxy is None else f"socks5://{LOOPBACK}:{proxy}",
        )

    async def close(self) -> None:
        """See ``Network.close``; gives the ports back."""
        try:
            if self._links is not None:
                await self._links.close()
        finally:
            self._proxies = {}
            for ports in self._ports.values():
                ports.release()
