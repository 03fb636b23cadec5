"""Other binaries to start members with: the capability Versions where the harness starts them itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from splitvote.harness.errors import ConfigError, NemesisError, TransportError
from splitvote.harness.etcd.daemon import Etcd
from splitvote.harness.etcd.rpc import Rpc


def check_versions(used: Sequence[Etcd], others: Sequence[Etcd]) -> None:
    """Raise ConfigError for a version that etcd cannot come back from, or that is the only one."""
    for other in others:
        strange = next((etcd for etcd in used if etcd.number[:2] != other.number[:2]), None)
        if strange is not None:
            raise ConfigError(
                f"--upgrade {other.path}: {other.version} beside {strange.version}: etcd goes back and forth between "
                "patch releases only; take two of the same minor release"
            )
        if all(other.version == etcd.version for etcd in used):
            raise ConfigError(
                f"--upgrade {other.path}: it is {other.version}, as every node's is; take another version"
            )


class Startable(Protocol):
    """Something that is started by the binary it has at that moment."""

    etcd: Etcd


class BinaryVersions:
    """See ``Versions``; the binaries are those that some node had from the start, and ``others``."""

    def __init__(self, members: Mapping[str, Startable], others: Sequence[Etcd], rpcs: Mapping[str, Rpc]) -> None:
        self._members = members
        self._rpcs = rpcs
        known = [*(member.etcd for member in members.values()), *others]
        self._binaries = {etcd.version: etcd for etcd in sorted(known, key=lambda etcd: etcd.number)}

    @property
    def available(self) -> tuple[str, ...]:
        """See ``Versions.available``."""
        return tuple(self._binaries)

    @property
    def can_change(self) -> bool:
        """Whether there are two versions, and nodes can go back and forth between them."""
        minors = {etcd.number[:2] for etcd in self._binaries.values()}
        return len(self._binaries) > 1 and len(minors) == 1

    async def running(self, *, timeout_s: float = 1.0) -> dict[str, str | None]:
        """See ``Versions.running``: by Status."""
        from splitvote.harness.etcd.methods import STATUS
        from splitvote.harness.etcd.rpc import ask_all
        from splitvote.harness.etcd.stubs import rpc_pb2 as pb

        request = pb.StatusRequest()
        answers = await ask_all(self._rpcs, lambda node, rpc: rpc.unary(STATUS, request, timeout_s=timeout_s))
        return {
            node: None if isinstance(answer, TransportError) else answer.version for node, answer in answers.items()
        }

    def in_use(self, node: str) -> str:
        """See ``Versions.in_use``."""
        return self._members[node].etcd.version

    async def use(self, node: str, version: str) -> None:
        """See ``Versions.use``."""
        if version not in self._binaries:
            raise NemesisError(
                f"there is no etcd {version} for {node}, only {', '.join(self._binaries)}; see --upgrade"
            )
        self._members[node].etcd = self._binaries[version]
