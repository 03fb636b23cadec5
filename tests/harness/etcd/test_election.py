"""The election binding on real members: what is recorded for each outcome, and a whole history that is valid."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from splitvote.checkers.election import ElectionChecker
from splitvote.harness.archive import Archive, ArchiveRecord, archive_of
from splitvote.harness.errors import ConfigError
from splitvote.harness.etcd.archivist import EtcdArchivist
from splitvote.harness.etcd.bindings.election import KEY_GONE, NOTHING_WON, ElectionBinding, ElectionClient
from splitvote.harness.etcd.bindings.services import Services
from splitvote.harness.etcd.connection import Connections
from splitvote.harness.etcd.methods import LEASE_REVOKE, PUT
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.generator import clients, limit
from splitvote.harness.history import History, HistoryWriter, read_history
from splitvote.harness.jsonl import JsonLinesWriter, read_all
from splitvote.harness.op import Op
from splitvote.harness.recording import FinalState, MemberReading, Recording
from splitvote.harness.result import Budget, Result, Verdict
from splitvote.harness.runner import Runner
from splitvote.workloads import Workload, WorkloadOptions, workload_named

pytestmark = pytest.mark.etcd

BOUND_S = 120.0
RATE = 60
APIS = pytest.mark.parametrize("api", ["client", "server"])


class Candidate:
    """A client with its process number and the events it emitted."""

    def __init__(self, client: ElectionClient, process: int, api: str) -> None:
        self.client, self.process, self.api = client, process, api
        self.events: list[Op] = []

    async def do(self, f: str, election: str, value: Any = None, *, within_s: float = BOUND_S) -> Op:
        extra = {"api": self.api, "within_s": within_s, "ttl_s": 60}
        op = Op(process=self.process, f=f, key=election, value=value, extra=extra)
        return await self.client.invoke(op, self.events.append)

    async def until_told(self, count: int) -> None:
        async with asyncio.timeout(BOUND_S):
            while len(self.events) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.fixture
def contend(three: Any, connected: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a body with two candidates, at two members."""

    def run(api: str, body: Callable[..., Any]) -> Any:
        async def go(connections: Connections) -> Any:
            binding = ElectionBinding(Services(nodes=connections, timeout_s=BOUND_S))
            both = [Candidate(await binding.open(n, node), n, api) for n, node in enumerate(("n1", "n2"))]
            try:
                return await body(*both, connections)
            finally:
                for each in both:
                    await each.do("retire", "-")
                    await each.client.close()
                await binding.close()

        return connected(three, go)

    return run


@APIS
def test_a_reign_from_campaign_to_resignation(contend: Callable[..., Any], api: str) -> None:
    """Every operation records its place, its reign, and what it saw."""

    async def body(first: Candidate, second: Candidate, connections: Connections) -> None:
        election = f"reign-{api}"
        won = await first.do("campaign", election, "a")
        assert won.type == "ok"
        assert won.extra is not None
        created, key = won.extra["create_revision"], won.extra["candidate_key"]
        assert key == f"election/{election}/{won.extra['lease']:x}"
        assert won.revision == created
        written, proclaimed = await first.do("write", election, "w"), await first.do("proclaim", election, "b")
        assert [written.type, proclaimed.type] == ["ok", "ok"]
        assert [written.revision, proclaimed.revision] == [created + 1, created + 2]
        read = await second.do("leader", election)
        assert (read.value, read.revision) == ([key, "b", created, created + 2], created + 2)
        resigned = await first.do("resign", election)
        assert (resigned.type, resigned.revision) == ("ok", created + 3)
        assert resigned.extra is not None
        assert resigned.extra.get("deleted") is (True if api == "client" else None)
        assert (await second.do("leader", election)).value is None
        assert {op.error for op in (await first.do("write", election, "x"), await first.do("resign", election))} == {
            NOTHING_WON
        }
        again = await first.do("campaign", election, "c")
        assert again.extra is not None
        assert again.extra["lease"] == won.extra["lease"]
        assert again.extra["create_revision"] == created + 4

    contend(api, body)


@APIS
@pytest.mark.parametrize("f", ["write", "proclaim"])
def test_a_deposed_leader_is_told_so_and_needs_a_new_session(contend: Callable[..., Any], api: str, f: str) -> None:
    async def body(first: Candidate, second: Candidate, connections: Connections) -> None:
        election = f"deposed-{api}-{f}"
        won = await first.do("campaign", election, "a")
        assert won.extra is not None
        abandoned = await first.do("abandon", election)
        assert abandoned.type == "ok"
        lease = won.extra["lease"]
        await connections["n3"].unary(LEASE_REVOKE, pb.LeaseRevokeRequest(ID=lease), timeout_s=BOUND_S)
        successor = await second.do("campaign", election, "b")
        assert successor.type == "ok"
        refused = await first.do(f, election, "x")
        assert (refused.type, refused.error) == ("fail", KEY_GONE)
        assert refused.extra is not None
        assert refused.extra["create_revision"] == won.extra["create_revision"]
        assert (refused.revision is None) == (api == "server" and f == "proclaim")
        assert (await first.do(f, election, "y")).error == NOTHING_WON
        await second.do("resign", election)
        again = await first.do("campaign", election, "c")
        assert again.extra is not None
        assert again.extra["lease"] != lease

    contend(api, body)


