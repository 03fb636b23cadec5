"""Connections to members whose addresses are not known for good: ports are found when a cluster comes up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from splitvote.harness.etcd.connection import ConnectionOptions, GrpcRpc


def plain() -> ConnectionOptions:
    """How clients connect: no TLS, no user."""
    from splitvote.harness.etcd.connection import PLAIN

    return PLAIN


def operators() -> ConnectionOptions:
    """How the harness itself connects: as a user that may do everything, where callers are asked for one."""
    from splitvote.harness.etcd.connection import ConnectionOptions
    from splitvote.harness.etcd.upkeep import ROOT, ROOT_PASSWORD

    return ConnectionOptions(user=ROOT, password=ROOT_PASSWORD, authenticate="when_asked")


class MemberConnections(Mapping[str, "GrpcRpc"]):
    """The RPC seam to every node by name, made at the first use, to wherever the node then is.

    ``address_of`` tells a node's client address; ``options`` are asked for at
    the first use.  Whoever makes it closes it.
    """

    def __init__(
        self, nodes: Sequence[str], address_of: Callable[[str], str], options: Callable[[], ConnectionOptions]
    ) -> None:
        self._nodes = tuple(nodes)
        self._address_of = address_of
        self._options = options
        self._rpcs: dict[tuple[str, str], GrpcRpc] = {}

    def __getitem__(self, node: str) -> GrpcRpc:
        from splitvote.harness.etcd.connection import GrpcRpc

        address = self._address_of(node)
        rpc = self._rpcs.get((node, address))
        if rpc is None:
            rpc = self._rpcs[node, address] = GrpcRpc(address, self._options())
        return rpc

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    async def close(self) -> None:
        """Close every connection; the next use makes new ones."""
        rpcs, self._rpcs = self._rpcs, {}
        for rpc in rpcs.values():
            await rpc.close()
