"""What etcd refuses before it proposes anything: requests that are wrong whatever the store holds.

Source: etcd's server/etcdserver/api/v3rpc/key.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.refusals import (
    DUPLICATE_KEY,
    EMPTY_KEY,
    KEY_NOT_FOUND,
    LEASE_PROVIDED,
    TOO_MANY_OPS,
    VALUE_PROVIDED,
    error,
)

MAX_TXN_OPS: Final = 128

_Deletions = list[tuple[bytes, bytes]]


def check_key(request: pb.RangeRequest | pb.DeleteRangeRequest) -> None:
    """Refuse a Range or DeleteRange without a key."""
    if not request.key:
        raise error(EMPTY_KEY)


def check_put(request: pb.PutRequest) -> None:
    """Refuse a Put without a key, or with a value or lease that it asks to ignore."""
    if not request.key:
        raise error(EMPTY_KEY)
    if request.ignore_value and request.value:
        raise error(VALUE_PROVIDED)
    if request.ignore_lease and request.lease:
        raise error(LEASE_PROVIDED)


def check_txn(request: pb.TxnRequest) -> None:
    """Refuse a transaction of too many or wrong operations, or one that changes a key twice."""
    _check_ops(request, MAX_TXN_OPS)
    _changes(request.success)
    _changes(request.failure)


def _check_ops(request: pb.TxnRequest, most: int) -> None:
    count = max(len(request.compare), len(request.success), len(request.failure))
    if count > most:
        raise error(TOO_MANY_OPS)
    if any(not compare.key for compare in request.compare):
        raise error(EMPTY_KEY)
    for ops in (request.success, request.failure):
        for op in ops:
            _check_op(op, most - count)


def _check_op(op: pb.RequestOp, most: int) -> None:
    kind = op.WhichOneof("request")
    if kind == "request_put":
        check_put(op.request_put)
    elif kind == "request_range":
        check_key(op.request_range)
    elif kind == "request_delete_range":
        check_key(op.request_delete_range)
    elif kind == "request_txn":
        _check_ops(op.request_txn, most)
    else:
        raise error(KEY_NOT_FOUND)


def _changes(ops: Iterable[pb.RequestOp]) -> tuple[dict[bytes, None], _Deletions]:
    """What operations put and delete.

    Refuses what puts a key twice, or puts and deletes one; branches that exclude
    each other may put the same key.  As in etcd, a deletion in one nested
    transaction is not held against what an earlier one puts, and one of all keys
    from some key on (range end NUL) is held against nothing.
    """
    deletions = [
        (op.request_delete_range.key, op.request_delete_range.range_end)
        for op in ops
        if op.HasField("request_delete_range")
    ]
    puts: dict[bytes, None] = {}
    for op in ops:
        if op.HasField("request_txn"):
            then_puts, then_deletions = _changes(op.request_txn.success)
            else_puts, else_deletions = _changes(op.request_txn.failure)
            for key in then_puts:
                _take(key, puts, deletions)
            for key in else_puts:
                if key not in then_puts:
                    _take(key, puts, deletions)
                elif _is_deleted(key, deletions):
                    raise error(DUPLICATE_KEY)
            deletions += then_deletions + else_deletions
    for op in ops:
        if op.HasField("request_put"):
            _take(op.request_put.key, puts, deletions)
    return puts, deletions


def _take(key: bytes, puts: dict[bytes, None], deletions: _Deletions) -> None:
    if key in puts or _is_deleted(key, deletions):
        raise error(DUPLICATE_KEY)
    puts[key] = None


def _is_deleted(key: bytes, deletions: _Deletions) -> bool:
    return any(key == start if not end else start <= key < end for start, end in deletions)
