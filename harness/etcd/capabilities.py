"""etcd's own view of itself: the capabilities Roles, Health, Admin, Upkeep, Members and Archivist on the RPC seam.

Each takes ``rpcs``, the seam to every node by the node's name in the nodes'
order; whoever made them closes them.  Members are told apart by the member id
in the headers of their own answers, so that a member that was replaced is known
again by its next answer; one that has not answered yet is looked up by name in
the member list.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from splitvote.harness.cluster import Admin, Archivist, Health, Members, Roles, Upkeep
from splitvote.harness.errors import NemesisError, TransportError
from splitvote.harness.etcd.archivist import EtcdArchivist
from splitvote.harness.etcd.membership import EtcdMembers
from splitvote.harness.etcd.methods import COMPACT, DEFRAGMENT, MEMBER_LIST, MOVE_LEADER, PROBE, RANGE, STATUS
from splitvote.harness.etcd.outcomes import classify
from splitvote.harness.etcd.readings import read_members
from splitvote.harness.etcd.rpc import Rpc, ask_all
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.etcd.upkeep import EtcdUpkeep
from splitvote.harness.recording import MemberReading, MemberSample

"""The key that probes read; nobody writes it, and reading it leaves no trace in the store."""

ADMIN_TIMEOUT_S: Final = 5.0
"""The bound on one call of Admin where none is given."""


class EtcdRoles:
    """Who leads, by the members' own Status (capability Roles)."""

    def __init__(self, rpcs: Mapping[str, Rpc]) -> None:
        self._rpcs = rpcs
        self._names: dict[int, str] = {}
        self._ids: dict[str, int] = {}

    async def sample(self, *, timeout_s: float = 1.0) -> dict[str, MemberSample]:
        """See ``Roles.sample``; a leader that is none of the nodes is given by its name, or its id in hex."""

        async def timed_status(node: str, rpc: Rpc) -> tuple[pb.StatusResponse, float]:
            started_s = loop.time()
            status = await rpc.unary(STATUS, pb.StatusRequest(), timeout_s=timeout_s)
            return status, 1e3 * (loop.time() - started_s)

        loop = asyncio.get_running_loop()
        answers = await ask_all(self._rpcs, timed_status)
        statuses = {node: answer[0] for node, answer in answers.items() if not isinstance(answer, TransportError)}
        await self._learn_names(statuses, timeout_s)
        return {node: self._sample_of(answer) for node, answer in answers.items()}

    def _sample_of(self, answer: tuple[pb.StatusResponse, float] | TransportError) -> MemberSample:
        if isinstance(answer, TransportError):
            return MemberSample(error=classify(answer, "read").text)
        status, answer_ms = answer
        return MemberSample(
            leader=self._name_of(status.leader) if status.leader else None,
            term=status.raftTerm,
            revision=status.header.revision,
            raft_index=status.raftIndex,
            applied_index=status.raftAppliedIndex,
            db_bytes=status.dbSize,
            is_learner=status.isLearner,
            answer_ms=round(answer_ms, 3),
        )

    async def _learn_names(self, statuses: Mapping[str, pb.StatusResponse], timeout_s: float) -> None:
        """Remember who answered under which id; look unknown leaders up in an answering member's own list."""
        for node, status in statuses.items():
            self._names[status.header.member_id] = node
            self._ids[node] = status.header.member_id
        for node, status in statuses.items():
            if status.leader and status.leader not in self._names:
                await self._learn_from_list(node, timeout_s)

    async def _learn_from_list(self, node: str, timeout_s: float) -> None:
        try:
            answer = await self._rpcs[node].unary(MEMBER_LIST, pb.MemberListRequest(), timeout_s=timeout_s)
        except TransportError:
            return  # it answered a moment ago; the next sample asks again
        for member in answer.members:
            if member.name:
                self._names.setdefault(member.ID, member.name)
                self._ids.setdefault(member.name, member.ID)

    def _name_of(self, member_id: int) -> str:
        return self._names.get(member_id, f"{member_id:x}")

    async def leader(self) -> str | None:
        """See ``Roles.leader``: of the members that see a leader, those in the highest term decide."""
        samples = await self.sample()
        named = [(sample.term or 0, sample.leader) for sample in samples.values() if sample.leader is not None]
        if not named:
            return None
        highest = max(term for term, _ in named)
        return Counter(leader for term, leader in named if term == highest).most_common(1)[0][0]

    async def member_id(self, node: str, *, timeout_s: float = 1.0) -> int | None:
        """The member id under which this node last answered or is listed; None when no member knows it."""
        await self.sample(timeout_s=timeout_s)
        for other in self._rpcs:
            if node in self._ids:
                break
            await self._learn_from_list(other, timeout_s)
        return self._ids.get(node)


