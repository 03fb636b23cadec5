"""One binding for several workloads: each operation goes to its own workload's client."""

from __future__ import annotations

from collections.abc import Mapping

from splitvote.harness.client import Binding, Client, Emit
from splitvote.harness.errors import ConfigError
from splitvote.harness.op import Op


class BindingsTogether:
    """Opens clients that serve every workload of a run."""

    def __init__(self, bindings: Mapping[str, Binding]) -> None:
        self._bindings = bindings

    async def open(self, process: int, node: str) -> ClientsTogether:
        """A client for this process; its workloads' clients are opened when they are first needed."""
        return ClientsTogether(self._bindings, process, node)

    async def close(self) -> None:
        """Close every binding."""
        for binding in self._bindings.values():
            await binding.close()


class ClientsTogether:
    """One process's clients, by workload."""

    def __init__(self, bindings: Mapping[str, Binding], process: int, node: str) -> None:
        self._bindings = bindings
        self._process = process
        self._node = node
        self._clients: dict[str, Client] = {}

    async def setup(self) -> None:
        """Set every workload up."""
        for workload in self._bindings:
            await (await self._client_of(workload)).setup()

    async def invoke(self, op: Op, emit: Emit) -> Op:
        """Have the operation's workload do it; raises ConfigError for an operation of none."""
        if op.workload is None or op.workload not in self._bindings:
            raise ConfigError(f"operation {op.f!r} is of the workload {op.workload!r}, which this run does not have")
        return await (await self._client_of(op.workload)).invoke(op, emit)

    async def teardown(self) -> None:
        """Undo every workload's set-up."""
        for workload in self._bindings:
            await (await self._client_of(workload)).teardown()

    async def close(self) -> None:
        """Close the clients that were opened."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()

    async def _client_of(self, workload: str) -> Client:
        client = self._clients.get(workload)
        if client is None:
            client = self._clients[workload] = await self._bindings[workload].open(self._process, self._node)
        return client
