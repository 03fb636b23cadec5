"""Read, then write if nothing has changed: what the workloads over etcd's transactions share.

An operation is a function of an ``Attempt``: any number of reads, then one write
at most, all within the operation's deadline.

=====================  =====================================================
a read failed          ``fail``: nothing was sent that changes anything
the guard failed       ``fail``, with GUARD_FAILED: the Txn wrote nothing
the write failed       by the error table; where it may have happened, ``info``
=====================  =====================================================

Nothing is tried a second time: after a write of unknown outcome that would be
wrong, and after a guard that failed the next operation is as good.

Key ``k`` of a workload ``w`` lives at ``w/k``.  A guard compares a key's
mod_revision with the one that was read, 0 for an absent key.  ``revision`` is
that of the answer's header, which for these calls marks the operation's own place
(SOUNDNESS 7): what a write made, or a read saw.  A read is linearizable unless
its invocation's ``extra`` says ``serializable``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from splitvote.harness.client import Emit
from splitvote.harness.errors import ConfigError, SplitvoteError, TransportError
from splitvote.harness.etcd.bindings.services import UNREACHABLE_PAUSE_S, Services
from splitvote.harness.etcd.methods import RANGE, TXN, Method
from splitvote.harness.etcd.outcomes import outcome
from splitvote.harness.etcd.rpc import Rpc
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.etcd.text import text_of
from splitvote.harness.op import Op

if TYPE_CHECKING:
    from google.protobuf.message import Message

Q = TypeVar("Q", bound="Message")
A = TypeVar("A", bound="Message")

GUARD_FAILED: Final = "guard failed: a key has changed since it was read"

EVERYTHING: Final = [["r", None, None]]
"""The transaction that reads every key, as the workloads write it."""

Seen = Mapping[str, "pb.KeyValue | None"]
"""Keys as they were read; None for an absent one."""


class Attempt:
    """One operation's calls to one node."""

    def __init__(self, op: Op, rpc: Rpc, *, node: str, prefix: str, timeout_s: float) -> None:
        self.op = op
        self.may_have_written = False
        self.value_if_unknown: Any = op.value
        """What the completion's value is where the write's outcome is unknown."""
        self._rpc = rpc
        self._node = node
        self._prefix = prefix
        self._deadline_s = asyncio.get_running_loop().time() + timeout_s

    @property
    def is_serializable(self) -> bool:
        """Whether the operation asks for a read that may be old."""
        return bool(self.op.extra and self.op.extra.get("serializable"))

    def key(self, name: Any) -> bytes:
        """Where the key of this name lives."""
        return f"{self._prefix}{name}".encode()

    async def read(self, method: Method[Q, A], request: Q) -> A:
        """A call that changes nothing."""
        return await self._rpc.unary(method, request, timeout_s=self._left_s())

    async def read_key(self, name: Any) -> tuple[pb.KeyValue | None, pb.RangeResponse]:
        """One key."""
        request = pb.RangeRequest(key=self.key(name), serializable=self.is_serializable)
        answer = await self.read(RANGE, request)
        return (answer.kvs[0] if answer.kvs else None), answer

    async def read_keys(self, names: Iterable[Any]) -> tuple[dict[str, pb.KeyValue | None], pb.TxnResponse]:
        """Several keys at one revision."""
        wanted = [str(name) for name in names]
        request = pb.TxnRequest(success=[self.range_part(name) for name in wanted])
        answer = await self.read(TXN, request)
        return dict(zip(wanted, map(kv_of, answer.responses), strict=True)), answer

    async def read_under(self, name: str, **how: Any) -> tuple[list[tuple[str, pb.KeyValue]], pb.RangeResponse]:
        """Every key that begins with this name, by what comes after it; ``how`` are fields of the Range."""
        begin = self.key(name)
        end = begin[:-1] + bytes([begin[-1] + 1])
        request = pb.RangeRequest(key=begin, range_end=end, serializable=self.is_serializable, **how)
        answer = await self.read(RANGE, request)
        return [(text_of(kv.key[len(begin) :]), kv) for kv in answer.kvs], answer

    async def write(self, method: Method[Q, A], request: Q) -> A:
        """The call that changes something, the operation's last."""
        if self.may_have_written:
            raise SplitvoteError(f"{self.op.f!r} has written already; the outcome of two writes is no outcome")
        self.may_have_written = True
        return await self._rpc.unary(method, request, timeout_s=self._left_s())

    async def write_if(
        self, seen: Seen, then: Sequence[pb.RequestOp], *, value: Any, otherwise: str = GUARD_FAILED
    ) -> Op:
        """Do ``then`` if every key is still as it was seen; ok with the value, else failed with ``otherwise``."""
        guards = [
            pb.Compare(target=pb.Compare.MOD, key=self.key(name), mod_revision=kv.mod_revision if kv else 0)
            for name, kv in seen.items()
        ]
        answer = await self.write(TXN, pb.TxnRequest(compare=guards, success=then))
        if answer.succeeded:
            return self.ok(answer, value=value)
        return self.failed(otherwise, revision=answer.header.revision)

    def range_part(self, name: Any) -> pb.RequestOp:
        """The read of one key as a part of a transaction."""
        return pb.RequestOp(
            request_range=pb.RangeRequest(key=self.key(name), serializable=self.is_serializable),
        )

    def put_part(self, name: Any, value: Any) -> pb.RequestOp:
        """The put of one key, of the value's text, as a part of a transaction."""
        return pb.RequestOp(request_put=pb.PutRequest(key=self.key(name), value=str(value).encode()))

    def ok(self, answer: Any, **changes: Any) -> Op:
        """The operation's completion by this answer."""
        return self.op.completed("ok", node=self._node, revision=answer.header.revision, **changes)

    def failed(self, error: str, **changes: Any) -> Op:
        """The completion of an operation that certainly did nothing."""
        return self.op.completed("fail", error=error, node=self._node, **changes)

    async def broken(self, error: TransportError) -> Op:
        """The completion of an operation one of whose calls failed."""
        judged = outcome(error, is_read=not self.may_have_written)
        if judged.name == "not-connected":
            await asyncio.sleep(UNREACHABLE_PAUSE_S)
        value = self.value_if_unknown if judged.type == "info" else self.op.value
        return self.op.completed(judged.type, error=judged.text, node=self._node, value=value)

    def _left_s(self) -> float:
        return max(0.0, self._deadline_s - asyncio.get_running_loop().time())


