"""What a user may ask for, and what is said to what cannot be."""

from __future__ import annotations

import pytest

from splitvote.harness.cluster import Admin, Auth, Links, Process, Upkeep
from splitvote.harness.errors import ConfigError
from splitvote.nemesis import FAMILIES, parse_faults
from tests.nemesis.fake_cluster import FakeCluster


def test_a_family_is_all_its_faults() -> None:
    chosen = parse_faults("kill, partition", FakeCluster())
    assert list(chosen.faults) == ["kill", "partition"]
    assert chosen.by_name == {name: FAMILIES[name].faults for name in ("kill", "partition")}
    assert not chosen.omitted


def test_nothing_asked_is_nothing_chosen() -> None:
    assert not parse_faults("", FakeCluster()).faults


def test_an_entry_can_be_narrowed_to_kinds_to_whom_and_to_nodes() -> None:
    faults = parse_faults("partition:bridge:halves,kill:primaries,packet:rate:n1+n3,pause:n2", FakeCluster()).faults
    assert [fault.name for fault in faults["partition:bridge:halves"].faults] == ["bridge", "halves"]
    assert faults["kill:primaries"].selections == ("primaries",)
    assert faults["packet:rate:n1+n3"].targets == ("n1", "n3")
    assert faults["pause:n2"].targets == ("n2",)


def test_all_is_whatever_the_cluster_provides_and_says_what_it_leaves_out() -> None:
    everything = parse_faults("all", FakeCluster())
    assert list(everything.faults) == [family for family in FAMILIES if family not in everything.omitted]
    assert {"kill", "partition", "packet", "member", "resource", "version", "admin"} <= set(everything.faults)
    chosen = parse_faults("all", FakeCluster(lacks=(Links, Process, Upkeep, Auth)))
    assert list(chosen.faults) == ["admin"]
    assert [fault.name for fault in chosen.faults["admin"].faults] == ["compact", "defragment", "move_leader"]
    assert chosen.omitted["partition"] == "the fake cluster: it cannot cut links (Links, cut)"
    assert "Process" in chosen.omitted["admin:crash_during_compaction"]


def test_small_clusters_lack_what_needs_more_nodes() -> None:
    chosen = parse_faults("all", FakeCluster(1))
    assert {"kill", "restart", "resource", "version", "admin"} <= set(chosen.faults)
    assert "member" in chosen.omitted
    assert [fault.name for fault in chosen.faults["partition"].faults] == ["client"]
    two = parse_faults("partition", FakeCluster(2))
    assert "2 nodes where 3 are needed" in two.omitted["partition:bridge"]
    assert "bridge" not in [fault.name for fault in two.faults["partition"].faults]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("kil", "unknown fault 'kil'; did you mean 'kill'"),
        ("partition:brige", "'partition:brige': unknown kind, selection or node 'brige'; did you mean 'bridge'"),
        ("kill:n7", "unknown kind, selection or node 'n7'"),
        ("kill,all", "all stands alone"),
    ],
)
def test_misspelt_names_get_the_nearest(spec: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_faults(spec, FakeCluster())


@pytest.mark.parametrize(
    ("spec", "cluster"),
    [
        ("partition", FakeCluster(lacks=(Links,))),
        ("kill", FakeCluster(lacks=(Process,))),
        ("packet:rate", FakeCluster(1)),
        ("admin:compact", FakeCluster(lacks=(Admin,))),
        ("partition:majorities_ring", FakeCluster(2)),
    ],
)
def test_what_is_asked_for_by_name_and_lacking_is_refused_with_who_has_it(spec: str, cluster: FakeCluster) -> None:
    with pytest.raises(ConfigError, match=f"--faults {spec}: the fake cluster: .*--cluster local"):
        parse_faults(spec, cluster)


def test_a_selection_that_takes_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="minority of 2 nodes is nobody"):
        parse_faults("kill:minority", FakeCluster(2))


def test_a_backend_that_can_delay_but_not_limit_gets_the_rest_of_the_family() -> None:
    cluster = FakeCluster()
    cluster.supports = frozenset({"cut", "delay"})
    chosen = parse_faults("packet", cluster)
    assert [fault.name for fault in chosen.faults["packet"].faults] == ["delay"]
    assert set(chosen.omitted) == {"packet:jitter", "packet:rate", "packet:loss", "packet:duplicate"}
