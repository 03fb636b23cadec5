"""Inventories of ``--cluster ssh``: what they say, and what is said of those that cannot be."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from splitvote.harness.clusters.remote.inventory import Inventory, read_inventory
from splitvote.harness.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[3]
ONE = '[nodes.n1]\nhost = "192.0.2.11"\n'


def written(folder: Path, text: str) -> Path:
    (folder / "key").write_text("")
    file = folder / "nodes.toml"
    file.write_text(text)
    return file


def test_a_host_is_all_it_takes(tmp_path: Path) -> None:
    inventory = read_inventory(written(tmp_path, ONE))
    (host,) = inventory.nodes.values()
    assert (host.host, host.port, host.user) == ("192.0.2.11", 22, "root")
    assert (host.peer, host.client) == ("192.0.2.11:2380", "192.0.2.11:2379")
    assert inventory.verify_host_keys
    assert host.ssh("refuse").strangers == "refuse"
    assert not inventory.are_services


def test_a_node_goes_before_the_defaults_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = (
        'verify_host_keys = false\n[defaults]\nuser = "ops"\nport = 2222\nkey = "key"\n'
        '[nodes.n1]\nhost = "n1.example"\npeer = "192.0.2.11"\nclient = "198.51.100.1:12379"\nport = 22\n'
        '[nodes.n2]\nhost = "n2.example"\npeer = "192.0.2.12:12380"\n'
    )
    inventory = read_inventory(written(tmp_path, text))
    first, second = inventory.nodes.values()
    assert (first.port, second.port, first.user) == (22, 2222, "ops")
    assert first.key == second.key == str(tmp_path / "key")
    assert (first.client, second.client) == ("198.51.100.1:12379", "192.0.2.12:2379")
    assert (first.address, second.peer) == ("192.0.2.11", "192.0.2.12:12380")
    assert not inventory.verify_host_keys


def test_another_process_makes_the_same_of_what_it_says_of_itself(tmp_path: Path) -> None:
    inventory = read_inventory(written(tmp_path, f'[defaults]\nunit = "etcd"\n{ONE}'))
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(inventory)), Inventory) == inventory


def test_a_unit_has_the_commands_of_systemd(tmp_path: Path) -> None:
    """A kill keeps it down: systemd would start it again by itself."""
    inventory = read_inventory(written(tmp_path, f'[defaults]\nunit = "my etcd"\n{ONE}'))
    service = inventory.nodes["n1"].service
    assert service is not None
    assert inventory.are_services
    assert service.kill == "systemctl kill -s KILL 'my etcd'; systemctl stop 'my etcd'"
    assert service.pid == "systemctl show -p MainPID --value 'my etcd'"


def test_commands_of_ones_own_go_before_the_units(tmp_path: Path) -> None:
    commands = 'start = "a"\nstop = "b"\nkill = "c"\npidfile = "/run/etcd.pid"\nlog = "/var/log/etcd log"\n'
    service = read_inventory(written(tmp_path, ONE + commands)).nodes["n1"].service
    assert service is not None
    assert (service.start, service.stop, service.kill, service.pid) == ("a", "b", "c", "cat /run/etcd.pid")
    assert service.log == """tail -c "+$(($1 + 1))" '/var/log/etcd log'"""
    mixed = read_inventory(written(tmp_path, f'{ONE}unit = "etcd"\nkill = "pkill -9 -x etcd"\n')).nodes["n1"].service
    assert mixed is not None
    assert (mixed.kill, mixed.stop) == ("pkill -9 -x etcd", "systemctl stop etcd")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"nodes.toml: it has 0 nodes where 1 to 9 can be"),
        ("[nodes.n1\n", r"nodes.toml: .*line 1"),
        ("[nodes.n1]\nprot = 22\n", r"line 2: unknown entry 'prot'; did .* 'port'\? in \[nodes.n1\]; known: host, "),
        (f'{ONE}\n[nodes.n2]\nhots = "a"\n', r"line 5: unknown entry 'hots'; did you mean 'host'\?"),
        (f'verify_hostkeys = true\n{ONE}', r"line 1: unknown entry 'verify_hostkeys'; did .* 'verify_host_keys'"),
        (f'[default]\nuser = "a"\n{ONE}', r"line 1: unknown entry 'default'; did you mean 'defaults'\?"),
        (f'[defaults]\nhost = "a"\n{ONE}', r"line 2: unknown entry 'host'"),
        (f'{ONE}port = "22"\n', r"line 3: port = '22' in \[nodes.n1\] is to be a whole number"),
        (f"{ONE}port = true\n", r"line 3: port = True in \[nodes.n1\] is to be a whole number"),
        ("[nodes.n1]\nport = 22\n", r"line 1: nodes.n1 has no host"),
        ('[nodes.client]\nhost = "192.0.2.1"\n', r"'client' is no name for a node"),
        ('[nodes."n 1"]\nhost = "192.0.2.1"\n', r"'n 1' is no name for a node"),
        ('[nodes.n1]\nhost = "n1.example"\n', r"line 2: nodes.n1: host = 'n1.example' alone .* as peer"),
        (f'{ONE}peer = "::1"\n', r"line 3: nodes.n1: peer"),
        (f'{ONE}client = "192.0.2.1:0"\n', r"line 3: nodes.n1: client = '192.0.2.1:0' is to be as"),
        (f'{ONE}key = "none"\n', r"line 3: nodes.n1: there is no file .*none"),
        (f'{ONE}[nodes.n2]\nhost = "192.0.2.11"\n', r"line 3: n1 and n2 have the same host and port: 192.0.2.11"),
        (f'{ONE}[nodes.n2]\nhost = "a"\npeer = "192.0.2.11"\n', r"n1 and n2 have the same peer address"),
        (f'{ONE}[access]\nuser = "root"\n', r"line 3: \[access\] is for services"),
        (f'{ONE}start = "a"\n', r"nodes.n1 has start but no stop and no kill and no pidfile"),
        (f'{ONE}unit = "etcd"\netcd = "/bin/etcd"\n', r"line 4: nodes.n1: etcd = ... is for nodes where"),
        (f'{ONE}[nodes.n2]\nhost = "192.0.2.12"\nunit = "etcd"\n', r"some nodes are services and others are not"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_place_and_what_is_known_there(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        read_inventory(written(tmp_path, text))
    assert f"--nodes-file {tmp_path / 'nodes.toml'}" in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"--nodes-file {tmp_path}/none: No such file"):
        read_inventory(tmp_path / "none")


def test_the_example_is_one(tmp_path: Path) -> None:
    """With the key it names."""
    text = (REPOSITORY / "examples" / "nodes.toml").read_text()
    file = written(tmp_path, text)
    for name in ("id_ed25519", "known_hosts"):
        (tmp_path / name).write_text("")
    assert list(read_inventory(file).nodes) == ["n1", "n2", "n3", "n4", "n5"]
