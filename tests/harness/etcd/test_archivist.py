"""The archivist on real members: everything is told once, by everybody, and holes are told as holes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.archive import Archive, ArchiveRecord, archive_of
from splitvote.harness.etcd import capabilities
from splitvote.harness.etcd.archivist import EtcdArchivist
from splitvote.harness.etcd.capabilities import EtcdAdmin
from splitvote.harness.etcd.connection import Connections
from splitvote.harness.etcd.methods import COMPACT, DELETE_RANGE, PUT, TXN
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.jsonl import JsonLinesWriter, read_all

BOUND_S = 120.0


def archive_at(path: Path) -> Archive:
    return archive_of(read_all(path, ArchiveRecord)[0])


async def write(connections: Connections, count: int) -> int:
    """Puts, a transaction of two puts, and a delete; the last revision."""
    rpc = connections["n1"]
    for number in range(count):
        await rpc.unary(PUT, pb.PutRequest(key=b"archive/a", value=b"%d" % number), timeout_s=BOUND_S)
    two = [pb.RequestOp(request_put=pb.PutRequest(key=key, value=b"\xff\xfe")) for key in (b"archive/a", b"archive/b")]
    await rpc.unary(TXN, pb.TxnRequest(success=two), timeout_s=BOUND_S)
    request = pb.DeleteRangeRequest(key=b"archive/a")
    answer = await rpc.unary(DELETE_RANGE, request, timeout_s=BOUND_S)
    return answer.header.revision


def test_every_member_tells_all_and_it_is_written_once(
    three: Any, connected: Callable[..., Any], tmp_path: Path
) -> None:
    async def body(connections: Connections) -> None:
        archivist = EtcdArchivist(connections)
        with_writer = JsonLinesWriter[ArchiveRecord](tmp_path / "archive.jsonl")
        archivist.start(with_writer, lambda: 7)
        newest = await write(connections, 2500)  # more than the server puts into one answer
        assert await archivist.reach(newest, timeout_s=BOUND_S)
        assert await archivist.finish(list(connections), timeout_s=BOUND_S)
        await archivist.stop()
        with_writer.close()
        archive = archive_at(tmp_path / "archive.jsonl")
        assert set(archive.spans) == set(connections)
        assert all(spans[-1].last == archive.newest >= newest for spans in archive.spans.values())
        assert not archive.disagreements
        assert not archive.untold(archive.revisions[0], archive.newest)
        last = [event for event in archive.events("archive/") if event.mod_revision >= newest - 1]
        assert [(event.type, event.key, event.value) for event in last] == [
            ("put", "archive/a", "base64://4="),
            ("put", "archive/b", "base64://4="),
            ("delete", "archive/a", ""),
        ]
        listed = [
            revision
            for record in read_all(tmp_path / "archive.jsonl", ArchiveRecord)[0]
            for revision in record.revisions
        ]
        assert len(listed) == len(set(listed))

    connected(three, body)


def test_what_was_compacted_before_it_was_asked_for_is_a_hole(
    three: Any, connected: Callable[..., Any], tmp_path: Path
) -> None:
    async def body(connections: Connections) -> None:
        compacted = await write(connections, 5)
        newest = await write(connections, 5)
        await connections["n1"].unary(COMPACT, pb.CompactionRequest(revision=compacted), timeout_s=BOUND_S)
        writer = JsonLinesWriter[ArchiveRecord](tmp_path / "archive.jsonl")
        archivist = EtcdArchivist({"n1": connections["n1"]})
        archivist.start(writer, lambda: 7)
        assert await archivist.reach(newest, timeout_s=BOUND_S)
        await archivist.stop()
        writer.close()
        archive = archive_at(tmp_path / "archive.jsonl")
        assert archive.revisions[0] == compacted + 1
        assert not archive.untold(compacted + 1, newest)

    connected(three, body)


def test_nothing_is_compacted_that_the_archive_lacks(
    three: Any, connected: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``Admin.compact`` waits for the archivist; here it has an interval's worth of writes still to ask for."""
    monkeypatch.setattr(capabilities, "ADMIN_TIMEOUT_S", BOUND_S)

    async def body(connections: Connections) -> None:
        writer = JsonLinesWriter[ArchiveRecord](tmp_path / "archive.jsonl")
        archivist = EtcdArchivist(connections)
        archivist.start(writer, lambda: 7)
        first = await write(connections, 1)
        assert await archivist.reach(first, timeout_s=BOUND_S)
        await write(connections, 200)
        compacted = await EtcdAdmin(connections, archivist=archivist).compact()
        await asyncio.wait_for(archivist.finish(list(connections), timeout_s=BOUND_S), BOUND_S)
        await archivist.stop()
        writer.close()
        assert not archive_at(tmp_path / "archive.jsonl").untold(first, compacted)

    connected(three, body)


class TwiceEnded:
    """A member on which something is written with every request, and which says twice that a watch is over.

    As etcd does of one that a compaction ends while its cancel is on its way.
    """

    def __init__(self) -> None:
        self.revision = 5
        self._watches: list[int] = []
        self._created = 0
        self._answers: asyncio.Queue[pb.WatchResponse] = asyncio.Queue()

    async def stream(self, *_: Any, **__: Any) -> TwiceEnded:
        return self

    def cancel(self) -> None:
        self._watches.clear()

    async def receive(self) -> pb.WatchResponse:
        return await self._answers.get()

    async def send(self, request: pb.WatchRequest) -> None:
        header = pb.ResponseHeader(revision=self.revision)
        if request.HasField("create_request"):
            number, first = self._created, request.create_request.start_revision
            self._created += 1
            self._watches.append(number)
            self._answers.put_nowait(pb.WatchResponse(header=header, watch_id=number, created=True))
            if first <= self.revision:
                self._tell(number, range(first, self.revision + 1))
        else:
            number = request.cancel_request.watch_id
            self._watches.remove(number)
            for _ in range(2):
                self._answers.put_nowait(pb.WatchResponse(header=header, watch_id=number, canceled=True))
        self.revision += 1
        for number in self._watches:
            self._tell(number, [self.revision])

    def _tell(self, number: int, revisions: Iterable[int]) -> None:
        events = [pb.Event(kv=pb.KeyValue(key=b"a", mod_revision=revision)) for revision in revisions]
        self._answers.put_nowait(
            pb.WatchResponse(header=pb.ResponseHeader(revision=self.revision), watch_id=number, events=events)
        )


def test_a_watch_that_is_over_twice_does_not_end_the_next(tmp_path: Path) -> None:
    """Else a watch would be left behind, and what it tells be taken for all there is."""

    async def body() -> None:
        member = TwiceEnded()
        archivist = EtcdArchivist({"n1": member})  # type: ignore[dict-item]
        writer = JsonLinesWriter[ArchiveRecord](tmp_path / "archive.jsonl")
        archivist.start(writer, lambda: 7)
        for _ in range(6):
            assert await archivist.reach(member.revision, timeout_s=BOUND_S)
        await archivist.stop()
        writer.close()

    asyncio.run(body())
    told = archive_at(tmp_path / "archive.jsonl").told
    assert len(told) > 10
    assert all([event.mod_revision for event in events] == [revision] for revision, events in told.items())
