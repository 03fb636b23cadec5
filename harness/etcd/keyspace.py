"""A store that others use, too: the RPC seam under which every key is below one prefix, and nothing else is seen.

Requests get the prefix before their keys, answers lose it, as in etcd's own
client (client/v3/namespace), but for all services that name keys: KV, Watch,
Lease, Lock, Election.  "Every key" is every key below the prefix.  Revisions
are the store's: what others write shows as gaps.

Compaction has no keys: it forgets everybody's history, and is refused here
unless it was allowed.

Whoever answers at a member's address need not be that member: addresses are
given to others, and balancers choose.  An answer of another member is no answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd import methods
from splitvote.harness.etcd.methods import Method
from splitvote.harness.etcd.rpc import Rpc, Stream

Q = TypeVar("Q", bound=Any)
A = TypeVar("A", bound=Any)
Change = Callable[[Any, bytes], None]

_FROM_HERE_ON: Final = b"\0"
"""As a range's end: all keys from its beginning on."""


def end_of(prefix: bytes) -> bytes:
    """The first key after all that begin with the prefix."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else _FROM_HERE_ON


class PrefixedRpc:
    """One member (see ``Rpc``) as it looks from below ``prefix``; closing it closes ``rpc``.

    ``member`` is its id (None: whoever answers will do).
    """

    def __init__(self, rpc: Rpc, prefix: bytes, *, member: int | None = None, may_compact: bool = False) -> None:
        self._rpc = rpc
        self._prefix = prefix
        self._member = member
        self._may_compact = may_compact

    async def unary(self, method: Method[Q, A], request: Q, *, timeout_s: float) -> A:
        """See ``Rpc.unary``; raises ConfigError for a compaction that was not allowed."""
        if method is methods.COMPACT and not self._may_compact:
            raise ConfigError("this store is not the run's own, and is not to be compacted: see --allow compact")
        answer = await self._rpc.unary(method, _below(method, request, self._prefix), timeout_s=timeout_s)
        _check_member(answer, self._member)
        _strip_answer(method, answer, self._prefix)
        return answer

    async def stream(
        self,
        method: Method[Q, A],
        request: Q | None = None,
        *,
        timeout_s: float | None = None,
        require_leader: bool = False,
    ) -> Stream[Q, A]:
        """See ``Rpc.stream``."""
        asked = None if request is None else _below(method, request, self._prefix)
        stream = await self._rpc.stream(method, asked, timeout_s=timeout_s, require_leader=require_leader)
        return _PrefixedStream(stream, method, self._prefix, self._member)

    async def close(self) -> None:
        """See ``Rpc.close``."""
        await self._rpc.close()


class _PrefixedStream:
    """See ``Stream``."""

    def __init__(self, stream: Stream[Any, Any], method: Method[Any, Any], prefix: bytes, member: int | None) -> None:
        self._stream = stream
        self._method = method
        self._prefix = prefix
        self._member = member

    async def send(self, request: Any) -> None:
        await self._stream.send(_below(self._method, request, self._prefix))

    async def receive(self) -> Any:
        answer = await self._stream.receive()
        if answer is not None:
            try:
                _check_member(answer, self._member)
            except TransportError:
                self._stream.cancel()
                raise
            _strip_answer(self._method, answer, self._prefix)
        return answer

    def cancel(self) -> None:
        self._stream.cancel()


def _check_member(answer: Any, member: int | None) -> None:
    """Raise what a connection that broke raises, which says nothing of whether the request was served."""
    answered = getattr(getattr(answer, "header", None), "member_id", 0)
    if member is not None and answered not in (0, member):
        raise TransportError("UNAVAILABLE", f"Connection reset: member {answered:x} answered in place of {member:x}")


def _below(method: Method[Any, Any], request: Any, prefix: bytes) -> Any:
    """A copy of the request (ours may be shared) with its keys below the prefix; itself where it names none."""
    change = _REQUESTS.get(method)
    if change is None:
        return request
    copy = type(request)()
    copy.CopyFrom(request)
    change(copy, prefix)
    return copy


def _strip_answer(method: Method[Any, Any], answer: Any, prefix: bytes) -> None:
    """Take the prefix off an answer, which is nobody else's."""
    if (change := _ANSWERS.get(method)) is not None:
        change(answer, prefix)


