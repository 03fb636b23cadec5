"""Ports that are found, and kept for members that come and go."""

from __future__ import annotations

import socket

import pytest

from splitvote.harness.clusters.ports import CAN_SHARE, HeldPort


@pytest.fixture
def port():
    port = HeldPort()
    yield port
    port.release()


def test_ports_are_distinct(port: HeldPort) -> None:
    others = [HeldPort() for _ in range(50)]
    assert len({port.number, *(other.number for other in others)}) == 51
    for other in others:
        other.release()


def test_a_member_can_listen_and_listen_again(port: HeldPort) -> None:
    """As Go does: with SO_REUSEADDR; a connection of its first life lingers."""
    port.make_room()
    for _ in range(2):
        with (
            socket.create_server(("127.0.0.1", port.number), reuse_port=False) as listener,
            socket.create_connection(("127.0.0.1", port.number)),
        ):
            listener.accept()[0].close()


@pytest.mark.skipif(not CAN_SHARE, reason="elsewhere a port is let go when its member needs it")
def test_nobody_else_is_given_the_port_of_a_member_that_is_down(port: HeldPort) -> None:
    """Not even who dials it: a connection to oneself would look like a member that is up."""
    port.make_room()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port.number))
    with socket.socket() as thief, pytest.raises(OSError, match="in use"):
        thief.bind(("127.0.0.1", port.number))


def test_a_released_port_is_free(port: HeldPort) -> None:
    port.release()
    port.release()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port.number))
