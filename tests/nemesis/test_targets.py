"""Choices of nodes: the right number, from the right nodes, the same for the same pick."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitvote.harness.errors import NemesisError
from splitvote.nemesis.targets import SELECTIONS, choose, fraction, is_possible, shuffled

picks = st.integers(min_value=0, max_value=2**64 - 1)
clusters = st.integers(min_value=1, max_value=9).map(lambda size: tuple(f"n{number}" for number in range(1, size + 1)))


@given(clusters, picks, st.sampled_from(SELECTIONS))
def test_sizes_are_those_of_the_whole_cluster(nodes: tuple[str, ...], pick: int, select: str) -> None:
    size = len(nodes)
    wanted = {
        "one": 1,
        "minority": max(k for k in range(size) if 2 * k < size),
        "majority": min(k for k in range(size + 1) if 2 * k > size),
        "minority_third": max(k for k in range(size) if 3 * k < size),
        "primaries": 1,
        "all": size,
    }[select]
    chosen = choose(select, nodes, pick, leader=nodes[-1])
    assert len(chosen) == wanted
    assert is_possible(select, nodes) == (wanted > 0)
    assert list(chosen) == [node for node in nodes if node in chosen]


@given(clusters, picks)
def test_primaries_is_the_leader_or_one_node_where_nobody_leads(nodes: tuple[str, ...], pick: int) -> None:
    assert choose("primaries", nodes, pick, leader=nodes[0]) == (nodes[0],)
    assert len(choose("primaries", nodes, pick, leader=None)) == 1
    assert choose("primaries", nodes, pick, leader="gone") == choose("one", nodes, pick)


@given(clusters, picks, st.sampled_from(SELECTIONS), st.data())
def test_only_those_that_may_be_taken_are_taken(
    nodes: tuple[str, ...], pick: int, select: str, data: st.DataObject
) -> None:
    among = data.draw(st.lists(st.sampled_from(nodes), unique=True))
    assert set(choose(select, nodes, pick, leader=nodes[0], among=among)) <= set(among)


def test_every_node_is_taken_about_as_often() -> None:
    nodes = ("n1", "n2", "n3", "n4", "n5")
    taken = Counter(node for pick in range(5_000) for node in choose("minority", nodes, pick))
    assert all(1_800 < taken[node] < 2_200 for node in nodes)


def test_a_shuffle_reaches_every_order_and_a_fraction_every_part() -> None:
    orders = Counter(tuple(shuffled("abc", pick)) for pick in range(6_000))
    assert len(orders) == 6
    assert all(800 < times < 1_200 for times in orders.values())
    parts = Counter(int(10 * fraction(pick, 3)) for pick in range(10_000))
    assert sorted(parts) == list(range(10))
    assert all(800 < times < 1_200 for times in parts.values())


def test_an_unknown_selection_suggests_the_nearest() -> None:
    with pytest.raises(NemesisError, match="did you mean 'minority'"):
        choose("minorty", ("n1",), 0)
