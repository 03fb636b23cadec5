"""What the command line may say of a cluster that is somebody else's, and what is refused before it is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.cluster import Boundaries
from splitvote.harness.clusters.attached.attaching import attached_cluster
from splitvote.harness.clusters.attached.endpoints import Endpoints, named, parse_endpoints
from splitvote.harness.clusters.attached.foreign import OUR_OWN, Foreign
from splitvote.harness.clusters.attached.ground import ALLOWABLE, DONE_BY_ADMINS, Limits
from splitvote.harness.clusters.attached.survey import Access
from splitvote.harness.errors import ConfigError
from splitvote.nemesis import FAMILIES, parse_faults
from tests.harness.clusters.fake_engine import FakeEngine, container
from tests.nemesis.fake_cluster import FakeCluster


class Bounded(FakeCluster):
    """A cluster that can do everything, on ground where not everything is done."""

    name = "attach"

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits

    def capability(self, kind: type[Any]) -> Any:
        return self._limits if kind is Boundaries else super().capability(kind)


ENDPOINTS = Endpoints({"n1": "10.0.0.1:2379"})


def test_faults_that_would_need_more_than_endpoints_are_refused_by_what_has_it() -> None:
    cluster = Bounded(Limits(ENDPOINTS.forbidden, ()))
    for spec, reason in {
        "kill": r"processes of an attached cluster are not ours to end \(Process\); --cluster compose --project",
        "pause": r"\(Process\)",
        "restart:crash_loop": r"\(Process\)",
        "partition:halves": r"links between its nodes are out of reach \(Links\)",
        "packet": r"\(Links\)",
        "member": r"members and their data are not the harness's to remove, add or wipe \(Members, Process.wipe\)",
        "disk": r"\(Disk, Damage\); --cluster ",
        "admin:compact": "--allow compact permits it",
        "admin:save_snapshot": "--allow save_snapshot permits it",
        "admin:no_space": "refuse the writes of all other clients",
        "admin:auth": "lock all other clients out",
        "admin:crash_during_defragment": r"\(Process\)",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            parse_faults(spec, cluster)


def test_what_is_left_by_endpoints_is_done() -> None:
    chosen = parse_faults("partition,admin", Bounded(Limits(ENDPOINTS.forbidden, ())))
    done = {name: [fault.name for fault in choice.faults] for name, choice in chosen.faults.items()}
    assert done == {"partition": ["client"], "admin": ["defragment", "move_leader"]}
    assert "partition:halves" in chosen.omitted


def test_what_meets_others_data_is_done_where_it_is_allowed() -> None:
    limits = Limits({}, ("compact", "save_snapshot"))
    chosen = parse_faults("admin", Bounded(limits))
    names = [fault.name for fault in chosen.faults["admin"].faults]
    assert {"compact", "save_snapshot", "crash_during_compaction"} <= set(names)
    assert not {"no_space", "auth"} & set(names)


def test_by_endpoints_no_fault_of_processes_is_done_whatever_was_allowed() -> None:
    limits = Limits(ENDPOINTS.forbidden, ("compact", "save_snapshot"))
    assert limits.refusal("admin", "compact") is None
    assert "(Process)" in (limits.refusal("admin", "crash_during_compaction") or "")


def test_what_nobody_thought_of_is_refused() -> None:
    """A family or an admin's fault that is new may do anything to data: it is not done until somebody decided so."""
    limits = Limits({}, ALLOWABLE)
    done = {
        name
        for name, family in FAMILIES.items()
        if any(limits.refusal(name, fault.name) is None for fault in family.faults)
    }
    assert done == {"kill", "stop", "pause", "restart", "partition", "packet", "admin"}
    admin = {fault.name for fault in FAMILIES["admin"].faults if limits.refusal("admin", fault.name) is None}
    assert admin == {*DONE_BY_ADMINS, "compact", "crash_during_compaction", "save_snapshot"}
    assert "not done to a cluster that is somebody else's" in (limits.refusal("meteor", "strike") or "")
    assert "not done to a cluster that is somebody else's" in (limits.refusal("admin", "drop_all") or "")


# Options.