class EtcdHealth:
    """Whether every member serves, and what each holds (capability Health)."""

    def __init__(self, rpcs: Mapping[str, Rpc]) -> None:
        self._rpcs = rpcs

    async def unready(self, nodes: Sequence[str], *, timeout_s: float = 1.0) -> dict[str, str]:
        """See ``Health.unready``; a learner counts as unready, since it serves no linearizable reads."""

        async def probe(node: str, rpc: Rpc) -> None:
            await rpc.unary(RANGE, PROBE, timeout_s=timeout_s)

        answers = await ask_all({node: self._rpcs[node] for node in nodes}, probe)
        failed = {node: answer for node, answer in answers.items() if isinstance(answer, TransportError)}
        return {node: classify(error, "read").text for node, error in failed.items()}

    async def readings(self, keys: Sequence[str], *, timeout_s: float = 5.0) -> dict[str, MemberReading]:
        """See ``Health.readings`` and ``splitvote.harness.etcd.readings``; no keys means the whole store."""
        return await read_members(self._rpcs, keys, timeout_s=timeout_s)


class EtcdAdmin:
    """Compaction, defragmentation and leader transfer (capability Admin)."""

    def __init__(
        self, rpcs: Mapping[str, Rpc], roles: EtcdRoles | None = None, archivist: Archivist | None = None
    ) -> None:
        self._rpcs = rpcs
        self._roles = roles or EtcdRoles(rpcs)
        self._archivist = archivist

    async def compact(self, *, keep: int = 0) -> int:
        """See ``Admin.compact``: asked of one member after another until one answers; 0 when all is to be kept."""
        failures = []
        for node, rpc in self._rpcs.items():
            try:
                return await self._compact(rpc, keep)
            except TransportError as error:
                failures.append(f"{node}: {classify(error, 'compact').text}")
        raise NemesisError(f"no member would compact ({'; '.join(failures)}); compact while a majority serves")

    async def _compact(self, rpc: Rpc, keep: int) -> int:
        newest = (await rpc.unary(RANGE, PROBE, timeout_s=ADMIN_TIMEOUT_S)).header.revision
        revision = newest - keep
        if revision < 1:
            return 0
        if self._archivist is not None and not await self._archivist.reach(revision, timeout_s=ADMIN_TIMEOUT_S):
            raise NemesisError(f"no member told its history up to revision {revision} in time, so it is not compacted")
        try:
            await rpc.unary(COMPACT, pb.CompactionRequest(revision=revision), timeout_s=ADMIN_TIMEOUT_S)
        except TransportError as error:
            if classify(error, "compact").name != "compacted":  # else somebody has been there before
                raise
        return revision

    async def defragment(self, node: str, *, timeout_s: float = 10.0) -> None:
        """See ``Admin.defragment``; the member serves nothing meanwhile."""
        try:
            await self._rpcs[node].unary(DEFRAGMENT, pb.DefragmentRequest(), timeout_s=timeout_s)
        except TransportError as error:
            raise NemesisError(f"{node} did not finish to defragment within {timeout_s:g} s: {error}") from None

    async def move_leader(self, target: str) -> None:
        """See ``Admin.move_leader``; does nothing when the target leads already."""
        leader = await self._roles.leader()
        if leader == target:
            return
        target_id = await self._roles.member_id(target)
        if leader is None or leader not in self._rpcs or target_id is None:
            known = f"the leader is {leader or 'nobody'}, the target {'unknown' if target_id is None else 'known'}"
            raise NemesisError(f"cannot move the leader to {target}: {known}; wait until both can be reached")
        request = pb.MoveLeaderRequest(targetID=target_id)
        try:
            await self._rpcs[leader].unary(MOVE_LEADER, request, timeout_s=ADMIN_TIMEOUT_S)
        except TransportError as error:
            raise NemesisError(f"{leader} would not hand over to {target}: {error}") from None


def of_members(
    rpcs: Mapping[str, Rpc],
    peer_urls: Mapping[str, str] | None = None,
    *,
    base: Callable[[], int] | None = None,
) -> dict[type[Any], object]:
    """All that an etcd cluster can do by its own API, by capability.

    ``peer_urls`` are what the nodes advertise to their peers: with them nodes
    can be removed and added.  ``base``: see ``EtcdArchivist``.
    """
    roles, archivist = EtcdRoles(rpcs), EtcdArchivist(rpcs, base=base)
    members: dict[type[Any], object] = {} if peer_urls is None else {Members: EtcdMembers(rpcs, peer_urls)}
    return members | {
        Roles: roles,
        Health: EtcdHealth(rpcs),
        Admin: EtcdAdmin(rpcs, roles, archivist),
        Upkeep: EtcdUpkeep(rpcs),
        Archivist: archivist,
    }
