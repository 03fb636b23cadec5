"""When the members' views count as comparable, and who leads, against scripted members."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.capabilities import EtcdRoles
from splitvote.harness.etcd.methods import HASH_KV, MEMBER_LIST, RANGE, STATUS
from splitvote.harness.etcd.readings import PAGE_KEYS, read_members
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.recording import MemberReading

DOWN = TransportError("UNAVAILABLE", "failed to connect to all addresses; last error: Connection refused")


class State(msgspec.Struct, frozen=True):
    """What a scripted member says at one moment."""

    revision: int = 10
    applied: int = 20
    compacted: int = 3
    hash: int = 77
    learner: bool = False
    leader: int = 1
    term: int = 2


class Member:
    """A seam to a member that goes through its states, one a Status; ``store`` is [(key, value)] at any revision."""

    def __init__(self, id: int, *states: State | TransportError, store: dict[bytes, bytes] | None = None) -> None:
        self.id = id
        self.states = list(states)
        self.store = store or {}
        self.hashed: list[int] = []
        self.ranged: list[tuple[bytes, int]] = []
        self.listed: list[pb.Member] = []

    @property
    def now(self) -> State | TransportError:
        return self.states[0]

    async def unary(self, method: Any, request: Any, *, timeout_s: float) -> Any:
        handlers: dict[Any, Callable[..., Any]] = {
            STATUS: self._status, HASH_KV: self._hash, RANGE: self._range, MEMBER_LIST: self._list
        }  # fmt: skip
        now = self.now
        if method is STATUS and len(self.states) > 1:
            self.states.pop(0)
        if isinstance(now, TransportError):
            raise now
        return handlers[method](now, request)

    def _header(self, now: State) -> pb.ResponseHeader:
        return pb.ResponseHeader(member_id=self.id, revision=now.revision, raft_term=now.term)

    def _status(self, now: State, request: Any) -> pb.StatusResponse:
        return pb.StatusResponse(
            header=self._header(now),
            leader=now.leader,
            raftTerm=now.term,
            raftAppliedIndex=now.applied,
            isLearner=now.learner,
        )

    def _hash(self, now: State, request: pb.HashKVRequest) -> pb.HashKVResponse:
        assert not now.learner, "learners refuse HashKV"
        self.hashed.append(request.revision)
        if 0 < request.revision <= now.compacted:
            raise TransportError("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted")
        if request.revision > now.revision:
            raise TransportError("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision")
        return pb.HashKVResponse(header=self._header(now), hash=now.hash, compact_revision=now.compacted)

    def _range(self, now: State, request: pb.RangeRequest) -> pb.RangeResponse:
        assert request.serializable
        self.ranged.append((request.key, request.revision))
        if request.range_end:
            keys = [key for key in sorted(self.store) if key >= request.key]
        else:
            keys = [key for key in self.store if key == request.key]
        page = keys[: request.limit] if request.limit else keys
        kvs = [
            pb.KeyValue(key=key, value=self.store[key], mod_revision=2, version=1, create_revision=2) for key in page
        ]
        return pb.RangeResponse(header=self._header(now), kvs=kvs, more=len(page) < len(keys), count=len(keys))

    def _list(self, now: State, request: Any) -> pb.MemberListResponse:
        return pb.MemberListResponse(header=self._header(now), members=self.listed)

    async def stream(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError("readings need no streams")

    async def close(self) -> None:
        """Nothing to close."""


def read(
    members: dict[str, Member], keys: tuple[str, ...] = (), *, timeout_s: float = 0.35
) -> dict[str, MemberReading]:
    return asyncio.run(read_members(members, keys, timeout_s=timeout_s))


def test_two_rounds_are_enough_where_nothing_moves() -> None:
    members = {f"n{number}": Member(number, State(), store={b"a": b"1"}) for number in (1, 2, 3)}
    readings = read(members, timeout_s=30)
    assert readings["n1"] == MemberReading(
        revision=10, applied_index=20, compact_revision=3, hash_revision=10, hash=77, keys={"a": ("1", 2, 1, 2)}
    )
    assert all(member.hashed == [0, 0] for member in members.values())


@pytest.mark.parametrize(
    "early",
    [
        State(applied=19),
        State(revision=9),
        State(compacted=2),
        State(learner=True, applied=19),
        TransportError("DEADLINE_EXCEEDED", "Deadline Exceeded"),
    ],
)
def test_a_round_in_which_something_moves_does_not_count(early: State | TransportError) -> None:
    """SOUNDNESS 12: Status and HashKV are not read atomically, and compaction is asynchronous."""
    members = {"n1": Member(1, State()), "n2": Member(2, early, early, State())}
    readings = read(members, timeout_s=30)
    assert readings["n2"].error is None
    assert (readings["n1"].hash_revision, readings["n1"].applied_index) == (10, 20)
    assert readings["n1"] == readings["n2"]
    assert len(members["n1"].hashed) > 2


def test_members_at_different_revisions_are_hashed_at_the_lowest_and_read_at_their_own() -> None:
    members = {
        "n1": Member(1, State(revision=12), store={b"a": b"1", b"lost": b"2"}),
        "n2": Member(2, State(revision=11, hash=78), store={b"a": b"1"}),
    }
    readings = read(members)
    assert {node: (r.revision, r.hash_revision, r.hash) for node, r in readings.items()} == {
        "n1": (12, 11, 77),
        "n2": (11, 11, 78),
    }
    assert {revision for _, revision in members["n1"].ranged} == {12}
    assert {revision for _, revision in members["n2"].ranged} == {11}
    assert set(readings["n1"].keys) - set(readings["n2"].keys) == {"lost"}


def test_a_member_ahead_is_hashed_by_number_and_the_others_at_their_newest() -> None:
    members = {"n1": Member(1, State(revision=12)), "n2": Member(2, State(revision=11))}
    readings = read(members)
    assert set(members["n1"].hashed) == {11}
    assert set(members["n2"].hashed) == {0}
    assert {reading.hash_revision for reading in readings.values()} == {11}


def test_a_store_compacted_at_its_newest_revision_can_be_hashed() -> None:
    """Asked by number, etcd 3.4 and 3.5.1 refuse the compact revision itself (seen)."""
    members = {node: Member(number, State(revision=10, compacted=10)) for number, node in enumerate(("n1", "n2"))}
    readings = read(members, timeout_s=30)
    assert {(r.hash_revision, r.compact_revision, r.hash) for r in readings.values()} == {(10, 10, 77)}


def test_members_still_apart_when_time_is_up_are_read_where_they_must_agree() -> None:
    members = {"n1": Member(1, State(revision=12, applied=22)), "n2": Member(2, State(revision=11, applied=21))}
    readings = read(members)
    assert {revision for member in members.values() for _, revision in member.ranged} == {11}
    assert {node: reading.revision for node, reading in readings.items()} == {"n1": 12, "n2": 11}


def test_a_member_too_far_behind_to_be_hashed_is_still_read() -> None:
    members = {
        "n1": Member(1, State(revision=50, compacted=40), store={b"a": b"2"}),
        "n2": Member(2, State(revision=30)),
    }
    readings = read(members)
    assert (readings["n1"].hash, readings["n1"].hash_revision, readings["n1"].error) == (None, None, None)
    assert readings["n1"].keys == {"a": ("2", 2, 1, 2)}
    assert readings["n2"].hash_revision == 30


def test_a_learner_is_not_asked_for_a_hash() -> None:
    members = {"n1": Member(1, State()), "n2": Member(2, State(learner=True), store={b"a": b"1"})}
    readings = read(members, timeout_s=30)
    assert (readings["n2"].is_learner, readings["n2"].hash, readings["n2"].error) == (True, None, None)
    assert readings["n2"].keys == {"a": ("1", 2, 1, 2)}
    assert members["n2"].hashed == []


def test_a_silent_member_is_given_up_when_the_time_is_over() -> None:
    members = {"n1": Member(1, State(), store={b"a": b"1"}), "n2": Member(2, DOWN)}
    readings = read(members)
    assert readings["n2"] == MemberReading(error=f"not-connected: {DOWN.message}")
    assert readings["n1"].hash_revision == 10
    assert readings["n1"].keys == {"a": ("1", 2, 1, 2)}


def test_nobody_answering_is_no_exception() -> None:
    readings = read({"n1": Member(1, DOWN), "n2": Member(2, DOWN)})
    assert all(reading.error is not None for reading in readings.values())


@pytest.mark.parametrize("count", [0, 1, PAGE_KEYS, PAGE_KEYS + 1, 3 * PAGE_KEYS])
def test_every_key_of_a_store_is_read_once(count: int) -> None:
    store = {b"k%06d" % number: b"%d" % number for number in range(count)}
    member = Member(1, State(), store=store)
    keys = read({"n1": member})["n1"].keys
    assert {key: value[0] for key, value in keys.items()} == {key.decode(): v.decode() for key, v in store.items()}
    assert len(member.ranged) == max(1, -(-count // PAGE_KEYS))


def test_a_few_keys_are_asked_for_one_by_one_and_absent_ones_left_out() -> None:
    member = Member(1, State(), store={b"a": b"1", b"b": b"2", b"\xff": b"3"})
    keys = read({"n1": member}, ("a", "base64:/w==", "absent"))["n1"].keys
    assert {key: value[0] for key, value in keys.items()} == {"a": "1", "base64:/w==": "3"}
    assert member.ranged == [(b"a", 10), (b"\xff", 10), (b"absent", 10)]


def leader_of(members: dict[str, Member]) -> str | None:
    return asyncio.run(EtcdRoles(members).leader())


def test_an_old_leader_that_does_not_know_it_yet_is_outvoted_by_the_newer_term() -> None:
    cut_off = {"n1": Member(1, State(leader=1, term=4)), "n2": Member(2, State(leader=1, term=4))}
    rest = {f"n{n}": Member(n, State(leader=3, term=5)) for n in (3,)}
    assert leader_of({**cut_off, **rest}) == "n3"


def test_a_candidate_in_a_higher_term_does_not_hide_the_leader() -> None:
    members = {
        "n1": Member(1, State(leader=0, term=9)),
        "n2": Member(2, State(leader=2, term=5)),
        "n3": Member(3, State(leader=2, term=5)),
    }
    assert leader_of(members) == "n2"


def test_without_a_leader_there_is_none() -> None:
    assert leader_of({"n1": Member(1, State(leader=0)), "n2": Member(2, DOWN)}) is None


def test_a_leader_that_never_answered_is_named_from_the_member_list_or_by_its_id() -> None:
    asked = Member(1, State(leader=0xBEEF))
    asked.listed = [pb.Member(ID=0xBEEF, name="n2"), pb.Member(ID=1, name="n1")]
    assert leader_of({"n1": asked, "n2": Member(2, DOWN)}) == "n2"
    assert leader_of({"n1": Member(1, State(leader=0xBEEF))}) == "beef"


def test_a_replaced_member_is_known_by_its_new_id() -> None:
    async def go() -> tuple[int | None, int | None]:
        member = Member(1, State())
        roles = EtcdRoles({"n1": member})
        before = await roles.member_id("n1")
        member.id = 42
        return before, await roles.member_id("n1")

    assert asyncio.run(go()) == (1, 42)
