"""Which containers of a user's compose project are taken for the members, and where they are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitvote.harness.clusters.attached.engine import Container, EngineError, read_container
from splitvote.harness.clusters.attached.project_nodes import ProjectNode, client_port_of, find_project
from splitvote.harness.errors import ConfigError
from tests.harness.clusters.fake_engine import NETWORK, FakeEngine, container


def three(*more: Container) -> FakeEngine:
    return FakeEngine([container("etcd1"), container("etcd2"), container("etcd3"), *more])


def test_services_whose_first_process_is_etcd_are_the_members() -> None:
    web = container("web9", command=("nginx", "-g", "daemon off;"))
    found = find_project(three(web), "shop")
    assert found.name == "shop"
    assert [node.name for node in found.nodes] == ["etcd1", "etcd2", "etcd3"]
    assert [node.container for node in found.nodes] == ["id-etcd1", "id-etcd2", "id-etcd3"]
    assert found.network == NETWORK


def test_an_etcd_that_a_script_became_is_a_member() -> None:
    """The image's own command says nothing; the process that runs does."""
    engine = FakeEngine([container("db1", command=("/entrypoint.sh", "run"))])
    engine.processes["id-db1"] = "/opt/etcd/bin/etcd --config-file /etc/etcd.yml"
    assert [node.name for node in find_project(engine, "shop").nodes] == ["db1"]


def test_labels_choose_where_the_process_does_not() -> None:
    engine = three(container("web9", command=("nginx",), labels=container("web9").labels | {"role": "web"}))
    engine.processes |= dict.fromkeys(engine.containers, "/supervise etcd")
    with pytest.raises(ConfigError, match=r"none of its services \(etcd1, .*web9\) has etcd as its first process"):
        find_project(engine, "shop")
    assert len(find_project(engine, "shop", ["role=store"]).nodes) == 3
    assert len(find_project(engine, "shop", ["role"]).nodes) == 4
    with pytest.raises(ConfigError, match="has the label role=none"):
        find_project(engine, "shop", ["role=none"])


def test_a_project_is_found_by_its_file(tmp_path: Path) -> None:
    """Compose v2 notes absolute paths of files, 1.29 those it was given, relative to wherever that was."""
    file = tmp_path / "compose.yml"
    file.write_text("services: {}")
    home = {"com.docker.compose.project.working_dir": str(tmp_path)}
    for noted in (str(file), "compose.yml", "up/there/compose.yml", f"other.yml,{file}"):
        labels = container("etcd1").labels | home | {"com.docker.compose.project.config_files": noted}
        assert find_project(FakeEngine([container("etcd1", labels=labels)]), str(file)).name == "shop"


def test_a_file_of_which_two_projects_are_up_is_not_guessed_about(tmp_path: Path) -> None:
    file = tmp_path / "compose.yml"
    file.write_text("services: {}")
    home = {"com.docker.compose.project.working_dir": str(tmp_path)}
    one = container("etcd1", labels=container("etcd1").labels | home)
    other = container("etcd2", labels=one.labels | {"com.docker.compose.project": "shop2"})
    with pytest.raises(ConfigError, match=r"several projects are up from this file \(shop, shop2\)"):
        find_project(FakeEngine([one, other]), str(file))
    with pytest.raises(ConfigError, match="no project is up from it; give the name of one of: shop"):
        find_project(three(), str(file))


def test_a_name_that_there_is_not_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no such file, nor project; there are: shop"):
        find_project(three(), "shopp")
    with pytest.raises(ConfigError, match="there are: none"):
        find_project(FakeEngine([]), "shop")


def test_a_member_that_does_not_run_is_refused() -> None:
    """A run begins on a whole cluster: a member that was left out would be missed by nobody."""
    with pytest.raises(ConfigError, match="shop_etcd2_1 is exited"):
        find_project(FakeEngine([container("etcd1"), container("etcd2", status="exited")]), "shop")
    with pytest.raises(ConfigError, match="shop_etcd2_1 is paused"):
        find_project(FakeEngine([container("etcd1"), container("etcd2", status="paused")]), "shop")


def test_containers_of_one_service_are_told_apart_by_their_numbers() -> None:
    scaled = [
        container(
            f"etcd{n}",
            labels=container("etcd1").labels
            | {"com.docker.compose.service": "etcd", "com.docker.compose.container-number": str(n)},
        )
        for n in (3, 1, 2)
    ]
    assert [node.name for node in find_project(FakeEngine(scaled), "shop").nodes] == ["etcd-1", "etcd-2", "etcd-3"]


