"""Points inside a binary built with gofail, over the HTTP endpoint it then serves (capability Failpoints)."""

from __future__ import annotations

import asyncio
import functools
import mmap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from splitvote.harness.clusters.gofail import VARIABLE, call
from splitvote.harness.clusters.ports import LOOPBACK, HeldPort
from splitvote.harness.clusters.remote.agents import NodeAgents
from splitvote.harness.errors import NemesisError

NODE_ADDRESS: Final = f"{LOOPBACK}:22381"
"""Where a member serves the endpoint on a node of its own; nobody but the node itself comes there."""

OK: Final = 200
NO_CONTENT: Final = 204

Caller = Callable[[str, str, str, str], Awaitable[tuple[int, str]]]
"""(node, verb, point, body) -> status and text; raises OSError or NemesisError when the node does not answer."""


def has_failpoints(binary: Path) -> bool:
    """Whether a binary was built with gofail, looked up once for each file; raises OSError."""
    found = binary.stat()
    return _has_variable(binary, found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


@functools.cache
def _has_variable(binary: Path, *identity: int) -> bool:
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(VARIABLE.encode()) >= 0


class GofailPoints:
    """See ``Failpoints``; ``caller`` reaches a node's endpoint."""

    def __init__(self, caller: Caller) -> None:
        self._call = caller

    async def known(self, node: str) -> dict[str, str]:
        """See ``Failpoints.known``; raises NemesisError when the node does not answer."""
        lines = (await self._ask(node, "GET", "")).splitlines()
        return {name: terms for name, sign, terms in (line.partition("=") for line in lines) if sign}

    async def enable(self, node: str, point: str, terms: str) -> None:
        """See ``Failpoints.enable``; raises NemesisError for a point or terms that there are not."""
        await self._ask(node, "PUT", point, terms)

    async def disable(self, node: str, point: str) -> None:
        """See ``Failpoints.disable``; does nothing to one that is off."""
        if (await self.known(node)).get(point):
            await self._ask(node, "DELETE", point)

    async def _ask(self, node: str, verb: str, point: str, body: str = "") -> str:
        try:
            status, said = await self._call(node, verb, point, body)
        except OSError as failure:
            raise NemesisError(f"{node}'s failpoints do not answer: {failure}") from None
        if status not in (OK, NO_CONTENT):
            raise NemesisError(f"{node} would not {verb} {point or 'its list'} {body}: {status} {said.strip()}")
        return said


class HeldEndpoints:
    """Endpoints of members on this machine: a port on 127.0.0.1 a node, held from its first start until ``close``."""

    def __init__(self) -> None:
        self._ports: dict[str, HeldPort] = {}

    def environment(self, node: str) -> dict[str, str]:
        """What a process that is about to be started is told, so that it serves the endpoint."""
        if node not in self._ports:
            self._ports[node] = HeldPort()
        self._ports[node].make_room()
        return {VARIABLE: self._address(node)}

    def _address(self, node: str) -> str:
        return f"{LOOPBACK}:{self._ports[node].number}"

    async def call(self, node: str, verb: str, point: str, body: str) -> tuple[int, str]:
        """See ``Caller``."""
        if node not in self._ports:
            raise NemesisError(f"{node} was not started with {VARIABLE}")
        return await asyncio.to_thread(call, self._address(node), verb, point, body)

    def close(self) -> None:
        """Give the ports back; idempotent."""
        for port in self._ports.values():
            port.release()
        self._ports.clear()


def through(agents: NodeAgents, address: str = NODE_ADDRESS) -> Caller:
    """Endpoints of members on other nodes, at this address there, called by the nodes' agents."""

    async def by_agent(node: str, verb: str, point: str, body: str) -> tuple[int, str]:
        answer = await agents.ask(node, "call_gofail", address=address, verb=verb, point=point, body=body)
        return answer["status"], answer["text"]

    return by_agent
