"""Members told apart by their peer URLs, and changed by whichever other member will: on answers made up here."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from splitvote.harness.cluster import MemberRole
from splitvote.harness.errors import NemesisError, TransportError
from splitvote.harness.etcd.membership import EtcdMembers
from splitvote.harness.etcd.methods import MEMBER_ADD, MEMBER_LIST, MEMBER_PROMOTE, MEMBER_REMOVE, RANGE
from splitvote.harness.etcd.stubs import rpc_pb2 as pb

URLS = {f"n{number}": f"http://peer{number}" for number in (1, 2, 3)}
UNHEALTHY = TransportError("UNAVAILABLE", "etcdserver: unhealthy cluster")
BROKEN = TransportError("UNAVAILABLE", "Connection reset by peer")


class Cluster:
    """A member list that all share, but for what a member was made to ``lag`` with; ``refuses`` by node."""

    def __init__(self) -> None:
        self.members = {
            number: pb.Member(ID=number, name=f"n{number}", peerURLs=[URLS[f"n{number}"]]) for number in (1, 2, 3)
        }
        self.refuses: dict[str, TransportError] = {}
        self.mute: set[str] = set()
        self.lag: dict[str, list[pb.Member]] = {}
        self.changes_though_it_refuses = False
        self.asked: list[tuple[str, Any]] = []

    def rpcs(self) -> dict[str, Any]:
        return {node: Rpc(self, node) for node in URLS}


class Rpc:
    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster = cluster
        self._node = node

    async def unary(self, method: Any, request: Any, *, timeout_s: float) -> Any:
        cluster = self._cluster
        cluster.asked.append((self._node, method))
        if self._node in cluster.mute:
            raise TransportError("DEADLINE_EXCEEDED", "no answer")
        if method is RANGE:
            return pb.RangeResponse()
        if method is MEMBER_LIST:
            return pb.MemberListResponse(members=cluster.lag.get(self._node, list(cluster.members.values())))
        refusal = cluster.refuses.get(self._node)
        if refusal is None or cluster.changes_though_it_refuses:
            self._change(method, request)
        if refusal is not None:
            raise refusal
        return None

    def _change(self, method: Any, request: Any) -> None:
        members = self._cluster.members
        if method is MEMBER_REMOVE:
            members.pop(request.ID, None)
        elif method is MEMBER_ADD:
            number = max(members) + 10
            members[number] = pb.Member(ID=number, peerURLs=request.peerURLs, isLearner=request.isLearner)
        elif method is MEMBER_PROMOTE:
            members[request.ID].isLearner = False


def on(cluster: Cluster, ask: Any) -> Any:
    return asyncio.run(ask(EtcdMembers(cluster.rpcs(), URLS)))


def roles(cluster: Cluster) -> list[MemberRole]:
    return list(on(cluster, lambda members: members.roster()).values())


def test_the_roster_is_of_the_first_member_that_answers_a_linearizable_read() -> None:
    cluster = Cluster()
    cluster.mute.add("n1")
    assert roles(cluster) == [MemberRole.VOTER] * 3
    assert [node for node, method in cluster.asked if method is MEMBER_LIST] == ["n2"]


def test_without_any_that_answers_nobody_can_tell() -> None:
    cluster = Cluster()
    cluster.mute |= set(URLS)
    with pytest.raises(NemesisError, match="while a majority serves"):
        roles(cluster)


def test_a_node_is_removed_by_another_and_added_without_a_name() -> None:
    cluster = Cluster()
    on(cluster, lambda members: members.remove("n1"))
    assert [node for node, method in cluster.asked if method is MEMBER_REMOVE] == ["n2"]
    assert roles(cluster) == [MemberRole.ABSENT, MemberRole.VOTER, MemberRole.VOTER]
    on(cluster, lambda members: members.add("n1", MemberRole.LEARNER))
    assert roles(cluster) == [MemberRole.LEARNER, MemberRole.VOTER, MemberRole.VOTER]
    on(cluster, lambda members: members.promote("n1"))
    assert roles(cluster) == [MemberRole.VOTER] * 3


def test_what_is_so_already_is_not_asked_for() -> None:
    cluster = Cluster()
    on(cluster, lambda members: members.add("n1", MemberRole.VOTER))
    on(cluster, lambda members: members.promote("n1"))
    assert {method for _, method in cluster.asked} == {RANGE, MEMBER_LIST}


def test_another_is_asked_where_one_refuses_and_all_words_are_told_where_all_do() -> None:
    cluster = Cluster()
    cluster.refuses["n2"] = UNHEALTHY
    on(cluster, lambda members: members.remove("n1"))
    assert roles(cluster)[0] is MemberRole.ABSENT
    cluster.refuses = dict.fromkeys(URLS, UNHEALTHY)
    with pytest.raises(NemesisError, match=r"n2: unhealthy.*n3: unhealthy"):
        on(cluster, lambda members: members.add("n1", MemberRole.VOTER))


def test_a_change_whose_answer_was_lost_has_happened_if_the_list_says_so() -> None:
    cluster = Cluster()
    cluster.refuses = dict.fromkeys(URLS, BROKEN)
    cluster.changes_though_it_refuses = True
    on(cluster, lambda members: members.remove("n1"))
    assert roles(cluster)[0] is MemberRole.ABSENT


def test_a_node_that_was_added_joins_all_members() -> None:
    cluster = Cluster()
    on(cluster, lambda members: members.remove("n1"))
    on(cluster, lambda members: members.remove("n3"))
    on(cluster, lambda members: members.add("n1", MemberRole.VOTER))
    assert on(cluster, lambda members: members.cluster_to_join("n1")) == {"n1": URLS["n1"], "n2": URLS["n2"]}


def test_a_member_that_lost_its_data_may_not_join_as_if_it_had_never_voted() -> None:
    with pytest.raises(NemesisError, match="lost its data"):
        on(Cluster(), lambda members: members.cluster_to_join("n1"))


def test_a_node_that_is_no_member_has_nothing_to_join() -> None:
    cluster = Cluster()
    on(cluster, lambda members: members.remove("n1"))
    with pytest.raises(NemesisError, match="add it before"):
        on(cluster, lambda members: members.cluster_to_join("n1"))


def test_nobody_joins_while_a_member_has_not_heard_of_it() -> None:
    """It would ask that one for the members, and end for being told of others."""
    cluster = Cluster()
    before = list(cluster.members.values())
    on(cluster, lambda members: members.remove("n1"))
    on(cluster, lambda members: members.add("n1", MemberRole.VOTER))
    cluster.lag["n3"] = before
    with pytest.raises(NemesisError, match="n3 has not heard"):
        on(cluster, lambda members: members.cluster_to_join("n1"))
