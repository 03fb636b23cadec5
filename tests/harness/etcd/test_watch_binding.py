"""The watch binding against real members: what is recorded of every kind of watch, and of streams that end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from splitvote.checkers.watch import WatchChecker
from splitvote.checkers.watch.plan import Watched, WatchPlan, value_of
from splitvote.harness.archive import ArchiveRecord, archive_of
from splitvote.harness.errors import ConfigError
from splitvote.harness.etcd.archivist import EtcdArchivist
from splitvote.harness.etcd.bindings import Services, binding_of
from splitvote.harness.etcd.capabilities import EtcdHealth
from splitvote.harness.etcd.connection import Connections
from splitvote.harness.generator import clients, limit
from splitvote.harness.history import HistoryWriter, read_history
from splitvote.harness.jsonl import JsonLinesWriter, read_all
from splitvote.harness.op import Op
from splitvote.harness.recording import FinalState, Recording
from splitvote.harness.result import Budget, Result, Verdict, run_checker
from splitvote.harness.runner import Runner
from splitvote.workloads import WorkloadOptions, workload_named

pytestmark = pytest.mark.etcd

BOUND_S = 120.0
OPERATIONS = 200
"""Two seconds' worth; counted, so that a slow machine makes no fewer of them."""
NORMAL = ("k", "l")


def told_of(op: Op, watch: int) -> list[list[Any]]:
    """What an emitted event tells to one watch."""
    return list(op.value[3]) if op.value[:2] == ["events", watch] else []


class Session:
    """Clients of the binding on one cluster, and what their operations emitted."""

    def __init__(self, connections: Connections, names: Sequence[str] = ()) -> None:
        services = Services(nodes=connections, names=tuple(names), timeout_s=30.0)
        self._binding = binding_of(["watch"], services)
        self._nodes = tuple(names) or tuple(connections)
        self.events: list[Op] = []

    async def do(self, f: str, value: Any, *, node: int = 0) -> Op:
        client = await self._binding.open(0, self._nodes[node])
        completion = await client.invoke(Op(index=0, process=0, f=f, value=value), self.events.append)
        await client.close()
        return completion

    async def put(self, key: str, value: str) -> int:
        done = await self.do("put", ["put", key, value])
        assert done.type == "ok", done
        assert done.revision is not None
        return done.revision

    async def watch(self, *watches: Watched, for_s: float = BOUND_S, **plan: Any) -> Op:
        return await self.do("watch", value_of(WatchPlan(watches=watches, for_s=for_s, **plan)))

    def values(self, kind: str, watch: int | None = 0) -> list[list[Any]]:
        return [op.value for op in self.events if op.value[0] == kind and (kind == "ended" or op.value[1] == watch)]

    def told(self, watch: int = 0) -> list[list[Any]]:
        return [event for op in self.events for event in told_of(op, watch)]

    async def wait(self, holds: Callable[[], bool], watching: asyncio.Task[Op]) -> None:
        """Wait until something was told."""
        async with asyncio.timeout(BOUND_S):
            while not holds():
                assert not watching.done(), watching.result()
                await asyncio.sleep(0.01)

    async def until(self, holds: Callable[[], bool], watching: asyncio.Task[Op]) -> None:
        """Wait until something was told, and end the watch, which would go on for its whole time."""
        try:
            await self.wait(holds, watching)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


Connected = Callable[[Any, Callable[[Connections], Awaitable[Any]]], Any]


@pytest.fixture
def fresh(run_etcd: Callable[..., Any]) -> Any:
    """A member with an empty store: revisions begin at 2."""
    with run_etcd(1) as members:
        yield members


def test_writes_say_what_they_did(one: Any, connected: Connected) -> None:
    """A put, a delete of one and of several keys, a transaction of both; each with its own revision."""

    async def body(connections: Connections) -> None:
        session = Session(connections)
        first = await session.put("k0001", "a")
        await session.put("k0002", "b")
        done = await session.do("txn", ["txn", ["put", "k0003", "c"], ["delete", "k0001"], ["delete", "k0009"]])
        assert (done.type, done.value, done.revision) == ("ok", [None, 1, 0], first + 2)
        done = await session.do("delete", ["delete", "k0001", "l"])
        assert (done.type, done.value, done.revision) == ("ok", 2, first + 3)
        done = await session.do("delete", ["delete", "k0001"])
        assert (done.type, done.value, done.revision) == ("ok", 0, first + 3)
        with pytest.raises(ConfigError, match="no operation 'get'"):
            await session.do("get", None)

    connected(one, body)


def test_events_carry_the_whole_state_and_the_one_before(fresh: Any, connected: Connected) -> None:
    async def body(connections: Connections) -> None:
        session = Session(connections)
        await session.put("k0001", "a")
        await session.put("k0001", "b")
        await session.do("delete", ["delete", "k0001"])
        watching = asyncio.create_task(session.watch(Watched("k0001", start="past", by=10, prev_kv=True)))
        await session.until(lambda: len(session.told()) == 3, watching)
        assert session.values("created") == [["created", 0, 1]]
        put, again = [2, "k0001", "a", 2, 1, 0], [3, "k0001", "b", 2, 2, 0]
        assert session.told() == [put, again, [4, "k0001", None, 0, 0, 0]]
        assert session.values("events")[0][4] == [None, put, again]

    connected(fresh, body)


