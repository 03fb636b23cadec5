"""What is particular to docker: an engine or a container that is not there."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from splitvote.harness.control import Remote, Unreachable
from splitvote.harness.control.docker import DockerTransport


# The library does not close its session when it finds no engine.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning")
def test_an_engine_that_does_not_answer_is_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    remote = Remote("n1", DockerTransport("any"))
    with pytest.raises(Unreachable, match="no docker engine answers"):
        asyncio.run(remote.run(["true"]))
    asyncio.run(remote.close())
    gc.collect()


def test_a_container_that_is_not_there_is_named(container: str) -> None:
    remote = Remote("n1", DockerTransport(f"not-{container[:12]}"))
    with pytest.raises(Unreachable, match=f"no command can be run in not-{container[:12]}"):
        asyncio.run(remote.run(["true"]))
    asyncio.run(remote.close())