# Requests.


def _interval(request: Any, prefix: bytes) -> None:
    """Of anything with ``key`` and ``range_end``."""
    request.key = prefix + request.key
    if request.range_end == _FROM_HERE_ON:
        request.range_end = end_of(prefix)
    elif request.range_end:
        request.range_end = prefix + request.range_end


def _key(request: Any, prefix: bytes) -> None:
    request.key = prefix + request.key


def _name(request: Any, prefix: bytes) -> None:
    request.name = prefix + request.name


def _leader_key(request: Any, prefix: bytes) -> None:
    request.leader.name = prefix + request.leader.name
    request.leader.key = prefix + request.leader.key


def _watch(request: Any, prefix: bytes) -> None:
    if request.WhichOneof("request_union") == "create_request":
        _interval(request.create_request, prefix)


def _txn(request: Any, prefix: bytes) -> None:
    for compare in request.compare:
        _interval(compare, prefix)
    for op in (*request.success, *request.failure):
        match op.WhichOneof("request"):
            case "request_put":
                _key(op.request_put, prefix)
            case "request_range":
                _interval(op.request_range, prefix)
            case "request_delete_range":
                _interval(op.request_delete_range, prefix)
            case "request_txn":
                _txn(op.request_txn, prefix)


_REQUESTS: Final[dict[Method[Any, Any], Change]] = {
    methods.RANGE: _interval,
    methods.PUT: _key,
    methods.DELETE_RANGE: _interval,
    methods.TXN: _txn,
    methods.WATCH: _watch,
    methods.LOCK: _name,
    methods.UNLOCK: _key,
    methods.CAMPAIGN: _name,
    methods.LEADER: _name,
    methods.OBSERVE: _name,
    methods.PROCLAIM: _leader_key,
    methods.RESIGN: _leader_key,
}


# Answers.


def _strip(kv: Any, prefix: bytes) -> None:
    kv.key = kv.key.removeprefix(prefix)


def _strip_range(answer: Any, prefix: bytes) -> None:
    for kv in answer.kvs:
        _strip(kv, prefix)


def _strip_put(answer: Any, prefix: bytes) -> None:
    if answer.HasField("prev_kv"):
        _strip(answer.prev_kv, prefix)


def _strip_delete(answer: Any, prefix: bytes) -> None:
    for kv in answer.prev_kvs:
        _strip(kv, prefix)


def _strip_txn(answer: Any, prefix: bytes) -> None:
    for op in answer.responses:
        match op.WhichOneof("response"):
            case "response_put":
                _strip_put(op.response_put, prefix)
            case "response_range":
                _strip_range(op.response_range, prefix)
            case "response_delete_range":
                _strip_delete(op.response_delete_range, prefix)
            case "response_txn":
                _strip_txn(op.response_txn, prefix)


def _strip_watch(answer: Any, prefix: bytes) -> None:
    for event in answer.events:
        _strip(event.kv, prefix)
        if event.HasField("prev_kv"):
            _strip(event.prev_kv, prefix)


def _strip_keys(answer: Any, prefix: bytes) -> None:
    answer.keys[:] = [key.removeprefix(prefix) for key in answer.keys]


def _strip_leader(answer: Any, prefix: bytes) -> None:
    if answer.HasField("kv"):
        _strip(answer.kv, prefix)


def _strip_campaign(answer: Any, prefix: bytes) -> None:
    answer.leader.name = answer.leader.name.removeprefix(prefix)
    answer.leader.key = answer.leader.key.removeprefix(prefix)


_ANSWERS: Final[dict[Method[Any, Any], Change]] = {
    methods.RANGE: _strip_range,
    methods.PUT: _strip_put,
    methods.DELETE_RANGE: _strip_delete,
    methods.TXN: _strip_txn,
    methods.WATCH: _strip_watch,
    methods.LEASE_TIME_TO_LIVE: _strip_keys,
    methods.LOCK: _strip,
    methods.CAMPAIGN: _strip_campaign,
    methods.LEADER: _strip_leader,
    methods.OBSERVE: _strip_leader,
}
