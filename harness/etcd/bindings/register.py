"""etcd's registers: how reads, writes and compare-and-sets over keys become RPCs.

Key ``k`` lives at ``register/k``; values are integers, written as decimal text.

=========  =================================================================
``read``   a linearizable Range; None for an absent key
``write``  a Put
``cas``    ``value`` is [old, new].  With ``cas_on="value"`` one Txn that
           compares the value (an old of None: that the key is absent) and
           puts.  With ``cas_on="mod_revision"`` a linearizable Range and,
           when it found ``old``, a Txn that puts if the key's mod_revision is
           still the one read.
=========  =================================================================

What is recorded.  ``revision`` is that of the answer's header, which for these
calls marks the operation's own place in the store's history (SOUNDNESS 7): for
a write the revision it made, for a read or a failed compare the revision it
saw.  ``extra`` has mod_revision and version of the key where the answer shows
the key.

A cas whose compare failed is ``fail`` with the error "cas: compare failed".  It
reached the store and is an *observation* when ``extra["observed"]`` is true:
at ``revision`` the key's value was not ``old``, but ``extra["saw"]`` (SOUNDNESS
2).  With ``cas_on="mod_revision"`` the Txn can also fail because the key was
rewritten to the very value it had; then ``observed`` is false and nothing is
said about the value.  Any other ``fail`` comes from the error table
(``splitvote.harness.etcd.outcomes``), its error beginning with the row's name,
and carries no observation.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal

from splitvote.harness.client import Emit
from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd.bindings.services import UNREACHABLE_PAUSE_S, Nodes, Services
from splitvote.harness.etcd.methods import PUT, RANGE, TXN
from splitvote.harness.etcd.outcomes import outcome
from splitvote.harness.etcd.rpc import Rpc
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.etcd.text import text_of
from splitvote.harness.op import Op

CasOn = Literal["value", "mod_revision"]

PREFIX: Final = "register/"
COMPARE_FAILED: Final = "cas: compare failed"


def binding(services: Services) -> RegisterBinding:
    """See ``RegisterBinding``; the option ``cas_on`` says what a cas compares."""
    cas_on: CasOn = "mod_revision" if services.options.get("cas_on") == "mod_revision" else "value"
    return RegisterBinding(services.nodes, cas_on=cas_on, timeout_s=services.timeout_s)


class RegisterBinding:
    """Opens register clients over ``nodes``; ``timeout_s`` is an operation's deadline."""

    def __init__(self, nodes: Nodes, *, prefix: str = PREFIX, cas_on: CasOn = "value", timeout_s: float = 1.5) -> None:
        self._nodes = nodes
        self._prefix = prefix
        self._cas_on = cas_on
        self._timeout_s = timeout_s

    async def open(self, process: int, node: str) -> RegisterClient:
        """A client for this process; does not wait for the node."""
        return RegisterClient(
            self._nodes[node], node, prefix=self._prefix, cas_on=self._cas_on, timeout_s=self._timeout_s
        )

    async def close(self) -> None:
        """Nothing to let go of: the nodes' connections are not ours."""