def test_filters_ranges_and_the_start_are_passed_on(fresh: Any, connected: Connected) -> None:
    """Six watches on one stream, which differ in what they ask for; each is told just that."""

    async def body(connections: Connections) -> None:
        session = Session(connections)
        for number in range(4):
            await session.put(f"k000{number}", str(number))
        await session.do("delete", ["delete", "k0000", "k0002"])
        watching = asyncio.create_task(
            session.watch(
                Watched(*NORMAL, start="past", by=100, without="puts"),
                Watched(*NORMAL, start="past", by=100, without="deletes"),
                Watched("k0001", "k0003", start="past", by=100),
                Watched(start="past", by=1),
                Watched("k0000", start="future", by=2),
                Watched("k0000"),
            )
        )
        await session.wait(lambda: bool(session.values("created", 5)), watching)
        await session.put("k0000", "x")
        await session.put("k0000", "y")
        expected = [[6, 6], [2, 3, 4, 5, 7, 8], [3, 4, 6], [5, 6, 6, 7, 8], [8], [7, 8]]

        def told() -> list[list[int]]:
            return [[event[0] for event in session.told(number)] for number in range(6)]

        await session.until(
            lambda: all(len(has) >= len(wanted) for has, wanted in zip(told(), expected, strict=True)), watching
        )
        assert told() == expected

    connected(fresh, body)


def test_a_compacted_start_is_refused_and_taken_up_at_the_compact_revision(fresh: Any, connected: Connected) -> None:
    async def body(connections: Connections) -> None:
        session = Session(connections)
        for number in range(6):
            await session.put("k0001", str(number))
        assert (await session.do("compact", ["compact", 5])).type == "ok"
        watching = asyncio.create_task(
            session.watch(Watched(*NORMAL, start="compacted", by=2), Watched(*NORMAL, start="compaction"))
        )
        await session.until(
            lambda: all(len(session.values("created", n)) == 2 and len(session.told(n)) == 3 for n in (0, 1)), watching
        )
        assert session.values("canceled")[0][:3] == ["canceled", 0, 5]
        assert [value[2] for value in session.values("created", 0)] == [3, 5]
        before = [event[0] for op in session.events if op.stream == 0 for event in told_of(op, 1)]
        assert [value[2] for value in session.values("created", 1)] == [5, max(before, default=4) + 1], "where it was"
        assert [event[0] for event in session.told(0)] == [5, 6, 7]
        assert [event[0] for event in session.told(1)] == [5, 6, 7]
        assert len({op.stream for op in session.events}) == 2

    connected(fresh, body)


def test_a_cut_stream_goes_on_after_what_was_told(three: Any, connected: Connected) -> None:
    """Progress counts as told, too; the next stream is on the next member."""

    async def body(connections: Connections) -> None:
        session = Session(connections, tuple(connections))
        revision = await session.put("k0001", "a")
        watching = asyncio.create_task(
            session.watch(
                Watched("k0001", start="past", by=0),
                Watched("k0002", start="past", by=0),
                cuts_s=tuple(accumulate(0.3 * 1.1**number for number in range(30))),  # less and less often
                resume="next",
                progress_every_s=0.05,
            )
        )
        await session.until(lambda: session.values("created", 1)[-1:] == [["created", 1, revision + 1]], watching)
        assert [event[0] for event in session.told(0)] == [revision], "told once, whatever the number of streams"
        assert session.values("progress", None)
        assert {value[2] for value in session.values("created", 0)} == {revision, revision + 1}
        assert {value[2] for value in session.values("created", 1)} == {revision, revision + 1}, "by progress alone"
        assert {value[1].partition(":")[0] for value in session.values("ended")} == {"cut"}
        by_stream = {op.stream: op.node for op in session.events}
        assert [by_stream[0], by_stream[1]] == ["n1", "n2"]

    connected(three, body)


def test_a_member_that_is_not_there_is_left_for_the_next(run_etcd: Callable[..., Any], connected: Connected) -> None:
    """A watch of a killed member's goes on through another; one that knows no other member fails."""
    with run_etcd(3) as members:
        members["n1"].kill()

        async def body(connections: Connections) -> None:
            session = Session(connections, tuple(connections))
            client = Session(connections)
            watching = asyncio.create_task(session.watch(Watched(start="past", by=0), resume="next"))
            await session.until(lambda: bool(session.values("created")), watching)
            assert session.values("ended")[0][1].startswith("not-connected:")
            failed = await client.watch(Watched(), for_s=3.0)
            assert failed.type == "fail"
            assert (failed.error or "").startswith("not-connected:")

        connected(members, body)


WHEN_S = (0.2, 4.0, 40.0)
"""A watch that is not there yet is not ended; once it is over, there is none to be ended again."""


