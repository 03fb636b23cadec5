"""The capability Links by the link proxy: the harness's side of its control socket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from splitvote.harness.cluster import LinkCounter, LinkShape, Pair
from splitvote.harness.clusters.network.controlled import ControlledProcess
from splitvote.harness.clusters.processes import Children, ProcessRecord
from splitvote.harness.errors import EnvironmentFailure, NemesisError

MODULE: Final = "splitvote.harness.clusters.network.linkproxy"


class ProxyLinks:
    """Every directed link between the nodes, cut, delayed, jittered and rate-limited in one proxy process."""

    supports: frozenset[str] = frozenset({"cut", "delay", "jitter", "rate"})

    def __init__(self, nodes: Sequence[str], children: Children) -> None:
        self._pairs = tuple((a, b) for a in nodes for b in nodes if a != b)
        self._proxy = ControlledProcess("link proxy", MODULE, children)

    async def open(self, members: Mapping[str, tuple[str, int]], log: Path) -> dict[str, int]:
        """Start the proxy for members given as (advertised address, peer port); returns each one's proxy port."""
        await self._proxy.open(log)
        wanted = {name: {"address": address, "port": port} for name, (address, port) in members.items()}
        try:
            ports: dict[str, int] = (await self._proxy.ask({"do": "listen", "members": wanted}))["ports"]
        except NemesisError as failure:
            raise EnvironmentFailure(f"the link proxy did not start: {failure}; see {log}") from None
        return ports

    @property
    def record(self) -> ProcessRecord | None:
        """The proxy's process, to be known again; None while there is none."""
        return self._proxy.record

    @property
    def trouble(self) -> str | None:
        """See ``Network.trouble``."""
        return "the link proxy" if self._proxy.has_died else None

    async def close(self) -> None:
        """End the proxy; idempotent."""
        await self._proxy.close()

    async def cut(self, pairs: Iterable[Pair]) -> None:
        """See ``Links.cut``; bytes that the proxy holds already are kept from now on, too."""
        await self._proxy.ask({"do": "cut", "pairs": checked(pairs, self._pairs)})

    def wanting(self, what: str) -> str:
        """See ``Explaining``."""
        if what == "client":
            return "clients talk to the members directly"
        return "TCP streams pass through the link proxy, not packets"

    async def shape(self, pairs: Iterable[Pair], shape: LinkShape) -> None:
        """See ``Links.shape``; the order of bytes is kept, whatever the jitter."""
        for name in ("loss", "duplicate", "reorder", "corrupt"):
            if share := getattr(shape, name):
                raise NemesisError(f"links cannot do {name} here ({name}={share}): {self.wanting(name)}")
        if min(shape.delay_ms, shape.jitter_ms, shape.rate_bytes_s) < 0:
            raise NemesisError(f"a link cannot have {shape}: delay, jitter and rate are zero or more")
        await self._proxy.ask(
            {
                "do": "shape",
                "pairs": checked(pairs, self._pairs),
                "delay_s": shape.delay_ms / 1e3,
                "jitter_s": shape.jitter_ms / 1e3,
                "rate_bytes_s": shape.rate_bytes_s,
            }
        )

    async def heal(self, pairs: Iterable[Pair] | None = None) -> None:
        """See ``Links.heal``; what was held is delivered at once."""
        await self._proxy.ask({"do": "heal", "pairs": checked(self._pairs if pairs is None else pairs, self._pairs)})

    async def counters(self) -> Mapping[Pair, LinkCounter]:
        """See ``Links.counters``: bytes read from the source's socket, bytes the destination's socket took."""
        answer = await self._proxy.ask({"do": "counters"})
        return {
            (source, destination): LinkCounter(offered, delivered)
            for source, destination, offered, delivered in answer["links"]
        }


def checked(pairs: Iterable[Pair], known: Sequence[Pair]) -> list[Pair]:
    """The pairs, which must be links of the cluster; raises NemesisError for the first that is none."""
    chosen = [(source, destination) for source, destination in pairs]
    if strange := [pair for pair in chosen if pair not in known]:
        nodes = ", ".join(dict.fromkeys(source for source, _ in known)) or "(one node has no links)"
        raise NemesisError(f"{strange[0]} is no link of this cluster; its links are ordered pairs of {nodes}")
    return chosen
