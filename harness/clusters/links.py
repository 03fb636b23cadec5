"""The capability Links by the link proxy: the harness's side of its control socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from splitvote.harness.cluster import LinkCounter, LinkShape, Pair
from splitvote.harness.clusters import linkproxy
from splitvote.harness.clusters.processes import Children, ProcessRecord, started, wait_gone
from splitvote.harness.errors import EnvironmentFailure, NemesisError

ANSWER_TIMEOUT_S: Final = 10.0
MODULE: Final = "splitvote.harness.clusters.linkproxy"
_LINE_LIMIT_BYTES: Final = 1 << 20


class ProxyLinks:
    """Every directed link between the nodes, cut, delayed, jittered and rate-limited in one proxy process."""

    supports: frozenset[str] = frozenset({"cut", "delay", "jitter", "rate"})

    def __init__(self, nodes: Sequence[str], children: Children) -> None:
        self._pairs = tuple((a, b) for a in nodes for b in nodes if a != b)
        self._children = children
        self._process: subprocess.Popen[bytes] | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._record: ProcessRecord | None = None
        self._turn = asyncio.Lock()
        self._asked = 0

    async def open(self, members: Mapping[str, tuple[str, int]], log: Path) -> dict[str, int]:
        """Start the proxy for members given as (advertised address, peer port); returns each one's proxy port."""
        ours, theirs = socket.socketpair()
        try:
            with theirs, log.open("ab") as output:
                command = [sys.executable, "-P", "-m", MODULE]
                self._process = await self._children.spawn(command, env=_environment(), output=output, stdin=theirs)
            self._record = ProcessRecord(self._process.pid, started(self._process.pid), MODULE)
            self._streams = await asyncio.open_connection(sock=ours, limit=_LINE_LIMIT_BYTES)
        except BaseException:
            ours.close()
            raise
        wanted = {name: {"address": address, "port": port} for name, (address, port) in members.items()}
        try:
            ports: dict[str, int] = (await self._ask({"do": "listen", "members": wanted}))["ports"]
        except NemesisError as failure:
            raise EnvironmentFailure(f"the link proxy did not start: {failure}; see {log}") from None
        return ports

    @property
    def record(self) -> ProcessRecord | None:
        """The proxy's process, to be known again; None while there is none."""
        return None if self._process is None else self._record

    async def close(self) -> None:
        """End the proxy; idempotent."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
        if self._process is not None:
            self._process.kill()
            if await wait_gone(self._process, timeout_s=ANSWER_TIMEOUT_S):
                self._children.forget(self._process)
            self._process = None

    async def cut(self, pairs: Iterable[Pair]) -> None:
        """See ``Links.cut``; bytes that the proxy holds already are kept from now on, too."""
        await self._ask({"do": "cut", "pairs": self._checked(pairs)})

    async def shape(self, pairs: Iterable[Pair], shape: LinkShape) -> None:
        """See ``Links.shape``; the order of bytes is kept, whatever the jitter."""
        if shape.loss:
            raise NemesisError(
                f"the local cluster cannot lose packets (loss={shape.loss}): its links carry TCP streams"
            )
        if min(shape.delay_ms, shape.jitter_ms, shape.rate_bytes_s) < 0:
            raise NemesisError(f"a link cannot have {shape}: delay, jitter and rate are zero or more")
        await self._ask(
            {
                "do": "shape",
                "pairs": self._checked(pairs),
                "delay_s": shape.delay_ms / 1e3,
                "jitter_s": shape.jitter_ms / 1e3,
                "rate_bytes_s": shape.rate_bytes_s,
            }
        )

    async def heal(self, pairs: Iterable[Pair] | None = None) -> None:
        """See ``Links.heal``; what was held is delivered at once."""
        await self._ask({"do": "heal", "pairs": self._checked(self._pairs if pairs is None else pairs)})

    async def counters(self) -> Mapping[Pair, LinkCounter]:
        """See ``Links.counters``: bytes read from the source's socket, bytes the destination's socket took."""
        answer = await self._ask({"do": "counters"})
        return {
            (source, destination): LinkCounter(offered, delivered)
            for source, destination, offered, delivered in answer["links"]
        }

    def _checked(self, pairs: Iterable[Pair]) -> list[Pair]:
        chosen = [(source, destination) for source, destination in pairs]
        if strange := [pair for pair in chosen if pair not in self._pairs]:
            raise NemesisError(
                f"{strange[0]} is no link of this cluster; its links are ordered pairs of {self._nodes()}"
            )
        return chosen

    def _nodes(self) -> str:
        return ", ".join(dict.fromkeys(source for source, _ in self._pairs)) or "(one node has no links)"

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._streams is None:
            raise NemesisError("the link proxy is not running: bring the cluster up first")
        reader, writer = self._streams
        try:
            async with self._turn, asyncio.timeout(ANSWER_TIMEOUT_S):
                self._asked += 1
                writer.write(json.dumps({**request, "id": self._asked}).encode() + b"\n")
                await writer.drain()
                answer = await _answer_to(self._asked, reader)
        except TimeoutError:
            raise NemesisError(
                f"the link proxy did not answer {request['do']!r} within {ANSWER_TIMEOUT_S:g} s"
            ) from None
        except OSError as failure:
            raise NemesisError(f"the link proxy is gone ({failure.strerror}): no link can be trusted") from None
        if answer is None:
            raise NemesisError(f"the link proxy ended before it answered {request['do']!r}: no link can be trusted")
        if "error" in answer:
            raise NemesisError(f"the link proxy refused {request['do']!r}: {answer['error']}")
        return answer


async def _answer_to(asked: int, reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The answer to this request, past those that nobody waited for any more; None when the proxy ended."""
    while line := await reader.readline():
        answer: dict[str, Any] = json.loads(line)
        if answer["id"] == asked:
            return answer
    return None


def _environment() -> dict[str, str]:
    """Ours, made to find this very package."""
    package_root = Path(linkproxy.__file__).absolute().parents[3]
    search = [str(package_root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search), "PYTHONUNBUFFERED": "1"}