@APIS
def test_a_campaign_that_is_given_up_is_info_and_tells_its_key(contend: Callable[..., Any], api: str) -> None:
    async def body(first: Candidate, second: Candidate, connections: Connections) -> None:
        election = f"late-{api}"
        assert (await first.do("campaign", election, "a")).type == "ok"
        late = await second.do("campaign", election, "b", within_s=0.3)
        assert late.type == "info"
        assert (late.error or "").startswith(("deadline:", "server-deadline:"))
        assert late.extra is not None
        assert late.extra["candidate_key"] == f"election/{election}/{late.extra['lease']:x}"

    contend(api, body)


@APIS
def test_observers_are_told_of_leaders_as_events(contend: Callable[..., Any], api: str) -> None:
    async def body(first: Candidate, second: Candidate, connections: Connections) -> None:
        election = f"observed-{api}"
        await first.do("campaign", election, "a")
        observing = asyncio.create_task(second.do("observe", election, BOUND_S))
        await second.until_told(1)
        await first.do("proclaim", election, "b")
        await second.until_told(2)
        observing.cancel()
        await asyncio.gather(observing, return_exceptions=True)
        assert [(op.type, op.value[1]) for op in second.events] == [("event", "a"), ("event", "b")]
        nothing = await second.do("observe", f"nobody-{api}", 0.2)
        assert (nothing.type, (nothing.error or "").split(":")[0]) == ("fail", "nothing-seen")

    contend(api, body)


def test_an_operation_there_is_not_is_the_users_mistake(contend: Callable[..., Any]) -> None:
    async def body(first: Candidate, second: Candidate, connections: Connections) -> None:
        with pytest.raises(ConfigError, match="no operation 'rule'"):
            await first.do("rule", "e0")

    contend("client", body)


# A whole history


async def record(connections: Connections, workload: Workload, folder: Path, *, operations: int) -> Recording:
    """Run so much of the workload, with its ending, beside an archivist."""
    archivist = EtcdArchivist(connections)
    archive: JsonLinesWriter[ArchiveRecord] = JsonLinesWriter(folder / "archive.jsonl")
    history = HistoryWriter(folder / "history.jsonl")
    binding = ElectionBinding(Services(nodes=connections, timeout_s=60))
    runner = Runner(
        binding=binding, nodes=list(connections), history=history, concurrency=8, seed=3, backstop_s=4 * BOUND_S
    )
    archivist.start(archive, runner.now_ns)
    await runner.run(limit(operations, clients(workload.generator)))
    await runner.run(workload.final(["e0", "e1"]))
    await runner.close()
    assert await archivist.finish(list(connections), timeout_s=BOUND_S)
    await archivist.stop()
    archive.close()
    history.close()
    assert runner.failure is None
    told = archive_of(read_all(folder / "archive.jsonl", ArchiveRecord)[0])
    final = FinalState(recovered=True, settled=True, members={"n1": MemberReading(revision=told.newest)})
    return Recording(read_history(folder / "history.jsonl"), archive=told, final=final)


def judged(recording: Recording) -> Result:
    return ElectionChecker().check(recording, Budget())


def test_a_recorded_history_is_valid_and_its_damage_is_found(
    run_etcd: Callable[..., Any], connected: Callable[..., Any], tmp_path: Path
) -> None:
    """Candidates of both kinds in the same elections; then one acknowledged value vanishes from the store's history."""
    workload = workload_named("election", WorkloadOptions(concurrency=8, rate=RATE, extra={"campaign_s": 3}))

    async def body(connections: Connections) -> Recording:
        await connections["n1"].unary(PUT, pb.PutRequest(key=b"other/key"), timeout_s=BOUND_S)
        return await record(connections, workload, tmp_path, operations=RATE * 6)

    with run_etcd(3) as members:
        recording = connected(members, body)
    result = judged(recording)
    assert (result.verdict, result.reason) == (Verdict.VALID, None)
    assert result.stats["not_judged"] == 0
    assert result.stats["leadership_changes"] >= 2
    assert result.evidence["reigns"]["of"] == len(result.evidence["reigns"]["rows"])
    ok = Counter(op.f for op in recording.history if op.type == "ok")
    assert set(ok) >= set(workload.least_ok), ok
    lost = next(op for op in recording.history if op.type == "ok" and op.f == "write")
    assert recording.archive is not None
    assert lost.revision is not None
    told = dict(recording.archive.told) | {lost.revision: ()}
    damaged = Recording(History(recording.history), archive=Archive(told), final=recording.final)
    assert [anomaly.name for anomaly in judged(damaged).anomalies] == ["election: lost value"]
