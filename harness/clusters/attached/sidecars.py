"""Helper containers in the network namespaces of somebody else's containers: from there their links are hurt.

A namespace lives as long as the container's process: with each new one a helper
is made anew, and whoever hurts links is told where the node is now.  The old
helper keeps the old namespace meanwhile, with what was counted there.

Helpers, and all they leave in a namespace, are found by their labels, so that
another process can take them away (``clear``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from splitvote.harness.clusters.attached.engine import Container, Engine, EngineError, Incarnation
from splitvote.harness.clusters.network.namespaces import Work
from splitvote.harness.clusters.network.packetfilter import Filter
from splitvote.harness.clusters.network.queueing import HANDLE
from splitvote.harness.control import Remote, on_all
from splitvote.harness.control.docker import DockerTransport

RUN_LABEL: Final = "splitvote.run"
NODE_LABEL: Final = "splitvote.node"
_PLAIN, _BUNDLED = "1", "65535"
"""Segments, or bundles of them as the kernel makes by default: a packet lost is to be one packet."""

_CLEAR: Final = f"""
if tc qdisc show dev "$1" | grep -q "htb {HANDLE} root"; then tc qdisc del dev "$1" root || exit 1; fi
ip link set dev "$1" gso_max_segs "$2"
"""


class Helper(msgspec.Struct, frozen=True):
    """A helper, the life of the container whose namespace it is in, and the interface there that leads to its peers."""

    id: str
    of: Incarnation
    interface: str


class Sidecars:
    """The helpers of one run, whose ``token`` is on them; ``containers`` are ids by node."""

    def __init__(
        self,
        engine: Engine,
        containers: Mapping[str, str],
        *,
        image: str,
        token: str,
        packets: Filter,
        transport: Any = DockerTransport,
    ) -> None:
        self._engine = engine
        self._containers = dict(containers)
        self._image = image
        self._token = token
        self._packets = packets
        self._transport = transport
        self._helpers: dict[str, Helper] = {}
        self._remotes: dict[str, Remote] = {}

    async def open(self, node: str, container: Container, address: str) -> str:
        """Have a helper in the node's present namespace, and in no other; the interface there with that address."""
        before = self._helpers.get(node)
        if before is not None and before.of == container.incarnation:
            return before.interface
        labels = {RUN_LABEL: self._token, NODE_LABEL: node}
        made = await asyncio.to_thread(self._engine.join_network, container.id, image=self._image, labels=labels)
        remote = Remote(f"the helper of {node}", self._transport(made))
        try:
            interface = interface_of(address, (await remote.run(["ip", "-o", "-4", "addr", "show"])).text)
            if interface is None:
                raise EngineError(f"no interface of {node} has the address {address}")
            await remote.run(["ip", "link", "set", "dev", interface, "gso_max_segs", _PLAIN])
        except BaseException:
            await remote.close()
            await asyncio.to_thread(self._engine.remove, made)
            raise
        await self._let_go(node)
        self._helpers[node], self._remotes[node] = Helper(made, container.incarnation, interface), remote
        return interface

    async def _let_go(self, node: str) -> None:
        helper, remote = self._helpers.pop(node, None), self._remotes.pop(node, None)
        if remote is not None:
            await remote.close()
        if helper is not None:
            await asyncio.to_thread(self._engine.remove, helper.id)

    def is_of(self, node: str, container: Container) -> bool:
        """Whether the node's helper is in its present namespace."""
        helper = self._helpers.get(node)
        return helper is not None and helper.of == container.incarnation

    async def run(self, work: Work) -> dict[str, list[str]]:
        """Run commands in the nodes' namespaces, one after the other in each, at the same time in all.

        In that of a process that is gone there is no interface any more, whose
        queues could be told anything: they will be when it is back.
        """

        async def do(name: str, todo: Sequence[tuple[list[str], str]]) -> list[str]:
            if name not in self._remotes:
                raise EngineError(f"there is no helper in the network of {name}")
            outputs = []
            for command, text in todo:
                is_in_vain = command[0] == "tc" and not await self._is_current(name)
                outputs.append("" if is_in_vain else (await self._remotes[name].run(command, stdin=text.encode())).text)
            return outputs

        return await on_all(work, do)

    async def _is_current(self, node: str) -> bool:
        container = await asyncio.to_thread(self._engine.inspect, self._containers[node])
        return container.is_up and self.is_of(node, container)

    async def clear(self, network: str) -> list[str]:
        """Undo whatever was done to the nodes' links, and remove every helper of the run; what was done, a line each.

        A namespace whose helper is gone gets one to undo it by.
        """

        async def unhurt(node: str, container: str) -> None:
            found = await asyncio.to_thread(self._engine.inspect, container)
            if found.is_up:
                await self.open(node, found, found.addresses[network])
                await self._unhurt(node)

        helpers = await asyncio.to_thread(self._found)
        await on_all(self._containers, unhurt)
        await self.close()
        await asyncio.gather(*(asyncio.to_thread(self._engine.remove, helper) for helper in helpers))
        return [f"removed {len(helpers)} helper containers, and all rules for packets"] if helpers else []

    def _found(self) -> list[str]:
        return self._engine.find({RUN_LABEL: self._token})

    async def _unhurt(self, node: str) -> None:
        remote = self._remotes[node]
        command, text = self._packets.end()
        await remote.run(command, stdin=text.encode())
        await remote.sh(_CLEAR, self._helpers[node].interface, _BUNDLED)

    async def close(self) -> None:
        """Remove the helpers that this object made."""
        await asyncio.gather(*map(self._let_go, list(self._helpers)))


def interface_of(address: str, listed: str) -> str | None:
    """The interface with this address, of those that ``ip -o -4 addr show`` lists."""
    for line in listed.splitlines():
        words = line.split()
        if len(words) > 3 and words[3].partition("/")[0] == address:
            return words[1]
    return None
