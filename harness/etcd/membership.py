"""Who is a member of an etcd cluster, and changing that: the capability Members over the RPC seam.

A node is known by its peer URL: a member that was added but has not started yet
has no name.  The list is asked of one member right after a linearizable read on
it, so that it holds every change that was answered before; 3.4 would else list
what it happens to have applied.

etcd refuses what could cost the quorum (strict-reconfig-check): a voter is
added only while the member that is asked has been connected to all voters for
5 s, and removed only while enough stay connected.  Another member may take
another view, so that all are asked; whoever wants the change tries again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from splitvote.harness.cluster import MemberRole
from splitvote.harness.errors import NemesisError, TransportError
from splitvote.harness.etcd.methods import MEMBER_ADD, MEMBER_LIST, MEMBER_PROMOTE, MEMBER_REMOVE, PROBE, RANGE, Method
from splitvote.harness.etcd.outcomes import classify
from splitvote.harness.etcd.rpc import Rpc, ask_all
from splitvote.harness.etcd.stubs import rpc_pb2 as pb

CHANGE_TIMEOUT_S: Final = 5.0
"""The bound on one call that changes the membership."""


class EtcdMembers:
    """The membership of the cluster behind ``rpcs``; ``peer_urls`` are what the nodes advertise to their peers.

    They are looked up at each call: what a node's is may be known only once the cluster is up.
    """

    def __init__(self, rpcs: Mapping[str, Rpc], peer_urls: Mapping[str, str]) -> None:
        self._rpcs = rpcs
        self._peer_urls = peer_urls
        self._teller: str | None = None

    async def roster(self, *, timeout_s: float = 2.0) -> dict[str, MemberRole]:
        """See ``Members.roster``; members that are none of the nodes are left out."""
        listed = await self._listed(timeout_s)
        return {node: _role(listed.get(node)) for node in self._peer_urls}

    async def _listed(self, timeout_s: float) -> dict[str, pb.Member]:
        """The members by node, from the first that answers; the one that did so last is asked first."""
        failures = []
        for node in self._in_turn():
            try:
                await self._rpcs[node].unary(RANGE, PROBE, timeout_s=timeout_s)
                answer = await self._rpcs[node].unary(MEMBER_LIST, pb.MemberListRequest(), timeout_s=timeout_s)
            except TransportError as error:
                failures.append(f"{node}: {classify(error, 'read').text}")
                continue
            self._teller = node
            nodes = {url: node for node, url in self._peer_urls.items()}
            members = {nodes.get(url): member for member in answer.members for url in member.peerURLs}
            return {node: member for node, member in members.items() if node is not None}
        raise NemesisError(f"no member tells who is one ({'; '.join(failures)}); ask while a majority serves")

    def _in_turn(self, without: str | None = None) -> list[str]:
        first = [self._teller] if self._teller is not None else []
        nodes = [*first, *(node for node in self._peer_urls if node != self._teller)]
        return [node for node in nodes if node != without]

    async def remove(self, node: str) -> None:
        """See ``Members.remove``; does nothing when it is no member."""
        member = (await self._listed(CHANGE_TIMEOUT_S)).get(self._known(node))
        if member is not None:
            await self._change(node, MEMBER_REMOVE, pb.MemberRemoveRequest(ID=member.ID), MemberRole.ABSENT)

    async def add(self, node: str, role: MemberRole) -> None:
        """See ``Members.add``; does nothing when that is what it is."""
        is_now = (await self.roster(timeout_s=CHANGE_TIMEOUT_S))[self._known(node)]
        if is_now is role:
            return
        if is_now is not MemberRole.ABSENT or role is MemberRole.ABSENT:
            raise NemesisError(f"{node} is a {is_now} and cannot be added as {role}: remove or promote it")
        request = pb.MemberAddRequest(peerURLs=[self._peer_urls[node]], isLearner=role is MemberRole.LEARNER)
        await self._change(node, MEMBER_ADD, request, role)

    async def promote(self, node: str) -> None:
        """See ``Members.promote``; does nothing when it is a voter."""
        member = (await self._listed(CHANGE_TIMEOUT_S)).get(self._known(node))
        if member is None:
            raise NemesisError(f"{node} is no member, so it cannot be promoted: add it first")
        if member.isLearner:
            await self._change(node, MEMBER_PROMOTE, pb.MemberPromoteRequest(ID=member.ID), MemberRole.VOTER)

    async def _change(self, node: str, method: Method[Any, Any], request: Any, wanted: MemberRole) -> None:
        """Ask one other member after another; what failed may have happened all the same, so the list decides."""
        failures = []
        for other in self._in_turn(without=node):
            try:
                await self._rpcs[other].unary(method, request, timeout_s=CHANGE_TIMEOUT_S)
            except TransportError as error:
                failures.append(f"{other}: {classify(error, 'write').text}")
            else:
                return
        if (await self.roster(timeout_s=CHANGE_TIMEOUT_S))[node] is not wanted:
            raise NemesisError(f"nobody would make {node} {_ARTICLE[wanted]} ({'; '.join(failures)})")

    async def cluster_to_join(self, node: str) -> dict[str, str]:
        """The members (name: peer URL) that a node without data is to be started with, itself among them.

        Raises NemesisError for one that is no member, for a member that has
        started before (without its data it would vote again on what it has
        forgotten, which can lose what was acknowledged), and as long as some
        member that answers does not know of it: etcd asks any of them, and ends
        when it is told of another cluster than it was started with.
        """
        listed = await self._listed(CHANGE_TIMEOUT_S)
        member = listed.get(self._known(node))
        if member is None:
            raise NemesisError(f"{node} is no member of the cluster: add it before it is started without data")
        if member.name:
            raise NemesisError(f"{node} is a member that has lost its data: remove it, and add it anew")
        lists = await ask_all(self._rpcs, _list_as_it_is)
        ids = {other.ID for other in listed.values()}
        late = [
            name
            for name, answer in lists.items()
            if not isinstance(answer, TransportError) and ids != {other.ID for other in answer.members}
        ]
        if late:
            raise NemesisError(f"{', '.join(late)} has not heard of all members yet: start {node} a little later")
        return {name: self._peer_urls[name] for name in self._peer_urls if name in listed}

    def _known(self, node: str) -> str:
        if node not in self._peer_urls:
            raise NemesisError(f"there is no node {node!r}; nodes are {', '.join(self._peer_urls)}")
        return node


_ARTICLE: Final = {MemberRole.VOTER: "a voter", MemberRole.LEARNER: "a learner", MemberRole.ABSENT: "absent"}


async def _list_as_it_is(node: str, rpc: Rpc) -> pb.MemberListResponse:
    """A member's own list, which may be old."""
    return await rpc.unary(MEMBER_LIST, pb.MemberListRequest(linearizable=False), timeout_s=CHANGE_TIMEOUT_S)


def _role(member: pb.Member | None) -> MemberRole:
    if member is None:
        return MemberRole.ABSENT
    return MemberRole.LEARNER if member.isLearner else MemberRole.VOTER