def test_a_strangers_container_that_goes_away_meanwhile_is_no_trouble() -> None:
    engine = three()
    listed = engine.find({})
    engine.find = lambda labels: [*listed, "gone"]  # type: ignore[method-assign]
    assert len(find_project(engine, "shop").nodes) == 3


def test_members_without_a_network_in_common_have_none() -> None:
    apart = container("etcd2", addresses={"elsewhere": "10.0.0.2"})
    assert find_project(FakeEngine([container("etcd1"), apart]), "shop").network is None


@pytest.mark.parametrize(
    ("command", "environment", "expected"),
    [
        (["etcd"], [], (2379, False)),
        (["etcd", "--listen-client-urls=http://0.0.0.0:4001"], [], (4001, False)),
        (["etcd", "--listen-client-urls", "https://0.0.0.0:2379"], [], (2379, True)),
        (["etcd", "--listen-client-urls=http://127.0.0.1:2379,https://10.1.2.3:2389"], [], (2389, True)),
        (["etcd"], ["ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:12379"], (12379, False)),
        (["etcd", "--listen-client-urls=http://0.0.0.0:1"], ["ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2"], (1, False)),
        (["etcd", "--name=listen-client-urls"], ["PATH=/bin"], (2379, False)),
    ],
)
def test_the_clients_port_is_what_etcd_was_told(
    command: list[str], environment: list[str], expected: tuple[int, bool]
) -> None:
    assert client_port_of(command, environment) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"command": ("etcd", "--data-dir=/data")}, False),
        ({"command": ("etcd", "--data-dir=/data"), "tmpfs": ("/tmp", "/database")}, False),
        ({"command": ("etcd", "--data-dir=/data"), "tmpfs": ("/data",)}, True),
        ({"command": ("etcd", "--data-dir", "/var/lib/etcd/x"), "tmpfs": ("/var/lib",)}, True),
        ({"command": ("etcd",), "environment": ("ETCD_DATA_DIR=/e",), "tmpfs": ("/e/",)}, True),
        ({"command": ("etcd", "--config-file=/c.yml"), "tmpfs": ("/tmp",)}, True),
        ({"command": ("etcd", "--data-dir=/data"), "auto_remove": True}, True),
    ],
)
def test_data_that_end_with_the_process_are_known(fields: dict[str, object], expected: bool) -> None:
    """Docker forgets a tmpfs when its container ends: to kill a member there is to wipe it."""
    found = find_project(FakeEngine([container("etcd1", **fields)]), "shop")
    assert found.nodes[0].is_volatile is expected


def test_an_endpoint_is_the_published_port_or_else_the_containers_own_address() -> None:
    node = ProjectNode("etcd1", "id-etcd1")
    assert node.endpoint(container("etcd1"), NETWORK) == "127.0.0.1:32001"
    assert node.endpoint(container("etcd1", published={}), NETWORK) == "172.20.0.1:2379"
    assert node.endpoint(container("etcd1", published={2380: "127.0.0.1:1"}), None) == "172.20.0.1:2379"
    with pytest.raises(EngineError, match="neither a published port 2379 nor an address"):
        node.endpoint(container("etcd1", published={}, addresses={}), NETWORK)


def test_what_the_engine_says_is_understood() -> None:
    inspected = {
        "Id": "abc",
        "Name": "/shop_etcd1_1",
        "State": {"Status": "running", "Pid": 7, "StartedAt": "then"},
        "Path": "/etcd",
        "Args": ["--name=etcd1"],
        "Config": {"Labels": {"a": "b"}, "Env": ["X=1"], "Image": "etcd:3"},
        "HostConfig": {"RestartPolicy": {"Name": "always"}, "Tmpfs": {"/a": ""}, "AutoRemove": False},
        "Mounts": [{"Type": "tmpfs", "Destination": "/b"}, {"Type": "volume", "Destination": "/c"}],
        "NetworkSettings": {
            "Ports": {
                "2379/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}],
                "2380/tcp": None,
                "9/udp": [{"HostIp": "", "HostPort": "9"}],
                "80/tcp": [{"HostIp": "10.0.0.1", "HostPort": "8080"}],
            },
            "Networks": {"net": {"IPAddress": "172.20.0.2"}, "gone": {"IPAddress": ""}},
        },
    }
    found = read_container(inspected, host="engine.example")
    assert found.published == {2379: "engine.example:32768", 80: "10.0.0.1:8080"}
    assert found.addresses == {"net": "172.20.0.2"}
    assert found.command == ("/etcd", "--name=etcd1")
    assert found.tmpfs == ("/a", "/b")
    assert (found.name, found.restart_policy, found.incarnation.pid) == ("shop_etcd1_1", "always", 7)