class RegisterClient:
    """One process's registers at one node."""

    def __init__(self, rpc: Rpc, node: str, *, prefix: str, cas_on: CasOn, timeout_s: float) -> None:
        self._rpc = rpc
        self._node = node
        self._prefix = prefix
        self._timeout_s = timeout_s
        cas = self._cas_on_value if cas_on == "value" else self._cas_on_mod_revision
        self._operations = {"read": self._read, "write": self._write, "cas": cas}

    async def setup(self) -> None:
        """Nothing to prepare: a register that was never written reads as None."""

    async def teardown(self) -> None:
        """Nothing to undo: the store belongs to the run."""

    async def close(self) -> None:
        """Nothing to let go of: the node's connections are shared."""

    async def invoke(self, op: Op, emit: Emit) -> Op:
        """Do a read, write or cas; raises ConfigError for any other operation."""
        operation = self._operations.get(op.f)
        if operation is None:
            raise ConfigError(f"etcd's register has no operation {op.f!r}; it has {', '.join(self._operations)}")
        try:
            return await operation(op, f"{self._prefix}{op.key}".encode())
        except TransportError as error:
            judged = outcome(error, is_read=op.f == "read")
            if judged.name == "not-connected":
                await asyncio.sleep(UNREACHABLE_PAUSE_S)
            return op.completed(judged.type, error=judged.text, node=self._node)

    async def _read(self, op: Op, key: bytes) -> Op:
        answer = await self._rpc.unary(RANGE, pb.RangeRequest(key=key), timeout_s=self._timeout_s)
        value, shown = _shown(answer)
        return op.completed("ok", value=value, node=self._node, revision=answer.header.revision, extra=shown)

    async def _write(self, op: Op, key: bytes) -> Op:
        request = pb.PutRequest(key=key, value=b"%d" % op.value)
        answer = await self._rpc.unary(PUT, request, timeout_s=self._timeout_s)
        return op.completed("ok", node=self._node, revision=answer.header.revision)

    async def _cas_on_value(self, op: Op, key: bytes) -> Op:
        return await self._guarded_put(op, key, _value_is(key, op.value[0]), self._timeout_s)

    async def _cas_on_mod_revision(self, op: Op, key: bytes) -> Op:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._timeout_s
        try:
            answer = await self._rpc.unary(RANGE, pb.RangeRequest(key=key), timeout_s=self._timeout_s)
        except TransportError as error:  # the put was never sent
            return op.completed("fail", error=outcome(error, is_read=True).text, node=self._node)
        value, _ = _shown(answer)
        if value != op.value[0]:
            return self._compare_failed(op, answer, answer.header.revision)
        mod_revision = answer.kvs[0].mod_revision if answer.kvs else 0
        guard = pb.Compare(target=pb.Compare.MOD, key=key, mod_revision=mod_revision)
        return await self._guarded_put(op, key, guard, max(0.0, deadline_s - loop.time()))

    async def _guarded_put(self, op: Op, key: bytes, guard: pb.Compare, timeout_s: float) -> Op:
        request = pb.TxnRequest(
            compare=[guard],
            success=[pb.RequestOp(request_put=pb.PutRequest(key=key, value=b"%d" % op.value[1]))],
            failure=[pb.RequestOp(request_range=pb.RangeRequest(key=key))],
        )
        answer = await self._rpc.unary(TXN, request, timeout_s=timeout_s)
        if answer.succeeded:
            return op.completed("ok", node=self._node, revision=answer.header.revision)
        is_about_value = guard.target != pb.Compare.MOD
        return self._compare_failed(
            op, answer.responses[0].response_range, answer.header.revision, observed=is_about_value or None
        )

    def _compare_failed(self, op: Op, seen: pb.RangeResponse, revision: int, *, observed: bool | None = None) -> Op:
        """The failed cas; unless the store itself said so, it ``observed`` another value only if it saw one."""
        value, shown = _shown(seen)
        if observed is None:
            observed = value != op.value[0]
        extra = {"observed": observed, "saw": value} | (shown or {})
        return op.completed("fail", error=COMPARE_FAILED, node=self._node, revision=revision, extra=extra)


def _value_is(key: bytes, value: int | None) -> pb.Compare:
    if value is None:
        return pb.Compare(target=pb.Compare.CREATE, key=key, create_revision=0)
    return pb.Compare(target=pb.Compare.VALUE, key=key, value=b"%d" % value)


def _shown(answer: pb.RangeResponse) -> tuple[int | str | None, dict[str, Any] | None]:
    """The value a Range shows (as text where it is no integer, which no client wrote), and its place in the store."""
    if not answer.kvs:
        return None, None
    kv = answer.kvs[0]
    try:
        value: int | str = int(kv.value)
    except ValueError:
        value = text_of(kv.value)
    return value, {"mod_revision": kv.mod_revision, "version": kv.version}
