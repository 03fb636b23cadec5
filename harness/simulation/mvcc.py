"""The replicated state machine of one member: store, leases, alarms and watchers, changed by the commands of the log.

``apply`` is deterministic but for what belongs to the member alone: who watches
here, and when leases expire here.  The consistent index is in the same backend
as the data that it counts; what is at or below it when a process starts was
applied by the process before, and changes nothing again.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation import interface
from splitvote.harness.simulation.backend import Backend, Snapshot
from splitvote.harness.simulation.compactor import Compactor
from splitvote.harness.simulation.interface import Command, Host, LeaseCheckpoint, Outcome
from splitvote.harness.simulation.lessor import Lessor
from splitvote.harness.simulation.refusals import CORRUPT, NO_SPACE, error
from splitvote.harness.simulation.requests import (
    answer_range,
    check_key_is_there,
    check_lease_is_there,
    do_delete,
    do_put,
    do_txn,
)
from splitvote.harness.simulation.store import Hash, Store
from splitvote.harness.simulation.watch import WatchHub

__all__ = ["Backend", "Machine", "MachineOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions:
    """The flags of etcd that a machine obeys.

    ``min_ttl_s`` is what shorter leases get, ceil(1.5 x the election timeout).
    ``checkpoint_interval_s`` (experimental-enable-lease-checkpoint) and
    ``keep_revisions`` (auto-compaction-mode=revision) are off by default, as in etcd.
    ``watch_progress_s`` is the time between progress reports to watchers that asked for them.
    """

    min_ttl_s: int = math.ceil(1.5)
    checkpoint_interval_s: float | None = None
    keep_revisions: int | None = None
    watch_progress_s: float = 600.0


class Machine:
    """See the module and ``interface.Machine``; goes on with what is committed in the backend."""

    def __init__(self, host: Host, backend: Backend, options: MachineOptions | None = None) -> None:
        self.options = options or MachineOptions()
        self.backend = backend
        self.backend.mutants = host.mutants
        self._host = host
        self._answers_client = True
        """Whether anybody waits here for what becomes of the command that is being applied."""

        self.lessor = Lessor(
            backend,
            host,
            min_ttl_s=self.options.min_ttl_s,
            checkpoint_interval_s=self.options.checkpoint_interval_s,
        )
        self.watches = WatchHub(host)
        self.store = Store(backend, self.lessor, host.mutants, self.watches.notify)
        self.watches.serve(self.store)
        self._compactor = Compactor(host, self.store, keep_revisions=self.options.keep_revisions)
        self._waiting: deque[tuple[int, asyncio.Future[bool]]] = deque()
        self._appliers: dict[type, Callable[[Any], Any]] = {
            pb.PutRequest: self._put,
            pb.DeleteRangeRequest: self._delete_range,
            pb.RangeRequest: lambda request: answer_range(self.store, request),
            pb.TxnRequest: self._txn,
            pb.CompactionRequest: self._compact,
            pb.LeaseGrantRequest: self._grant,
            pb.LeaseRevokeRequest: self._revoke,
            pb.AlarmRequest: self._alarm,
            LeaseCheckpoint: self._checkpoint,
        }

    @property
    def consistent_index(self) -> int:
        """See ``interface.Machine``."""
        return self.backend.index

    @property
    def revision(self) -> int:
        """See ``interface.Machine``."""
        return self.store.revision

    # ---- the log

    def apply(self, index: int, command: Command) -> Outcome | None:
        """See ``interface.Machine``."""
        if index <= self.backend.index and not self._host.mutants.fires("reapply-after-restart"):
            return None
        self.backend.index = max(index, self.backend.index)
        self._answers_client = self._host.awaits(command.id)
        request = command.request
        try:
            self._refuse_under_alarm(request)
            outcome = Outcome(self._appliers[type(request)](request))
        except TransportError as refusal:
            outcome = Outcome(None, refusal)
        self._wake()
        return outcome

    def skip(self, index: int) -> None:
        """See ``interface.Machine``."""
        if index > self.backend.index:
            self.backend.index = index
            self._wake()

    def applied(self, index: int) -> asyncio.Future[bool]:
        """A future that is done (True) once everything up to an index has been applied."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if index <= self.backend.index:
            future.set_result(True)
        else:
            self._waiting.append((index, future))
        return future

    def _wake(self) -> None:
        for _ in range(len(self._waiting)):
            index, future = self._waiting.popleft()
            if index > self.backend.index and not future.done():
                self._waiting.append((index, future))
            elif not future.done():
                future.set_result(True)

    def _put(self, request: pb.PutRequest) -> pb.PutResponse | None:
        check_lease_is_there(self.lessor, request)
        check_key_is_there(self.store, request)
        txn = self.store.write()
        answer = do_put(txn, request, answers_client=self._answers_client)
        txn.end()
        return answer

    def _delete_range(self, request: pb.DeleteRangeRequest) -> pb.DeleteRangeResponse:
        txn = self.store.write()
        answer = do_delete(txn, request)
        txn.end()
        return answer

    def _txn(self, request: pb.TxnRequest) -> pb.TxnResponse | None:
        return do_txn(self.store, self.lessor, request, answers_client=self._answers_client)

    def _compact(self, request: pb.CompactionRequest) -> pb.CompactionResponse:
        self.store.compact(request.revision)
        return pb.CompactionResponse(header=self._header())

    def _grant(self, request: pb.LeaseGrantRequest) -> pb.LeaseGrantResponse:
        lease = self.lessor.grant(request.ID, request.TTL)
        return pb.LeaseGrantResponse(header=self._header(), ID=lease.id, TTL=lease.ttl_s)

    def _revoke(self, request: pb.LeaseRevokeRequest) -> pb.LeaseRevokeResponse:
        keys = self.lessor.remove(request.ID)
        txn = self.store.write()
        for number, key in enumerate(keys):
            if number and self._host.mutants.fires("lease-keys-at-different-revisions"):
                txn.end()
                txn = self.store.write()
            txn.delete_range(key, b"")
        txn.end()
        return pb.LeaseRevokeResponse(header=self._header())

    def _checkpoint(self, request: LeaseCheckpoint) -> None:
        for lease_id, remaining_s in request.remaining_s:
            self.lessor.checkpoint(lease_id, remaining_s)

    def _alarm(self, request: pb.AlarmRequest) -> pb.AlarmResponse:
        alarm = (request.memberID, request.alarm)
        alarms = self.backend.alarms
        if request.action == pb.AlarmRequest.GET:
            told = [raised for raised in alarms if request.alarm in (pb.NONE, raised[1])]
        elif request.action == pb.AlarmRequest.ACTIVATE:
            told = [alarm]
            self.backend.set_alarm(alarm, is_raised=True)
        else:
            told = [alarm] if alarm in alarms else []
            self.backend.set_alarm(alarm, is_raised=False)
        members = [pb.AlarmMember(memberID=member, alarm=kind) for member, kind in told]
        return pb.AlarmResponse(header=self._header(), alarms=members)

    def _refuse_under_alarm(self, request: Any) -> None:
        if not self.backend.alarms or isinstance(request, pb.AlarmRequest):
            return
        kinds = [kind for _, kind in self.backend.alarms]
        if pb.CORRUPT in kinds:
            raise error(CORRUPT)
        if pb.NOSPACE in kinds and (
            isinstance(request, pb.PutRequest | pb.LeaseGrantRequest)
            or (isinstance(request, pb.TxnRequest) and _has_put(request))
        ):
            raise error(NO_SPACE)

    def _header(self) -> pb.ResponseHeader:
        return pb.ResponseHeader(revision=self.store.revision)

    # ---- the disk

    def commit(self) -> None:
        """See ``interface.Machine``."""
        self.backend.commit()

    def snapshot(self) -> Snapshot:
        """See ``interface.Machine``."""
        return self.backend.snapshot()

    def restore(self, snapshot: interface.Snapshot) -> None:
        """See ``interface.Machine``."""
        assert isinstance(snapshot, Snapshot)
        if snapshot.leases and self._host.mutants.fires("snapshot-loses-leases"):
            snapshot = msgspec.structs.replace(snapshot, leases=())
        self.backend.restore(snapshot)
        self.lessor.recover()
        self.store.recover()
        self.watches.restore()
        self._wake()

    def hash_kv(self, revision: int) -> Hash:
        """See ``Store.hash``."""
        return self.store.hash(revision)

    # ---- the process

    def start(self) -> None:
        """See ``interface.Machine``."""
        self._compactor.start()

    def promote_lessor(self, extend_s: float) -> None:
        """See ``interface.Machine``."""
        self.lessor.promote(extend_s)

    def demote_lessor(self) -> None:
        """See ``interface.Machine``."""
        self.lessor.demote()

    def pause_compactor(self) -> None:
        """See ``interface.Machine``."""
        self._compactor.pause()

    def resume_compactor(self) -> None:
        """See ``interface.Machine``."""
        self._compactor.resume()


def _has_put(request: pb.TxnRequest) -> bool:
    return any(
        op.HasField("request_put") or (op.HasField("request_txn") and _has_put(op.request_txn))
        for ops in (request.success, request.failure)
        for op in ops
    )
