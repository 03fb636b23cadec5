"""Limits of members on remote nodes: what agents and whoever has the nodes are told, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from splitvote.harness.clusters.remote.resources import RemoteResources
from splitvote.harness.clusters.remote.throttles import Noted
from splitvote.harness.errors import NemesisError
from splitvote.harness.machine import Limits, Usage


class FakeAgents:
    """Nodes with a process each (or none), whose limits of descriptors it keeps."""

    def __init__(self) -> None:
        self.pids: dict[str, int | None] = {"n1": 11, "n2": 12}
        self.most: dict[int, int] = {}
        self.asked: list[str] = []

    async def ask(self, node: str, do: str, **what: Any) -> dict[str, Any]:
        self.asked.append(do)
        match do:
            case "look":
                assert what["folder"] == f"/there/{node}"
                return {"pid": self.pids[node], "states": ["S"]}
            case "limit_fds":
                before, self.most[what["pid"]] = self.most.get(what["pid"], 1024), what["most"]
                return {"before": before}
            case "usage":
                most = self.most.get(what["pid"], 1024)
                return {"cpu_s": 1.5, "written_bytes": 7, "fds": 20, "most_fds": most, "most_cpus": None}
        raise AssertionError(do)


class FakeThrottle:
    """Keeps what it was told."""

    least_cpus = 0.03

    def __init__(self) -> None:
        self.noted: Noted = {}
        self.cpus: dict[str, float] = {}

    async def limit(self, node: str, cpus: float, note: Callable[[], None]) -> None:
        self.noted[node] = {"was": "free"}
        note()
        self.cpus[node] = cpus

    async def lift(self, noted: Noted) -> list[str]:
        return [f"lifted {node}" for node in list(noted) if self.noted.pop(node) and self.cpus.pop(node)]


def resources(agents: FakeAgents, throttle: FakeThrottle | None, no_agent: str | None = None) -> RemoteResources:
    members: dict[str, Any] = {
        name: SimpleNamespace(daemon=SimpleNamespace(folder=f"/there/{name}")) for name in ("n1", "n2")
    }
    return RemoteResources(
        members,
        members,
        agents,  # type: ignore[arg-type]
        throttle=throttle,
        no_agent=no_agent,
        note=lambda: None,
    )


def test_descriptors_are_limited_given_back_and_limited_anew_after_a_restart() -> None:
    agents = FakeAgents()

    async def run() -> None:
        limited = resources(agents, None)
        await limited.limit("n1", Limits(fds=9))
        assert (await limited.usage("n1")).most_fds == 9
        agents.pids["n1"] = 21
        await limited.apply("n1")
        assert agents.most[21] == 9
        await limited.limit("n1", Limits())
        assert agents.most[21] == 1024
        agents.pids["n2"] = None
        await limited.limit("n2", Limits(fds=9))  # it has none when it does not run
        with pytest.raises(NemesisError, match="n2 does not run"):
            await limited.usage("n2")

    asyncio.run(run())
    assert 12 not in agents.most


def test_processors_are_limited_from_outside_once_the_agent_is_there_and_lifted_at_the_end() -> None:
    """A start of the agent would take long with few processors; the same limit is never lifted twice."""
    agents, throttle = FakeAgents(), FakeThrottle()

    async def run() -> None:
        limited = resources(agents, throttle)
        await limited.limit("n1", Limits(cpus=0.05))
        assert throttle.cpus == {"n1": 0.05}
        assert agents.asked[0] == "look"
        assert limited.noted == {"n1": {"was": "free"}}
        await limited.limit("n1", Limits())
        await limited.limit("n1", Limits())
        assert throttle.cpus == {}
        await limited.limit("n2", Limits(cpus=0.05))
        assert await limited.close() == ["lifted n2"]
        assert await limited.close() == []

    asyncio.run(run())


def test_what_cannot_be_limited_is_refused_with_the_reason() -> None:
    with_docker, plain = resources(FakeAgents(), FakeThrottle()), resources(FakeAgents(), None)
    assert with_docker.supports == {"fds", "cpus"}
    assert plain.supports == {"fds"}
    assert "docker" in with_docker.refusal("io_bytes_s")
    assert plain.refusal("cpus") != with_docker.refusal("io_bytes_s")
    without = resources(FakeAgents(), FakeThrottle(), no_agent="no python3")
    assert without.supports == frozenset()
    assert without.refusal("fds") == without.refusal("cpus") == "no python3"
    with pytest.raises(NemesisError, match="cpus of n1 cannot be limited"):
        asyncio.run(plain.limit("n1", Limits(cpus=0.1)))


def test_usage_is_what_the_node_tells() -> None:
    used = asyncio.run(resources(FakeAgents(), None).usage("n1"))
    assert used == Usage(cpu_s=1.5, written_bytes=7, fds=20, most_fds=1024)
