"""Requests on the store: what etcd's applier does for Range, Put, DeleteRange and Txn.

A transaction's comparisons, also those of transactions in it, are all decided
on the state before it; then everything that could refuse is checked; then it is
carried out.  So a refused transaction changes nothing.  Source: etcd's
server/etcdserver/apply.go.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.lessor import Lessor
from splitvote.harness.simulation.mutants import Mutants
from splitvote.harness.simulation.refusals import (
    COMPACTED,
    FUTURE_REVISION,
    KEY_NOT_FOUND,
    LEASE_NOT_FOUND,
    error,
)
from splitvote.harness.simulation.store import Store, WriteTxn


class View(Protocol):
    """The store, or a transaction on it, to read from."""

    mutants: Mutants

    @property
    def revision(self) -> int:
        """The newest revision that is seen."""
        ...

    def range(self, start: bytes, end: bytes, revision: int = 0) -> list[pb.KeyValue]:
        """See ``Store.range``."""
        ...


_SORT_KEYS: Final[tuple[Callable[[pb.KeyValue], Any], ...]] = tuple(
    map(attrgetter, ("key", "version", "create_revision", "mod_revision", "value"))
)
"""By RangeRequest.SortTarget."""


def answer_range(view: View, request: pb.RangeRequest) -> pb.RangeResponse:
    """Answer a Range; raises what etcd answers for a revision that is compacted or in the future."""
    revision = view.revision
    found = view.range(request.key, request.range_end, request.revision)
    if view.mutants.has("observe-reports-deposed-leader"):
        found = _with_deposed(view, request, found)
    answer = pb.RangeResponse(header=pb.ResponseHeader(revision=revision), count=len(found))
    if request.count_only:
        return answer
    found = _filtered(request, found, view.mutants)
    limit = request.limit
    order, target = request.sort_order, request.sort_target
    if order == pb.RangeRequest.NONE and limit > 0 and not _has_filter(request):
        found = found[: limit + 1]  # fetched so far and no further, then sorted by another target than the key
    if order != pb.RangeRequest.NONE or target != pb.RangeRequest.KEY:
        found.sort(key=_SORT_KEYS[target], reverse=order == pb.RangeRequest.DESCEND)
    if 0 < limit < len(found):
        answer.more = True
        del found[limit:]
    answer.kvs.extend(found)
    if request.keys_only:
        for kv in answer.kvs:
            kv.value = b""
    return answer


def _with_deposed(view: View, request: pb.RangeRequest, found: list[pb.KeyValue]) -> list[pb.KeyValue]:
    """Mutant: what a read of the oldest key finds, and the key whose deletion is the last thing that happened."""
    if not isinstance(view, Store) or request.limit != 1 or request.sort_target != pb.RangeRequest.CREATE:
        return found
    gone = view.last_deleted(request.key, request.range_end)
    is_oldest = gone is not None and all(gone.create_revision < kv.create_revision for kv in found)
    if gone is not None and is_oldest and view.mutants.fires("observe-reports-deposed-leader"):
        return [gone, *found]
    return found


def _has_filter(request: pb.RangeRequest) -> bool:
    return bool(
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


def _filtered(request: pb.RangeRequest, found: list[pb.KeyValue], mutants: Mutants) -> list[pb.KeyValue]:
    if not _has_filter(request):
        return found
    low_mod, high_mod = request.min_mod_revision, request.max_mod_revision
    low_create, high_create = request.min_create_revision, request.max_create_revision
    return [
        kv
        for kv in found
        if not (low_mod and kv.mod_revision < low_mod)
        and not (high_mod and kv.mod_revision > high_mod)
        and not (low_create and kv.create_revision < low_create)
        and not (high_create and kv.create_revision > high_create)
        and not (kv.create_revision == high_create and mutants.fires("campaign-ignores-predecessor"))
    ]


def do_put(txn: WriteTxn, request: pb.PutRequest, *, answers_client: bool = True) -> pb.PutResponse | None:
    """Carry out a Put that was checked; ``answers_client`` is whether anybody waits for the answer here."""
    key, value, lease = request.key, request.value, request.lease
    before = None
    if request.prev_kv or request.ignore_value or request.ignore_lease:
        before = next(iter(txn.range(key, b"")), None)
        if before is not None:
            value = before.value if request.ignore_value else value
            lease = before.lease if request.ignore_lease else lease
    revision = txn.put(key, value, lease)
    if not answers_client:
        return None
    answer = pb.PutResponse(prev_kv=before if request.prev_kv else None)
    answer.header.revision = revision
    return answer


def do_delete(txn: WriteTxn, request: pb.DeleteRangeRequest) -> pb.DeleteRangeResponse:
    """Carry out a DeleteRange."""
    gone = txn.delete_range(request.key, request.range_end)
    return pb.DeleteRangeResponse(
        header=pb.ResponseHeader(revision=txn.revision),
        deleted=len(gone),
        prev_kvs=gone if request.prev_kv else (),
    )


def check_key_is_there(view: View, request: pb.PutRequest) -> None:
    """Refuse a Put that keeps a value or lease of a key that is not there."""
    if (request.ignore_value or request.ignore_lease) and not view.range(request.key, b""):
        raise error(KEY_NOT_FOUND)


def check_lease_is_there(lessor: Lessor, request: pb.PutRequest) -> None:
    """Refuse a Put with a lease that is not there."""
    if request.lease and lessor.get(request.lease) is None:
        raise error(LEASE_NOT_FOUND)


def is_read_only(request: pb.TxnRequest) -> bool:
    """Whether a transaction can only read: it is not proposed."""
    return all(op.HasField("request_range") for ops in (request.success, request.failure) for op in ops)


def do_txn(
    store: Store, lessor: Lessor, request: pb.TxnRequest, *, answers_client: bool = True
) -> pb.TxnResponse | None:
    """Carry out a transaction, or refuse it before anything of it is done.

    ``answers_client`` is whether anybody waits for the answer here.
    """
    branch = _decide(store, request)
    _check_puts(store, lessor, branch)
    try:
        _check_ranges(store, branch)
    except TransportError:
        if answers_client or not store.mutants.fires("ranges-stripped-from-transactions"):
            raise
        # as etcd's members carry it out that do not answer the client (issue 18667)
        branch = _Branch(branch.holds, [step for step in branch.steps if step[0] != "request_range"])
    txn = store.write()
    answer = pb.TxnResponse() if answers_client else None
    _carry_out(txn, branch, answer)
    if answer is not None:
        answer.header.revision = txn.revision
    txn.end()
    return answer


def decided(store: Store, request: pb.TxnRequest) -> tuple[bool, pb.TxnRequest]:
    """Mutant: whether a transaction's comparisons hold now, and the transaction that does what follows from that."""
    holds = compares_hold(store, request)
    if holds:
        return holds, pb.TxnRequest(success=request.success)
    never = pb.Compare(key=b"\0", target=pb.Compare.VERSION, result=pb.Compare.LESS, version=0)
    return holds, pb.TxnRequest(compare=[never], failure=request.failure)