def test_a_watch_is_ended_and_no_other(one: Any, connected: Connected) -> None:
    async def body(connections: Connections) -> None:
        session = Session(connections)
        cancels = tuple((at_s, 0) for at_s in WHEN_S)
        watching = asyncio.create_task(session.watch(Watched("k0001"), Watched("k0001"), cancels=cancels))
        await session.wait(lambda: bool(session.values("canceled")), watching)
        await session.put("k0001", "a")
        await session.until(lambda: bool(session.told(1)), watching)
        assert session.values("cancelling")[0] == ["cancelling", 0]
        assert session.values("canceled")[0][:3] == ["canceled", 0, 0]
        assert not session.told(0)

    connected(one, body)


def test_an_answer_too_large_comes_in_fragments(fresh: Any, connected: Connected) -> None:
    """Three wide values with their previous states are one revision, and more than the server puts into an answer."""

    async def body(connections: Connections) -> None:
        session = Session(connections)
        for number in (1, 2):
            parts = [["put", f"w{place}", f"{number}.{place}", 370_000] for place in range(3)]
            assert (await session.do("txn", ["txn", *parts])).type == "ok"
        watching = asyncio.create_task(
            session.watch(
                Watched(start="past", by=10, prev_kv=True, fragment=True), Watched(start="past", by=10, prev_kv=True)
            )
        )
        await session.until(lambda: len(session.told(0)) == len(session.told(1)) == 6, watching)
        continues = [value[2] for value in session.values("events", 0)]
        assert len(continues) > 1
        assert (continues[0], continues[-1]) == (1, 0)
        assert [value[2] for value in session.values("events", 1)] == [0]
        assert len(str(session.told(0)[0][2])) < 50, "records hold a digest"

    connected(fresh, body)


def test_the_last_word_of_every_member(three: Any, connected: Connected) -> None:
    """Converge ends by itself, well within its time, once all have told everything."""

    async def body(connections: Connections) -> None:
        session = Session(connections, tuple(connections))
        revision = await session.put("k0001", "z")
        plan = WatchPlan(
            watches=(Watched(start="past", by=1 << 40), Watched("k0009", start="past", by=0)),
            for_s=BOUND_S,
            progress_every_s=0.05,
        )
        done = await session.do("converge", value_of(plan))
        assert (done.type, done.value) == ("ok", [revision, ["n1", "n2", "n3"]])
        for node in ("n1", "n2", "n3"):
            last = [op.value[3][-1][0] for op in session.events if op.node == node and op.value[:2] == ["events", 0]]
            assert last[-1] == revision

    connected(three, body)


async def run_workload(connections: Connections, folder: Path, *, seed: int) -> Recording:
    """The whole workload, as a run has it, without faults."""
    workload = workload_named("watch", WorkloadOptions(concurrency=6, rate=100))
    history = HistoryWriter(folder / "history.jsonl")
    archive: JsonLinesWriter[ArchiveRecord] = JsonLinesWriter(folder / "archive.jsonl")
    archivist = EtcdArchivist(connections)
    services = Services(nodes=connections, names=tuple(connections), timeout_s=30.0, archivist=archivist)
    binding = binding_of(["watch"], services)
    runner = Runner(
        binding=binding, nodes=tuple(connections), history=history, concurrency=6, seed=seed, backstop_s=2 * BOUND_S
    )
    archivist.start(archive, runner.now_ns)
    await runner.run(limit(OPERATIONS, clients(workload.generator)))
    await runner.run(workload.final([]))
    members = await EtcdHealth(connections).readings(("watch/k0000",), timeout_s=BOUND_S)
    assert await archivist.finish(tuple(connections), timeout_s=BOUND_S)
    await runner.close()
    await archivist.stop()
    history.close()
    archive.close()
    assert runner.failure is None
    return Recording(
        read_history(folder / "history.jsonl"),
        final=FinalState(recovered=True, members=members),
        archive=archive_of(read_all(folder / "archive.jsonl", ArchiveRecord)[0]),
    )


def judged(recording: Recording) -> Result:
    return run_checker(WatchChecker(), recording, Budget())


def test_a_healthy_cluster_keeps_every_promise(
    run_etcd: Callable[..., Any], connected: Connected, tmp_path: Path
) -> None:
    """The workload as it is, on three new members, for a few seconds."""

    async def body(connections: Connections) -> Recording:
        return await run_workload(connections, tmp_path, seed=5)

    with run_etcd(3) as members:
        result = judged(connected(members, body))
    assert result.verdict is Verdict.VALID, result.reason
    assert result.stats["events"] > 200
    assert len(result.stats["by_member"]) == 3


def test_progress_overtakes_events_before_it_was_mended(
    run_etcd: Callable[..., Any], connected: Connected, tmp_path: Path
) -> None:
    """Issue 15220 on 3.4.23: found by the workload as it is, in one of a few runs."""
    with run_etcd(1, version="3.4.23") as members:

        async def body(connections: Connections) -> set[str]:
            found: set[str] = set()
            for seed in range(2, 22):
                folder = tmp_path / str(seed)
                folder.mkdir()
                recording = await run_workload(connections, folder, seed=seed)
                found = {anomaly.name for anomaly in judged(recording).anomalies}
                if "watch: bookmarkable" in found:
                    break
            return found

        assert "watch: bookmarkable" in connected(members, body)
