"""Grudges are what their names say, and what they leave of a cluster is told rightly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitvote.harness.cluster import CLIENT
from splitvote.harness.errors import NemesisError
from splitvote.nemesis.partitions import KINDS, grudge, links_of
from splitvote.nemesis.quorum import Effect, cut_off, has_quorum, partners, possible_leaders, serving

picks = st.integers(min_value=0, max_value=2**64 - 1)
TWO_WAY = ("one", "halves", "random_halves", "majority_minority", "bridge", "primaries")


def named(size: int) -> tuple[str, ...]:
    return tuple(f"n{number}" for number in range(1, size + 1))


clusters = st.integers(min_value=2, max_value=9).map(named)
larger = st.integers(min_value=3, max_value=9).map(named)


def heard_by(node: str, nodes: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> frozenset[str]:
    return frozenset(other for other in nodes if other == node or (other, node) not in pairs)


@given(larger, picks, st.sampled_from(tuple(KINDS)))
def test_every_kind_cuts_something_and_only_links_there_are(nodes: tuple[str, ...], pick: int, kind: str) -> None:
    cut = grudge(kind, nodes, pick, (nodes[1],))
    assert cut.pairs
    assert len(set(cut.pairs)) == len(cut.pairs)
    ends = (*nodes, CLIENT) if kind == "client" else nodes
    assert all(a != b and a in ends and b in ends for a, b in cut.pairs)
    assert cut.targets
    assert cut == grudge(kind, nodes, pick, (nodes[1],))


@given(larger, picks, st.sampled_from(TWO_WAY))
def test_two_way_kinds_cut_both_ways(nodes: tuple[str, ...], pick: int, kind: str) -> None:
    pairs = grudge(kind, nodes, pick, (nodes[0],)).pairs
    assert {(b, a) for a, b in pairs} == set(pairs)


@given(larger, picks)
def test_in_the_ring_each_hears_a_majority_and_no_two_the_same(nodes: tuple[str, ...], pick: int) -> None:
    pairs = grudge("majorities_ring", nodes, pick).pairs
    heard = {node: heard_by(node, nodes, pairs) for node in nodes}
    assert all(2 * len(others) > len(nodes) for others in heard.values())
    assert all(len(others) < len(nodes) for others in heard.values())
    assert len(set(heard.values())) == len(nodes)
    if len(nodes) > 3:
        assert {(b, a) for a, b in pairs} == set(pairs)
        assert possible_leaders(nodes, Effect(cut=pairs)) == nodes


@given(larger, picks)
def test_over_the_bridge_and_nowhere_else_the_halves_meet(nodes: tuple[str, ...], pick: int) -> None:
    cut = grudge("bridge", nodes, pick)
    (over,) = set(nodes) - set(cut.targets)
    assert heard_by(over, nodes, cut.pairs) == frozenset(nodes)
    sides = {heard_by(node, nodes, cut.pairs) for node in cut.targets}
    assert len(sides) == 2
    left, right = sides
    assert left & right == {over}
    assert left | right == frozenset(nodes)


@given(larger, picks)
def test_the_minority_is_the_largest_there_is(nodes: tuple[str, ...], pick: int) -> None:
    cut = grudge("majority_minority", nodes, pick)
    assert len(cut.targets) == (len(nodes) - 1) // 2
    assert cut_off(nodes, Effect(cut=cut.pairs)) == cut.targets
    assert has_quorum(nodes, Effect(cut=cut.pairs))


@given(clusters, picks)
def test_even_halves_leave_nobody_a_majority(nodes: tuple[str, ...], pick: int) -> None:
    for kind in ("halves", "random_halves"):
        effect = Effect(cut=grudge(kind, nodes, pick).pairs)
        assert has_quorum(nodes, effect) == bool(len(nodes) % 2)


@given(larger, picks, st.sampled_from(("one_way_in", "one_way_out", "one", "primaries")))
def test_an_isolated_node_is_cut_off_whichever_way(nodes: tuple[str, ...], pick: int, kind: str) -> None:
    effect = Effect(cut=grudge(kind, nodes, pick, (nodes[2],)).pairs)
    assert cut_off(nodes, effect) == (nodes[2],)
    assert set(serving(nodes, effect)) == set(nodes) - {nodes[2]}


def test_one_way_cuts_are_one_way() -> None:
    nodes = named(3)
    assert grudge("one_way_in", nodes, 0, ("n2",)).pairs == (("n1", "n2"), ("n3", "n2"))
    assert grudge("one_way_out", nodes, 0, ("n2",)).pairs == (("n2", "n1"), ("n2", "n3"))


def test_the_links_of_a_node_are_both_ways() -> None:
    assert links_of(named(3), ("n1",)) == (("n1", "n2"), ("n1", "n3"), ("n2", "n1"), ("n3", "n1"))


@given(larger, st.data())
def test_a_quorum_needs_a_majority_that_is_up_and_hears_one_another(
    nodes: tuple[str, ...], data: st.DataObject
) -> None:
    down = tuple(data.draw(st.lists(st.sampled_from(nodes), unique=True)))
    assert has_quorum(nodes, Effect(down=down)) == (2 * (len(nodes) - len(down)) > len(nodes))
    assert all(not partners(node, nodes, Effect(down=down)) for node in down)
    assert not set(cut_off(nodes, Effect(down=down))) & set(down)


def test_faults_add_up() -> None:
    """Two down of five leave a quorum, one more that is cut off does not."""
    nodes = named(5)
    down, cut = Effect(down=("n1", "n2")), Effect(cut=grudge("one", nodes, 0, ("n3",)).pairs)
    assert has_quorum(nodes, down)
    assert has_quorum(nodes, cut)
    assert not has_quorum(nodes, down | cut)
    assert serving(nodes, down | cut) == ()
    assert cut_off(nodes, down | cut) == ("n3", "n4", "n5")


def test_what_cannot_be_is_refused_in_words() -> None:
    with pytest.raises(NemesisError, match="did you mean 'bridge'"):
        grudge("brige", named(5), 0)
    with pytest.raises(NemesisError, match="partition:bridge needs 3 nodes, there are 2"):
        grudge("bridge", named(2), 0)


def test_a_strained_member_may_lead_but_nobody_must_serve_then() -> None:
    """With a member that may work or not: no progress is promised beyond the others, and no refusal either."""
    nodes = ("n1", "n2", "n3")
    assert has_quorum(nodes, Effect(strained=("n1",)))
    assert not has_quorum(nodes, Effect(strained=("n1",), down=("n2",)))
    assert serving(nodes, Effect(strained=("n1",))) == ()
    assert serving(nodes, Effect(strained=("n1",), cut=(("n2", "n1"), ("n3", "n1")))) == ("n2", "n3")
    assert cut_off(nodes, Effect(strained=("n1",), down=("n2",))) == ()


def test_a_node_without_a_vote_counts_for_nothing() -> None:
    """Five nodes of which two are no members: two of the three that are make a majority."""
    nodes = ("n1", "n2", "n3", "n4", "n5")
    absent = Effect(absent=("n4", "n5"))
    assert serving(nodes, absent) == ("n1", "n2", "n3")
    assert has_quorum(nodes, absent | Effect(down=("n1",)))
    assert not has_quorum(nodes, absent | Effect(down=("n1", "n2")))
    assert possible_leaders(nodes, absent) == ("n1", "n2", "n3")
    assert cut_off(nodes, absent) == ()