Operation = Callable[[Attempt], Awaitable[Op]]


class TransactionBinding:
    """Opens clients that do a workload's operations, each by its function."""

    def __init__(self, services: Services, workload: str, operations: Mapping[str, Operation]) -> None:
        self._services = services
        self._workload = workload
        self._operations = operations

    async def open(self, process: int, node: str) -> TransactionClient:
        """A client for this process; does not wait for the node."""
        return TransactionClient(self._services, self._workload, self._operations, node)

    async def close(self) -> None:
        """Nothing to let go of: the nodes' connections are not ours."""


class TransactionClient:
    """One process's operations at one node."""

    def __init__(self, services: Services, workload: str, operations: Mapping[str, Operation], node: str) -> None:
        self._rpc = services.nodes[node]
        self._timeout_s = services.timeout_s
        self._workload = workload
        self._operations = operations
        self._node = node

    async def setup(self) -> None:
        """Nothing to prepare: what was never written is absent."""

    async def teardown(self) -> None:
        """Nothing to undo: the store belongs to the run."""

    async def close(self) -> None:
        """Nothing to let go of: the node's connections are shared."""

    async def invoke(self, op: Op, emit: Emit) -> Op:
        """Do one operation; raises ConfigError for one that the workload does not have."""
        operation = self._operations.get(op.f)
        if operation is None:
            raise ConfigError(
                f"etcd's {self._workload} has no operation {op.f!r}; it has {', '.join(self._operations)}"
            )
        attempt = Attempt(op, self._rpc, node=self._node, prefix=f"{self._workload}/", timeout_s=self._timeout_s)
        try:
            return await operation(attempt)
        except TransportError as error:
            return await attempt.broken(error)


def kv_of(part: pb.ResponseOp) -> pb.KeyValue | None:
    """The key that a range of one key found, as a part of a transaction's answer."""
    kvs = part.response_range.kvs
    return kvs[0] if kvs else None


def number_of(kv: pb.KeyValue | None) -> int | str | None:
    """A key's number; None for an absent key, and the text where it is no number, which no client wrote."""
    return None if kv is None else number_in(text_of(kv.value))


def number_in(text: str) -> int | str:
    """The number that this text is; the text itself where it is none."""
    try:
        return int(text)
    except ValueError:
        return text


def numbers_of(kv: pb.KeyValue | None) -> list[Any]:
    """The numbers that a key's value lists, separated by commas; none for an absent key."""
    return [] if kv is None else [number_in(part) for part in text_of(kv.value).split(",")]


def listed(numbers: Iterable[Any]) -> str:
    """Numbers as a key's value, which ``numbers_of`` reads."""
    return ",".join(map(str, numbers))


async def transact(attempt: Attempt) -> Op:
    """Micro-operations of registers as one etcd transaction, which does them in their order."""
    if attempt.op.value == EVERYTHING:
        return await read_everything(attempt, number_of)
    micro_ops = attempt.op.value
    parts = [attempt.range_part(key) if f == "r" else attempt.put_part(key, value) for f, key, value in micro_ops]
    call = attempt.read if all(f == "r" for f, _, _ in micro_ops) else attempt.write
    answer = await call(TXN, pb.TxnRequest(success=parts))
    done = [
        [f, key, number_of(kv_of(part)) if f == "r" else value]
        for (f, key, value), part in zip(micro_ops, answer.responses, strict=True)
    ]
    return attempt.ok(answer, value=done)


async def read_everything(attempt: Attempt, value_of: Callable[[pb.KeyValue | None], Any]) -> Op:
    """Read every key as one transaction; keys count up from 0, so that one below the highest found may be absent."""
    found, answer = await attempt.read_under("")
    by_key = {number_in(name): kv for name, kv in found}
    highest = max((key for key in by_key if isinstance(key, int)), default=-1)
    keys = [*range(highest + 1), *(key for key in by_key if not isinstance(key, int))]
    return attempt.ok(answer, value=[["r", key, value_of(by_key.get(key))] for key in keys])