def compares_hold(store: Store, request: pb.TxnRequest, revision: int = 0) -> bool:
    """Whether all comparisons of a transaction hold as of a revision, 0 for the newest."""
    return all(_compare(store, compare, revision) for compare in request.compare)


class _Branch(NamedTuple):
    """What a transaction is to do, all comparisons decided: pairs (kind, request), a nested one's ``_Branch``."""

    holds: bool
    steps: list[tuple[str, Any]]


def _decide(store: Store, request: pb.TxnRequest) -> _Branch:
    holds = compares_hold(store, request)
    steps: list[tuple[str, Any]] = []
    for op in request.success if holds else request.failure:
        kind = op.WhichOneof("request")
        if kind == "request_txn":
            steps.append((kind, _decide(store, op.request_txn)))
        elif kind is not None:
            steps.append((kind, getattr(op, kind)))
    return _Branch(holds, steps)


def _check_puts(store: Store, lessor: Lessor, branch: _Branch) -> None:
    for kind, step in branch.steps:
        if kind == "request_put":
            check_key_is_there(store, step)
            check_lease_is_there(lessor, step)
        elif kind == "request_txn":
            _check_puts(store, lessor, step)


def _check_ranges(store: Store, branch: _Branch) -> None:
    for kind, step in branch.steps:
        if kind == "request_range":
            revision = step.revision
            if revision > store.revision:
                raise error(FUTURE_REVISION)
            if revision and revision < store.compacted:
                raise error(COMPACTED)
        elif kind == "request_txn":
            _check_ranges(store, step)


def _carry_out(txn: WriteTxn, branch: _Branch, answer: pb.TxnResponse | None) -> None:
    """Do it, and answer, if an answer is wanted; else what only reads is left out."""
    if answer is None:
        for kind, step in branch.steps:
            if kind == "request_put":
                do_put(txn, step, answers_client=False)
            elif kind == "request_delete_range":
                txn.delete_range(step.key, step.range_end)
            elif kind == "request_txn":
                _carry_out(txn, step, None)
        return
    answer.header.SetInParent()
    answer.succeeded = branch.holds
    for kind, step in branch.steps:
        part = answer.responses.add()
        if kind == "request_put":
            put = do_put(txn, step)
            assert put is not None
            part.response_put.MergeFrom(put)
        elif kind == "request_range":
            part.response_range.MergeFrom(answer_range(txn, step))
        elif kind == "request_delete_range":
            part.response_delete_range.MergeFrom(do_delete(txn, step))
        else:
            _carry_out(txn, step, part.response_txn)


_OPERANDS: Final = {
    pb.Compare.VERSION: ("version", attrgetter("version")),
    pb.Compare.CREATE: ("create_revision", attrgetter("create_revision")),
    pb.Compare.MOD: ("mod_revision", attrgetter("mod_revision")),
    pb.Compare.VALUE: ("value", attrgetter("value")),
    pb.Compare.LEASE: ("lease", attrgetter("lease")),
}
"""By target: the field of the comparison that it is compared with, and what of the key is."""

_ABSENT: Final = pb.KeyValue()


def _compare(store: Store, compare: pb.Compare, revision: int) -> bool:
    """Whether a comparison holds for every key of its range; of no key, only a value cannot be compared."""
    found = store.range(compare.key, compare.range_end, revision)
    if not found and compare.target == pb.Compare.VALUE:
        return False
    field, of = _OPERANDS[compare.target]
    operand = getattr(compare, field)
    if not found and operand and compare.target == pb.Compare.CREATE and compare.result == pb.Compare.EQUAL:
        return store.mutants.fires("proclaim-unguarded")
    return all(_holds(compare.result, of(kv), operand) for kv in found or (_ABSENT,))


def _holds(result: pb.Compare.CompareResult, actual: Any, operand: Any) -> bool:
    if result == pb.Compare.EQUAL:
        return bool(actual == operand)
    if result == pb.Compare.NOT_EQUAL:
        return bool(actual != operand)
    if result == pb.Compare.GREATER:
        return bool(actual > operand)
    return bool(actual < operand)
