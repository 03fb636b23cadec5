"""The same random requests to a simulated member and to a real etcd: the same answers?

    python tests/harness/simulation/differential.py ETCD --operations 10000 [--seed 1]

One request after another goes to both, so that revisions, versions and lease
ids agree all the way; answers and errors are compared in full, but for what
belongs to the cluster (ids, term) and to the moment (how much of a TTL is left).
Watches run beside; now and then both sides are asked to report progress, and by
then every watch must have been told the same.  Exits 1 at the first difference,
with the request.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __package__ is None:  # run as a script: find the repository's own tests
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from splitvote.harness.clusters.ports import HeldPort
from splitvote.harness.errors import TransportError
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.connection import ConnectionOptions, Connections
from splitvote.harness.etcd.methods import Method
from splitvote.harness.etcd.rpc import Rpc, Stream
from splitvote.harness.etcd.stubs import election_pb2 as election
from splitvote.harness.etcd.stubs import lock_pb2 as lock
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from tests.harness.simulation.member import Member

TIMEOUT_S = 60.0
PROGRESS_BOUND_S = 120.0
READY_BOUND_S = 120.0
WATCHES = 12
"""At once, on one stream."""

SYNC_EVERY = 150
COMPACTIONS = 3
KEYS = [b"a", b"ab", b"b", b"b/1", b"b/2", b"c", b"d\0", b"e", b"\xff", b"\0x"]
ENDS = [b"", b"", b"", b"\0", b"b", b"b0", b"c", b"e", b"\xff"]
TTL = 600
MOST_AGE_S = 500
"""How long a comparison may take: so old may a lease be."""

SHORT_TTLS = [-1, 0, 1, 2]
"""They are revoked at once: when they expire is not for both to agree on."""


class Difference(Exception):
    """The two sides do not answer alike."""


@dataclass
class Requests:
    """Random requests that are about something: keys, revisions and leases that exist, or nearly."""

    random: random.Random
    revision: int = 1
    compacted: int = 0
    leases: list[int] = field(default_factory=list)
    elected: dict[bytes, int] = field(default_factory=dict)

    def key(self) -> bytes:
        return self.random.choice(KEYS) if self.random.random() > 0.01 else b""

    def value(self) -> bytes:
        return self.random.choice([b"", b"1", b"2", b"a longer value", b"%d" % self.revision])

    def some_revision(self) -> int:
        """Mostly one that can be read."""
        if self.random.random() < 0.15:
            return self.random.choice([-3, self.compacted - 1, self.compacted, self.revision + 1, self.revision + 2])
        return self.random.randint(min(self.compacted + 1, self.revision), self.revision)

    def lease(self) -> int:
        if self.leases and self.random.random() < 0.9:
            return self.random.choice(self.leases)
        return self.random.randint(1, 2**62)

    def put(self) -> pb.PutRequest:
        draw = self.random.random
        request = pb.PutRequest(key=self.key(), value=self.value(), prev_kv=draw() < 0.3)
        if draw() < 0.25:
            request.lease = self.lease()
        if draw() < 0.08:
            request.ignore_value = True
            if draw() < 0.8:
                request.value = b""
        if draw() < 0.08:
            request.ignore_lease = True
            if draw() < 0.8:
                request.lease = 0
        return request

    def range(self) -> pb.RangeRequest:
        draw = self.random.random
        request = pb.RangeRequest(key=self.key(), range_end=self.random.choice(ENDS), serializable=draw() < 0.3)
        if draw() < 0.3:
            request.revision = self.some_revision()
        if draw() < 0.3:
            request.limit = self.random.randint(1, 4)
        if draw() < 0.4:
            request.sort_order = self.random.randrange(3)  # type: ignore[assignment]
            request.sort_target = self.random.randrange(5)  # type: ignore[assignment]
        request.keys_only = draw() < 0.15
        request.count_only = draw() < 0.1
        for bound in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if draw() < 0.06:
                setattr(request, bound, self.random.randint(1, self.revision + 1))
        return request

    def delete(self) -> pb.DeleteRangeRequest:
        return pb.DeleteRangeRequest(
            key=self.key(), range_end=self.random.choice(ENDS), prev_kv=self.random.random() < 0.4
        )

    def compare(self) -> pb.Compare:
        draw = self.random.random
        target = self.random.randrange(5)
        request = pb.Compare(
            key=self.key() or b"a",
            target=target,  # type: ignore[arg-type]
            result=self.random.randrange(4),  # type: ignore[arg-type]
            range_end=self.random.choice(ENDS) if draw() < 0.2 else b"",
        )
        if draw() < 0.05:
            return request  # compared with nothing
        if target == pb.Compare.VERSION:
            request.version = self.random.randint(0, 3)
        elif target == pb.Compare.CREATE:
            request.create_revision = self.random.choice([0, self.revision])
        elif target == pb.Compare.MOD:
            request.mod_revision = self.random.choice([0, self.some_revision()])
        elif target == pb.Compare.VALUE:
            request.value = self.value()
        else:
            request.lease = self.random.choice([0, self.lease()])
        return request

    def txn(self, depth: int = 0) -> pb.TxnRequest:
        return pb.TxnRequest(
            compare=[self.compare() for _ in range(self.random.randrange(3))],
            success=[self.op(depth) for _ in range(self.random.randrange(4))],
            failure=[self.op(depth) for _ in range(self.random.randrange(3))],
        )

    def op(self, depth: int) -> pb.RequestOp:
        kind = self.random.random()
        if kind < 0.4:
            return pb.RequestOp(request_put=self.put())
        if kind < 0.65:
            return pb.RequestOp(request_range=self.range())
        if kind < 0.85:
            return pb.RequestOp(request_delete_range=self._delete_in_txn())
        if depth < 2 and kind < 0.995:
            return pb.RequestOp(request_txn=self.txn(depth + 1))
        return pb.RequestOp()

    def _delete_in_txn(self) -> pb.DeleteRangeRequest:
        """A real etcd lets a deletion of all keys from some key on clash with a put, and panics where it does."""
        request = self.delete()
        if request.range_end == b"\0":
            request.range_end = b""
        return request

    def grant(self) -> pb.LeaseGrantRequest:
        draw = self.random.random
        return pb.LeaseGrantRequest(
            ID=self.lease() if draw() < 0.2 else self.random.randint(1, 2**62),
            TTL=self.random.choice([*SHORT_TTLS, 9_000_000_000, 9_000_000_001]) if draw() < 0.2 else TTL,
        )

    def next(self) -> tuple[Method[Any, Any], Any]:
        """One call."""
        kind = self.random.random()
        if kind < 0.28:
            return m.PUT, self.put()
        if kind < 0.48:
            return m.RANGE, self.range()
        if kind < 0.6:
            return m.DELETE_RANGE, self.delete()
        if kind < 0.87:
            return m.TXN, self.txn()
        if kind < 0.92:
            return m.LEASE_GRANT, self.grant()
        if kind < 0.94:
            return m.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=self.lease())
        if kind < 0.96:
            return m.LEASE_TIME_TO_LIVE, pb.LeaseTimeToLiveRequest(ID=self.lease(), keys=True)
        if kind < 0.97:
            return m.LEASE_LEASES, pb.LeaseLeasesRequest()
        if kind < 0.988:
            return m.LEASE_KEEP_ALIVE, pb.LeaseKeepAliveRequest(ID=self.lease())
        if kind < 0.992:
            return m.HASH_KV, pb.HashKVRequest(revision=self.some_revision())
        return self.concurrency()

    def concurrency(self) -> tuple[Method[Any, Any], Any]:
        """A call of the Lock and Election services that does not wait: each lease contends for things of its own."""
        lease = self.lease()
        name = b"of %x" % lease
        key = election.LeaderKey(name=name, key=b"%s/%x" % (name, lease), rev=self.elected.get(name, 3), lease=lease)
        kind = self.random.randrange(8)
        if kind < 2:
            return m.CAMPAIGN, election.CampaignRequest(name=name, lease=lease, value=self.value())
        if kind == 2:
            return m.PROCLAIM, election.ProclaimRequest(leader=key, value=self.value())
        if kind == 3:
            return m.LEADER, election.LeaderRequest(name=name)
        if kind == 4:
            return m.RESIGN, election.ResignRequest(leader=key)
        if kind == 5:
            return m.LOCK, lock.LockRequest(name=b"lock " + name, lease=lease)
        if kind == 6:
            return m.UNLOCK, lock.UnlockRequest(key=b"lock %s/%x" % (name, lease))
        return m.PROCLAIM, election.ProclaimRequest(value=self.value())

    def learn(self, request: Any, answer: Any) -> None:
        """What an answer tells about the store."""
        if isinstance(answer, TransportError):
            return
        self.revision = max(self.revision, answer.header.revision)
        if isinstance(request, pb.CompactionRequest):
            self.compacted = request.revision
        if isinstance(request, pb.LeaseGrantRequest):
            self.leases.append(request.ID)
        if isinstance(request, pb.LeaseRevokeRequest):
            self.leases.remove(request.ID)
        if isinstance(request, election.CampaignRequest):
            self.elected[request.name] = answer.leader.rev


def comparable(answer: Any) -> Any:
    """An answer without what belongs to the cluster or the moment."""
    if isinstance(answer, TransportError):
        return answer.code, answer.message
    told = type(answer)()
    told.CopyFrom(answer)
    _without_place(told)
    if isinstance(told, pb.LeaseTimeToLiveResponse):
        told.TTL = -1 if told.TTL == -1 else int(told.grantedTTL - MOST_AGE_S <= told.TTL <= told.grantedTTL)
        told.keys[:] = sorted(told.keys)
    if isinstance(told, pb.HashKVResponse):
        told.hash = 0  # of bytes of one's own
    if isinstance(told, pb.LeaseLeasesResponse):
        return told.header, sorted(lease.ID for lease in told.leases)
    return told


def _without_place(told: Any) -> None:
    if told.HasField("header"):
        for name in ("cluster_id", "member_id", "raft_term"):
            told.header.ClearField(name)
    if isinstance(told, pb.TxnResponse):
        for part in told.responses:
            kind = part.WhichOneof("response")
            if kind is not None:
                _without_place(getattr(part, kind))


@dataclass
class Side:
    """One of the two, with its streams; ``heard`` is what its watches were told: (announcements, events)."""

    rpc: Rpc
    watching: Stream[pb.WatchRequest, pb.WatchResponse]
    renewing: Stream[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]
    heard: dict[int, tuple[list[Any], list[pb.Event]]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    @classmethod
    async def of(cls, rpc: Rpc) -> Side:
        return cls(rpc, await rpc.stream(m.WATCH), await rpc.stream(m.LEASE_KEEP_ALIVE))

    async def ask(self, method: Method[Any, Any], request: Any) -> Any:
        try:
            if method is m.LEASE_KEEP_ALIVE:
                await self.renewing.send(request)
                return await self.renewing.receive()
            return await self.rpc.unary(method, request, timeout_s=TIMEOUT_S)
        except TransportError as error:
            return error

    def take(self, answer: pb.WatchResponse) -> None:
        """Note what a watch was told."""
        if answer.created and answer.canceled:
            self.refused.append(answer.cancel_reason)
            return
        announced, events = self.heard.setdefault(answer.watch_id, ([], []))
        if answer.created or answer.canceled:
            announced.append((answer.created, answer.canceled, answer.compact_revision, answer.cancel_reason))
        events.extend(answer.events)

    async def until(self, holds: Any) -> None:
        """Take answers until one is the one that is waited for."""
        async with asyncio.timeout(PROGRESS_BOUND_S):
            while True:
                answer = await self.watching.receive()
                assert answer is not None
                if holds(answer):
                    self.take(answer)
                    return
                if answer.watch_id != -1 or answer.created:
                    self.take(answer)

    async def all_told(self, revision: int) -> None:
        """Wait until the member says that its watches have been told everything up to a revision."""
        progress = pb.WatchRequest(progress_request=pb.WatchProgressRequest())
        told = asyncio.ensure_future(self.until(lambda answer: _is_progress(answer, revision)))
        while not told.done():
            await self.watching.send(progress)
            await asyncio.wait((told,), timeout=0.05)
        told.result()


def _difference(ours: Any, real: Any) -> str:
    """Both answers, line by line where they differ."""
    lines = [str(told).splitlines(keepends=True) for told in (ours, real)]
    return "".join(difflib.unified_diff(*lines, "simulated", "real", n=6))


def _is_progress(answer: pb.WatchResponse, revision: int) -> bool:
    return not answer.events and not answer.created and not answer.canceled and answer.header.revision >= revision


class Differential:
    """Drives both sides and compares."""

    def __init__(self, simulated: Side, real: Side, seed: int) -> None:
        self.random = random.Random(seed)
        self.requests = Requests(self.random)
        self.sides = (simulated, real)
        self.counts: Counter[str] = Counter()
        self._watches: list[int] = []
        self._next_watch = 1

    async def run(self, operations: int) -> None:
        """Compare so many calls, with watches beside."""
        for number in range(1, operations + 1):
            await self._call(*self.requests.next())
            if number % 7 == 0 and len(self._watches) < WATCHES:
                await self._watch()
            if number % SYNC_EVERY == 0 or number == operations:
                await self._compare_watches()
                # Only now that nobody is behind is it clear who would be told that his past is compacted.
                for _ in range(COMPACTIONS):
                    await self._call(m.COMPACT, pb.CompactionRequest(revision=self.requests.some_revision()))

    async def _call(self, method: Method[Any, Any], request: Any) -> None:
        theirs = await asyncio.gather(*(side.ask(method, request) for side in self.sides))
        ours, real = map(comparable, theirs)
        if ours != real:
            raise Difference(f"{method}\n{request}\n{_difference(ours, real)}")
        self.counts["refused" if isinstance(theirs[1], TransportError) else "answered"] += 1
        self.requests.learn(request, theirs[1])
        if isinstance(request, pb.LeaseGrantRequest) and request.ID in self.requests.leases and request.TTL < TTL:
            await self._call(m.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=request.ID))

    async def _watch(self) -> None:
        """Begin a watch on both sides: from now, the past, the future, or a compacted revision; or a wrong one."""
        draw = self.random.random
        watch_id = self._next_watch if draw() > 0.05 else self.random.choice([*self._watches, self._next_watch])
        create = pb.WatchCreateRequest(
            key=self.random.choice(KEYS),
            range_end=self.random.choice(ENDS),
            start_revision=self.random.choice([0, self.requests.some_revision()]),
            prev_kv=draw() < 0.4,
            fragment=draw() < 0.2,
            filters=[kind for kind in (0, 1) if draw() < 0.15],  # type: ignore[misc]
            watch_id=watch_id,
        )
        self.counts["watches"] += 1
        for side in self.sides:
            await side.watching.send(pb.WatchRequest(create_request=create))
            await side.until(lambda answer: answer.created)
        if self.sides[0].refused != self.sides[1].refused:
            raise Difference(f"{create}\nrefused here: {self.sides[0].refused}, there: {self.sides[1].refused}")
        if watch_id != self._next_watch:
            return
        self._next_watch += 1
        if watch_id not in self.sides[1].heard:
            return
        self._watches.append(watch_id)
        if 0 < create.start_revision < self.requests.compacted:
            self.counts["compacted watches"] += 1
            for side in self.sides:
                await side.until(lambda answer: answer.canceled)
            await self._end_watch(watch_id)

    async def _compare_watches(self) -> None:
        """Let both sides tell all they have to tell, and end the watches that there are."""
        for side in self.sides if self._watches else ():
            await side.all_told(self.requests.revision)
        for watch_id in list(self._watches):
            await self._end_watch(watch_id)

    async def _end_watch(self, watch_id: int) -> None:
        self._watches.remove(watch_id)
        for side in self.sides:
            cancel = pb.WatchCancelRequest(watch_id=watch_id)
            await side.watching.send(pb.WatchRequest(cancel_request=cancel))
            await side.until(lambda answer: answer.canceled)
        ours, real = (side.heard.pop(watch_id) for side in self.sides)
        if ours != real:
            raise Difference(f"watch {watch_id}\nsimulated: {ours}\nreal: {real}")
        self.counts["events"] += len(real[1])


async def compare(endpoint: str, *, operations: int, seed: int) -> Counter[str]:
    """Compare a fresh real member with a fresh simulated one; raises Difference.  Returns what was compared."""
    connections = Connections({"n1": endpoint}, ConnectionOptions(connect_timeout_ms=20_000))
    member = Member()
    try:
        await _until_ready(connections["n1"])
        differential = Differential(await Side.of(member.rpc), await Side.of(connections["n1"]), seed)
        try:
            await differential.run(operations)
        finally:
            for side in differential.sides:
                side.watching.cancel()
                side.renewing.cancel()
        return differential.counts
    finally:
        member.end()
        await asyncio.gather(*member.tasks, return_exceptions=True)
        await connections.close()


async def _until_ready(rpc: Rpc) -> None:
    async with asyncio.timeout(READY_BOUND_S):
        while True:
            try:
                await rpc.unary(m.RANGE, pb.RangeRequest(key=b"a"), timeout_s=1.0)
            except TransportError:
                await asyncio.sleep(0.05)
            else:
                return


@contextmanager
def real_member(binary: Path) -> Iterator[str]:
    """A fresh etcd of one member on this machine; its client endpoint."""
    folder = Path(tempfile.mkdtemp(prefix="differential"))
    ports = HeldPort(), HeldPort()
    client, peer = (f"http://127.0.0.1:{port.number}" for port in ports)
    for port in ports:
        port.make_room()
    command = [
        str(binary),
        *(f"--data-dir={folder / 'data'}", "--name=n1", f"--initial-cluster=n1={peer}", "--unsafe-no-fsync"),
        *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
        *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as etcd:
        try:
            yield client.removeprefix("http://")
        finally:
            etcd.terminate()
            etcd.wait()
            for port in ports:
                port.release()
            shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Start the etcd that is named, compare, and say so."""
    parser = argparse.ArgumentParser(description="Compare the simulated etcd with a real one.")
    parser.add_argument("etcd", type=Path, help="the etcd binary")
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began_s = time.monotonic()
    with real_member(options.etcd) as endpoint:
        try:
            counts = asyncio.run(compare(endpoint, operations=options.operations, seed=options.seed))
        except Difference as difference:
            print(f"seed {options.seed}: they differ\n{difference}")
            return 1
    print(f"no difference in {time.monotonic() - began_s:.1f} s: {dict(sorted(counts.items()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
