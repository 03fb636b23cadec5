"""Hosts of an inventory, on a real sshd: what is asked of them, and what is said of those out of reach."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.clusters.remote.hosts import hosts_of
from splitvote.harness.clusters.remote.inventory import Inventory, read_inventory
from splitvote.harness.clusters.remote.ssh_hosts import SshHosts
from splitvote.harness.errors import ConfigError, EnvironmentFailure

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="hosts are asked as root, which these tests are not")


def inventory(folder: Path, sshd: Any, **others: object) -> Inventory:
    """One node: this machine."""
    given = {"port": sshd.port, "user": getpass.getuser(), "key": str(sshd.key), "host_key": sshd.host_key} | others
    entries = [
        f"{name} = {value}" if isinstance(value, int) else f'{name} = "{value}"' for name, value in given.items()
    ]
    file = folder / "nodes.toml"
    file.write_text("\n".join(["[nodes.n1]", 'host = "127.0.0.1"', *entries]))
    return read_inventory(file)


def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@as_root
def test_hosts_are_asked_what_they_have_and_are_not_changed(sshd: Any, tmp_path: Path) -> None:
    """The etcd is the one that the inventory names."""
    etcd = tmp_path / "bin" / "my etcd"
    etcd.parent.mkdir()
    etcd.write_text("#!/bin/sh\necho 'etcd Version: 3.5.99'\n")
    etcd.chmod(0o755)
    hosts = SshHosts(inventory(tmp_path, sshd, etcd=str(etcd)))
    before = sorted(path.name for path in Path("/var/lib").iterdir())
    assert hosts.binary("n1").version == "3.5.99"
    assert hosts.binary("n1").path == etcd
    assert hosts.facts().etcd == (str(etcd), "etcd Version: 3.5.99")
    assert sorted(path.name for path in Path("/var/lib").iterdir()) == before


@as_root
def test_a_host_without_the_etcd_it_should_have_is_named(sshd: Any, tmp_path: Path) -> None:
    hosts = SshHosts(inventory(tmp_path, sshd, etcd=str(tmp_path / "none")))
    with pytest.raises(EnvironmentFailure, match=r"no etcd on n1 \(127.0.0.1\) at .*none: give --etcd PATH"):
        hosts.binary("n1")


@as_root
def test_what_the_hosts_are_asked_does_not_need_a_loop_of_its_own(sshd: Any, tmp_path: Path) -> None:
    """It is asked when the cluster is made, which may be within a running loop."""
    hosts = SshHosts(inventory(tmp_path, sshd))

    async def scene() -> None:
        assert hosts.facts().filters is not None

    asyncio.run(scene())


def test_a_host_out_of_reach_is_told_with_what_to_try(sshd: Any, tmp_path: Path) -> None:
    port = closed_port()
    hosts = SshHosts(inventory(tmp_path, sshd, port=port))
    with pytest.raises(EnvironmentFailure, match=rf"n1 \(127.0.0.1 port {port}\) cannot be reached: .*") as refused:
        hosts.facts()
    assert f"try `ssh -p {port} -i {sshd.key} {getpass.getuser()}@127.0.0.1`" in str(refused.value)
    assert str(tmp_path / "nodes.toml") in str(refused.value)


def test_a_host_with_another_key_is_told(sshd: Any, tmp_path: Path) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS"
    hosts = SshHosts(inventory(tmp_path, sshd, host_key=other))
    with pytest.raises(EnvironmentFailure, match=r"n1 .* is not who it should be: its host key is SHA256"):
        hosts.facts()


def test_a_host_key_that_is_none_is_refused_with_the_nodes_name(sshd: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nodes.toml: nodes.n1: host_key 'ssh-ed25519 x' is no public key"):
        SshHosts(inventory(tmp_path, sshd, host_key="ssh-ed25519 x"))


def test_this_machine_is_none_of_the_hosts(sshd: Any, tmp_path: Path) -> None:
    """A cut between it and another one would be a cut between the harness and that node."""
    noted: list[bool] = []
    hosts = SshHosts(inventory(tmp_path, sshd))
    with pytest.raises(ConfigError, match=r"n1 \(127.0.0.1\) is this machine"):
        asyncio.run(hosts.open(lambda: noted.append(True)))
    assert not noted


def test_another_process_reaches_the_same_hosts_by_their_description(sshd: Any, tmp_path: Path) -> None:
    hosts = hosts_of(SshHosts(inventory(tmp_path, sshd, user=getpass.getuser())).described())

    async def scene() -> None:
        try:
            (node,) = (await hosts.reach()).values()
            assert (node.address, node.endpoint, node.interface) == ("127.0.0.1", "127.0.0.1:2379", "lo")
        finally:
            for remote in hosts.remotes().values():  # without what is done as root when a run is over
                await remote.close()

    assert isinstance(hosts, SshHosts)
    asyncio.run(scene())
