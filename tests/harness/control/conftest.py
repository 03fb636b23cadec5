"""A container of the tests' own, and a node over every transport there is."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator

import pytest

from splitvote.harness.control import Remote
from splitvote.harness.control.docker import DockerTransport
from splitvote.harness.control.local import LocalTransport
from splitvote.harness.control.ssh import SshTransport


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    """A container in which nothing goes on."""
    image = os.environ.get("SPLITVOTE_TEST_DOCKER")
    if not image:
        pytest.skip("SPLITVOTE_TEST_DOCKER names no image with a shell (such as splitvote-node): docker is not tested")
    command = ["docker", "run", "-d", "--rm", "--network", "none", "--entrypoint", "sleep", image, "600"]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    yield name
    subprocess.run(["docker", "rm", "-f", name], check=True, capture_output=True)


@pytest.fixture(params=["local", "ssh", "docker"])
def node(request: pytest.FixtureRequest) -> Iterator[Remote]:
    """A node over each transport."""
    transport: LocalTransport | SshTransport | DockerTransport
    match request.param:
        case "ssh":
            transport = SshTransport(request.getfixturevalue("sshd").address())
        case "docker":
            transport = DockerTransport(request.getfixturevalue("container"))
        case _:
            transport = LocalTransport()
    remote = Remote("n1", transport)
    yield remote
    asyncio.run(remote.close())