def test_options_for_clusters_that_run_already_mean_nothing_elsewhere() -> None:
    assert Foreign(project="shop").is_meant_by("compose")
    assert Foreign(endpoints="a:1").is_meant_by("attach")
    assert not OUR_OWN.is_meant_by("compose")
    assert not OUR_OWN.is_meant_by("local")
    for cluster, foreign, option in (
        ("local", Foreign(project="shop"), "--project"),
        ("compose", Foreign(endpoints="a:1"), "--endpoints"),
        ("compose", Foreign(service_labels=("role=store",)), "--service-label"),
        ("attach", Foreign(endpoints="a:1", helper_image="x"), "--helper-image"),
        ("local", Foreign(ca="ca.pem"), "--ca"),
        ("sim", Foreign(user="root"), "--user"),
        ("netns", Foreign(allow=("compact",)), "--allow"),
    ):
        with pytest.raises(ConfigError, match=f"^{option} has no meaning here"):
            foreign.is_meant_by(cluster)
    with pytest.raises(ConfigError, match="wants --endpoints"):
        OUR_OWN.is_meant_by("attach")


def test_a_workload_that_compacts_is_refused_unless_that_is_allowed(tmp_path: Path) -> None:
    engine = FakeEngine([container("etcd1")])
    for workloads in (["kv"], ["register", "watch"]):
        with pytest.raises(ConfigError, match="compacts the store, which forgets the history of every key"):
            attached_cluster(Foreign(project="shop"), tmp_path, workloads, engine=engine)
    with pytest.raises(ConfigError, match=r"makes members diverge .* \(18667\), and others' data with them"):
        attached_cluster(Foreign(project="shop", allow=("compact",)), tmp_path, ["kv"], engine=engine)
    with pytest.raises(ConfigError, match="unknown fault to be allowed 'compct'; did you mean 'compact'"):
        attached_cluster(Foreign(project="shop", allow=("compct",)), tmp_path, ["register"], engine=engine)


def test_members_that_serve_by_tls_want_the_authority(tmp_path: Path) -> None:
    secure = container("etcd1", command=("etcd", "--listen-client-urls=https://0.0.0.0:2379"))
    with pytest.raises(ConfigError, match="etcd1 of project shop serve clients by TLS: give --ca FILE"):
        attached_cluster(Foreign(project="shop"), tmp_path, ["register"], engine=FakeEngine([secure]))
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    with pytest.raises(ConfigError, match="not all members serve clients by TLS: leave --ca out"):
        attached_cluster(
            Foreign(project="shop", ca=str(ca)), tmp_path, ["register"], engine=FakeEngine([container("etcd1")])
        )
    with pytest.raises(ConfigError, match="https wants --ca FILE"):
        attached_cluster(Foreign(endpoints="https://a:1"), tmp_path, ["register"])


def test_a_password_is_never_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be in config.json and in the list of processes."""
    monkeypatch.delenv("SPLITVOTE_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="its password is to be in the environment, as SPLITVOTE_PASSWORD"):
        Access(user="root").options()
    monkeypatch.setenv("SPLITVOTE_PASSWORD", "secret")
    assert Access(user="root").options().password == "secret"
    with pytest.raises(ConfigError, match="--cert and --key want --ca as well"):
        Access(cert="a", key="b").options()


@pytest.mark.parametrize(
    ("given", "places", "is_tls"),
    [
        ("a:1,b:2", ["a:1", "b:2"], False),
        (" 10.0.0.1 , 10.0.0.2:4001 ", ["10.0.0.1:2379", "10.0.0.2:4001"], False),
        ("https://a.example:2379,b.example", ["a.example:2379", "b.example:2379"], True),
        ("http://[::1]:2379", ["[::1]:2379"], False),
    ],
)
def test_endpoints_are_places_or_urls(given: str, places: list[str], is_tls: bool) -> None:
    assert parse_endpoints(given) == (places, is_tls)


@pytest.mark.parametrize("given", ["", "a:x", "ftp://a:1", "http://a:1/path", ":2379", "http://a:1,https://b:1"])
def test_what_is_no_endpoint_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="--endpoints"):
        parse_endpoints(given)


def test_nodes_are_called_as_their_members_are_where_that_tells_them_apart() -> None:
    places = ["b:1", "a:1"]
    assert named(places, ["m2", "m1"]) == {"m1": "a:1", "m2": "b:1"}
    assert list(named(places, ["m2", "m1"])) == ["m1", "m2"]
    for names in (["m", "m"], ["", "m"], ["client", "m"], ["a+b", "m"]):
        assert named(places, names) == {"n1": "b:1", "n2": "a:1"}
