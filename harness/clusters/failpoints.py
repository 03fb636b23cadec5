"""Points inside a binary built with gofail, over the HTTP endpoint it then serves (capability Failpoints).

The endpoint: GET / lists ``name=terms`` lines (no terms where it is off), PUT
/name with the terms as body switches one on, DELETE /name off.
https://github.com/etcd-io/gofail
"""

from __future__ import annotations

import asyncio
import functools
import mmap
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from splitvote.harness.clusters.ports import LOOPBACK, HeldPort
from splitvote.harness.errors import NemesisError

CALL_TIMEOUT_S: Final = 3.0
VARIABLE: Final = "GOFAIL_HTTP"
"""The name is in every binary that can serve the endpoint, and in no other."""


def has_failpoints(binary: Path) -> bool:
    """Whether a binary was built with gofail, looked up once for each file; raises OSError."""
    found = binary.stat()
    return _has_variable(binary, found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


@functools.cache
def _has_variable(binary: Path, *identity: int) -> bool:
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(VARIABLE.encode()) >= 0


class GofailPoints:
    """See ``Failpoints``; a port on 127.0.0.1 a node, found at the first look and held until ``close``."""

    def __init__(self) -> None:
        self._ports: dict[str, HeldPort] = {}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def environment(self, node: str) -> dict[str, str]:
        """What a process that is about to be started is told, so that it serves the endpoint."""
        if node not in self._ports:
            self._ports[node] = HeldPort()
        self._ports[node].make_room()
        return {VARIABLE: f"{LOOPBACK}:{self._ports[node].number}"}

    def close(self) -> None:
        """Give the ports back; idempotent."""
        for port in self._ports.values():
            port.release()
        self._ports.clear()

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
        return await asyncio.to_thread(self._call, node, verb, point, body)

    def _call(self, node: str, verb: str, point: str, body: str) -> str:
        if node not in self._ports:
            raise NemesisError(f"{node} was not started with {VARIABLE}")
        url = f"http://{LOOPBACK}:{self._ports[node].number}/{point}"
        request = urllib.request.Request(url, data=body.encode() or None, method=verb)
        try:
            with self._opener.open(request, timeout=CALL_TIMEOUT_S) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as refusal:
            said = refusal.read().decode(errors="replace").strip()
            raise NemesisError(f"{node} would not {verb} {point or 'its list'} {body}: {refusal.code} {said}") from None
        except OSError as failure:
            raise NemesisError(f"{node}'s failpoints do not answer at {url}: {failure}") from None
